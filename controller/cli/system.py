"""cloudtap status, controller, inventory: the whole, its process, and its input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
from rich.text import Text

from controller.cli.client import Api, Failure, Values
from controller.cli.inventory import BRIDGES
from controller.cli.output import (
    Column,
    console,
    output_option,
    pass_api,
    print_data,
    print_one,
    print_table,
)

SHOWN = 15
"""How many sessions `cloudtap status` shows, so that it stays one screen."""

SESSIONS: tuple[Column, ...] = (
    ("session", lambda s: s["name"]),
    ("tenant", lambda s: s["tenant"]),
    ("state", lambda s: s["status"]["state"]),
    ("copies", lambda s: s["status"]["copies"]["packets"]),
    ("reasons", lambda s: s["status"]["reasons"]),
)


@click.command()
@output_option
@pass_api
def status(api: Api, output: str) -> None:
    """Show the whole system on one screen."""
    answer = api.get("status")
    if output != "table":
        print_data(answer, output)
        return
    totals = answer["totals"]
    out = console()
    out.print(Text(f"cloudtap {answer['version']} at {api.url}", style="bold"))
    out.print(
        f"{totals['tenants']} tenants, {totals['networks']} networks, "
        f"{totals['placed']} of {totals['ports']} ports placed, "
        f"{totals['active']} of {totals['sessions']} sessions active"
    )
    for problem in answer["problems"]:
        out.print(Text(f"problem: {problem}", style="red"))
    if answer["bridges"]:
        out.print()
        print_table(answer["bridges"], BRIDGES)
    if answer["sessions"]:
        out.print()
        chosen = sorted(answer["sessions"], key=_is_active)[:SHOWN]  # what needs a look comes first
        print_table(chosen, SESSIONS)
    if len(answer["sessions"]) > SHOWN:
        out.print(f"and {len(answer['sessions']) - SHOWN} more: cloudtap session list")


@click.command()
@click.option(
    "--runtime",
    type=click.Choice(["ryu", "os-ken"]),
    default="ryu",
    show_default=True,
    help="The OpenFlow library to run on.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Configuration file; else CLOUDTAP_CONFIG, else /etc/cloudtap/cloudtap.toml.",
)
def controller(runtime: str, config: Path | None) -> None:
    """Run the controller in the foreground, until Ctrl-C."""
    from controller.config.settings import ConfigError, load  # only this command needs them
    from controller.runtime.command import command

    try:
        load(config)
    except ConfigError as error:
        raise Failure("\ncloudtap: ".join(error.problems)) from error
    if config is not None:
        os.environ["CLOUDTAP_CONFIG"] = str(config.resolve())
    program = command(runtime)
    try:
        os.execv(program[0], program)
    except OSError as error:
        raise Failure(f"cannot start {program[0]!r}: {error.strerror}") from error


@click.group()
def inventory() -> None:
    """The file that declares tenants, networks and ports."""


@inventory.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@output_option
def check(file: Path, output: str) -> None:
    """Check an inventory file; every problem is told with its line."""
    reader = [sys.executable, "-m", "controller.inventory.file", str(file)]
    run = subprocess.run(reader, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        raise Failure(f"{file} could not be checked (exit status {run.returncode})")
    found: Values = json.loads(run.stdout)
    if output != "table":
        print_data(found, output)
    elif not found["problems"]:
        names = ("tenants", "networks", "ports", "links")
        print_one(found, output, [(name, found[name]) for name in names])
    else:
        for problem in found["problems"]:
            click.echo(problem, err=True)
    if found["problems"]:
        raise Failure(f"{file} has {len(found['problems'])} problem(s)")


def _is_active(session: Values) -> bool:
    return bool(session["status"]["state"] == "active")

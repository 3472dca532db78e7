"""cloudtap status, up, inventory: the state of the whole, its process, its input file."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import click
from rich.text import Text

from controller.cli.client import Api, Failure, Values
from controller.cli.command import Command, Group
from controller.cli.inventory import BRIDGE_COLUMNS
from controller.cli.options import output_option, pass_api
from controller.cli.output import (
    Column,
    cell,
    console,
    print_data,
    print_one,
    print_table,
)
from controller.process import visible

NAMES_SHOWN = 8
"""How many ports or interfaces a line of `cloudtap status` names."""

SESSIONS_SHOWN = 15
"""How many sessions `cloudtap status` shows, so that it stays one screen."""

STATUS_COLUMNS: tuple[Column, ...] = (
    ("session", lambda s: s["name"]),
    ("tenant", lambda s: s["tenant"]),
    ("state", lambda s: s["status"]["state"]),
    ("copies", lambda s: s["status"]["copies"]["packets"]),
    ("reasons", lambda s: s["status"]["reasons"]),
)


@click.command(cls=Command)
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
    out.print(Text(visible(f"cloudtap {answer['version']} at {api.shown_url}"), style="bold"))
    out.print(
        f"{totals['tenants']} tenants, {totals['networks']} networks, "
        f"{totals['placed']} of {totals['ports']} ports placed, "
        f"{totals['active']} of {totals['sessions']} sessions active"
    )
    for sentence in _left_out(answer):
        # not wrapped: a line is to be pasted
        out.print(Text(visible(sentence), style="yellow"), soft_wrap=sentence.startswith("  - "))
    for problem in answer["problems"]:
        out.print(Text(f"problem: {visible(problem)}", style="red"))
    if answer["bridges"]:
        out.print()
        print_table(answer["bridges"], BRIDGE_COLUMNS)
    if answer["sessions"]:
        out.print()
        inactive_first = sorted(answer["sessions"], key=_is_active)
        print_table(inactive_first[:SESSIONS_SHOWN], STATUS_COLUMNS)
    if len(answer["sessions"]) > SESSIONS_SHOWN:
        out.print(f"and {len(answer['sessions']) - SESSIONS_SHOWN} more: cloudtap session list")


@click.command(cls=Command)
@click.option(
    "--runtime",
    type=click.Choice(["ryu", "os-ken"]),
    help="The OpenFlow library to run on; without it that of the configuration, else ryu where "
    "that is installed, else os-ken.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Configuration file; else CLOUDTAP_CONFIG, else /etc/cloudtap/cloudtap.toml.",
)
def up(runtime: str | None, config: Path | None) -> None:
    """Run the controller in the foreground, until Ctrl-C.

    It is `ryu-manager controller.app` after a check of the configuration. Without a configuration
    it listens on this machine alone: for switches on port 6653, for the API on port 9470.
    """
    from controller.config import ConfigError, load, split_listen
    from controller.runtime import (
        RUNTIME_VARIABLE,
        OpenFlowAddressInUse,
        RuntimeMissing,
        default_runtime,
        launch_command,
    )

    try:
        settings = load(config).openflow
        runtime = runtime or settings.runtime or default_runtime()
        program = launch_command(runtime)
        # the library listens last, when the service manager has been told of the start already
        host, port = split_listen(settings.listen)
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            socket.create_server((host, port), family=family).close()
        except OSError as error:
            raise OpenFlowAddressInUse(host, port, error) from error
    except (RuntimeMissing, OpenFlowAddressInUse) as error:
        raise Failure(str(error)) from error
    except ConfigError as error:
        raise Failure("\ncloudtap: ".join(error.problems)) from error
    os.environ[RUNTIME_VARIABLE] = runtime
    if config is not None:
        os.environ["CLOUDTAP_CONFIG"] = str(config.resolve())
    try:
        os.execv(program[0], program)
    except OSError as error:
        raise Failure(f"cannot start {program[0]!r}: {error.strerror}") from error


controller = Command(
    "controller", callback=up.callback, params=up.params, hidden=True, help="The same as `up`."
)
"""What `up` was called before; it goes on working."""


@click.group(cls=Group)
def inventory() -> None:
    """The file that declares tenants, networks and ports."""


@inventory.command()
@output_option
@pass_api
def show(api: Api, output: str) -> None:
    """Show what is in force, and what a file that is not used would take away."""
    _print_inventory(api.get("inventory"), output)


@inventory.command()
@output_option
@pass_api
def accept(api: Api, output: str) -> None:
    """Use the changed file although much of what runs is missing from it.

    The ports that are missing are cut off at once. `cloudtap inventory show` lists them.
    """
    pending = api.get("inventory")["pending"]
    if pending is None:
        raise Failure("no inventory waits to be accepted: the file is used as it is")
    answer = api.act("inventory", "accept", None, {"digest": pending["digest"]})
    if output == "table":
        console().print(cell(f"accepted: {pending['summary']} are gone or changed"))
    _print_inventory(answer, output)


def _print_inventory(answer: Values, output: str) -> None:
    pending = answer["pending"]
    rows: list[tuple[str, object]] = [
        (name, answer[name]) for name in ("tenants", "networks", "ports", "links", "problems")
    ]
    if pending is not None:
        rows.append(("would vanish or change", pending["summary"]))
        more = pending["missing_count"] - len(pending["missing"])
        rows.append(("ports", [*pending["missing"], *([f"and {more} more"] if more else [])]))
    print_one(answer, output, rows)


def _left_out(answer: Values) -> Iterator[str]:
    """What is declared and nowhere, what is there and not declared, and what is broken."""
    totals = answer["totals"]
    yield from _listed(
        "declared, and on no bridge now:",
        [f"{port['tenant']}/{port['name']}: {port['reason']}" for port in answer["unplaced"]],
        totals["ports"] - totals["placed"],
    )
    yield from _listed(
        "on a bridge, and in no inventory, so that nothing reaches them; the lines to add to "
        "`ports` (with `kind: tap` and no network for a tap port):",
        [one["line"] for one in answer["undeclared"]],
        totals["undeclared"],
    )
    yield from _listed(
        "not opened by Open vSwitch, so that nothing reaches them:",
        [f"{u['interface']} of {u['bridge']}: {u['error']}" for u in answer["unopened"]],
        totals["unopened"],
    )


def _listed(head: str, lines: list[str], count: int) -> Iterator[str]:
    if not lines:
        return
    yield head
    shown = lines[:NAMES_SHOWN]
    yield from (f"  {line}" for line in shown)
    if count > len(shown):
        yield f"  and {count - len(shown)} more"


def _is_active(session: Values) -> bool:
    return bool(session["status"]["state"] == "active")

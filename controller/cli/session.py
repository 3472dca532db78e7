"""cloudtap session: create, list, show, set, switch on and off, delete."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from controller.cli.client import Api, Failure, Values
from controller.cli.output import (
    Column,
    cell,
    console,
    output_option,
    pass_api,
    print_data,
    print_list,
    print_one,
    print_table,
    tenant_option,
)
from controller.cli.session_options import read_wish, show_limits, show_source, wish_options

WAIT_S = 10.0
"""How long `session create` waits until the session is active."""

POLL_S = 0.25

COLUMNS: tuple[Column, ...] = (
    ("session", lambda s: s["name"]),
    ("tenant", lambda s: s["tenant"]),
    ("state", lambda s: s["status"]["state"]),
    ("source", lambda s: show_source(s["source"])),
    ("direction", lambda s: s["direction"]),
    ("collector", lambda s: s["collector"]),
    ("copies", lambda s: s["status"]["copies"]["packets"]),
)


@click.group()
def session() -> None:
    """Which packets are copied, and where to."""


@session.command()
@click.argument("name")
@wish_options(is_new=True)
@click.option("--disabled", is_flag=True, help="Create it switched off.")
@click.option("--no-wait", is_flag=True, help="Do not wait until it is active.")
@tenant_option
@output_option
@pass_api
def create(
    api: Api,
    /,
    name: str,
    disabled: bool,
    no_wait: bool,
    tenant: str | None,
    output: str,
    **given: Any,
) -> None:
    """Create a session and wait until its copies flow."""
    body = {"name": name, "enabled": not disabled} | read_wish(**given)
    if "source" not in body:
        raise click.UsageError("say what to watch: --source, --source-network, ...")
    body |= {"tenant": tenant} if tenant else {}
    deadline = time.monotonic() + WAIT_S
    made = api.post("sessions", body)
    if disabled or no_wait:
        _print(made, output)
        return
    made = _wait(lambda: api.get("sessions", made["id"]), made, deadline)
    _print(made, output)
    status = made["status"]
    if status["state"] != "active":
        why = "; ".join(status["reasons"]) or "nothing was told"
        raise Failure(
            f"session {name!r} exists, and is {status['state']} after {WAIT_S:g} seconds: {why}"
        )


@session.command("set")
@click.argument("name")
@click.option("--name", "new_name", help="Give it another name.")
@wish_options(is_new=False)
@tenant_option
@output_option
@pass_api
def set_(
    api: Api, /, name: str, new_name: str | None, tenant: str | None, output: str, **given: Any
) -> None:
    """Change a session; a limit brings a stopped session back."""
    body = read_wish(**given) | ({"name": new_name} if new_name else {})
    _print(api.patch("sessions", name, body, tenant=tenant), output)


@session.command("list")
@click.option("--state", help="Only those in this state.")
@tenant_option
@output_option
@pass_api
def list_(api: Api, state: str | None, tenant: str | None, output: str) -> None:
    """List sessions."""
    found = api.all("sessions", tenant=tenant, state=state)
    print_list(
        found, output, COLUMNS, "There are no sessions: create one, `cloudtap session create`."
    )


@session.command()
@click.argument("name")
@tenant_option
@output_option
@pass_api
def show(api: Api, name: str, tenant: str | None, output: str) -> None:
    """Show a session, by name or id."""
    _print(api.get("sessions", name, tenant=tenant), output)


@session.command()
@click.argument("name")
@tenant_option
@output_option
@pass_api
def enable(api: Api, name: str, tenant: str | None, output: str) -> None:
    """Switch a session on; one that is stopped counts anew."""
    _print(api.patch("sessions", name, {"enabled": True}, tenant=tenant), output)


@session.command()
@click.argument("name")
@tenant_option
@output_option
@pass_api
def disable(api: Api, name: str, tenant: str | None, output: str) -> None:
    """Switch a session off; it copies nothing, and stays."""
    _print(api.patch("sessions", name, {"enabled": False}, tenant=tenant), output)


@session.command()
@click.argument("name")
@tenant_option
@output_option
@pass_api
def delete(api: Api, name: str, tenant: str | None, output: str) -> None:
    """Delete a session; when this returns, it copies nothing any more."""
    left = api.delete("sessions", name, tenant=tenant)
    if output != "table":
        print_data({"deleted": left is None, "session": left or name}, output)
    if left is not None:
        raise Failure(
            f"session {name!r} is not gone yet: {'; '.join(left['status']['reasons'])}; "
            "the controller finishes it by itself"
        )
    if output == "table":
        console().print(cell(f"session {name!r} is deleted"))


def _wait(look: Callable[[], Values], seen: Values, deadline: float) -> Values:
    """Look again until the session is active, or the deadline has passed."""
    pause = threading.Event()
    while seen["status"]["state"] != "active" and time.monotonic() < deadline:
        pause.wait(POLL_S)
        seen = look()
    return seen


def _print(item: Values, output: str) -> None:
    status = item["status"]
    copies, sensors = status["copies"], item["sensors"]
    is_remote = any(" " in sensor for sensor in sensors)  # a name holds no space
    print_one(
        item,
        output,
        [
            ("session", item["name"]),
            ("id", item["id"]),
            ("tenant", item["tenant"]),
            ("state", status["state"]),
            *((("reasons", status["reasons"]),) if status["reasons"] else ()),
            ("source", ", ".join(show_source(item["source"]))),
            ("direction", item["direction"]),
            ("filter", item["filter"]),
            ("collector", item["collector"]),
            *((("sensors", sensors),) if len(sensors) > 1 or is_remote else ()),
            ("mode", item["mode"]),
            ("number", item["number"]),
            ("enabled", item["enabled"]),
            *show_limits(item),
            ("copies", f"{copies['packets']} packets, {copies['bytes']} bytes"),
            *((("truncated", status["truncated"]),) if status["truncated"] else ()),
            *((f"skipped, {why}", count) for why, count in status["skipped"].items()),
            *(() if status["bridges"] else (("bridges", None),)),
        ],
    )
    if output == "table" and status["bridges"]:
        console().print()
        print_table(status["bridges"], _bridge_columns(status))


def _bridge_columns(status: Values) -> tuple[Column, ...]:
    """What is shown of each bridge: losses of a kind only where the session has any."""
    return (
        ("bridge", lambda b: b["bridge"]),
        ("state", lambda b: b["state"]),
        ("packets", lambda b: b["copies"]["packets"]),
        ("bytes", lambda b: b["copies"]["bytes"]),
        *((("truncated", lambda b: b["truncated"]),) if status["truncated"] else ()),
        *((why, partial(_skipped, why)) for why in status["skipped"]),
    )


def _skipped(reason: str, share: Values) -> object:
    return share["skipped"].get(reason, 0)

"""cloudtap session: which packets are copied, and where to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from controller.cli.client import Api, Failure, Values
from controller.cli.command import Group
from controller.cli.options import (
    NAME_ARGUMENT,
    output_option,
    pass_api,
    tenant_option,
    with_options,
)
from controller.cli.output import Column, console, print_one, print_table
from controller.cli.resource import Resource, add_list
from controller.cli.session_options import (
    CHANGE_OPTIONS,
    CREATE_OPTIONS,
    read_session,
    show_limits,
    show_source,
)

ACTIVE_WAIT_S = 10.0
"""How long `session create` waits until the session is active."""

NO_BRIDGE_WAIT_S = 2.0
"""How long it waits while no bridge has a part in the session: only the inventory, or a bridge
that connects, can change that."""

STATUS_POLL_S = 0.25

ENDED = ("inactive", "stopped", "error")
"""States in which nothing should be copied."""

SESSION_COLUMNS: tuple[Column, ...] = (
    ("session", lambda s: s["name"]),
    ("tenant", lambda s: s["tenant"]),
    ("state", lambda s: _state(s["status"])),
    ("source", lambda s: show_source(s["source"])),
    ("direction", lambda s: s["direction"]),
    ("collector", lambda s: s["collector"]),
    ("copies", lambda s: s["status"]["copies"]["packets"]),
)


def _state(status: Values) -> str:
    """The state of a session in a list, which has no room for reasons."""
    if status["state"] in ENDED and any(b["state"] == "pending" for b in status["bridges"]):
        return f"{status['state']}, may still copy"
    return str(status["state"])


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


@click.group(cls=Group)
def session() -> None:
    """Which packets are copied, and where to."""


SESSION_COMMANDS = Resource("session", session, _print)
add_list(
    session,
    "session",
    SESSION_COLUMNS,
    "There are no sessions: create one, `cloudtap session create`.",
    click.option("--state", help="Only those in this state."),
    tenant_option,
)
SESSION_COMMANDS.add_show("Show a session, by name or id.")
SESSION_COMMANDS.add_delete("Delete a session; when this returns, it copies nothing any more.")


@session.command()
@with_options(
    NAME_ARGUMENT,
    *CREATE_OPTIONS,
    click.option("--disabled", is_flag=True, help="Create it switched off."),
    click.option("--no-wait", is_flag=True, help="Do not wait until it is active."),
    tenant_option,
    output_option,
    pass_api,
)
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
    fields = read_session(**given) | {"enabled": not disabled}
    if "source" not in fields:
        raise click.UsageError("say what to watch: --source, --source-network, ...")
    began = time.monotonic()
    made = SESSION_COMMANDS.create(api, name, tenant, fields)
    if disabled or no_wait:
        _print(made, output)
        return
    made = _wait_active(lambda: api.get("sessions", made["id"]), made, began)
    _print(made, output)
    status = made["status"]
    if status["state"] != "active":
        why = "; ".join(status["reasons"]) or "no reason was reported"
        raise Failure(
            f"session {name!r} exists, and is {status['state']} after "
            f"{time.monotonic() - began:.0f} seconds: {why}; it goes on by itself when that changes"
        )


@SESSION_COMMANDS.set_command(*CHANGE_OPTIONS)
def changed_fields(**given: Any) -> Values:
    """Change a session; a limit brings a stopped session back."""
    return read_session(**given)


@SESSION_COMMANDS.change_command("enable")
def enabled_fields() -> Values:
    """Switch a session on; one that is stopped counts anew."""
    return {"enabled": True}


@SESSION_COMMANDS.change_command("disable")
def disabled_fields() -> Values:
    """Switch a session off; it copies nothing, and stays."""
    return {"enabled": False}


def _wait_active(look: Callable[[], Values], seen: Values, began: float) -> Values:
    """Poll the session until it is active, or waiting has no prospect."""
    pause = threading.Event()
    while seen["status"]["state"] != "active":
        patience = ACTIVE_WAIT_S if seen["status"]["bridges"] else NO_BRIDGE_WAIT_S
        if time.monotonic() >= began + patience:
            break
        pause.wait(STATUS_POLL_S)
        seen = look()
    return seen


def _bridge_columns(status: Values) -> tuple[Column, ...]:
    """Columns of the table of bridges: a kind of loss only where the session has any."""
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

"""cloudtap tenant, network, port, bridge: what is declared, and the switches that connected."""

from __future__ import annotations

import click

from controller.cli.client import Api, Values
from controller.cli.command import Group
from controller.cli.options import (
    NAME_ARGUMENT,
    output_option,
    pass_api,
    tenant_option,
    with_options,
)
from controller.cli.output import Column, cell, console, print_data, print_done, print_line
from controller.cli.resource import add_list

DECLARE = "declare some in the inventory file."

TENANT_COLUMNS: tuple[Column, ...] = (
    ("tenant", lambda t: f"{t['name']} ({t['title']})" if t.get("title") else t["name"]),
    ("networks", lambda t: t["networks"]),
    ("ports", lambda t: t["ports"]),
    ("collectors", lambda t: t["collectors"]),
    ("sessions", lambda t: t["sessions"]),
)
NETWORK_COLUMNS: tuple[Column, ...] = (
    ("network", lambda n: n["name"]),
    ("tenant", lambda n: n["tenant"]),
    ("ports", lambda n: n["ports"]),
    ("tag", lambda n: n["tag"]),
)
PORT_COLUMNS: tuple[Column, ...] = (
    ("port", lambda p: p["name"]),
    ("tenant", lambda p: p["tenant"]),
    ("kind", lambda p: p["kind"]),
    ("network", lambda p: p["network"]),
    ("MAC address", lambda p: p["mac"]),
    ("IP addresses", lambda p: p["ips"]),
    ("place", lambda p: _place(p)),
)
BRIDGE_COLUMNS: tuple[Column, ...] = (
    ("bridge", lambda b: b["name"]),
    ("id", lambda b: b["id"]),
    ("host", lambda b: next(iter(b["hosts"]), "")),
    ("state", lambda b: b["state"]),
    ("ports", lambda b: b["ports"]),
    ("flows", lambda b: b["flows"]),
    ("reasons", lambda b: b["reasons"]),
)


@click.group(cls=Group)
def tenant() -> None:
    """Who owns networks, ports, collectors and sessions."""


@click.group(cls=Group)
def network() -> None:
    """Isolated layer-2 segments."""


@click.group(cls=Group)
def port() -> None:
    """Interfaces of workloads, and tap ports."""


@click.group(cls=Group)
def bridge() -> None:
    """Virtual switches."""


add_list(tenant, "tenant", TENANT_COLUMNS, f"There are no tenants: {DECLARE}")
add_list(network, "network", NETWORK_COLUMNS, f"There are no networks: {DECLARE}", tenant_option)
add_list(
    port,
    "port",
    PORT_COLUMNS,
    f"There are no ports: {DECLARE}",
    click.option(
        "--kind", type=click.Choice(["vm", "tap"]), help="Only workloads, or only tap ports."
    ),
    click.option("--network", help="Only those in this network."),
    click.option("--bridge", help="Only those on this bridge."),
    tenant_option,
    help="List ports and where they are now.",
)
add_list(
    bridge,
    "bridge",
    BRIDGE_COLUMNS,
    "No bridge has connected: point one here with `ovs-vsctl set-controller`.",
    help="List bridges that are, or were, connected.",
)


@bridge.command()
@with_options(NAME_ARGUMENT, output_option, pass_api)
def flows(api: Api, name: str, output: str) -> None:
    """Show the flows that a bridge should have."""
    answer = api.get("bridges", name, "flows")
    if output != "table":
        print_data(answer, output)
        return
    for line in answer["flows"]:  # for grep and diff: one line each, as wide as it is
        print_line(line)
    if not answer["flows"]:
        console().print(cell(f"bridge {answer['bridge']!r} should have no flows of ours"))


@bridge.command()
@with_options(NAME_ARGUMENT, output_option, pass_api)
def forget(api: Api, name: str, output: str) -> None:
    """Forget a bridge that is not connected and will not come back, by name or id.

    Deleted sessions and their numbers are kept while a bridge that has them is not connected,
    because it goes on copying; once it is forgotten they are released. Forget none that still
    forwards packets: numbers that it uses may be given to other networks, and other bridges would
    take its packets for theirs. If it comes back, it is treated like a new one.
    """
    api.delete("bridges", name)
    print_done(f"bridge {name!r} is forgotten", {"forgotten": True, "bridge": name}, output)


def _place(port: Values) -> str | None:
    place = port["placement"]
    return None if place is None else f"{place['bridge']}:{place['ofport']}"

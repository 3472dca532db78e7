"""cloudtap tenant, network, port, bridge: what there is."""

from __future__ import annotations

import click

from controller.cli.client import Api, Values
from controller.cli.output import (
    Column,
    cell,
    console,
    output_option,
    pass_api,
    print_data,
    print_list,
    tenant_option,
)

DECLARE = "declare some in the inventory file."

TENANTS: tuple[Column, ...] = (
    ("tenant", lambda t: t["name"]),
    ("networks", lambda t: t["networks"]),
    ("ports", lambda t: t["ports"]),
    ("collectors", lambda t: t["collectors"]),
    ("sessions", lambda t: t["sessions"]),
)
NETWORKS: tuple[Column, ...] = (
    ("network", lambda n: n["name"]),
    ("tenant", lambda n: n["tenant"]),
    ("ports", lambda n: n["ports"]),
    ("tag", lambda n: n["tag"]),
)
PORTS: tuple[Column, ...] = (
    ("port", lambda p: p["name"]),
    ("tenant", lambda p: p["tenant"]),
    ("kind", lambda p: p["kind"]),
    ("network", lambda p: p["network"]),
    ("MAC address", lambda p: p["mac"]),
    ("IP addresses", lambda p: p["ips"]),
    ("place", lambda p: _place(p)),
)
BRIDGES: tuple[Column, ...] = (
    ("bridge", lambda b: b["name"]),
    ("id", lambda b: b["id"]),
    ("state", lambda b: b["state"]),
    ("ports", lambda b: b["ports"]),
    ("flows", lambda b: b["flows"]),
    ("reasons", lambda b: b["reasons"]),
)


@click.group()
def tenant() -> None:
    """Who owns networks, ports, collectors and sessions."""


@tenant.command("list")
@output_option
@pass_api
def list_tenants(api: Api, output: str) -> None:
    """List tenants."""
    print_list(api.all("tenants"), output, TENANTS, f"There are no tenants: {DECLARE}")


@click.group()
def network() -> None:
    """Isolated layer-2 segments."""


@network.command("list")
@tenant_option
@output_option
@pass_api
def list_networks(api: Api, tenant: str | None, output: str) -> None:
    """List networks."""
    found = api.all("networks", tenant=tenant)
    print_list(found, output, NETWORKS, f"There are no networks: {DECLARE}")


@click.group()
def port() -> None:
    """Interfaces of workloads, and tap ports."""


@port.command("list")
@click.option("--kind", type=click.Choice(["vm", "tap"]), help="Only workloads, or only tap ports.")
@click.option("--network", help="Only those in this network.")
@click.option("--bridge", help="Only those on this bridge.")
@tenant_option
@output_option
@pass_api
def list_ports(
    api: Api,
    kind: str | None,
    network: str | None,
    bridge: str | None,
    tenant: str | None,
    output: str,
) -> None:
    """List ports and where they are now."""
    found = api.all("ports", tenant=tenant, kind=kind, network=network, bridge=bridge)
    print_list(found, output, PORTS, f"There are no ports: {DECLARE}")


@click.group()
def bridge() -> None:
    """Virtual switches."""


@bridge.command("list")
@output_option
@pass_api
def list_bridges(api: Api, output: str) -> None:
    """List bridges that are, or were, connected."""
    empty = "No bridge has connected: point one here with `ovs-vsctl set-controller`."
    print_list(api.all("bridges"), output, BRIDGES, empty)


@bridge.command()
@click.argument("name")
@output_option
@pass_api
def flows(api: Api, name: str, output: str) -> None:
    """Show the flows that a bridge should have."""
    answer = api.get("bridges", name, "flows")
    if output != "table":
        print_data(answer, output)
        return
    for line in answer["flows"]:  # for grep and diff: one line each, as wide as it is
        click.echo(line)
    if not answer["flows"]:
        console().print(cell(f"bridge {answer['bridge']!r} should have no flows of ours"))


@bridge.command()
@click.argument("name")
@output_option
@pass_api
def forget(api: Api, name: str, output: str) -> None:
    """Forget a bridge that is not connected and will not come back, by name or id.

    Deleted sessions and old numbers wait for a bridge that is away, for it goes on copying. Once it
    is forgotten they wait no longer. Forget none that still forwards packets: numbers that it uses
    may be given to other networks, and other bridges would take its packets for theirs. Should it
    come back, it is brought to what it should have like a new one.
    """
    api.delete("bridges", name)
    if output == "table":
        console().print(cell(f"bridge {name!r} is forgotten"))
    else:
        print_data({"forgotten": True, "bridge": name}, output)


def _place(port: Values) -> str | None:
    place = port["placement"]
    return None if place is None else f"{place['bridge']}:{place['ofport']}"

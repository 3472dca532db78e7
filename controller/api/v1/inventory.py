"""/v1/tenants, networks and ports: what was declared; read only."""

from __future__ import annotations

from collections import Counter

from flask import Response

from controller.api.schemas.responses import (
    NetworkOut,
    NetworkPage,
    PlacementOut,
    PortOut,
    PortPage,
    TenantOut,
    TenantPage,
)
from controller.api.context import Context, answer, context, find, part, resource
from controller.api.problems import not_found
from controller.api.schemas.parameters import (
    NetworkList,
    NoQuery,
    OneQuery,
    Path,
    PortList,
    TenantList,
)
from flows.model.session import Network, Port

tenants = resource("tenants", "Who owns networks, ports, collectors and sessions.")
networks = resource("networks", "Isolated layer-2 segments.")
ports = resource("ports", "Interfaces of workloads, and tap ports.")


@tenants.get("", responses={200: TenantPage})
def list_tenants(query: TenantList) -> Response:
    """List tenants"""
    shown = [t for t in _tenants(context()) if query.name in (None, t.name)]
    items, following = part(shown, query, lambda tenant: tenant.name)
    return answer(TenantPage(items=items, next=following))


@tenants.get("/<ref>", responses={200: TenantOut})
def show_tenant(path: Path, query: NoQuery) -> Response:
    """Show a tenant"""
    for tenant in _tenants(context()):
        if tenant.name == path.ref:
            return answer(tenant)
    raise not_found("tenant", path.ref)


@networks.get("", responses={200: NetworkPage})
def list_networks(query: NetworkList) -> Response:
    """List networks"""
    parts = context()
    inventory = parts.inventory()
    wanted = [
        n
        for n in inventory.networks
        if query.tenant in (None, n.tenant) and query.name in (None, n.name)
    ]
    chosen, following = part(wanted, query, lambda network: network.id)
    items = _networks(chosen, parts)
    return answer(NetworkPage(items=items, next=following))


@networks.get("/<ref>", responses={200: NetworkOut})
def show_network(path: Path, query: OneQuery) -> Response:
    """Show a network"""
    parts = context()
    network = find("network", parts.inventory().networks, path.ref, query.tenant)
    return answer(_networks([network], parts)[0])


@ports.get("", responses={200: PortPage})
def list_ports(query: PortList) -> Response:
    """List ports"""
    parts = context()
    inventory = parts.inventory()
    name_by_id = {network.id: network.name for network in inventory.networks}
    wanted = [p for p in inventory.ports if _is_wanted(p, query)]
    if query.network is not None:
        given = query.network
        wanted = [p for p in wanted if p.network and given in (p.network, name_by_id[p.network])]
    if query.bridge is not None:
        places = {port.id: parts.reconcile.place_of(port.id) for port in wanted}
        wanted = [p for p in wanted if (place := places[p.id]) and place[0] == query.bridge]
    chosen, following = part(wanted, query, lambda port: port.id)
    items = [_port(p, name_by_id[p.network] if p.network else None, parts) for p in chosen]
    return answer(PortPage(items=items, next=following))


@ports.get("/<ref>", responses={200: PortOut})
def show_port(path: Path, query: OneQuery) -> Response:
    """Show a port"""
    parts = context()
    inventory = parts.inventory()
    port = find("port", inventory.ports, path.ref, query.tenant)
    names = [network.name for network in inventory.networks if network.id == port.network]
    return answer(_port(port, names[0] if names else None, parts))


def _tenants(parts: Context) -> list[TenantOut]:
    inventory = parts.inventory()
    network_count = Counter(network.tenant for network in inventory.networks)
    port_count = Counter(port.tenant for port in inventory.ports)
    collector_count = Counter(r.collector.tenant for r in parts.store.collectors())
    session_count = Counter(r.session.tenant for r in parts.store.sessions())
    return [
        TenantOut(
            name=tenant,
            networks=network_count[tenant],
            ports=port_count[tenant],
            collectors=collector_count[tenant],
            sessions=session_count[tenant],
        )
        for tenant in inventory.tenants
    ]


def _networks(chosen: list[Network], parts: Context) -> list[NetworkOut]:
    port_count = Counter(port.network for port in parts.inventory().ports)
    return [
        NetworkOut(
            id=n.id,
            name=n.name,
            tenant=n.tenant,
            ports=port_count[n.id],
            tag=parts.reconcile.tag_of(n.id),
        )
        for n in chosen
    ]


def _is_wanted(port: Port, query: PortList) -> bool:
    return (
        query.tenant in (None, port.tenant)
        and query.name in (None, port.name)
        and query.kind in (None, port.kind.value)
    )


def _port(port: Port, network: str | None, parts: Context) -> PortOut:
    place = parts.reconcile.place_of(port.id)
    return PortOut(
        id=port.id,
        name=port.name,
        tenant=port.tenant,
        network=network,
        network_id=port.network,
        kind=port.kind.value,
        mac=None if port.mac is None else str(port.mac),
        ips=[str(ip) for ip in port.ips],
        anti_spoofing=port.is_protected,
        labels=dict(port.labels),
        placement=None if place is None else PlacementOut(bridge=place[0], ofport=place[1]),
    )

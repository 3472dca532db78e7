"""/v1/tenants, networks and ports: the inventory, read only."""

from __future__ import annotations

from collections import Counter

from flask import Response

from controller.api.context import Context, answer, context, page, resource
from controller.api.lookup import (
    check_listed,
    check_name,
    check_tenant,
    find,
    listed_bridges,
    tenant_of,
)
from controller.api.problems import not_found
from controller.api.schemas import (
    NetworkList,
    NetworkOut,
    NetworkPage,
    NoQuery,
    OneQuery,
    Path,
    PlacementOut,
    PortList,
    PortOut,
    PortPage,
    TenantList,
    TenantOut,
    TenantPage,
)
from controller.process import did_you_mean
from controller.status import PortPlace
from flows.model import Dpid, Network, Port

tenants = resource("tenants", "Who owns networks, ports, collectors and sessions.")
networks = resource("networks", "Isolated layer-2 segments.")
ports = resource("ports", "Interfaces of workloads, and tap ports.")


@tenants.get("", responses={200: TenantPage})
def list_tenants(query: TenantList) -> Response:
    """List tenants"""
    if query.name is not None:
        tenant_of(query.name, context().inventory(), "name")
    shown = [t for t in _tenants(context()) if query.name in (None, t.name)]
    items, following = page(shown, query, lambda tenant: tenant.name)
    return answer(TenantPage(items=items, next=following))


@tenants.get("/<ref>", responses={200: TenantOut})
def show_tenant(path: Path, query: NoQuery) -> Response:
    """Show a tenant"""
    for tenant in _tenants(context()):
        if tenant.name == path.ref:
            return answer(tenant)
    raise not_found("tenant", path.ref, hint=did_you_mean(path.ref, context().inventory().tenants))


@networks.get("", responses={200: NetworkPage})
def list_networks(query: NetworkList) -> Response:
    """List networks"""
    parts = context()
    inventory = parts.inventory()
    check_tenant(query.tenant, inventory)
    check_name("network", query.name, query.tenant, inventory.networks)
    selected = [n for n in inventory.networks if query.selects(n.tenant, n.name)]
    chosen, following = page(selected, query, lambda network: network.id)
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
    check_tenant(query.tenant, inventory)
    check_name("port", query.name, query.tenant, inventory.ports)
    check_listed("network", query.network, name_by_id.values(), name_by_id)
    dpids = frozenset[Dpid]()
    if query.bridge is not None:
        dpids = listed_bridges(query.bridge, parts.inspector.bridges())
    selected = [
        port
        for port in inventory.ports
        if query.selects(port.tenant, port.name) and query.kind in (None, port.kind.value)
    ]
    if query.network is not None:
        ref = query.network
        selected = [p for p in selected if p.network and ref in (p.network, name_by_id[p.network])]
    if query.bridge is not None:
        everywhere = parts.inspector.places_of(port.id for port in selected)
        selected = [p for p in selected if (at := everywhere.get(p.id)) and at.dpid in dpids]
    chosen, following = page(selected, query, lambda port: port.id)
    places = parts.inspector.places_of(port.id for port in chosen)
    networks_of = (name_by_id[p.network] if p.network else None for p in chosen)
    items = [_port(p, n, places.get(p.id)) for p, n in zip(chosen, networks_of, strict=True)]
    return answer(PortPage(items=items, next=following))


@ports.get("/<ref>", responses={200: PortOut})
def show_port(path: Path, query: OneQuery) -> Response:
    """Show a port"""
    parts = context()
    inventory = parts.inventory()
    port = find("port", inventory.ports, path.ref, query.tenant)
    names = [network.name for network in inventory.networks if network.id == port.network]
    place = parts.inspector.places_of([port.id]).get(port.id)
    return answer(_port(port, names[0] if names else None, place))


def _tenants(parts: Context) -> list[TenantOut]:
    inventory = parts.inventory()
    network_count = Counter(network.tenant for network in inventory.networks)
    port_count = Counter(port.tenant for port in inventory.ports)
    collector_count = Counter(r.collector.tenant for r in parts.store.collectors.all())
    session_count = Counter(r.session.tenant for r in parts.store.sessions.all())
    return [
        TenantOut(
            name=tenant,
            title=inventory.titles.get(tenant),
            networks=network_count[tenant],
            ports=port_count[tenant],
            collectors=collector_count[tenant],
            sessions=session_count[tenant],
        )
        for tenant in inventory.tenants
    ]


def _networks(chosen: list[Network], parts: Context) -> list[NetworkOut]:
    port_count = Counter(port.network for port in parts.inventory().ports)
    tags = parts.inspector.tags_of(network.id for network in chosen)
    return [
        NetworkOut(
            id=n.id,
            name=n.name,
            tenant=n.tenant,
            ports=port_count[n.id],
            tag=tags.get(n.id),
        )
        for n in chosen
    ]


def _port(port: Port, network: str | None, place: PortPlace | None) -> PortOut:
    shown = None
    if place is not None:
        shown = PlacementOut(
            bridge=place.bridge, bridge_id=f"{place.dpid:016x}", ofport=place.ofport
        )
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
        placement=shown,
    )

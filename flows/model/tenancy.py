"""The only place that decides which tenant may watch which ports, and deliver where."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from flows.errors import (
    CrossTenantCollector,
    CrossTenantFilter,
    CrossTenantNetwork,
    CrossTenantSensor,
    CrossTenantSource,
    KeyHeld,
    KeyTaken,
    NotATapPort,
    NotAWorkload,
    TooManyHeldKeys,
)
from flows.model.collector import Collector
from flows.model.filter import Filter
from flows.model.names import CollectorId, FilterId, NetworkId, PortId, TenantName
from flows.model.port import Network, Port, PortKind
from flows.model.session import Session
from flows.model.tunnel import (
    HELD_MAX,
    KEY_WORDS,
    KeyQuota,
    KeyUse,
    chosen_keys,
    key_space,
    key_uses,
)


def check_key(collector: Collector, others: Iterable[Collector]) -> None:
    """Refuse a collector whose copies a sensor cannot tell from those of another tenant.

    Raises:
        KeyTaken: a collector of another tenant sends to the same address with the same key.
    """
    if collector.key is None:
        return
    for other in others:
        if other.tenant == collector.tenant or other.key != collector.key:
            continue
        if key_space(other.delivery) is not key_space(collector.delivery):
            continue
        for address in collector.addresses:
            if address in other.addresses:
                word = KEY_WORDS[collector.delivery]
                name, tenant = collector.name, collector.tenant
                raise KeyTaken(name, tenant, word, collector.key, str(address))


def check_held_keys(
    collector: Collector, held: Iterable[KeyUse], before: Collector | None = None
) -> None:
    """Refuse a key at an address that another tenant has given up and that is still ``held``: a
    bridge may not know, and a sensor could not tell the copies of the two apart.

    What the collector had ``before`` its change stays with it.

    Raises:
        KeyHeld: the key is held for another tenant.
    """
    new = key_uses(collector) - (frozenset() if before is None else key_uses(before))
    wanted = {(use.space, use.key, use.address) for use in new}
    for use in held:
        if use.tenant != collector.tenant and (use.space, use.key, use.address) in wanted:
            name, word = collector.name, KEY_WORDS[collector.delivery]
            raise KeyHeld(name, collector.tenant, word, use.key, str(use.address))


def check_key_quota(
    collector: Collector,
    others: Iterable[Collector],
    held: Iterable[KeyUse],
    tenants: Collection[TenantName],
    before: Collector | None = None,
) -> None:
    """Refuse a tunnel key that keeps another of ``tenants`` from having its own.

    A tenant has its part of the keys, those that are ``held`` for it included. It may use again
    what it has or had.

    Raises:
        TooManyKeys: the tenant may have no more keys.
        TooManyHeldKeys: it has given up too many of them.
    """
    if collector.key is None:
        return
    tenant, key, held = collector.tenant, collector.key, tuple(held)
    others = (*others, *(() if before is None else (before,)))
    quota = KeyQuota(collector.delivery, others, held, tenants)
    is_new = key in chosen_keys(collector.delivery) and key not in quota.keys_of(tenant)
    if is_new and quota.is_reached(tenant):
        raise quota.refusal(tenant)
    given_up = {use for use in held if use.tenant == tenant}
    if len(given_up) < HELD_MAX:
        return
    known = given_up.union(*(key_uses(other) for other in others if other.tenant == tenant))
    if not key_uses(collector) <= known:
        raise TooManyHeldKeys(tenant, len(given_up))


def check_collector(collector: Collector, ports: Mapping[PortId, Port]) -> None:
    """Refuse a collector with a sensor that is a port, but not a tap port of its tenant.

    A sensor that is not in the inventory is not checked: it is not placed, so it gets no copies.

    Raises:
        CrossTenantSensor: the tap port belongs to another tenant.
        NotATapPort: the port carries production.
    """
    for port_id in collector.tap_ports:
        port = ports.get(port_id)
        if port is None:
            continue
        if port.tenant != collector.tenant:
            raise CrossTenantSensor(collector.name, collector.tenant, port.name, port.tenant)
        if port.kind is not PortKind.TAP:
            raise NotATapPort(collector.name, port.name)


def check_session(
    session: Session,
    ports: Mapping[PortId, Port],
    collectors: Mapping[CollectorId, Collector],
    filters: Mapping[FilterId, Filter] | None = None,
    networks: Mapping[NetworkId, Network] | None = None,
) -> None:
    """Refuse a session that would show one tenant a packet of another.

    Every source port must be a workload of the session's tenant. The collector, its tap ports, and
    the filter unless it is built in, must belong to the tenant. Ports, collectors, filters and
    networks that do not exist (any more) are not checked.

    Raises:
        CrossTenantSource, NotAWorkload: a source port is not the tenant's, or is a tap port.
        CrossTenantCollector, CrossTenantSensor, NotATapPort: the collector is not.
        CrossTenantFilter, CrossTenantNetwork: the filter, or a source network, is not.
    """
    wanted = (filters or {}).get(session.filter)
    if wanted is not None and wanted.tenant != session.tenant:
        raise CrossTenantFilter(session.name, session.tenant, wanted.name, wanted.tenant)
    for network_id in session.source.networks:
        network = (networks or {}).get(network_id)
        if network is not None and network.tenant != session.tenant:
            raise CrossTenantNetwork(session.name, session.tenant, network.name, network.tenant)
    for port_id in session.source.ports:
        port = ports.get(port_id)
        if port is None:
            continue
        if port.tenant != session.tenant:
            raise CrossTenantSource(session.name, session.tenant, port.name, port.tenant)
        if port.kind is not PortKind.VM:
            raise NotAWorkload(session.name, port.name)
    collector = collectors.get(session.collector)
    if collector is None:
        return
    if collector.tenant != session.tenant:
        raise CrossTenantCollector(session.name, session.tenant, collector.name, collector.tenant)
    check_collector(collector, ports)

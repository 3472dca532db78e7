"""What the inventory gives to another tenant: bridges that are away use numbers as they know them.

Some bridges have the flows of the world before, the others those of the world after. No frame may
get over a link to a port that is another tenant's there.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import compile_bridge
from flows.explain import Interpreter
from flows.model import (
    KINDS_OF_TENANTS,
    NUMBER_RANGES,
    Collector,
    Dpid,
    Names,
    Numbers,
    PortKind,
    Session,
    SessionId,
    TenantName,
    World,
    declared_names,
    transport_keys,
)
from flows.openflow import Flow
from flows.resolve import ResolvedWorld
from tests.flows.hand_made import S1, S2, S3, at, cable, packet, tap, vm, watch, world
from tests.generators.random_worlds import random_packets, random_world

SEEDS = st.integers(0, 2**63)


class Book:
    """Gives numbers as the store does, and takes none back: a bridge is away.

    ``is_of_tenants``: what goes to another tenant gets another number.
    """

    def __init__(self, *, is_of_tenants: bool = True) -> None:
        self._is_of_tenants = is_of_tenants
        self._given: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def numbered(self, of: World) -> World:
        """A world with a number for everything in it."""
        declared = declared_names(of.networks, of.ports)
        names = replace(
            declared,
            session=[session.id for session in of.sessions],
            filter=[each.id for each in of.filters],
            collector=[collector.id for collector in of.collectors],
        )
        numbers = self._numbers_for(names)
        extra = transport_keys(of.collectors, of.networks, of.ports, numbers)
        tags = {**declared.tag, **extra}
        return replace(of, numbers=self._numbers_for(replace(names, tag=tags)))

    def _numbers_for(self, names: Names) -> Numbers:
        found: dict[str, dict[str, int]] = {}
        for kind, keys in names.by_kind.items():
            book, found[kind] = self._given[kind], {}
            for name, kept in keys.items():
                key = kept if self._is_of_tenants else name
                found[kind][name] = book.setdefault(key, NUMBER_RANGES[kind].start + len(book))
        return Numbers(**found)  # type: ignore[arg-type]


def given_away(rng: Random, of: World) -> World:
    """The same world after the inventory gave some networks and tap ports to another tenant.

    Collectors are theirs who have their tap ports now, and sessions are made anew.
    """
    tenants = sorted({network.tenant for network in of.networks} | {TenantName("other")})

    def other(tenant: TenantName) -> TenantName:
        rest = [each for each in tenants if each != tenant]
        return rng.choice(rest) if rng.random() < 0.7 else tenant

    networks = tuple(replace(network, tenant=other(network.tenant)) for network in of.networks)
    owner = {network.id: network.tenant for network in networks}
    ports = tuple(
        replace(p, tenant=other(p.tenant) if p.network is None else owner[p.network])
        for p in of.ports
    )
    taps = {p.id: p.tenant for p in ports if p.kind is PortKind.TAP}

    def made_anew(old: Collector) -> Collector:
        return replace(old, tenant=taps[old.tap_ports[0]]) if old.tap_ports else old

    collectors = tuple(map(made_anew, of.collectors))
    owners = {collector.id: collector.tenant for collector in collectors}

    def session(old: Session) -> Session:
        tenant = owners.get(old.collector, old.tenant)
        return replace(old, id=SessionId(f"{old.id}-new"), tenant=tenant)

    sessions = tuple(map(session, of.sessions))
    return replace(of, networks=networks, ports=ports, collectors=collectors, sessions=sessions)


def compiled(of: World, dpids: set[Dpid]) -> dict[Dpid, tuple[Flow, ...]]:
    resolved = ResolvedWorld(of)
    return {dpid: compile_bridge(dpid, resolved) for dpid in dpids}


def strangers_met(rng: Random, before: World, after: World, away: set[Dpid]) -> list[str]:
    """The ports to which frames get from one tenant to another, as each bridge knows them."""
    told = {*after.dpids} - away
    bridges = Interpreter(compiled(before, away) | compiled(after, told), after.links)
    known = {dpid: before if dpid in away else after for dpid in after.dpids}
    found: list[str] = []
    for sent in random_packets(rng, after, 16):
        place = after.placements[sent.sender.id]
        sender = known[place.dpid].port_by_placement[place].tenant
        for out in bridges.send(place, sent.frame).emissions:
            port = known[out.place.dpid].port_by_placement.get(out.place)
            if out.remote is None and port is not None and port.tenant != sender:
                found.append(port.id)
    return found


def met_in(seed: int, *, is_of_tenants: bool) -> list[str]:
    rng = Random(seed)
    first = random_world(rng, 3)
    book = Book(is_of_tenants=is_of_tenants)
    before, after = book.numbered(first), book.numbered(given_away(rng, first))
    away = {dpid for dpid in after.dpids if rng.random() < 0.5}
    return strangers_met(rng, before, after, away)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_no_frame_gets_to_another_tenant_while_bridges_are_away(seed: int) -> None:
    assert met_in(seed, is_of_tenants=True) == []


def test_numbers_that_stay_with_a_name_would_lead_to_another_tenant() -> None:
    """What the property above would find."""
    assert any(met_in(seed, is_of_tenants=False) for seed in range(200))


PORTS = (
    vm("web", at(S1, 1), 0x020000000001), vm("db", at(S1, 2), 0x020000000002),
    vm("app", at(S3, 1), 0x020000000003, network="blue-lan"),
    cable(at(S1, 9), at(S2, 9)), cable(at(S2, 8), at(S3, 8)),
)  # fmt: skip
RED = world(*PORTS, tap("soc", at(S2, 5)), watch("one", "web", to="soc"))
BLUE = world(*PORTS, tap("soc", at(S2, 5), "blue"), watch("two", "app", to="soc", tenant="blue"))


@pytest.mark.parametrize("is_of_tenants", [True, False])
def test_a_tap_port_gets_no_copies_of_who_had_it_before(is_of_tenants: bool) -> None:
    book = Book(is_of_tenants=is_of_tenants)
    before, after = book.numbered(RED), book.numbered(BLUE)
    bridges = Interpreter(compiled(before, {S1}) | compiled(after, {S2, S3}), after.links)
    trace = bridges.send(at(S1, 1), packet(0x020000000002, 0x020000000001))
    met = {emission.place for emission in trace.emissions}
    assert met == ({at(S1, 2)} if is_of_tenants else {at(S1, 2), at(S2, 5)})


def test_only_what_the_inventory_names_can_go_to_another_tenant() -> None:
    """Ids of sessions, filters and collectors are made here, and stay with their tenant."""
    made_here = {"session", "filter", "collector", "meter"}
    assert set(NUMBER_RANGES) - set(KINDS_OF_TENANTS) == made_here

"""No flow crosses tenants: checked by walking over all flows, and with packets."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import compile_bridge
from flows.explain import Interpreter
from flows.model import Dpid, PortId, TenantName, World, transport_key
from flows.openflow import Flow, Load, Output
from flows.pipeline import DELIVER, FLOOD, NETWORK, START
from flows.resolve import ResolvedWorld
from tests.flows.hand_made import S1, S2, at, cable, compile_all, tap, vm, watch, world
from tests.flows.reach import Reach
from tests.generators.random_worlds import random_packets, random_world

SEEDS = st.integers(0, 2**63)


def strangers_reached(of: World, flows: dict[Dpid, tuple[Flow, ...]], tenant: TenantName) -> set:
    """Ports, link tags and remotes that are not a tenant's own and that its packets could reach."""
    reach = Reach(flows, of.links)
    for port in of.ports:
        if port.tenant == tenant and port.id in of.placements:
            reach.walk(of.placements[port.id])
    owner_by_tag = {tag: owner_of(key, of) for key, tag in of.numbers.tag.items()}
    ports = {p for p in reach.ports if of.port_by_placement[p].tenant != tenant}
    tags = {tag for tag in reach.tags if owner_by_tag.get(tag or 0) != tenant}
    own = {(a, key) for _, a, key in remotes_of(of, tenant)}
    return ports | tags | (reach.remotes - own)


def owner_of(key: str, of: World) -> TenantName:
    """The tenant of the network or port that a link tag belongs to."""
    kind, _, name = key.partition(":")  # "tap-7:NAME" is for copies with a tag: semantics/tags.py
    owner = of.network_by_id if kind == "network" else of.port_by_id
    return owner[name].tenant  # type: ignore[index]


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_no_flow_leads_from_one_tenant_to_another(seed: int) -> None:
    here = random_world(Random(seed))
    flows = compile_all(here)
    for tenant in {port.tenant for port in here.ports}:
        assert strangers_reached(here, flows, tenant) == set()


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_no_packet_gets_from_one_tenant_to_another(seed: int) -> None:
    rng = Random(seed)
    here = random_world(rng)
    bridges = Interpreter(compile_all(here), here.links)
    for sent in random_packets(rng, here, 16):
        trace = bridges.send(here.placements[sent.sender.id], sent.frame)
        met = {
            here.port_by_placement[emission.place].tenant
            for emission in trace.emissions
            if emission.remote is None
        }
        assert met <= {sent.sender.tenant}, trace
        remote = {(e.session, str(e.remote), e.key) for e in trace.emissions if e.remote}
        assert remote <= remotes_of(here, sent.sender.tenant), trace


def remotes_of(here: World, tenant: TenantName) -> set[tuple[int | None, str, int | None]]:
    """Each session of a tenant with the addresses and the key of its collector."""
    return {
        (here.numbers.session[session.id], str(address), collector.key)
        for session in here.sessions
        for collector in here.collectors
        if session.tenant == tenant == collector.tenant and session.collector == collector.id
        for address in collector.addresses
    }


TWO = world(
    vm("web", at(S1, 1), 0x020000000001), vm("db", at(S2, 1), 0x020000000002),
    tap("ids", at(S2, 2)), cable(at(S1, 21), at(S2, 22)),
    vm("blue-web", at(S1, 3), 0x020000000001, network="blue-lan"),
    vm("blue-db", at(S2, 3), 0x020000000002, network="blue-lan"),
    tap("blue-ids", at(S2, 4), "blue"),
    watch("s", "web", "db", to="ids"), watch("t", "blue-web", to="blue-ids", tenant="blue"),
)  # fmt: skip


def test_the_walk_reaches_every_port_of_a_tenant() -> None:
    reach = Reach(compile_all(TWO), TWO.links)
    reach.walk(TWO.placements[PortId("web")])
    assert reach.ports == {TWO.placements[PortId(name)] for name in ("web", "db", "ids")}


def test_the_walk_finds_copies_that_leave_through_a_tunnel_of_another_tenant() -> None:
    seed = next(n for n in range(1000) if reached_remotes(random_world(Random(n))))
    here = random_world(Random(seed))
    stolen = replace(here, collectors=tuple(replace(c, tenant="nobody") for c in here.collectors))
    assert strangers_reached(stolen, compile_all(here), reached_remotes(here).pop())


def reached_remotes(of: World) -> set[TenantName]:
    """The tenants with a port whose packets reach a remote sensor."""
    flows, found = compile_all(of), set[TenantName]()
    for port in of.workloads:
        reach = Reach(flows, of.links)
        if port.id in of.placements:
            reach.walk(of.placements[port.id])
        found |= {port.tenant} if reach.remotes else set()
    return found


def test_the_walk_finds_a_flow_that_crosses_tenants() -> None:
    flows = compile_all(TWO)
    assert strangers_reached(TWO, flows, TenantName("red")) == set()
    for crossed in (_crossed_copy, _crossed_flood, _crossed_start):
        damaged = {dpid: tuple(map(crossed, of)) for dpid, of in flows.items()}
        assert strangers_reached(TWO, damaged, TenantName("red")), crossed.__name__


@pytest.mark.parametrize("tag", [None, 7])
def test_tap_ports_with_colons_in_their_ids_share_no_link_tag(tag: int | None) -> None:
    keys = {transport_key(PortId(name), t) for name in ("x", "x:7") for t in (tag, 8)}
    assert len(keys) == 4
    assert transport_key(PortId("x:7"), None) != transport_key(PortId("x"), 7)


def test_every_start_flow_loads_the_network_of_its_port() -> None:
    """Isolation depends on this register: the first flow sets it to the sender's network."""
    for dpid in TWO.dpids:
        for flow in compile_bridge(dpid, ResolvedWorld(TWO)):
            if flow.table == START.number and flow.actions and flow.priority == START["workload"]:
                place = at(dpid, flow.match.terms[0].value)
                network = TWO.port_by_placement[place].network
                assert flow.actions[0] == Load(NETWORK, TWO.numbers.network[network])


def _crossed_copy(flow: Flow) -> Flow:
    is_copy = flow.table == DELIVER.number and flow.actions == (Output(2),)
    return flow.replace(actions=(Output(4),)) if is_copy else flow


def _crossed_flood(flow: Flow) -> Flow:
    is_flood = flow.table == FLOOD.number and flow.actions
    return flow.replace(actions=(*flow.actions, Output(3))) if is_flood else flow


def _crossed_start(flow: Flow) -> Flow:
    red, blue = Load(NETWORK, 1), Load(NETWORK, 2)
    return flow.replace(actions=tuple(blue if a == red else a for a in flow.actions))

"""Compiled flows mean what the sessions say: random worlds and packets through the interpreter."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from netaddr import EUI

from flows.compile import compile_bridge
from flows.compile.production import ipv6_addresses
from flows.explain import Interpreter
from flows.model import Dpid, NetworkId, Port, PortId, TenantName, World
from flows.openflow import Flow
from flows.resolve import ResolvedWorld
from flows.semantics import LearnedAddresses
from tests.arrivals import Arrivals
from tests.generators.random_worlds import random_packets, random_world

SEEDS = st.integers(0, 2**63)


def compile_all(world: World) -> dict[Dpid, tuple[Flow, ...]]:
    resolved = ResolvedWorld(world)
    return {dpid: compile_bridge(dpid, resolved) for dpid in world.dpids}


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_compiled_flows_mean_what_the_sessions_say(seed: int) -> None:
    rng = Random(seed)
    world = random_world(rng)
    bridges, arrivals = Interpreter(compile_all(world), world.links), Arrivals(world)
    learned: LearnedAddresses = {}
    for sent in random_packets(rng, world, 12):
        want, _, learned = arrivals.expected(sent, learned)

        trace = bridges.send(world.placements[sent.sender.id], sent.frame)

        assert arrivals.seen(trace) == want, f"{sent.kind} of {sent.sender.id}\n{trace}"


@given(st.integers(0, 2**40 - 1))
def test_a_protected_port_may_use_the_address_that_it_gives_itself(mac: int) -> None:
    port = Port(PortId("a"), "a", TenantName("red"), NetworkId("lan"), mac=EUI(mac, version=48))

    assert ipv6_addresses(port, mac) == [int(EUI(mac, version=48).ipv6_link_local())]

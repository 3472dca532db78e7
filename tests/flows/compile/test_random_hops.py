"""Random knowledge of ports and routes: flows do what the contract says, also after each change."""

from __future__ import annotations

import dataclasses
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import Program
from flows.explain import Interpreter
from flows.model import (
    RATES,
    Datapath,
    Hop,
    Ofport,
    Placement,
    Route,
    RouteState,
    Segmenter,
    Setting,
    World,
)
from flows.resolve import ResolvedWorld
from flows.semantics import LearnedAddresses
from tests.arrivals import Arrivals
from tests.flows.hand_made import compile_all
from tests.generators.random_worlds import random_packets, random_world

SEEDS = st.integers(0, 1 << 32)
HARMLESS = (Setting.PROTECTED, Setting.RESTORING)
"""Settings that flows do not heed: what they stop is said, not counted."""


def random_hop(rng: Random, *, is_tap: bool) -> Hop:
    stops = (Setting.NO_FORWARD, Setting.NOT_FORWARDING) if is_tap else (Setting.NO_RECEIVE,)
    chosen = [s for s in (*stops, *HARMLESS) if rng.random() < 0.2]
    return Hop(
        "s", "eth",
        mtu=rng.choice((None, 68, 400, 1000, 1500, 9000, 65535, 65536)),
        longest=rng.choice((None, 400, 1500, 9000, 65536)),
        rate_kbps=rng.choice((None, None, 10, 9000, RATES[-1])) if is_tap else None,
        settings=frozenset(chosen),
        is_reported=rng.random() < 0.9,
        truncates=rng.random() < 0.8,
    )  # fmt: skip


def with_hops(rng: Random, world: World, share: float = 1.0) -> World:
    """The world with other knowledge of some ports, links and routes."""
    taps = {world.placements[p.id] for p in world.tap_ports if p.id in world.placements}
    ends = {end for link in world.links for end in (link.a, link.b)}
    places: list[Placement] = sorted({*world.placements.values(), *ends})
    hops, routes = dict(world.hops), dict(world.routes)
    for place in places:
        if rng.random() < share:
            hops[place] = random_hop(rng, is_tap=place in taps)
    for dpid in world.dpids:
        for address in {a for c in world.collectors for a in c.addresses}:
            if rng.random() < share:
                mtu = rng.choice((None, 68, 700, 1500, 65536))
                routes[dpid, address] = Route(rng.choice(list(RouteState)), "under", mtu)
    turned = {end for end in sorted(ends) if rng.random() < 0.15 * share}
    datapaths = dict(world.datapaths)
    for dpid in world.dpids:
        if rng.random() < 0.8 * share:
            datapaths[dpid] = rng.choice(list(Datapath))
    segmenters = dict(world.segmenters)
    for dpid in world.dpids:
        if rng.random() < share:
            segmenters.pop(dpid, None)
            if rng.random() < 0.7:
                segmenters[dpid] = Segmenter(Ofport(41), Ofport(42))
    return world.with_reachability(
        world.tunnels, world.down ^ turned, hops, routes, datapaths, segmenters
    )


@settings(max_examples=120, deadline=None)
@given(SEEDS)
def test_flows_with_hops_mean_what_the_contract_says(seed: int) -> None:
    rng = Random(seed)
    world = with_hops(rng, random_world(rng))
    bridges, arrivals = (
        Interpreter(compile_all(world), world.links, world.datapaths, world.segmenters),
        Arrivals(world),
    )
    learned: LearnedAddresses = {}
    for sent in random_packets(rng, world, 12):
        want, _, learned = arrivals.expected(sent, learned)

        trace = bridges.send(world.placements[sent.sender.id], sent.frame)

        assert arrivals.seen(trace) == want, f"{sent.kind}\n{trace}"


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_other_knowledge_leads_to_the_flows_of_a_complete_compilation(seed: int) -> None:
    rng = Random(seed)
    world = with_hops(rng, random_world(rng))
    resolved = ResolvedWorld(world)
    programs = {dpid: Program(dpid) for dpid in world.dpids}
    for program in programs.values():
        program.has_meters = True
    for _ in range(6):
        for dpid, program in programs.items():
            if rng.random() < 0.8:  # a slow bridge misses some worlds
                program.update(resolved)
                complete = Program(dpid)
                complete.has_meters = True
                complete.update(ResolvedWorld(world))
                assert {f.key: f.cookie for f in program.flows} == {
                    f.key: f.cookie for f in complete.flows
                }
                assert program.meters == complete.meters
        if rng.random() < 0.2:
            chosen = rng.sample(world.sessions, len(world.sessions) // 2)
            off = [dataclasses.replace(s, enabled=not s.enabled) for s in chosen]
            rest = [s for s in world.sessions if s not in chosen]
            by_id = {s.id: s for s in (*rest, *off)}
            world = world.with_desired_state(world.collectors, by_id, world.filters, world.numbers)
        world = with_hops(rng, world, 0.1)
        resolved = ResolvedWorld(world, resolved)

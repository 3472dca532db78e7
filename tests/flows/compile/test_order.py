"""What compiled flows depend on, and what not: the order of the world, and who watches whom."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import compile_bridge
from flows.model import Link, World
from flows.openflow import PRODUCTION, object_of
from flows.pipeline import DELIVER, EGRESS, IDENTIFY, PIPELINE, START
from flows.pipeline.contract import check_flow
from flows.resolve import ResolvedWorld
from tests.flows.hand_made import compile_all
from tests.generators.random_worlds import random_world

SEEDS = st.integers(0, 2**63)
OF_SESSIONS = {t.number for t in PIPELINE if t.number >= EGRESS.number} | {IDENTIFY.number}


def shuffled(rng: Random, world: World) -> World:
    """The same world, everything in another order, and links seen from the other end."""
    links = [Link(x.b, x.a) if rng.random() < 0.5 else x for x in world.links]

    def mix(things: tuple) -> tuple:
        return tuple(rng.sample(things, len(things)))

    return replace(
        world, networks=mix(world.networks), ports=mix(world.ports), links=mix(tuple(links)),
        collectors=mix(world.collectors), sessions=mix(world.sessions),
        placements=dict(mix(tuple(world.placements.items()))),
    )  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_the_order_of_the_world_does_not_change_the_flows(seed: int) -> None:
    rng = Random(seed)
    world = random_world(rng)
    one, other = compile_all(world), compile_all(shuffled(rng, world))
    assert one.keys() == other.keys()
    for dpid in one:
        assert sorted(map(str, one[dpid])) == sorted(map(str, other[dpid]))


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_the_same_world_has_the_same_flows(seed: int) -> None:
    world, again = random_world(Random(seed)), random_world(Random(seed))
    assert compile_all(world) == compile_all(again)


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_sessions_make_no_difference_to_production(seed: int) -> None:
    world = random_world(Random(seed))
    with_sessions, without = compile_all(world), compile_all(replace(world, sessions=()))
    for dpid in with_sessions:
        assert production(with_sessions[dpid]) == production(without[dpid])


def production(flows) -> list[str]:
    """All but the tables of sessions, and but the start flows that carry copies between bridges."""
    return [
        str(flow)
        for flow in flows
        if flow.table not in OF_SESSIONS
        and (flow.table, flow.priority) != (START.number, START["transport"])
    ]


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_every_flow_keeps_its_contract_and_is_there_once(seed: int) -> None:
    world = random_world(Random(seed))
    for flows in compile_all(world).values():
        for flow in flows:
            check_flow(flow)
            assert flow.why
        repeated = [key for key, n in Counter(flow.key for flow in flows).items() if n > 1]
        assert repeated == []


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_the_flow_that_copies_carries_the_number_of_its_session(seed: int) -> None:
    world = random_world(Random(seed))
    served = {world.numbers.session[s.session.id] for s in ResolvedWorld(world).served}
    seen = set()
    for dpid in world.dpids:
        for flow in compile_bridge(dpid, ResolvedWorld(world)):
            owner = object_of(flow.cookie)
            assert owner == PRODUCTION or flow.table >= DELIVER.number
            seen.add(owner)
    assert seen - {PRODUCTION} == served

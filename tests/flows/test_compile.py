"""Compiled flows mean what the sessions say: random worlds and packets through the interpreter."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import Survey, compile_bridge
from flows.flow import Flow
from flows.meaning import copied_frame, meaning
from flows.model import Dpid, PortKind
from flows.trace import Interpreter, Trace
from flows.world import World
from tests.random_worlds import Sent, random_packets, random_world

SEEDS = st.integers(0, 2**63)


def compile_all(world: World) -> dict[Dpid, tuple[Flow, ...]]:
    survey = Survey(world)
    return {dpid: compile_bridge(dpid, survey) for dpid in world.dpids}


def expected_frames(world: World, sent: Sent, learned: dict) -> tuple[Counter, dict]:
    """What must come out where: (place, bytes) with how often."""
    if sent.sender.kind is PortKind.TAP:
        return Counter(), learned
    means = meaning(sent.frame, sent.sender, world, learned)
    out = Counter((world.placements[port], sent.frame) for port in means.receivers)
    for session in world.sessions:
        if session.id in means.copies:
            tap = world.collector_by_id[session.collector].sensor
            copy = copied_frame(sent.frame, session, sent.sender, world)
            out[world.placements[tap], copy] += 1
    return out, dict(means.learned)


def seen_frames(trace: Trace) -> Counter:
    return Counter((emission.place, emission.frame) for emission in trace.emissions)


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_compiled_flows_mean_what_the_sessions_say(seed: int) -> None:
    rng = Random(seed)
    world = random_world(rng)
    bridges = Interpreter(compile_all(world), world.links)
    learned: dict = {}
    for sent in random_packets(rng, world, 12):
        want, learned = expected_frames(world, sent, learned)

        trace = bridges.send(world.placements[sent.sender.id], sent.frame)

        assert seen_frames(trace) == want, f"{sent.kind} of {sent.sender.id}\n{trace}"

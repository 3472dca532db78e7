"""While a session moves between linked bridges, no packet goes without its copy.

Bridges change one after the other, in any order. Between any two steps each packet that has a copy
before and after the change has one, or more for a moment; production is what it always was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import Program, Stages, in_stages
from flows.explain import Interpreter
from flows.model import Direction, Dpid, Mode, PortId, Source, World
from flows.openflow import Flow, FlowKey
from flows.plan import NO_OVERLAP, Plan, plan_from_delta
from flows.resolve import ResolvedWorld
from tests.arrivals import Arrivals
from tests.flows.hand_made import (
    BOTH,
    EGRESS,
    INGRESS,
    S1,
    S2,
    at,
    cable,
    packet,
    tap,
    vm,
    watch,
    world,
)  # fmt: skip
from tests.frames import BROADCAST
from tests.generators.random_worlds import Sent, random_packets, random_world

SEEDS = st.integers(0, 2**63)
Tables = dict[Dpid, dict[FlowKey, Flow]]


def moved(rng: Random, before: World) -> World:
    """The same world in which one session watches something else."""
    those = [s for s in before.sessions if s.mode is Mode.COPY and s.enabled]
    if not those:
        return before
    old = rng.choice(those)
    own = [port.id for port in before.workloads if port.tenant == old.tenant]
    ports = rng.sample(own, rng.randint(1, len(own)))
    source = rng.choice((old.source, Source(tuple(ports))))
    new = dataclasses.replace(old, direction=rng.choice(list(Direction)), source=source)
    sessions = tuple(new if session is old else session for session in before.sessions)
    return dataclasses.replace(before, sessions=sessions)


class Bridges:
    """The flow tables of all bridges while each of them applies the stages of its plan."""

    def __init__(self, before: World, after: World, *, has_overlap: bool = True) -> None:
        old = ResolvedWorld(before)
        new = ResolvedWorld(after, old)
        self.links = after.links
        self.tables: Tables = {}
        self.after: Tables = {}
        self.stages: dict[Dpid, Stages] = {}
        for dpid in before.dpids:
            program = Program(dpid)
            self.tables[dpid] = {flow.key: flow for flow in program.update(old).put}
            referred = program.filters
            delta = program.update(new)
            self.stages[dpid] = in_stages(
                plan_from_delta(delta, len(program.flows)), referred, program.filters,
                overlap=delta.overlap if has_overlap else NO_OVERLAP,
            )  # fmt: skip
            self.after[dpid] = {flow.key: flow for flow in program.flows}

    @property
    def have_overlap(self) -> bool:
        return any(stages.late for stages in self.stages.values())

    def apply(self, dpid: Dpid, plans: tuple[Plan, ...]) -> None:
        table = self.tables[dpid]
        for plan in plans:
            for gone in plan.remove:
                table.pop(gone.key)
            table.update((flow.key, flow) for flow in plan.add)

    def steps(self, rng: Random) -> Iterator[str]:
        """Apply all stages; yields after each step of a bridge. All wait for all between stages."""
        for name in ("before", "main", "late", "after"):
            dpids = list(self.stages)
            rng.shuffle(dpids)
            for dpid in dpids:
                part = getattr(self.stages[dpid], name)
                self.apply(dpid, part if isinstance(part, tuple) else (part,))
                yield f"{name} of {dpid:x}"

    def interpreter(self) -> Interpreter:
        return Interpreter(
            {d: list(flows.values()) for d, flows in self.tables.items()}, self.links
        )


def check(
    before: World, after: World, sent: list[Sent], rng: Random, bridges: Bridges, most: int
) -> None:
    """Fail if in any step a packet lacks a copy, has too many, or is delivered otherwise.

    ``most``: how many copies of a packet there may be for a moment.
    """
    one, other = Arrivals(before, after), Arrivals(after, before)
    wanted = [(each, one.expected(each, {})[0], other.expected(each, {})[0]) for each in sent]
    for step in bridges.steps(rng):
        for each, old, new in wanted:
            trace = bridges.interpreter().send(before.placements[each.sender.id], each.frame)
            seen = one.seen(trace)
            assert one.delivered(seen) == one.delivered(old), f"{step}\n{trace}"
            for key in old | new | seen:
                least, limit = min(old[key], new[key]), max(old[key], new[key]) + most - 1
                assert least <= seen[key] <= limit, f"{step}: {seen[key]} of {key}\n{trace}"
    assert bridges.tables == bridges.after


def random_move(rng: Random) -> tuple[World, World, Bridges]:
    """A change of what a session watches; mostly one that needs an overlap."""
    for _ in range(4):
        before = random_world(rng, rng.choice((2, 3)))
        after = moved(rng, before)
        bridges = Bridges(before, after)
        if bridges.have_overlap:
            break
    return before, after, bridges


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_every_packet_has_its_copy_while_a_session_moves(seed: int) -> None:
    rng = Random(seed)
    before, after, bridges = random_move(rng)
    check(before, after, random_packets(rng, before, 6), rng, bridges, len(before.dpids) + 1)


def test_random_moves_need_an_overlap() -> None:
    assert sum(random_move(Random(seed))[2].have_overlap for seed in range(40)) > 20


WEB, DB = vm("web", at(S1, 1), 0x020000000001), vm("db", at(S2, 1), 0x020000000002)
THINGS = (WEB, DB, tap("ids", at(S1, 2)), cable(at(S1, 9), at(S2, 9)))
FRAMES = {
    "web": (packet(0x020000000002, 0x020000000001), packet(BROADCAST, 0x020000000001)),
    "db": (packet(0x020000000001, 0x020000000002), packet(BROADCAST, 0x020000000002)),
}
CHANGES: Mapping[str, tuple[Mapping[str, object], Mapping[str, object]]] = {
    f"{one.value} to {other.value}": ({"direction": one}, {"direction": other})
    for one in (BOTH, EGRESS, INGRESS)
    for other in (BOTH, EGRESS, INGRESS)
    if one is not other
} | {"source": ({"source": Source((PortId("web"),))}, {"source": Source((PortId("db"),))})}


def of_two_bridges(change: str) -> tuple[World, World, list[Sent]]:
    """A session on both bridges before and after a change, and packets both ways."""
    session = watch("one", "web", "db", to="ids")
    before, after = (
        world(*THINGS, dataclasses.replace(session, **values))  # type: ignore[arg-type]
        for values in CHANGES[change]
    )
    after = dataclasses.replace(before, sessions=after.sessions)
    port = before.port_by_id
    sent = [Sent(port[PortId(n)], n, frame) for n, those in FRAMES.items() for frame in those]
    return before, after, sent


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_between_two_bridges(change: str) -> None:
    before, after, sent = of_two_bridges(change)
    for seed in range(8):
        check(before, after, sent, Random(seed), Bridges(before, after), 2)


@pytest.mark.parametrize("change", ["egress to ingress", "ingress to egress", "source"])
def test_without_an_overlap_a_packet_lacks_its_copy(change: str) -> None:
    """The test above notices it."""
    before, after, sent = of_two_bridges(change)
    with pytest.raises(AssertionError, match=r": 0 of"):
        for seed in range(8):
            bridges = Bridges(before, after, has_overlap=False)
            check(before, after, sent, Random(seed), bridges, 2)


def test_a_session_that_ends_or_delivers_elsewhere_is_not_kept() -> None:
    session = watch("one", "web", "db", to="ids")
    before = world(*THINGS, session)
    for after in ((), (dataclasses.replace(session, enabled=False),)):
        bridges = Bridges(before, dataclasses.replace(before, sessions=after))
        assert not bridges.have_overlap
        assert any(stages.main.remove for stages in bridges.stages.values())


def test_what_changes_on_one_bridge_alone_changes_at_once() -> None:
    more = vm("more", at(S1, 3), 0x020000000003)
    session = watch("one", "web", to="ids")
    before = world(*THINGS, more, session)
    after = dataclasses.replace(session, source=Source((PortId("more"),)))
    bridges = Bridges(before, dataclasses.replace(before, sessions=(after,)))
    assert not bridges.have_overlap

"""While a session moves between linked bridges, no packet goes without its copy.

Bridges change one after the other, in any order. Between any two steps each packet that has a copy
before and after the change has one, or more for a moment; production is what it always was.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import Program, Stages, in_stages
from flows.explain import Interpreter
from flows.explain.trace import Trace
from flows.model import (
    EDITIONS,
    CollectorId,
    Direction,
    Dpid,
    Filter,
    FilterId,
    Mode,
    Oversize,
    PortId,
    Rule,
    Session,
    Source,
    TenantName,
    Verdict,
    World,
    watched_by,
)
from flows.openflow import Flow, FlowKey
from flows.pipeline import FLOOD
from flows.plan import NO_OVERLAP, Mark, Plan, plan_from_delta
from flows.resolve import ResolvedWorld
from flows.semantics import meaning
from tests.arrivals import Arrivals, Frames, Where
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
from tests.generators.random_filters import random_filter
from tests.generators.random_worlds import Sent, random_packets, random_world

SEEDS = st.integers(0, 2**63)
Tables = dict[Dpid, dict[FlowKey, Flow]]


def moved(rng: Random, before: World, mode: Mode = Mode.COPY) -> World:
    """The same world in which one session watches something else, perhaps for another sensor."""
    those = [s for s in before.sessions if s.mode is mode and s.enabled]
    if not those:
        return before
    old = rng.choice(those)
    own = [port.id for port in before.workloads if port.tenant == old.tenant]
    ports = rng.sample(own, rng.randint(1, len(own)))
    source = rng.choice((old.source, Source(tuple(ports))))
    new = dataclasses.replace(old, direction=rng.choice(list(Direction)), source=source)
    if old.oversize is Oversize.TRUNCATE:  # which ways skip a copy depends on who makes it
        collectors = [c.id for c in before.collectors if c.tenant == old.tenant]
        new = dataclasses.replace(
            new,
            collector=rng.choice((old.collector, *collectors)),
            packet_length=rng.choice((old.packet_length, None, 64)),
        )
    sessions = tuple(new if session is old else session for session in before.sessions)
    return dataclasses.replace(before, sessions=sessions)


def ended(rng: Random, before: World) -> World:
    """The same world in which an exclusive session is switched off, or is gone."""
    those = [s for s in before.sessions if s.mode is Mode.EXCLUSIVE and s.enabled]
    if not those:
        return before
    old = rng.choice(those)
    others = tuple(session for session in before.sessions if session is not old)
    if rng.randint(0, 1):
        others = (*others, dataclasses.replace(old, enabled=False))
    return dataclasses.replace(before, sessions=others)


def with_other_rules(rng: Random, before: World) -> World:
    """The same world in which a filter has other rules, in place or as another edition."""
    used = {s.filter for s in before.sessions if s.mode is Mode.COPY and s.enabled}
    those = [wanted for wanted in before.filters if wanted.id in used]
    if not those:
        return before
    old = rng.choice(those)
    rules = [random_filter(rng, old.id, old.tenant).egress for _ in range(2)]
    others = tuple(rng.sample([old.ingress, old.egress, *rules], 2))
    edition = (old.edition + rng.randint(0, 1)) % EDITIONS
    new = dataclasses.replace(old, ingress=others[0], egress=others[1], edition=edition)
    filters = tuple(new if wanted is old else wanted for wanted in before.filters)
    return dataclasses.replace(before, filters=filters)


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

    @staticmethod
    def marks(tables: Tables) -> dict[Dpid, set[Mark]]:
        return {dpid: {flow.mark for flow in flows.values()} for dpid, flows in tables.items()}

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


def by_place(frames: Frames) -> Counter[Where]:
    """How many frames come out at each place."""
    found: Counter[Where] = Counter()
    for (where, _), count in frames.items():
        found[where] += count
    return found


def sensors_of_changed(one: Arrivals, other: Arrivals) -> set[Where]:
    """Where a changed session delivers in either version.

    Its copies may go to the new collector while they are still made as the old version says.
    """
    before, after = one.world, other.world
    return {
        place
        for arrivals, those, unchanged in (
            (one, before.sessions, after.sessions), (other, after.sessions, before.sessions),
        )
        for session in those
        if session not in unchanged
        for place in arrivals.sensors_of(session)
    }  # fmt: skip


def is_covered(sent: Sent, before: World, after: World, trace: Trace) -> bool:
    """Whether exclusive sessions leave a packet without a copy at no moment, by decision 0029.

    One is not covered that is flooded to the ports of several of them, if others take it after the
    change than before.
    """
    if all(step.flow.table != FLOOD.number for step in trace.steps):
        return True
    one, other = (meaning(sent.frame, sent.sender, each, {}) for each in (before, after))
    asked = {
        session.id
        for each in (before, after)
        for session in each.sessions
        if session.mode is Mode.EXCLUSIVE and session.enabled and session.direction.is_ingress
        if {port.id for port in watched_by(session, each.workloads)} & one.receivers
    }
    return len(asked) < 2 or one.taken == other.taken


class Always(NamedTuple):
    """The copies of a packet that must come out at any moment: of how many sessions, and where
    those of sessions that want them at the same place before the change and after it.
    """

    count: int
    at: Counter[Where]


def copied_always(sent: Sent, one: Arrivals, other: Arrivals) -> Always:
    """The copies of sessions that want one before the change and after it."""
    old, new = one.copies(sent), other.copies(sent)
    both = old.keys() & new.keys()
    return Always(len(both), Counter(old[key] for key in both if old[key] == new[key]))


def check(
    before: World, after: World, sent: list[Sent], rng: Random, bridges: Bridges, most: int,
    mode: Mode = Mode.COPY,
) -> None:  # fmt: skip
    """Fail if in any step a packet lacks a copy, has too many, or is delivered otherwise.

    ``most``: how many copies of a packet there may be for a moment. Of exclusive sessions it is
    copied by those that take it before the change, or by those that take it after.
    """
    one, other = Arrivals(before, after), Arrivals(after, before)
    wanted = [
        (
            each,
            one.expected(each, {})[0],
            other.expected(each, {})[0],
            copied_always(each, one, other),
        )
        for each in sent
    ]
    sensors = sensors_of_changed(one, other)
    for step in bridges.steps(rng):
        there = bridges.interpreter()
        for each, old, new, always in wanted:
            trace = there.copy().send(before.placements[each.sender.id], each.frame)
            seen = one.seen(trace)
            assert one.delivered(seen) == one.delivered(old), f"{step}\n{trace}"
            at_old, at_new, at_seen = by_place(old), by_place(new), by_place(seen)
            assert at_seen.keys() <= at_old.keys() | at_new.keys() | sensors, f"{step}\n{trace}"
            least = always.at if mode is Mode.COPY else Counter[Where]()
            for place in at_old | at_new:
                limit = max(at_old[place], at_new[place]) + most - 1
                assert least[place] <= at_seen[place] <= limit, (
                    f"{step}: {at_seen[place]} of {least[place]} at {place}\n{trace}"
                )
            fewest = one.delivered(old).total() + always.count
            if mode is Mode.EXCLUSIVE:
                is_sure = is_covered(each, before, after, trace)
                fewest = min(old.total(), new.total()) if is_sure else 0
            assert seen.total() >= fewest, f"{step}: {seen.total()} of {fewest} frames\n{trace}"
    assert bridges.marks(bridges.tables) == bridges.marks(bridges.after)


def mostly_with_overlap(
    changes: Iterator[tuple[World, World]], most: int
) -> tuple[World, World, Bridges]:
    """The first of so many changes that needs an overlap, or the last one."""
    for before, after in itertools.islice(changes, most):
        bridges = Bridges(before, after)
        if bridges.have_overlap:
            break
    return before, after, bridges


def without_skipping(before: World) -> World:
    """The same world in which copies of exclusive sessions are truncated if they do not fit.

    Whether one has to be skipped would depend on the bridge that makes it.
    """
    sessions = tuple(
        dataclasses.replace(s, oversize=Oversize.TRUNCATE) if s.mode is Mode.EXCLUSIVE else s
        for s in before.sessions
    )
    return dataclasses.replace(before, sessions=sessions)


def random_moves(rng: Random, mode: Mode) -> Iterator[tuple[World, World]]:
    """Changes of what a session watches."""
    while True:
        before = random_world(rng, rng.choice((2, 3)))
        after = moved(rng, before, mode)
        if after is before:
            continue
        if mode is Mode.EXCLUSIVE:
            before, after = without_skipping(before), without_skipping(after)
        yield before, after


def random_move(rng: Random, mode: Mode = Mode.COPY) -> tuple[World, World, Bridges]:
    """A change of what a session watches; mostly one that needs an overlap."""
    return mostly_with_overlap(random_moves(rng, mode), 4)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_every_packet_has_its_copy_while_a_session_moves(seed: int) -> None:
    rng = Random(seed)
    before, after, bridges = random_move(rng)
    check(before, after, random_packets(rng, before, 6), rng, bridges, len(before.dpids) + 1)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_every_packet_has_a_copy_while_an_exclusive_session_moves(seed: int) -> None:
    rng = Random(seed)
    before, after, bridges = random_move(rng, Mode.EXCLUSIVE)
    check(
        before, after, random_packets(rng, before, 6), rng, bridges, len(before.dpids) + 1,
        Mode.EXCLUSIVE,
    )  # fmt: skip


def random_ends(rng: Random) -> Iterator[tuple[World, World]]:
    """Ends of exclusive sessions."""
    while True:
        before = random_world(rng, rng.choice((2, 3)))
        yield before, ended(rng, before)


def random_end(rng: Random) -> tuple[World, World, Bridges]:
    """The end of an exclusive session; mostly one that needs an overlap."""
    return mostly_with_overlap(random_ends(rng), 20)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_every_packet_has_a_copy_while_an_exclusive_session_ends(seed: int) -> None:
    rng = Random(seed)
    before, after, bridges = random_end(rng)
    check(
        before, after, random_packets(rng, before, 6), rng, bridges, len(before.dpids) + 1,
        Mode.EXCLUSIVE,
    )  # fmt: skip


def random_changes_of_rules(rng: Random) -> Iterator[tuple[World, World]]:
    """Changes of the rules of a filter of copy sessions."""
    while True:
        before = random_world(rng, rng.choice((2, 3)))
        before = dataclasses.replace(
            before, sessions=tuple(s for s in before.sessions if s.mode is Mode.COPY)
        )
        after = with_other_rules(rng, before)
        if after is not before:
            yield before, after


def random_rules(rng: Random) -> tuple[World, World, Bridges]:
    """A change of the rules of a filter; mostly one that needs an overlap."""
    return mostly_with_overlap(random_changes_of_rules(rng), 8)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_every_packet_has_its_copy_while_rules_change(seed: int) -> None:
    rng = Random(seed)
    before, after, bridges = random_rules(rng)
    check(before, after, random_packets(rng, before, 8), rng, bridges, len(before.dpids) + 1)


@pytest.mark.parametrize("change", [random_move, random_end, random_rules])
def test_most_random_changes_need_an_overlap(
    change: Callable[[Random], tuple[World, World, Bridges]],
) -> None:
    assert sum(change(Random(seed))[2].have_overlap for seed in range(40)) > 20


WEB, DB = vm("web", at(S1, 1), 0x020000000001), vm("db", at(S2, 1), 0x020000000002)
THINGS = (WEB, DB, tap("ids", at(S1, 2)), tap("soc", at(S2, 2)), cable(at(S1, 9), at(S2, 9)))
FRAMES = {
    "web": (packet(0x020000000002, 0x020000000001), packet(BROADCAST, 0x020000000001)),
    "db": (packet(0x020000000001, 0x020000000002), packet(BROADCAST, 0x020000000002)),
}
CHANGES: Mapping[str, tuple[Mapping[str, object], Mapping[str, object]]] = {
    f"{one.value} to {other.value}": ({"direction": one}, {"direction": other})
    for one in (BOTH, EGRESS, INGRESS)
    for other in (BOTH, EGRESS, INGRESS)
    if one is not other
} | {
    "source": ({"source": Source((PortId("web"),))}, {"source": Source((PortId("db"),))}),
    "source and collector": (
        {"source": Source((PortId("web"),)), "collector": CollectorId("ids")},
        {"source": Source((PortId("db"),)), "collector": CollectorId("soc")},
    ),
}


def _first(
    *ports: str, direction: Direction = BOTH, enabled: bool = True, wanted: Filter | None = None
) -> Session:
    """The exclusive session that is asked first."""
    return watch(
        "one", *ports, to="ids", direction=direction, enabled=enabled, wanted=wanted, exclusive=100
    )


RIVAL = watch("rival", "db", to="soc", exclusive=200)
EXCLUSIVE_CHANGES: Mapping[str, tuple[tuple[Session, ...], tuple[Session, ...]]] = {
    "more": ((_first("db"), RIVAL), (_first("web", "db"), RIVAL)),
    "fewer": ((_first("web", "db"), RIVAL), (_first("db"), RIVAL)),
    "other": ((_first("web"),), (_first("db"),)),
    "direction": ((_first("web", "db"),), (_first("web", "db", direction=INGRESS),)),
    "other direction": ((_first("web", "db", direction=INGRESS),), (_first("web", "db"),)),
    "enabled": ((_first("web", "db", enabled=False), RIVAL), (_first("web", "db"), RIVAL)),
}
NEXT = watch("next", "web", "db", to="soc", direction=INGRESS, exclusive=200)
ENDS: Mapping[str, tuple[tuple[Session, ...], tuple[Session, ...]]] = {
    "ends": ((_first("web", "db"), NEXT), (NEXT,)),
    "is switched off": (
        (_first("web", "db"), NEXT),
        (_first("web", "db", enabled=False), NEXT),
    ),
}
"""The first exclusive session ends, and the next one copies where packets are received."""


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


def of_exclusive_sessions(change: str) -> tuple[World, World, list[Sent]]:
    """Exclusive sessions on both bridges before and after a change, and packets both ways."""
    those = EXCLUSIVE_CHANGES | ENDS
    before, sessions = world(*THINGS, *those[change][0]), those[change][1]
    port = before.port_by_id
    sent = [Sent(port[PortId(n)], n, frame) for n, those in FRAMES.items() for frame in those]
    return before, dataclasses.replace(before, sessions=sessions), sent


@pytest.mark.parametrize("change", [*EXCLUSIVE_CHANGES, *ENDS])
def test_every_change_of_an_exclusive_session_between_two_bridges(change: str) -> None:
    before, after, sent = of_exclusive_sessions(change)
    for seed in range(8):
        bridges = Bridges(before, after)
        assert bridges.have_overlap
        check(before, after, sent, Random(seed), bridges, 2, Mode.EXCLUSIVE)


@pytest.mark.parametrize("change", [*EXCLUSIVE_CHANGES, *ENDS])
def test_without_an_overlap_an_exclusive_session_leaves_a_packet_to_nobody(change: str) -> None:
    before, after, sent = of_exclusive_sessions(change)
    with pytest.raises(AssertionError, match=r": [01] of"):
        for seed in range(8):
            bridges = Bridges(before, after, has_overlap=False)
            check(before, after, sent, Random(seed), bridges, 2, Mode.EXCLUSIVE)


ALL_RULES, NO_RULES = (Rule(10, Verdict.ACCEPT),), ()
RULES = {
    "begins": ((ALL_RULES, NO_RULES), (ALL_RULES, ALL_RULES)),
    "ceases": ((ALL_RULES, ALL_RULES), (ALL_RULES, NO_RULES)),
    "turns to egress": ((ALL_RULES, NO_RULES), (NO_RULES, ALL_RULES)),
    "turns to ingress": ((NO_RULES, ALL_RULES), (ALL_RULES, NO_RULES)),
}
"""Ingress and egress rules before and after a change."""


def of_rules(change: str, edition: int) -> tuple[World, World, list[Sent]]:
    """A session on both bridges whose filter changes, and packets both ways."""
    old, new = (
        Filter(FilterId("some"), "some", TenantName("red"), *rules, number)
        for rules, number in zip(RULES[change], (0, edition), strict=True)
    )
    before = world(*THINGS, old, watch("one", "web", "db", to="ids", wanted=old))
    port = before.port_by_id
    sent = [Sent(port[PortId(n)], n, frame) for n, those in FRAMES.items() for frame in those]
    return before, dataclasses.replace(before, filters=(new,)), sent


@pytest.mark.parametrize("edition", [0, 1])
@pytest.mark.parametrize("change", RULES)
def test_every_change_of_rules_between_two_bridges(change: str, edition: int) -> None:
    before, after, sent = of_rules(change, edition)
    for seed in range(8):
        check(before, after, sent, Random(seed), Bridges(before, after), 2)


@pytest.mark.parametrize("edition", [0, 1])
@pytest.mark.parametrize("change", RULES)
def test_without_an_overlap_rules_leave_a_packet_to_nobody(change: str, edition: int) -> None:
    before, after, sent = of_rules(change, edition)
    with pytest.raises(AssertionError, match=r": 0 of"):
        for seed in range(8):
            bridges = Bridges(before, after, has_overlap=False)
            check(before, after, sent, Random(seed), bridges, 2)


def test_other_ingress_rules_need_no_overlap() -> None:
    before, after, _ = of_rules("begins", 0)
    (old,) = before.filters
    after = dataclasses.replace(before, filters=(dataclasses.replace(old, ingress=NO_RULES),))
    assert not Bridges(before, after).have_overlap


@pytest.mark.parametrize(
    "change", ["egress to ingress", "ingress to egress", "source", "source and collector"]
)
def test_without_an_overlap_a_packet_lacks_its_copy(change: str) -> None:
    """The test above notices it."""
    before, after, sent = of_two_bridges(change)
    with pytest.raises(AssertionError, match=r": [01] of"):
        for seed in range(8):
            bridges = Bridges(before, after, has_overlap=False)
            check(before, after, sent, Random(seed), bridges, 2)


def test_a_session_that_ends_is_not_kept() -> None:
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

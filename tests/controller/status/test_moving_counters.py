"""Bridges get other datapath ids, also those of each other: what each has counted is its own."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from controller.status import SessionCountersByBridge, joined
from controller.status.session_counters import SessionCounters
from flows.model import Dpid
from flows.openflow import MeterCount, PacketCount
from flows.plan import count_meters

SESSIONS = (7, 8)
SIZE = 100
BRIDGES = 3
IDS = [Dpid(n) for n in range(1, 6)]


@dataclass
class Bridge:
    """A bridge, its meters, and what it has really made; its connection holds counters of an id."""

    dpid: Dpid
    meters: dict[int, int] = field(default_factory=dict)
    true: dict[int, int] = field(default_factory=dict)
    held: SessionCounters | None = None
    reading: tuple[int, dict[int, MeterCount]] | None = None


class Cloud:
    """Bridges, the controller that counts, and its store, in which moves and counts are together.

    Databases tell of other ids at once, and connections are closed before that.
    """

    def __init__(self) -> None:
        self.bridges = [Bridge(IDS[n]) for n in range(BRIDGES)]
        self.counters = SessionCountersByBridge()
        self.stored: dict[tuple[int, Dpid, object], tuple[PacketCount, PacketCount]] = {}
        self.believed = [bridge.dpid for bridge in self.bridges]
        """The ids that the store has for the bridges."""

    def copy(self, who: int, session: int, packets: int) -> None:
        bridge = self.bridges[who]
        for counts in (bridge.meters, bridge.true):
            counts[session] = counts.get(session, 0) + packets

    def begin_reading(self, who: int) -> None:
        bridge = self.bridges[who]
        if bridge.held is None:
            bridge.held = self.counters.of(bridge.dpid)
        counted = {s: PacketCount(n, n * SIZE) for s, n in bridge.meters.items()}
        report = {count_meters(s)[0]: MeterCount(c, c) for s, c in counted.items()}
        bridge.reading = bridge.held.moment, report

    def end_reading(self, who: int) -> None:
        bridge = self.bridges[who]
        if bridge.held is not None and bridge.reading is not None:
            moment, report = bridge.reading
            bridge.held.update(report, {}, moment)
        bridge.reading = None

    def read(self, who: int) -> None:
        self.begin_reading(who)
        self.end_reading(who)

    def restart_bridge(self, who: int) -> None:
        """After a reading its meters are gone, and its connection; the controller adds others."""
        self.read(who)
        bridge = self.bridges[who]
        bridge.meters, bridge.held, bridge.reading = {}, None, None
        added = [count_meters(session)[0] for session in SESSIONS]
        with self.counters.of(bridge.dpid).resetting(added, (), {}):
            pass

    def move(self, order: list[int], is_away: bool) -> None:
        """Bridges get other ids; answers of closed connections may be on their way still."""
        new = [IDS[n] for n in order]
        moves = {b.dpid: to for b, to in zip(self.bridges, new, strict=True) if b.dpid != to}
        if not moves:
            return
        old = [(bridge.held, bridge.reading) for bridge in self.bridges]
        self.counters.move(moves)
        for bridge, to, (held, reading) in zip(self.bridges, new, old, strict=True):
            if bridge.dpid != to:
                if held is not None and reading is not None:
                    held.update(reading[1], {}, reading[0])
                bridge.dpid, bridge.held, bridge.reading = to, None, None
                if not is_away:
                    self.begin_reading(self.bridges.index(bridge))

    def store(self, is_full: bool) -> None:
        """What the finalizer does; a full disk changes nothing."""
        moves, parts = self.counters.unstored_parts(SESSIONS)
        if is_full or not moves:
            return
        one = joined(moves)
        ids = {*one, *one.values()}
        self.stored = {key: both for key, both in self.stored.items() if key[1] not in ids}
        self.stored |= parts
        self.believed = [one.get(dpid, dpid) for dpid in self.believed]
        self.counters.note_stored(moves)

    def keep(self) -> None:
        """What the limit checker does."""
        parts = self.counters.parts(SESSIONS)
        unstored = {dpid for each in self.counters.unstored() for p in each.items() for dpid in p}
        self.stored |= {key: both for key, both in parts.items() if key[1] not in unstored}

    def restart_controller(self) -> None:
        """It starts with what is stored, and then hears which bridges have other ids."""
        self.counters = SessionCountersByBridge()
        for (session, dpid, measure), both in self.stored.items():
            self.counters.of(dpid).restore(session, measure, *both)  # type: ignore[arg-type]
        now = [bridge.dpid for bridge in self.bridges]
        moves = {old: to for old, to in zip(self.believed, now, strict=True) if old != to}
        if moves:
            self.counters.move(moves)
        for bridge in self.bridges:
            bridge.held = bridge.reading = None

    def check(self) -> None:
        for who in range(BRIDGES):
            self.end_reading(who)
            self.read(who)
        for session in SESSIONS:
            told = self.counters.by_bridge(session)
            true = {b.dpid: b.true[session] for b in self.bridges if b.true.get(session)}
            assert {dpid: copies.packets for dpid, (copies, _) in told.items()} == true
            assert self.counters.made(session).packets == sum(true.values())


who = st.integers(0, BRIDGES - 1)
STEPS = st.one_of(
    st.tuples(st.just("copy"), who, st.sampled_from(SESSIONS), st.integers(1, 1000)),
    st.tuples(st.sampled_from(["begin_reading", "end_reading", "read"]), who),
    st.tuples(
        st.just("move"),
        st.permutations(range(len(IDS))).map(lambda order: order[:BRIDGES]),
        st.booleans(),
    ),
    st.tuples(st.just("store"), st.booleans()),
    st.tuples(st.sampled_from(["keep", "check"])),
)
COPY, READ = ("copy", 0, 7, 400), ("read", 0)


@given(st.lists(STEPS, max_size=40))
@example([COPY, READ, ("move", [1, 0, 2], True), ("check",), ("move", [0, 1, 2], True)])
@example([COPY, READ, ("move", [1, 2, 3], False), ("move", [0, 1, 2], False)])
@example([COPY, ("begin_reading", 0), ("move", [1, 0, 2], True), ("end_reading", 0)])
def test_each_bridge_has_its_own_counts_over_any_sequence_of_moves(
    steps: list[tuple[object, ...]],
) -> None:
    cloud = Cloud()
    for name, *arguments in steps:
        getattr(cloud, str(name))(*arguments)
    cloud.check()


@given(
    st.lists(
        st.one_of(
            STEPS, st.just(("restart_controller",)), st.tuples(st.just("restart_bridge"), who)
        ),
        max_size=40,
    )
)
@example([COPY, READ, ("keep",), ("move", [1, 0, 2], True), ("restart_controller",)])
@example([COPY, ("restart_bridge", 0), COPY, ("restart_bridge", 0), ("restart_controller",), COPY])
@example([COPY, READ, ("keep",), ("move", [1, 0, 2], True), ("keep",), ("restart_controller",)])
@example(
    [COPY, READ, ("keep",), ("move", [1, 0, 2], True), ("store", False), ("restart_controller",)]
)
def test_a_restart_of_the_controller_neither_doubles_nor_drops_any(
    steps: list[tuple[object, ...]],
) -> None:
    """What a bridge that is started again had counted was stored before."""
    cloud = Cloud()
    for name, *arguments in steps:
        getattr(cloud, str(name))(*arguments)
        if name == "restart_bridge":
            cloud.store(False)
            cloud.keep()
    cloud.check()


def test_counters_that_stay_with_the_id_are_found_out() -> None:
    cloud = Cloud()
    cloud.copy(0, 7, 400)
    cloud.check()
    for bridge, dpid in zip(cloud.bridges, (IDS[1], IDS[0]), strict=False):
        bridge.dpid, bridge.held = dpid, None
    with pytest.raises(AssertionError):
        cloud.check()

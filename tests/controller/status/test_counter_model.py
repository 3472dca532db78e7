"""Whatever happens to meters, readers and controllers: each copy is counted once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.status import Measure, SessionCounters
from flows.model import METERS, Oversize
from flows.openflow import MeterCount, PacketCount
from flows.plan import count_meters, long_meter

SESSION, SIZE, TAG = 7, 100, 4
CAP = METERS[3]
CAPS = {CAP: SESSION}
PLAIN, TAGGED = count_meters(SESSION)
SKIPPED = long_meter(SESSION, Oversize.SKIP).number
ALL = (PLAIN, TAGGED, SKIPPED, CAP)


class Bridge:
    """A switch with meters, its true counts, and the controller that reads them."""

    def __init__(self) -> None:
        self.meters = dict.fromkeys(ALL, 0)
        self.true = dict.fromkeys(ALL, 0)
        self.counters = SessionCounters()
        self.pending: tuple[int, dict[int, MeterCount]] | None = None

    def copy(self, meter: int, count: int) -> None:
        """Packets pass a meter."""
        if meter in self.meters:
            self.meters[meter] += count
            self.true[meter] += count

    def report(self) -> dict[int, MeterCount]:
        found: dict[int, MeterCount] = {}
        for meter, count in self.meters.items():
            size = SIZE + TAG * (meter == TAGGED)
            counted = PacketCount(count, count * size)
            found[meter] = MeterCount(counted, counted if meter == CAP else PacketCount())
        return found

    def read(self) -> None:
        self.end_reading()  # there is one reader at a time
        self.counters.update(self.report(), CAPS, self.counters.moment)

    def begin_reading(self) -> None:
        """The switch has answered, and the answer is still on its way."""
        self.end_reading()
        self.pending = self.counters.moment, self.report()

    def end_reading(self) -> None:
        if self.pending is not None:
            moment, report = self.pending
            self.counters.update(report, CAPS, moment)
            self.pending = None

    def restart_switch(self) -> None:
        """After a reading all meters are gone; the controller adds them again."""
        self.read()
        self.pending = None  # its connection is over
        self.meters = {}
        with self.counters.resetting(ALL, (), CAPS):
            self.meters = dict.fromkeys(ALL, 0)

    def change_rate(self) -> None:
        """A meter that is changed begins at 0."""
        with self.counters.resetting((), [CAP], CAPS):
            self.counters.update_some({CAP: self.report()[CAP]}, CAPS)
            self.meters[CAP] = 0

    def restart_controller(self) -> None:
        """What was stored is restored; what was read and not stored, the switch still has."""
        later = SessionCounters()
        for measure, (before, last) in self.counters.parts_of(SESSION).items():
            later.restore(SESSION, measure, before, last)
        self.counters, self.pending = later, None

    def check(self) -> None:
        self.end_reading()
        self.read()
        made = self.true[PLAIN] + self.true[TAGGED]
        assert self.counters.made(SESSION) == PacketCount(made, made * SIZE)
        losses = self.counters.losses(SESSION)
        assert (losses.skipped, losses.shed) == (self.true[SKIPPED], self.true[CAP])


EVENTS = (
    *("read", "begin_reading", "end_reading", "restart_switch", "change_rate"),
    *("restart_controller", "check"),
)
STEPS = st.one_of(
    st.tuples(st.just("copy"), st.sampled_from(ALL), st.integers(1, 1000)),
    st.tuples(st.sampled_from(EVENTS)),
)


@given(st.lists(STEPS, max_size=40))
def test_counters_are_true_over_any_sequence_of_events(steps: list[tuple[object, ...]]) -> None:
    bridge = Bridge()
    for name, *arguments in steps:
        getattr(bridge, str(name))(*arguments)
    bridge.check()


def test_what_was_stored_long_ago_does_not_count_twice() -> None:
    """A controller that crashed had stored less than the switch has counted."""
    bridge = Bridge()
    bridge.copy(PLAIN, 50)
    bridge.read()
    parts = bridge.counters.parts_of(SESSION)
    bridge.copy(PLAIN, 70)
    bridge.read()
    bridge.counters = SessionCounters()
    for measure, (before, last) in parts.items():
        bridge.counters.restore(SESSION, measure, before, last)
    assert set(parts) == {Measure.MADE}
    bridge.check()


def test_a_count_that_is_taken_twice_is_found() -> None:
    bridge = Bridge()
    bridge.copy(PLAIN, 10)
    early = bridge.report()
    bridge.copy(PLAIN, 10)
    bridge.read()
    bridge.counters.update(early, CAPS)  # as if it were newer
    with pytest.raises(AssertionError):
        bridge.check()

"""Counters continue over resets of the switch, and count no packet twice."""

from __future__ import annotations

import pytest

from controller.status.counters import CumulativeCounters
from flows.openflow import COUNTER_MAX, PacketCount, make_cookie

ONE, OTHER = make_cookie(5, 1), make_cookie(5, 2)


def test_a_counter_reset_loses_no_copies() -> None:
    counters = CumulativeCounters()
    counters.update({ONE: PacketCount(10, 1000)})
    counters.update({ONE: PacketCount(3, 300)})

    assert counters.of(5) == PacketCount(13, 1300)


def test_a_removed_flow_keeps_its_count_and_the_other_flow_counts_once() -> None:
    counters = CumulativeCounters()
    counters.update({ONE: PacketCount(10, 1000), OTHER: PacketCount(7, 700)})
    counters.update({ONE: PacketCount(12, 1200)})
    counters.update_one(5, {ONE: PacketCount(13, 1300), OTHER: PacketCount(1, 100)})

    assert counters.of(5) == PacketCount(21, 2100)


def test_the_counters_of_an_earlier_controller_process_continue() -> None:
    counters = CumulativeCounters()
    counters.restore(5, PacketCount(2, 200), PacketCount(10, 1000))
    assert counters.of(5) == PacketCount(12, 1200)

    counters.update({ONE: PacketCount(11, 1100)})
    assert counters.of(5) == PacketCount(13, 1300)

    counters.update({})
    assert counters.of(5) == PacketCount(13, 1300)


def test_a_reset_while_no_controller_was_running_is_detected() -> None:
    counters = CumulativeCounters()
    counters.restore(5, PacketCount(), PacketCount(10, 1000))
    counters.update({ONE: PacketCount(4, 400)})

    assert counters.of(5) == PacketCount(14, 1400)
    assert counters.of(6) == PacketCount()


ALL_ONES = PacketCount(2**64 - 1, 2**64 - 1)


@pytest.mark.parametrize("bad", [ALL_ONES, PacketCount(1, 2**62), PacketCount(5, -4)])
def test_a_value_that_no_counter_can_have_is_left_out_and_stops_no_other(bad: PacketCount) -> None:
    counters, third = CumulativeCounters(), make_cookie(6, 1)
    counters.update({ONE: PacketCount(10, 1000), OTHER: PacketCount(7, 700)})
    counters.update({ONE: bad, OTHER: PacketCount(8, 800), third: PacketCount(2, 200)})

    assert counters.of(5) == PacketCount(18, 1800) and counters.of(6) == PacketCount(2, 200)
    assert counters.doubtful == {5}

    counters.update_one(5, {ONE: PacketCount(12, 1200), OTHER: PacketCount(8, 800)})
    assert counters.of(5) == PacketCount(20, 2000)
    assert counters.doubtful == frozenset()


def test_what_an_earlier_controller_has_counted_outlasts_an_impossible_value() -> None:
    counters = CumulativeCounters()
    counters.restore(5, PacketCount(2, 200), PacketCount(10, 1000))
    counters.update({ONE: ALL_ONES})
    assert counters.of(5) == PacketCount(12, 1200) and counters.doubtful == {5}
    counters.update({ONE: PacketCount(11, 1100)})
    assert counters.of(5) == PacketCount(13, 1300) and not counters.doubtful


def test_a_session_that_is_gone_is_doubtful_no_more() -> None:
    for forget in (lambda c: c.update({}), lambda c: c.keep({6})):
        counters = CumulativeCounters()
        counters.update({ONE: ALL_ONES})
        forget(counters)
        assert counters.doubtful == frozenset() and counters.of(5) == PacketCount()


def test_the_highest_possible_value_is_counted() -> None:
    counters = CumulativeCounters()
    counters.update({ONE: PacketCount(COUNTER_MAX, COUNTER_MAX)})
    assert counters.of(5) == PacketCount(COUNTER_MAX, COUNTER_MAX) and not counters.doubtful

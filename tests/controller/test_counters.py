"""Copies are counted on, whatever a switch forgets, and never twice."""

from __future__ import annotations

from controller.status.counters import Counters
from controller.status.values import Copies
from flows.openflow.flow import make_cookie

ONE, OTHER = make_cookie(5, 1), make_cookie(5, 2)


def test_a_switch_that_begins_at_zero_again_does_not_make_copies_forgotten() -> None:
    counters = Counters()
    counters.update({ONE: Copies(10, 1000)})
    counters.update({ONE: Copies(3, 300)})

    assert counters.of(5) == Copies(13, 1300)


def test_one_of_two_flows_that_goes_keeps_its_count_and_the_other_counts_once() -> None:
    counters = Counters()
    counters.update({ONE: Copies(10, 1000), OTHER: Copies(7, 700)})
    counters.update({ONE: Copies(12, 1200)})
    counters.update_one(5, {ONE: Copies(13, 1300), OTHER: Copies(1, 100)})

    assert counters.of(5) == Copies(21, 2100)


def test_what_an_earlier_controller_has_counted_goes_on() -> None:
    counters = Counters()
    counters.restore(5, Copies(2, 200), Copies(10, 1000))
    assert counters.of(5) == Copies(12, 1200)

    counters.update({ONE: Copies(11, 1100)})
    assert counters.of(5) == Copies(13, 1300)

    counters.update({})
    assert counters.of(5) == Copies(13, 1300)


def test_a_switch_that_restarted_while_nobody_looked_is_noticed() -> None:
    counters = Counters()
    counters.restore(5, Copies(), Copies(10, 1000))
    counters.update({ONE: Copies(4, 400)})

    assert counters.of(5) == Copies(14, 1400)
    assert counters.of(6) == Copies()

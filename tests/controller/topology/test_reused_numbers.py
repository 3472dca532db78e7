"""A port number that passes from one port to another at once is noticed; others are not."""

from __future__ import annotations

import pytest

from controller.topology.reused_numbers import SOON_S, ReusedNumber, ReusedNumbers
from flows.model import Dpid, Ofport, Placement, PortId

WEB, DB = PortId("web"), PortId("db")
THIRD, OTHER = PortId("third"), PortId("other")


def at(ofport: int, dpid: int = 1) -> Placement:
    return Placement(Dpid(dpid), Ofport(ofport))


class Clock:
    """A clock that the test moves."""

    time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def numbers(clock: Clock) -> ReusedNumbers:
    found = ReusedNumbers(clock)
    assert found.follow({WEB: at(1), DB: at(2)}) == []
    return found


def test_an_exchange_is_two(numbers: ReusedNumbers) -> None:
    exchanged = {WEB: at(2), DB: at(1)}
    assert sorted(numbers.follow(exchanged), key=lambda n: n.place.ofport) == [
        ReusedNumber(at(1), WEB, DB),
        ReusedNumber(at(2), DB, WEB),
    ]
    assert numbers.follow(exchanged) == numbers.follow(dict(exchanged)) == []


def test_a_number_that_was_free_for_a_moment_counts_until_a_second_has_passed(
    numbers: ReusedNumbers, clock: Clock
) -> None:
    numbers.follow({DB: at(2)})
    clock.time += SOON_S - 0.01
    assert numbers.follow({DB: at(2), THIRD: at(1)}) == [ReusedNumber(at(1), WEB, THIRD)]
    numbers.follow({THIRD: at(1)})
    clock.time += SOON_S
    assert numbers.follow({THIRD: at(1), WEB: at(2)}) == []


def test_a_port_that_returns_or_takes_another_number_reuses_none(numbers: ReusedNumbers) -> None:
    assert numbers.follow({DB: at(2)}) == []
    assert numbers.follow({DB: at(2), WEB: at(1)}) == []
    assert numbers.follow({DB: at(2), WEB: at(3), THIRD: at(1, dpid=2)}) == []


def test_bridges_that_exchange_their_datapath_ids_reuse_none(
    numbers: ReusedNumbers,
) -> None:
    numbers.follow({WEB: at(1), DB: at(2), THIRD: at(1, dpid=2)})
    numbers.follow({WEB: at(1), THIRD: at(1, dpid=2)})
    numbers.move({Dpid(1): Dpid(2), Dpid(2): Dpid(1)})
    there = {WEB: at(1, dpid=2), THIRD: at(1)}
    assert numbers.follow(there) == []
    assert numbers.follow({**there, OTHER: at(2, dpid=2)}) == [
        ReusedNumber(at(2, dpid=2), DB, OTHER)
    ]

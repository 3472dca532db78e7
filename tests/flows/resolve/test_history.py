"""The changes between resolved worlds, by region."""

from __future__ import annotations

from flows.model import STEPS_MAX, Dpid, PortId, SessionId
from flows.resolve.history import RegionHistory, changed_keys, moved_ports
from tests.flows.hand_made import S1, S2, at

A, B = SessionId("a"), SessionId("b")
WEB, DB, APP = PortId("web"), PortId("db"), PortId("app")


def test_the_changes_of_a_region_are_those_of_all_steps_between_two_worlds() -> None:
    history = RegionHistory()
    for serial, changed in enumerate(({S1: {A}}, {S2: {B}}, {S1: {B}})):
        assert history.note(serial, changed, frozenset()) == serial + 1
    assert history.between(0, 3, S1) == {A, B}
    assert history.between(1, 3, S1) == {B}
    assert history.between(0, 3, S2) == {B}
    assert history.between(3, 3, S1) == set()
    assert history.between(0, 3, Dpid(9)) == set()


def test_nothing_is_known_of_a_region_in_which_ports_moved_or_of_a_later_world() -> None:
    history = RegionHistory()
    now = history.note(history.note(0, {S1: {A}}, frozenset({S1})), {S1: {B}}, frozenset())
    assert history.between(0, now, S1) is None
    assert history.between(1, now, S1) == {B}
    assert history.between(0, now, S2) == set()
    assert history.between(now, 1, S1) is None


def test_old_steps_are_dropped() -> None:
    history, serial = RegionHistory(), 0
    for _ in range(STEPS_MAX + 1):
        serial = history.note(serial, {S1: {A}}, frozenset())
    assert history.between(0, serial, S1) is None
    assert history.between(1, serial, S1) == {A}


def test_ports_that_moved_came_or_went_are_named() -> None:
    old = {WEB: at(S1, 1), DB: at(S1, 2)}
    assert moved_ports(old, old) == set()
    assert moved_ports(old, dict(old)) == set()
    assert moved_ports(old, {WEB: at(S2, 1), APP: at(S1, 3)}) == {WEB, DB, APP}


def test_keys_of_equal_values_have_not_changed() -> None:
    assert changed_keys({1: [1], 2: [2], 3: [3]}, {1: [1], 2: [0], 4: [4]}) == {2, 3, 4}

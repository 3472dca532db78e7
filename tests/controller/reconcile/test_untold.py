"""After a start: which sessions bridges may go on with that nobody has told anything yet."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from controller.process import ChangeSignal
from controller.reconcile import SnapshotBuilder, Untold
from controller.reconcile.untold import CALLS_BACK_S
from controller.store import Limits, Store
from flows.model import CopyWay, Dpid, Ofport, Placement, PortId, SessionId, TenantName
from tests.controller.fakes import TWO_TENANTS, open_store
from tests.controller.reconcile.test_reconciler import bring_all
from tests.controller.reconcile.test_snapshot import HTTP, IDS, LINK, WEB, Placements
from tests.controller.rig import Rig as Bridges
from tests.ovs.waiting import wait_for

S1, S2 = Dpid(1), Dpid(2)


class Rig:
    """What was confirmed and what was held, as a test says; 1 is held by s1, 2 by both bridges."""

    def __init__(self) -> None:
        self.time, self.ready = 1000.0, threading.Event()
        self.verified: set[Dpid] = set()
        self.held = {S1: frozenset({1, 2}), S2: frozenset({2})}
        writers: Any = SimpleNamespace(writing=self._writing)
        held: Any = SimpleNamespace(sessions_by_bridge=lambda: self.held)
        self.telling = Untold(writers, held, self.ready, lambda: self.time)

    def _writing(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(dpid=d, is_verified=d in self.verified) for d in (S1, S2)]


def test_what_bridges_hold_is_untold_until_they_are_verified() -> None:
    rig = Rig()
    assert rig.telling.untold() == {1, 2}
    rig.verified = {S2}
    assert rig.telling.untold() == {1, 2}, "s1 holds both"
    rig.verified = {S1}
    assert rig.telling.untold() == {2}
    rig.verified = {S1, S2}
    assert rig.telling.untold() == set()


def test_bridges_that_have_not_called_are_waited_for_from_when_they_can_be_told() -> None:
    rig = Rig()
    rig.time += 2 * CALLS_BACK_S
    assert rig.telling.unheard() == {1, 2}
    rig.ready.set()
    assert rig.telling.unheard() == {1, 2}
    rig.verified = {S1}
    assert rig.telling.unheard() == {2}
    rig.verified = set()
    assert rig.telling.unheard() == {2}, "s1 has called, and is away"
    rig.time += CALLS_BACK_S - 1
    assert rig.telling.unheard() == {2}
    rig.time += 1
    assert rig.telling.unheard() == set()


@dataclasses.dataclass
class Telling:
    """What a test says."""

    sessions: set[int]
    away: set[int]
    ways: dict[Dpid, frozenset[CopyWay]] = dataclasses.field(default_factory=dict)

    def known_ways(self) -> dict[Dpid, frozenset[CopyWay]]:
        return dict(self.ways)

    def unheard(self) -> frozenset[int]:
        return frozenset(self.sessions)

    def untold(self) -> frozenset[int]:
        return frozenset(self.away)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path)
    store.collectors.add(IDS, "tester")
    store.filters.add(HTTP, "tester")
    for name in ("on", "ends", "off"):
        session = dataclasses.replace(WEB, id=SessionId(name), name=name, enabled=name != "off")
        store.sessions.add(session, "tester")
    yield store
    store.close()


def world_of(store: Store, telling: Telling, *, has_link: bool = True) -> SnapshotBuilder:
    links = (LINK,) if has_link else ()
    places = Placements({PortId("red-web-1"): Placement(S1, Ofport(1))}, links=links)
    return SnapshotBuilder(
        store, lambda: TWO_TENANTS, lambda: places, changes=ChangeSignal(), telling=telling
    )


def end(store: Store, name: str) -> None:
    store.limits.stop(SessionId(name), "it expired", Limits())


@pytest.mark.parametrize("has_link", [True, False])
def test_sessions_that_end_after_a_start_fade_until_bridges_were_told(
    store: Store, has_link: bool
) -> None:
    telling = Telling({1, 2, 3}, {1, 3})
    world = world_of(store, telling, has_link=has_link)
    changes = world.changes
    assert not world.snapshot().resolved.world.fading, "one had ended before"
    end(store, "ends")
    changes.changed()
    first = world.snapshot()
    assert first.resolved.world.fading == ({SessionId("ends")} if has_link else set())
    assert first.resolved.world.untold == ({1, 3} if has_link else set())
    world.follow_told()
    assert world.snapshot() is first
    version = changes.version
    telling.sessions.clear()
    world.follow_told()
    assert changes.version == version + has_link
    assert not world.snapshot().resolved.world.fading
    world.follow_told()
    assert changes.version == version + has_link


def test_one_that_ends_later_does_not_fade(store: Store) -> None:
    telling = Telling(set(), {1, 2, 3})
    world = world_of(store, telling)
    world.snapshot()
    end(store, "ends")
    world.changes.changed()
    of = world.snapshot().resolved.world
    assert not of.fading and of.untold == {1, 2, 3}


def test_a_bridge_that_is_back_gets_the_ways_that_it_lacks(store: Store) -> None:
    telling = Telling(set(), set(), {S1: frozenset({CopyWay(IDS.tap_ports[0], 7, IDS.tenant)})})
    world = world_of(store, telling)
    assert world.snapshot().resolved.world.known_ways == telling.ways
    version = world.changes.version
    world.follow_told()
    assert world.changes.version == version
    telling.ways.clear()
    world.follow_told()
    assert world.changes.version == version + 1
    assert world.snapshot().resolved.world.known_ways == {}


@pytest.fixture
def bridges(tmp_path: Path) -> Iterator[Bridges]:
    built = Bridges(tmp_path)
    yield built
    built.close()


def test_the_ways_of_a_bridge_are_known_from_its_leave_to_its_return(bridges: Bridges) -> None:
    bring_all(bridges)
    bridges.add_session("far", "a", tap="t3")
    wait_for(lambda: bridges.reconciler.sync(60.0), bool)
    known = bridges.writers.known_ways
    assert known() == {}
    bridges.cut(3)
    assert known() == {Dpid(3): {CopyWay(PortId("t3"), None, TenantName("red"))}}
    bridges.connect(3)
    wait_for(known, lambda ways: not ways)
    bridges.cut(3)
    assert known() != {}
    bridges.reconciler.forget(Dpid(3), "tester")
    assert known() == {}


def test_what_a_bridge_has_that_left_in_the_middle_of_a_plan_is_not_known(
    bridges: Bridges,
) -> None:
    """Then copies are sent to it: perhaps it has their way."""
    bring_all(bridges)
    bridges.writers.find([Dpid(3)])[0].fail("an event could not be handled")
    bridges.cut(3)
    assert bridges.writers.known_ways() == {}

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
from controller.reconcile.bridge import Confirmed
from controller.reconcile.untold import CALLS_BACK_S
from controller.store import Store
from flows.model import Dpid, Ofport, Placement, PortId, SessionId
from tests.controller.fakes import TWO_TENANTS, open_store
from tests.controller.reconcile.test_snapshot import HTTP, IDS, LINK, WEB, Placements

S1, S2 = Dpid(1), Dpid(2)


class Rig:
    """What was confirmed and what was held, as a test says; 1 is held by s1, 2 by both bridges."""

    def __init__(self) -> None:
        self.time, self.ready = 1000.0, threading.Event()
        self.seen: dict[Dpid, Confirmed] = {}
        self.held = {S1: frozenset({1, 2}), S2: frozenset({2})}
        writers: Any = SimpleNamespace(confirmed=lambda: self.seen)
        held: Any = SimpleNamespace(sessions_by_bridge=lambda: self.held)
        self.untold = Untold(writers, held, self.ready, lambda: self.time)


def test_what_bridges_hold_is_untold_until_they_are_verified() -> None:
    rig = Rig()
    rig.ready.set()
    assert rig.untold() == {1, 2}
    rig.seen = {S1: Confirmed(), S2: Confirmed(version=3)}
    assert rig.untold() == {1, 2}, "it has connected, and was not told anything"
    rig.seen[S1] = Confirmed(version=4)
    assert rig.untold() == set()


def test_a_bridge_that_stays_away_is_waited_for_a_short_time_from_when_it_could_be_told() -> None:
    rig = Rig()
    rig.time += 2 * CALLS_BACK_S
    assert rig.untold() == {1, 2}
    rig.ready.set()
    assert rig.untold() == {1, 2}
    rig.time += CALLS_BACK_S - 1
    assert rig.untold() == {1, 2}
    rig.time += 1
    assert rig.untold() == set()
    rig.seen = {S1: Confirmed()}
    assert rig.untold() == set(), "it connects later"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path)
    store.collectors.add(IDS, "tester")
    store.filters.add(HTTP, "tester")
    for name in ("on", "off"):
        session = dataclasses.replace(WEB, id=SessionId(name), name=name, enabled=name == "on")
        store.sessions.add(session, "tester")
    yield store
    store.close()


@pytest.mark.parametrize("has_link", [True, False])
def test_sessions_that_have_ended_fade_until_bridges_were_told(
    store: Store, has_link: bool
) -> None:
    untold, changes = {1, 2, 3}, ChangeSignal()
    places = Placements(
        {PortId("red-web-1"): Placement(S1, Ofport(1))}, links=(LINK,) if has_link else ()
    )
    world = SnapshotBuilder(
        store, lambda: TWO_TENANTS, lambda: places, changes=changes, untold=lambda: untold
    )
    off = {SessionId("off")} if has_link else set()
    first = world.snapshot()
    assert first.resolved.world.fading == off
    world.follow_fading()
    assert world.snapshot() is first
    changes.changed()
    assert world.snapshot().resolved.world.fading == off, "in a world that follows another one"
    version = changes.version
    untold.clear()
    world.follow_fading()
    assert changes.version == version + has_link
    assert not world.snapshot().resolved.world.fading
    world.follow_fading()
    assert changes.version == version + has_link

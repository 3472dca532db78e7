"""Writers of linked bridges go through the same versions of the world, however fast these come."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.reconcile import writers
from controller.reconcile.bridge import BridgeWriter
from controller.reconcile.bridge import writer as bridge
from flows.model import SessionId
from flows.pipeline import START
from tests.controller.rig import Rig
from tests.ovs.waiting import wait_for

PATIENCE_S = 20.0
"""How long linked bridges wait for each other here: a loaded machine must not end that."""


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    for module in (writers, bridge):
        monkeypatch.setattr(module, "STAGE_S", PATIENCE_S)
    made = Rig(tmp_path)
    made.add_session("near", "d", tap="t1")
    for dpid in (1, 2, 3):
        made.connect(dpid)
    wait_for(lambda: made.reconciler.sync(10), bool)
    yield made
    made.close()


def ways(rig: Rig, dpid: int) -> set[int]:
    """The flows by which a switch lets copies of others pass, by their cookies."""
    entries = list(rig.models[dpid].tables.flows.values())
    some = (e for e in entries if e.table == START.number)
    return {e.cookie for e in some if e.priority == START["transport"]}


def writer_of(rig: Rig, dpid: int) -> BridgeWriter:
    [writer] = [each for each in rig.writers.writing() if each.dpid == dpid]
    return writer


class Gate:
    """Holds back what is sent to a switch, while it is closed."""

    def __init__(self, rig: Rig, dpid: int) -> None:
        self._dpid, self._open = dpid, threading.Event()
        self._open.set()
        self.waits = threading.Event()
        rig.on_send = self._pass

    def close(self) -> None:
        self.waits.clear()
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def _pass(self, dpid: int) -> None:
        if dpid == self._dpid and not self._open.is_set():
            self.waits.set()
            assert self._open.wait(PATIENCE_S)


def test_a_way_stays_until_nobody_copies_by_it_although_versions_overtake_each_other(
    rig: Rig,
) -> None:
    gate, lacking, others = Gate(rig, 1), list[str](), ways(rig, 2)
    rig.add_session("far", "a", tap="t2")
    assert rig.reconciler.sync(10)
    far = rig.world.snapshot().numbers.session[SessionId("far")]
    assert far in rig.copying(1) and ways(rig, 2) > others
    gate.close()
    rig.add_session("second", "d", tap="t1")
    rig.changes.changed()
    assert gate.waits.wait(PATIENCE_S), "s1 is at work on the version with the second session"

    rig.store.sessions.delete(SessionId("far"), "test")
    rig.changes.changed()
    wait_for(lambda: writer_of(rig, 2).state.version, rig.changes.version.__eq__)
    rig.add_session("third", "d", tap="t1")
    rig.changes.changed()
    passing = rig.on_send

    def look(dpid: int) -> None:
        if far in rig.copying(1) and ways(rig, 2) == others:
            lacking.append(f"s{dpid} is written to")
        passing(dpid)

    rig.on_send = look
    gate.open()
    wait_for(lambda: rig.reconciler.sync(10), bool)
    assert ways(rig, 2) == others and far not in rig.copying(1)
    assert not lacking, "s1 made copies that s2 let not pass"

"""On a switch that may keep stale megaflows each plan begins an epoch, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.reconcile.bridge import Depth
from controller.status import SessionStatus, State
from flows.model import SessionId
from flows.openflow import EPOCH_OBJECT, is_ours, object_of
from tests.controller.rig import Rig
from tests.fake_switches.refusal import Refusal
from tests.ovs.waiting import wait_for

SYNC_S = 20.0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path)
    built.stale = {1}
    yield built
    built.close()


def epochs(rig: Rig, dpid: int) -> list[int]:
    """The cookies of the flows of epochs that a switch has."""
    entries = list(rig.models[dpid].tables.flows.values())
    ours = [entry.cookie for entry in entries if is_ours(entry.cookie)]
    return [cookie for cookie in ours if object_of(cookie) == EPOCH_OBJECT]


def connect(rig: Rig) -> None:
    for dpid in (1, 2, 3):
        rig.connect(dpid)
    wait_for(lambda: rig.reconciler.sync(SYNC_S), bool)


def test_each_plan_begins_one_where_it_is_needed(rig: Rig) -> None:
    connect(rig)
    seen = [epochs(rig, 1)]
    for enabled in (True, False):
        if enabled:
            rig.add_session("one", "a")
        else:
            rig.store.sessions.delete(SessionId("one"), "test")
        assert rig.reconciler.sync(SYNC_S)
        seen.append(epochs(rig, 1))
    assert [len(each) for each in seen] == [2, 2, 2]
    assert len({cookie for each in seen for cookie in each}) == 6
    assert not epochs(rig, 2)
    assert not epochs(rig, 3)


def test_nothing_to_change_begins_none(rig: Rig) -> None:
    rig.add_session("one", "a")
    connect(rig)
    before, plans = epochs(rig, 1), rig.models[1].received
    for depth in (Depth.COOKIES, Depth.ACTIONS):
        rig.writers.recheck(depth)
        wait_for(lambda: all(w.state.reread is None for w in rig.writers.writing()), bool)
        assert rig.reconciler.sync(SYNC_S)
    rig.restart()
    connect(rig)
    assert (epochs(rig, 1), rig.models[1].received) == (before, plans)


def test_a_switch_with_all_flows_from_before_gets_one(rig: Rig) -> None:
    """Its megaflows may be stale: an earlier version of this controller made the last change."""
    rig.stale = set()
    rig.add_session("one", "a")
    connect(rig)
    assert not epochs(rig, 1)
    rig.close()
    rig.stale = {1}
    rig._start()
    connect(rig)
    assert len(epochs(rig, 1)) == 2


def test_a_repair_begins_one(rig: Rig) -> None:
    rig.add_session("one", "a")
    connect(rig)
    before = epochs(rig, 1)
    flows = rig.models[1].tables.flows
    key = next(key for key, entry in flows.items() if is_ours(entry.cookie) and entry.table == 90)
    del flows[key]
    rig.writers.recheck(Depth.COOKIES)
    wait_for(lambda: epochs(rig, 1), lambda seen: not set(seen) & set(before) and len(seen) == 2)


def test_a_switch_that_refuses_it_is_degraded_with_its_sessions(rig: Rig) -> None:
    rig.models[1].faults.refuse = lambda cookie: (
        Refusal.MATCH_FIELD if object_of(cookie) == EPOCH_OBJECT else None
    )
    rig.add_session("one", "a")
    rig.add_session("two", "b", tap="t2")
    for dpid in (1, 2, 3):
        rig.connect(dpid)

    def look() -> SessionStatus:
        rig.reconciler.sync(SYNC_S)
        return rig.inspector.session_status(SessionId("one"))

    status = wait_for(look, lambda seen: seen.state is State.DEGRADED)
    assert "refused a flow that it needs" in " ".join(status.reasons)
    [bridge] = [each for each in rig.inspector.bridges() if each.dpid == 1]
    assert bridge.state is State.DEGRADED
    assert "pkt_mark" in " ".join(bridge.reasons)

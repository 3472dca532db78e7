"""The states of many sessions are those of each of them, at the cost of looking at bridges once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.api import make_app
from controller.reconcile import SnapshotBuilder, Writers
from controller.reconcile.report.session_bridges import BridgesOfSessions
from controller.reconcile.snapshot import Snapshot
from flows.model import SessionId
from tests.controller.rig import Rig
from tests.fake_switches import many_bridges
from tests.ovs.waiting import wait_for

BRIDGES, PORTS = 30, 2
BRING_S = 30.0
FEW_BUILDS = 5


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    many_bridges.store_sessions(tmp_path / "state", BRIDGES, PORTS)
    built = Rig(tmp_path, many_bridges.inventory(BRIDGES, PORTS))
    built.models = {switch.dpid: switch for switch in many_bridges.switches(BRIDGES, PORTS)}
    for dpid in built.models:
        built.connect(dpid)
    wait_for(lambda: built.reconciler.sync(BRING_S), bool, BRING_S)
    yield built
    built.close()


def names() -> list[SessionId]:
    return [SessionId(f"s{n}") for n in range(BRIDGES)]


def test_the_states_of_many_sessions_are_those_of_each_of_them(rig: Rig) -> None:
    for n in range(0, BRIDGES, 2):
        rig.count_copies(n + 1, f"s{n}", 7 + n, 700)
    rig.store.sessions.delete(SessionId("s3"), "test")
    rig.cut(5)
    rig.changes.changed()
    rig.reconciler.sync(BRING_S)
    rig.poller.count_everything()
    wait_for(lambda: rig.poller.copies_of(1).packets, bool)

    found = list(rig.inspector.session_statuses([*names(), SessionId("nobody")]))

    alone = [rig.inspector.session_status(session) for session in (*names(), SessionId("nobody"))]
    assert found == alone
    assert {str(status.state.value) for status in found} >= {"active", "degraded", "pending"}
    assert found[2].copies.packets == 9


def test_the_index_finds_what_is_found_for_each_session(rig: Rig) -> None:
    rig.store.sessions.delete(SessionId("s3"), "test")
    rig.cut(4)
    rig.changes.changed()
    bridges = BridgesOfSessions(rig.writers, rig.store.installed_sessions, rig.poller.counters)
    of = bridges.index(lambda: None)
    numbers = rig.world.snapshot().numbers.session.values()
    assert {n: of(n) for n in numbers} == {n: bridges.find(n) for n in numbers}
    assert all(len(of(n).holders) == 1 for n in numbers)


def test_a_list_of_sessions_looks_at_every_bridge_once_and_not_for_each_session(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    writing = Writers.writing

    def counting(writers: Writers) -> object:
        nonlocal looks
        looks += 1
        return writing(writers)

    monkeypatch.setattr(Writers, "writing", counting)
    assert len(list(rig.inspector.session_statuses(names()))) == BRIDGES
    assert looks <= 2


@pytest.mark.parametrize("path", ["/v1/status", "/v1/sessions", "/v1/ports", "/v1/networks"])
def test_an_answer_builds_few_worlds_however_often_the_world_changes_meanwhile(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    builds = 0
    snapshot = SnapshotBuilder.snapshot

    def changing(builder: SnapshotBuilder) -> Snapshot:
        nonlocal builds
        builds += 1
        rig.changes.changed()
        return snapshot(builder)

    app = make_app(rig.store, lambda: rig.inventory, rig.reconciler, rig.inspector)
    for writer in rig.writers.writing():
        rig.changes.unsubscribe(writer.wakeup)  # they build worlds, too
    monkeypatch.setattr(SnapshotBuilder, "snapshot", changing)

    answer = app.test_client().get(path)

    assert answer.status_code == 200, answer.get_data(as_text=True)
    assert builds <= FEW_BUILDS

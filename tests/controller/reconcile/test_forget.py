"""A bridge that never comes back is forgotten: nobody waits for it, and nothing of it is left."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from controller.southbound import SwitchGone
from controller.southbound.ovsdb import InterfaceRow, OvsdbSnapshot
from controller.southbound.ovsdb.rows import BridgeRow
from controller.status import State
from controller.store import StoreError
from flows.errors import Refused
from flows.model import Dpid, Ofport, SessionId
from flows.openflow import PacketCount
from tests.controller.reconcile.test_reconciler import bring_all, delete
from tests.controller.rig import Rig
from tests.ovs.waiting import wait_for

BRING_S = 30.0
S3 = Dpid(3)
WHO = "operator"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path)
    yield built
    built.close()


def names(rig: Rig) -> list[str]:
    return [status.name for status in rig.inspector.bridges()]


def released(rig: Rig) -> set[SessionId]:
    """The sessions that have a number after all that are free were released."""
    rig.finalizer.release_numbers()
    return set(rig.store.numbered().session)


def test_nobody_waits_any_more_for_a_bridge_that_is_forgotten(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("far", "c", tap="t3")
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    rig.cut(3)
    assert not delete(rig, "far")
    assert released(rig) == {"far"}
    rig.reconciler.forget(S3, WHO)
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    assert rig.store.sessions.all() == ()
    wait_for(lambda: released(rig), lambda numbered: not numbered)
    assert names(rig) == ["s1", "s2"]
    assert rig.place("c") is None
    assert rig.store.installed_sessions.bridges() == set()
    entry = rig.store.audit.entries({"what": "forgotten"})[0]
    assert (entry.who, entry.kind, entry.id, entry.name) == (WHO, "bridge", f"{3:016x}", "s3")


def test_what_was_forgotten_does_not_come_back_with_a_restart(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("far", "c", tap="t3")
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    rig.cut(3)
    rig.reconciler.forget(S3, WHO)
    rig.restart()
    assert names(rig) == ["s1", "s2"]
    assert rig.store.installed_sessions.bridges() == set()
    assert delete(rig, "far")


def test_a_connected_bridge_is_not_forgotten_and_the_sentence_says_what_to_do(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("far", "c", tap="t3")
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    with pytest.raises(Refused, match=r"'s3' is connected: .*`ovs-vsctl del-controller s3`"):
        rig.reconciler.forget(S3, WHO)
    assert names(rig) == ["s1", "s2", "s3"]
    assert rig.inspector.session_status(SessionId("far")).state is State.ACTIVE
    assert rig.store.installed_sessions.bridges() == {S3}
    assert not rig.store.audit.entries({"what": "forgotten"})


def test_a_bridge_that_comes_back_is_brought_up_like_a_new_one(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("gone", "c", tap="t3")
    rig.add_session("kept", "c", tap="t3")
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    rig.cut(3)
    assert not delete(rig, "gone")
    rig.reconciler.forget(S3, WHO)
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    assert len(rig.copying(3)) == 2, "it was away, and copies on"
    rig.connect(3)
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    wait_for(lambda: rig.missing(3), lambda missing: not missing)
    rig.reconciler.wait_settled(BRING_S)  # as the periodic work does
    kept = rig.world.snapshot().numbers.session[SessionId("kept")]
    assert rig.copying(3) == {kept}
    assert names(rig) == ["s1", "s2", "s3"]
    wait_for(
        lambda: rig.inspector.session_status(SessionId("kept")).state,
        lambda state: state is State.ACTIVE,
    )
    assert {record.dpid for record in rig.store.placements.bridges()} == {1, 2, 3}


def test_the_copies_of_a_session_never_go_down(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("both", "a", "c", tap="t3")
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    for dpid, packets in ((1, 10), (3, 200)):
        rig.count_copies(dpid, "both", packets, packets * 60)
    session = SessionId("both")
    wait_for(lambda: rig.inspector.session_status(session).copies.packets, lambda n: n >= 210)
    before = rig.inspector.session_status(session).copies
    rig.cut(3)
    rig.reconciler.forget(S3, WHO)
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    assert rig.inspector.session_status(session).copies == before
    rig.connect(3)
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    after = rig.inspector.session_status(session).copies
    assert after == before != PacketCount()


def test_what_the_database_of_a_host_that_is_gone_said_last_counts_no_more(rig: Rig) -> None:
    said = OvsdbSnapshot(
        (BridgeRow(S3, "s3", "secure"),),
        (InterfaceRow(S3, "s3", "s3-eth2", "c", None, Ofport(2)),),
    )
    rig.tracker.interfaces_changed(said)
    bring_all(rig)
    wait_for(lambda: rig.place("c"), lambda place: place == 2)
    rig.cut(3)
    rig.reconciler.forget(S3, WHO)
    more = BridgeRow(Dpid(9), "s9", "secure")
    rig.tracker.interfaces_changed(replace(said, bridges=(*said.bridges, more)))
    wait_for(lambda: rig.tracker.bridge_name(Dpid(9)), lambda name: name == "s9")
    wait_for(lambda: rig.place("c"), lambda place: place is None)
    assert names(rig) == ["s1", "s2"], "a bridge that only a database has is not ours"
    rig.connect(3)
    wait_for(lambda: rig.place("c"), lambda place: place == 2)


def test_what_cannot_be_written_down_is_not_forgotten(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_all(rig)
    rig.add_session("far", "c", tap="t3")
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    rig.cut(3)
    with monkeypatch.context() as patched:

        def fail(*arguments: object) -> None:
            raise StoreError("the disk is full")

        patched.setattr("controller.store.audit.write_entry", fail)
        with pytest.raises(StoreError, match="disk is full"):
            rig.reconciler.forget(S3, WHO)
    assert names(rig) == ["s1", "s2", "s3"]
    assert rig.store.installed_sessions.bridges() == {S3}
    assert not delete(rig, "far")
    rig.restart()
    assert names(rig) == ["s1", "s2", "s3"]
    assert not delete(rig, "far"), "nor in the database"


def test_a_bridge_of_which_nothing_but_its_sessions_is_known_can_be_forgotten(rig: Rig) -> None:
    rig.store.installed_sessions.add(Dpid(0x99), {7})
    assert names(rig) == [f"{0x99:016x}"]
    rig.reconciler.forget(Dpid(0x99), WHO)
    assert names(rig) == []


def test_a_store_forgets_a_bridge_it_never_knew(rig: Rig) -> None:
    rig.reconciler.forget(Dpid(0x77), WHO)
    assert names(rig) == []


@pytest.mark.parametrize("seed", range(8))
def test_all_is_as_it_should_be_in_the_end_whatever_was_forgotten(
    tmp_path: Path, seed: int
) -> None:
    chance, rig = random.Random(seed), Rig(tmp_path)
    try:
        for step in range(30):
            _do_something(rig, chance, step)
        for dpid in {1, 2, 3} - rig.connected.keys():
            rig.connect(dpid)
        wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
        for dpid in (1, 2, 3):
            wait_for(lambda n=dpid: rig.missing(n), lambda missing: not missing)  # type: ignore[misc]
        wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
        stored = {record.session.id for record in rig.store.sessions.all()}
        assert not any(record.is_deleting for record in rig.store.sessions.all())
        wait_for(lambda: released(rig), lambda numbered: numbered == stored)
        assert {record.dpid for record in rig.store.placements.bridges()} == {1, 2, 3}
    finally:
        rig.close()


def _do_something(rig: Rig, chance: random.Random, step: int) -> None:
    live = [r.session.id for r in rig.store.sessions.all() if not r.is_deleting]
    away = sorted({1, 2, 3} - rig.connected.keys())
    match chance.randrange(8):
        case 0 | 1:
            ports = chance.sample("abcd", chance.randint(1, 3))
            rig.add_session(f"n{step}", *ports, tap=chance.choice(["t1", "t2", "t3"]))
        case 2 if live:
            rig.store.sessions.delete(chance.choice(live), "test")
        case 3 | 4 if away:
            rig.reconciler.forget(Dpid(chance.choice(away)), WHO)
        case 5 if chance.random() < 0.4:
            rig.restart()
        case _:
            dpid = chance.choice([1, 2, 3])
            rig.cut(dpid) if dpid in rig.connected else rig.connect(dpid)
    rig.reconciler.sync(chance.choice([0.0, 0.01, BRING_S]) if rig.connected else 0.0)
    rig.finalizer.release_numbers()


def test_a_writer_that_outlives_its_connection_brings_no_forgotten_bridge_back(rig: Rig) -> None:
    """It may still be compiling, or waiting for the data path, when its bridge is forgotten."""
    bring_all(rig)
    rig.add_session("far", "c", tap="t3")
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    (writer,) = [w for w in rig.writers.writing() if w.dpid == S3]
    done = writer.applied
    assert done.sessions
    rig.cut(3)
    rig.reconciler.forget(S3, WHO)

    writer.note_settled(replace(done, plan=done.plan + 1))
    with pytest.raises(SwitchGone):
        writer.note_plan(done.sessions)

    assert S3 not in rig.store.installed_sessions.bridges()
    assert names(rig) == ["s1", "s2"]


def test_what_a_bridge_counts_that_comes_back_while_it_is_forgotten_is_counted(rig: Rig) -> None:
    counters = rig.poller.counters
    with rig.writers.while_absent(S3) as is_absent:
        assert is_absent
        connecting = Thread(target=rig.connect, args=(3,), daemon=True)
        connecting.start()
        wait_for(lambda: 3 in rig.connected, bool)
        counters.forget(S3)
    connecting.join(BRING_S)
    (writer,) = rig.writers.find([S3])
    assert counters.of(S3) is writer.session_counters


def test_a_connection_that_takes_the_place_of_another_loses_no_count_of_it(rig: Rig) -> None:
    bring_all(rig)
    rig.foreign.add(3)
    rig.connect(3)  # the older connection has not ended
    wait_for(lambda: rig.writers.find([S3]), lambda ours: not ours)
    rig.cut(3)
    assert rig.poller.counters.knows(S3)

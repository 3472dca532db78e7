"""A bridge that never comes back is forgotten: nobody waits for it, and nothing of it is left."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.southbound.errors import SwitchGone
from controller.southbound.ovsdb.rows import BridgeRow, InterfaceRow, OvsdbSnapshot
from controller.status.values import Copies, State
from controller.store import StoreError
from flows.errors import Refused
from flows.model.session import Dpid, Ofport, SessionId
from flows.pipeline.tables import DELIVER
from tests.controller.rig import Rig
from tests.controller.test_reconcile import bring_all, delete
from tests.ovs.waiting import wait_for

BRING_S = 5.0
S3 = Dpid(3)
WHO = "operator"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path)
    yield built
    built.close()


def names(rig: Rig) -> list[str]:
    return [status.name for status in rig.reconciler.bridges()]


def released(rig: Rig) -> set[SessionId]:
    """The sessions that have a number after all that are free were released."""
    rig.reconciler.release_numbers()
    return set(rig.store.numbered().session)


def test_nobody_waits_any_more_for_a_bridge_that_is_forgotten(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("far", "c", tap="t3")
    assert rig.reconciler.bring(BRING_S)
    rig.cut(3)
    assert not delete(rig, "far")
    assert released(rig) == {"far"}
    rig.reconciler.forget(S3, WHO)
    wait_for(lambda: rig.reconciler.bring(BRING_S), bool)
    assert rig.store.sessions() == ()
    wait_for(lambda: released(rig), lambda numbered: not numbered)
    assert names(rig) == ["s1", "s2"]
    assert rig.place("c") is None
    assert rig.store.holdings.bridges() == set()
    entry = rig.store.audit({"what": "forgotten"})[0]
    assert (entry.who, entry.kind, entry.id, entry.name) == (WHO, "bridge", f"{3:016x}", "s3")


def test_what_was_forgotten_does_not_come_back_with_a_restart(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("far", "c", tap="t3")
    assert rig.reconciler.bring(BRING_S)
    rig.cut(3)
    rig.reconciler.forget(S3, WHO)
    rig.restart()
    assert names(rig) == ["s1", "s2"]
    assert rig.store.holdings.bridges() == set()
    assert delete(rig, "far")


def test_a_connected_bridge_is_not_forgotten_and_the_sentence_says_what_to_do(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("far", "c", tap="t3")
    assert rig.reconciler.bring(BRING_S)
    with pytest.raises(Refused, match=r"'s3' is connected: .*`ovs-vsctl del-controller s3`"):
        rig.reconciler.forget(S3, WHO)
    assert names(rig) == ["s1", "s2", "s3"]
    assert rig.reconciler.session_status(SessionId("far")).state is State.ACTIVE
    assert rig.store.holdings.bridges() == {S3}
    assert not rig.store.audit({"what": "forgotten"})


def test_a_bridge_that_comes_back_is_brought_up_like_a_new_one(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("gone", "c", tap="t3")
    rig.add_session("kept", "c", tap="t3")
    assert rig.reconciler.bring(BRING_S)
    rig.cut(3)
    assert not delete(rig, "gone")
    rig.reconciler.forget(S3, WHO)
    wait_for(lambda: rig.reconciler.bring(BRING_S), bool)
    assert len(rig.copying(3)) == 2, "it was away, and copies on"
    rig.connect(3)
    wait_for(lambda: rig.reconciler.bring(BRING_S), bool)
    wait_for(lambda: rig.missing(3), lambda missing: not missing)
    kept = rig.world.snapshot().numbers.session[SessionId("kept")]
    assert rig.copying(3) == {kept}
    assert names(rig) == ["s1", "s2", "s3"]
    assert rig.reconciler.session_status(SessionId("kept")).state is State.ACTIVE
    assert {record.dpid for record in rig.store.bridges()} == {1, 2, 3}


def test_the_copies_of_a_session_never_go_down(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("both", "a", "c", tap="t3")
    assert rig.reconciler.bring(BRING_S)
    for dpid, packets in ((1, 10), (3, 200)):
        tables = rig.models[dpid].tables
        for key, entry in list(tables.flows.items()):
            if entry.table == DELIVER.number:
                tables.flows[key] = replace(entry, packets=packets, octets=packets * 60)
    session = SessionId("both")
    wait_for(lambda: rig.reconciler.session_status(session).copies.packets, lambda n: n >= 210)
    before = rig.reconciler.session_status(session).copies
    rig.cut(3)
    rig.reconciler.forget(S3, WHO)
    wait_for(lambda: rig.reconciler.bring(BRING_S), bool)
    assert rig.reconciler.session_status(session).copies == before
    rig.connect(3)
    wait_for(lambda: rig.reconciler.bring(BRING_S), bool)
    after = rig.reconciler.session_status(session).copies
    assert after == before != Copies()


def test_what_the_database_of_a_host_that_is_gone_said_last_counts_no_more(rig: Rig) -> None:
    said = OvsdbSnapshot(
        (BridgeRow(S3, "s3", "secure"),),
        (InterfaceRow(S3, "s3", "s3-eth2", "c", None, Ofport(2)),),
    )
    rig.movements.interfaces_changed(said)
    bring_all(rig)
    wait_for(lambda: rig.place("c"), lambda place: place == 2)
    rig.cut(3)
    rig.reconciler.forget(S3, WHO)
    more = BridgeRow(Dpid(9), "s9", "secure")
    rig.movements.interfaces_changed(replace(said, bridges=(*said.bridges, more)))
    wait_for(lambda: names(rig), lambda seen: seen == ["s1", "s2", "s9"])
    wait_for(lambda: rig.place("c"), lambda place: place is None)
    rig.connect(3)
    wait_for(lambda: rig.place("c"), lambda place: place == 2)


def test_what_cannot_be_written_down_is_not_forgotten(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_all(rig)
    rig.add_session("far", "c", tap="t3")
    assert rig.reconciler.bring(BRING_S)
    rig.cut(3)
    with monkeypatch.context() as patched:

        def fail(*arguments: object) -> None:
            raise StoreError("the disk is full")

        patched.setattr("controller.store.audit.write_entry", fail)
        with pytest.raises(StoreError, match="disk is full"):
            rig.reconciler.forget(S3, WHO)
    assert names(rig) == ["s1", "s2", "s3"]
    assert rig.store.holdings.bridges() == {S3}
    assert not delete(rig, "far")
    rig.restart()
    assert names(rig) == ["s1", "s2", "s3"]
    assert not delete(rig, "far"), "nor in the database"


def test_a_bridge_of_which_nothing_but_its_sessions_is_known_can_be_forgotten(rig: Rig) -> None:
    rig.store.holdings.add(Dpid(0x99), {7})
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
        wait_for(lambda: rig.reconciler.bring(BRING_S), bool)
        for dpid in (1, 2, 3):
            wait_for(lambda n=dpid: rig.missing(n), lambda missing: not missing)  # type: ignore[misc]
        wait_for(lambda: rig.reconciler.bring(BRING_S), bool)
        stored = {record.session.id for record in rig.store.sessions()}
        assert not any(record.is_deleting for record in rig.store.sessions())
        wait_for(lambda: released(rig), lambda numbered: numbered == stored)
        assert {record.dpid for record in rig.store.bridges()} == {1, 2, 3}
    finally:
        rig.close()


def _do_something(rig: Rig, chance: random.Random, step: int) -> None:
    live = [r.session.id for r in rig.store.sessions() if not r.is_deleting]
    away = sorted({1, 2, 3} - rig.connected.keys())
    match chance.randrange(8):
        case 0 | 1:
            ports = chance.sample("abcd", chance.randint(1, 3))
            rig.add_session(f"n{step}", *ports, tap=chance.choice(["t1", "t2", "t3"]))
        case 2 if live:
            rig.store.delete_session(chance.choice(live), "test")
        case 3 | 4 if away:
            rig.reconciler.forget(Dpid(chance.choice(away)), WHO)
        case 5 if chance.random() < 0.4:
            rig.restart()
        case _:
            dpid = chance.choice([1, 2, 3])
            rig.cut(dpid) if dpid in rig.connected else rig.connect(dpid)
    rig.reconciler.bring(chance.choice([0.0, 0.01, BRING_S]) if rig.connected else 0.0)
    rig.reconciler.release_numbers()


def test_a_writer_that_outlives_its_connection_brings_no_forgotten_bridge_back(rig: Rig) -> None:
    """It may still be compiling, or waiting for the data path, when its bridge is forgotten."""
    bring_all(rig)
    rig.add_session("far", "c", tap="t3")
    assert rig.reconciler.bring(BRING_S)
    (writer,) = [w for w in rig.reconciler._writing() if w.dpid == S3]
    done = writer.done
    assert done.holding
    rig.cut(3)
    rig.reconciler.forget(S3, WHO)

    writer.settle(replace(done, plan=done.plan + 1))
    with pytest.raises(SwitchGone):
        writer.note_plan(done.holding)

    assert S3 not in rig.store.holdings.bridges()
    assert names(rig) == ["s1", "s2"]

"""The store keeps what it was told, refuses what may not be, and says in a sentence what fails."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.store import (
    AlreadyRunning,
    BridgeRecord,
    InterfaceRow,
    InUse,
    NameTaken,
    NewerSchema,
    NotFound,
    OnceKey,
    Repeated,
    SessionRecord,
    Store,
    StoreError,
)
from controller.store.audit import ONCE_KEPT
from controller.store.tables import SCHEMA_VERSION
from flows.model.session import (
    Collector,
    CollectorId,
    Direction,
    Dpid,
    PortId,
    Session,
    SessionId,
    Source,
    TenantName,
)

IDS = Collector(CollectorId("c-1"), "ids", TenantName("red"), (PortId("red-ids-1"),))
WEB = Session(
    SessionId("s-1"),
    "web",
    TenantName("red"),
    Source((PortId("b"), PortId("a"))),
    CollectorId("c-1"),
    Direction.EGRESS,
    7,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "state")
    yield store
    store.close()


@pytest.fixture
def filled(store: Store) -> Store:
    store.add_collector(IDS, "tester")
    store.add_session(WEB, "tester")
    return store


def another(session: Session = WEB, **changes: object) -> Session:
    return dataclasses.replace(session, **{"id": SessionId("s-2"), **changes})  # type: ignore[arg-type]


def changed(**changes: object) -> Callable[[SessionRecord], SessionRecord]:
    """A change of these fields of a session."""
    return lambda record: dataclasses.replace(
        record,
        session=dataclasses.replace(record.session, **changes),  # type: ignore[arg-type]
    )


def test_what_was_stored_is_there_after_a_restart(filled: Store, tmp_path: Path) -> None:
    numbers = filled.numbers_for([], [PortId("a")], [WEB.id], ["tap:a"])
    filled.close()
    again = Store(tmp_path / "state")

    assert [record.collector for record in again.collectors()] == [IDS]
    assert [record.session for record in again.sessions()] == [WEB]
    assert again.numbers_for([], [PortId("a")], [WEB.id], ["tap:a"]) == numbers
    again.close()


def test_a_name_is_taken_once_in_a_tenant(filled: Store) -> None:
    with pytest.raises(NameTaken, match="tenant 'red' already has a session 'web'"):
        filled.add_session(another(), "tester")
    with pytest.raises(NameTaken, match="tenant 'red' already has a collector 'ids'"):
        filled.add_collector(dataclasses.replace(IDS, id=CollectorId("c-2")), "tester")

    filled.add_collector(
        dataclasses.replace(IDS, id=CollectorId("c-2"), tenant=TenantName("blue")), "tester"
    )
    filled.add_session(another(tenant=TenantName("blue"), collector=CollectorId("c-2")), "tester")
    assert len(filled.sessions()) == 2


def test_a_session_needs_its_collector(filled: Store) -> None:
    with pytest.raises(NotFound, match="there is no collector 'c-9'"):
        filled.add_session(another(name="x", collector=CollectorId("c-9")), "tester")
    with pytest.raises(NotFound, match="there is no collector 'c-9'"):
        filled.change_session(WEB.id, changed(collector=CollectorId("c-9")), "tester")

    assert [record.session for record in filled.sessions()] == [WEB]


def test_a_collector_in_use_cannot_be_deleted_until_its_sessions_are_wholly_gone(
    filled: Store,
) -> None:
    with pytest.raises(InUse, match="collector 'ids' is used by session 'web'"):
        filled.delete_collector(IDS.id, "tester")
    filled.delete_session(WEB.id, "tester")
    with pytest.raises(InUse):
        filled.delete_collector(IDS.id, "tester")
    filled.finish_deletions([WEB.id])
    filled.delete_collector(IDS.id, "tester")

    assert filled.collectors() == ()
    with pytest.raises(NotFound):
        filled.delete_collector(IDS.id, "tester")


def test_a_deleted_session_is_not_wanted_but_listed_until_it_is_gone(filled: Store) -> None:
    filled.delete_session(WEB.id, "tester")
    filled.delete_session(WEB.id, "tester")

    assert filled.desired().sessions == ()
    assert filled.desired().deleting == (WEB.id,)
    assert [record.is_deleting for record in filled.sessions()] == [True]
    with pytest.raises(NotFound):
        filled.change_session(WEB.id, lambda s: s, "tester")
    filled.add_session(another(), "tester")
    filled.finish_deletions([WEB.id, SessionId("s-2"), SessionId("s-9")])
    assert [record.session.id for record in filled.sessions()] == ["s-2"], "only marked ones go"


def test_a_change_replaces_the_session_or_nothing(filled: Store) -> None:
    def fail(record: SessionRecord) -> SessionRecord:
        raise RuntimeError("no")

    change = changed(source=Source((PortId("c"),)), enabled=False)
    new = filled.change_session(WEB.id, change, "tester").session
    with pytest.raises(RuntimeError):
        filled.change_session(WEB.id, fail, "tester")

    assert filled.desired().sessions == (new,)
    assert new.source.ports == ("c",) and not new.enabled
    filled.add_session(another(name="other"), "tester")
    with pytest.raises(NameTaken):
        filled.change_session(WEB.id, changed(name="other"), "tester")


def test_a_trial_tells_what_would_be_refused_and_keeps_nothing(filled: Store) -> None:
    filled.try_session(another(name="other"))
    with pytest.raises(NameTaken):
        filled.try_session(another())

    assert len(filled.sessions()) == 1
    assert len(filled.audit()) == 2


def test_every_change_is_in_the_audit_journal_newest_first(filled: Store) -> None:
    filled.change_session(WEB.id, changed(number=8), "alice")
    filled.change_session(WEB.id, lambda s: s, "alice")
    filled.delete_session(WEB.id, "bob")

    told = [(e.who, e.what, e.kind, e.name) for e in filled.audit()]
    assert told == [
        ("bob", "deleted", "session", "web"),
        ("alice", "changed", "session", "web"),
        ("tester", "created", "session", "web"),
        ("tester", "created", "collector", "ids"),
    ]
    assert filled.audit({"what": "changed"})[0].detail == {"number": 8}
    first = filled.audit(limit=1)[0]
    assert [e.what for e in filled.audit(before=first.number, limit=1)] == ["changed"]


def test_a_refused_change_leaves_no_trace_in_the_journal(filled: Store) -> None:
    with pytest.raises(NameTaken):
        filled.add_session(another(), "tester")

    assert len(filled.audit()) == 2


def test_a_request_with_a_key_counts_once(tmp_path: Path) -> None:
    seconds = [0.0]
    start = datetime(2030, 1, 1, tzinfo=UTC)
    store = Store(tmp_path, now=lambda: start + timedelta(seconds=seconds[0]))
    once = OnceKey("k", "digest")
    store.add_collector(IDS, "tester", once)
    with pytest.raises(Repeated) as caught:
        store.add_collector(dataclasses.replace(IDS, id=CollectorId("c-2")), "tester", once)

    assert (caught.value.digest, caught.value.object_id) == ("digest", "c-1")
    assert caught.value.answer is None
    store.remember_answer("k", "{}")
    found = store.repeated("k")
    assert found is not None and found.answer == "{}"
    seconds[0] = ONCE_KEPT.total_seconds() + 1
    assert store.repeated("k") is None
    blue = dataclasses.replace(IDS, id=CollectorId("c-2"), tenant=TenantName("blue"))
    store.add_collector(blue, "tester", once)
    store.close()


def test_places_are_remembered_as_they_were_seen_last(store: Store, tmp_path: Path) -> None:
    rows = (InterfaceRow("eth2", None, 2), InterfaceRow("eth1", "red-web-1", 1))
    high = BridgeRecord(Dpid((1 << 64) - 1), "s2", rows)
    store.remember_bridges([high, BridgeRecord(Dpid(1), "s1")])
    store.remember_bridges([BridgeRecord(Dpid(1), "s1", (InterfaceRow("eth1", None, 9),))])
    twins = (InterfaceRow("eth1", None, 1), InterfaceRow("eth1", None, 2))
    store.remember_bridges([BridgeRecord(Dpid(2), "s3", twins), high])
    store.forget_bridge(Dpid(2), "s3", "tester")
    store.forget_bridge(Dpid(3), "never there", "tester")
    store.close()
    again = Store(tmp_path / "state")

    assert again.bridges() == (
        BridgeRecord(Dpid(1), "s1", (InterfaceRow("eth1", None, 9),)),
        BridgeRecord(high.dpid, "s2", tuple(reversed(rows))),
    )
    again.close()


def test_threads_lose_no_change_and_share_no_number(store: Store) -> None:
    store.add_collector(IDS, "tester")

    def add(index: int) -> int:
        session = another(id=SessionId(f"s-{index}"), name=f"n-{index}")
        store.add_session(session, "tester")
        store.desired()
        return store.numbers_for([], [], [session.id], []).session[session.id]

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(add, range(40)))

    assert sorted(numbers) == list(range(1, 41))
    assert len(store.sessions()) == 40
    assert len(store.audit()) == 41


def test_the_number_of_a_session_that_is_not_wholly_gone_stays_taken(filled: Store) -> None:
    filled.numbers_for([], [], [WEB.id], [])
    filled.delete_session(WEB.id, "tester")
    filled.release(sessions=[WEB.id])
    assert filled.numbered().session == {WEB.id: 1}

    filled.finish_deletions([WEB.id])
    filled.release(sessions=[WEB.id, WEB.id])
    assert filled.numbered().session == {}


# --- what may fail -------------------------------------------------------------------------


def test_a_second_controller_on_the_same_directory_is_refused_by_name(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(AlreadyRunning, match=rf"another controller \(pid {os.getpid()}\)"):
        Store(tmp_path / "state")
    code = (
        "import pathlib, sys; from controller.store import Store; Store(pathlib.Path(sys.argv[1]))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "state")], capture_output=True, text=True
    )

    assert f"AlreadyRunning: another controller (pid {os.getpid()})" in other.stderr
    store.add_collector(IDS, "tester")


def test_a_controller_that_was_killed_leaves_a_usable_directory(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from controller.store import Store\n"
        "from tests.controller import test_store as t\n"
        "Store(pathlib.Path(sys.argv[1])).add_collector(t.IDS, 'x'); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True)
    assert killed.returncode == -9, killed.stderr
    store = Store(tmp_path)

    assert [record.collector for record in store.collectors()] == [IDS]
    store.close()


def test_a_database_held_by_another_program_is_told_and_nothing_is_lost(
    filled: Store, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "state" / "state.db")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="is held by another program"):
        filled.add_session(another(name="other"), "tester")
    with pytest.raises(StoreError, match="is held by another program"):
        filled.numbers_for([], [PortId("new")], [], [])
    assert [record.session for record in filled.sessions()] == [WEB], "reading goes on"
    other.rollback()
    other.close()

    filled.add_session(another(name="other"), "tester")
    assert filled.numbers_for([], [], [WEB.id], []).session == {WEB.id: 1}


def test_a_full_disk_is_told_and_nothing_is_lost(filled: Store) -> None:
    engine = filled._database.engine
    ports = Source(tuple(PortId(f"port-{n}") for n in range(2000)))
    with engine.connect() as connection:  # the pool has this one connection
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(StoreError, match="the disk is full"):
        filled.add_session(another(name="other", source=ports), "tester")

    assert [record.session for record in filled.sessions()] == [WEB]
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    filled.add_session(another(name="other", source=ports), "tester")


def test_a_database_that_cannot_be_written_is_told(filled: Store) -> None:
    with filled._database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only=1")
    with pytest.raises(StoreError, match="cannot be written"):
        filled.delete_session(WEB.id, "tester")

    assert [record.is_deleting for record in filled.sessions()] == [False]


@pytest.mark.parametrize("damage", ["header", "pages"])
def test_a_damaged_database_is_told_and_left_as_it_is(
    filled: Store, tmp_path: Path, damage: str
) -> None:
    filled.close()
    file = tmp_path / "state" / "state.db"
    text = bytearray(file.read_bytes())
    begin = 0 if damage == "header" else 4096
    text[begin : begin + 20000] = b"\xa5" * len(text[begin : begin + 20000])
    file.write_bytes(text)
    with pytest.raises(StoreError, match=r"is damaged .*: put a backup in its place"):
        Store(tmp_path / "state")

    assert file.read_bytes() == text
    with pytest.raises(StoreError, match="is damaged"):
        Store(tmp_path / "state")


def test_a_database_of_a_newer_cloudtap_is_refused(filled: Store, tmp_path: Path) -> None:
    filled.close()
    with sqlite3.connect(tmp_path / "state" / "state.db") as connection:
        connection.execute("UPDATE schema SET version = 99")
    connection.close()

    with pytest.raises(
        NewerSchema, match=f"has schema 99, and this cloudtap knows only up to {SCHEMA_VERSION}"
    ):
        Store(tmp_path / "state")


def test_a_state_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match=r"cannot be used: .*name another one"):
        Store(tmp_path / "file" / "state")


def test_a_store_that_was_closed_writes_no_more(filled: Store) -> None:
    filled.close()

    with pytest.raises(StoreError, match="is closed: the controller ends"):
        filled.delete_session(SessionId("s-1"), "tester")

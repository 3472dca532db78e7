"""The store: what is stored survives, constraints hold, and every failure is one sentence."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.store import (
    AlreadyRunning,
    BridgeRecord,
    IdempotencyKey,
    InterfaceRecord,
    InUse,
    NameTaken,
    NewerSchema,
    NotFound,
    Repeated,
    SessionRecord,
    Store,
    StoredCounts,
    StoreError,
    idempotency,
)
from controller.store.idempotency import IDEMPOTENCY_KEY_RETENTION
from controller.store.tables import SCHEMA_VERSION
from flows.model import (
    Collector,
    CollectorId,
    Direction,
    Dpid,
    Names,
    Numbers,
    PortId,
    Session,
    SessionId,
    Source,
    TenantName,
)
from flows.openflow import PacketCount
from tests.controller.fakes import open_store

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
    store.collectors.add(IDS, "tester")
    store.sessions.add(WEB, "tester")
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
    red = WEB.tenant
    names = Names(port={PortId("a"): red}, session=[WEB.id], tag={"tap:a": red})
    numbers = filled.numbers_for(names)
    filled.close()
    again = Store(tmp_path / "state")

    assert [record.collector for record in again.collectors.all()] == [IDS]
    assert [record.session for record in again.sessions.all()] == [WEB]
    assert again.numbers_for(names) == numbers
    again.close()


def test_a_name_is_unique_in_a_tenant(filled: Store) -> None:
    with pytest.raises(NameTaken, match="tenant 'red' already has a session 'web'"):
        filled.sessions.add(another(), "tester")
    with pytest.raises(NameTaken, match="tenant 'red' already has a collector 'ids'"):
        filled.collectors.add(dataclasses.replace(IDS, id=CollectorId("c-2")), "tester")

    filled.collectors.add(
        dataclasses.replace(IDS, id=CollectorId("c-2"), tenant=TenantName("blue")), "tester"
    )
    filled.sessions.add(another(tenant=TenantName("blue"), collector=CollectorId("c-2")), "tester")
    assert len(filled.sessions.all()) == 2


def test_a_session_needs_its_collector(filled: Store) -> None:
    with pytest.raises(NotFound, match="there is no collector 'c-9'"):
        filled.sessions.add(another(name="x", collector=CollectorId("c-9")), "tester")
    with pytest.raises(NotFound, match="there is no collector 'c-9'"):
        filled.sessions.change(WEB.id, changed(collector=CollectorId("c-9")), "tester")

    assert [record.session for record in filled.sessions.all()] == [WEB]


def test_a_collector_in_use_cannot_be_deleted_until_its_sessions_are_removed(
    filled: Store,
) -> None:
    with pytest.raises(InUse, match="collector 'ids' is used by session 'web'"):
        filled.collectors.delete(IDS.id, "tester")
    filled.sessions.delete(WEB.id, "tester")
    with pytest.raises(InUse):
        filled.collectors.delete(IDS.id, "tester")
    filled.sessions.finish_deletions([WEB.id])
    filled.collectors.delete(IDS.id, "tester")

    assert filled.collectors.all() == ()
    with pytest.raises(NotFound):
        filled.collectors.delete(IDS.id, "tester")


def test_a_deleted_session_is_not_desired_but_listed_until_it_is_removed(filled: Store) -> None:
    filled.sessions.delete(WEB.id, "tester")
    filled.sessions.delete(WEB.id, "tester")

    assert filled.desired().sessions == ()
    assert filled.desired().deleting == {WEB.id: WEB}
    assert [record.is_deleting for record in filled.sessions.all()] == [True]
    with pytest.raises(NotFound):
        filled.sessions.change(WEB.id, lambda s: s, "tester")
    filled.sessions.add(another(), "tester")
    filled.sessions.finish_deletions([WEB.id, SessionId("s-2"), SessionId("s-9")])
    assert [record.session.id for record in filled.sessions.all()] == ["s-2"], "only marked ones go"


def test_a_change_replaces_the_session_or_nothing(filled: Store) -> None:
    def fail(record: SessionRecord) -> SessionRecord:
        raise RuntimeError("no")

    change = changed(source=Source((PortId("c"),)), enabled=False)
    new = filled.sessions.change(WEB.id, change, "tester").session
    with pytest.raises(RuntimeError):
        filled.sessions.change(WEB.id, fail, "tester")

    assert filled.desired().sessions == (new,)
    assert new.source.ports == ("c",) and not new.enabled
    filled.sessions.add(another(name="other"), "tester")
    with pytest.raises(NameTaken):
        filled.sessions.change(WEB.id, changed(name="other"), "tester")


def test_a_dry_run_raises_what_would_be_refused_and_writes_nothing(filled: Store) -> None:
    filled.sessions.check_add(another(name="other"))
    with pytest.raises(NameTaken):
        filled.sessions.check_add(another())

    assert len(filled.sessions.all()) == 1
    assert len(filled.audit.entries()) == 2


def test_every_change_is_in_the_audit_log_newest_first(filled: Store) -> None:
    filled.sessions.change(WEB.id, changed(number=8), "alice")
    filled.sessions.change(WEB.id, lambda s: s, "alice")
    filled.sessions.delete(WEB.id, "bob")

    entries = [(e.who, e.what, e.kind, e.name) for e in filled.audit.entries()]
    assert entries == [
        ("bob", "deleted", "session", "web"),
        ("alice", "changed", "session", "web"),
        ("tester", "created", "session", "web"),
        ("tester", "created", "collector", "ids"),
    ]
    assert filled.audit.entries({"what": "changed"})[0].detail == {"number": 8}
    first = filled.audit.entries(limit=1)[0]
    assert [e.what for e in filled.audit.entries(before=first.number, limit=1)] == ["changed"]


def test_a_refused_change_has_no_audit_entry(filled: Store) -> None:
    with pytest.raises(NameTaken):
        filled.sessions.add(another(), "tester")

    assert len(filled.audit.entries()) == 2


def test_a_request_with_an_idempotency_key_is_carried_out_once(tmp_path: Path) -> None:
    seconds = [0.0]
    start = datetime(2030, 1, 1, tzinfo=UTC)
    store = Store(tmp_path, now=lambda: start + timedelta(seconds=seconds[0]))
    key = IdempotencyKey("k", "digest")
    store.collectors.add(IDS, "tester", key)
    with pytest.raises(Repeated) as caught:
        store.collectors.add(dataclasses.replace(IDS, id=CollectorId("c-2")), "tester", key)

    assert (caught.value.digest, caught.value.object_id) == ("digest", "c-1")
    assert caught.value.answer is None
    store.idempotency.save_answer("k", "{}")
    found = store.idempotency.find("k")
    assert found is not None and found.answer == "{}"
    seconds[0] = IDEMPOTENCY_KEY_RETENTION.total_seconds() + 1
    assert store.idempotency.find("k") is None
    blue = dataclasses.replace(IDS, id=CollectorId("c-2"), tenant=TenantName("blue"))
    store.collectors.add(blue, "tester", key)
    store.close()


def test_a_tenant_retains_its_newest_idempotency_keys_and_no_long_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "KEYS_MAX", 3)
    hours = iter(range(100))
    start = datetime(2030, 1, 1, tzinfo=UTC)
    store = Store(tmp_path, now=lambda: start + timedelta(minutes=next(hours)))

    def create(key: str, tenant: str) -> None:
        name = f"{tenant}-{key}"
        made = dataclasses.replace(IDS, id=CollectorId(name), name=name, tenant=TenantName(tenant))
        store.collectors.add(made, "tester", IdempotencyKey(key, "digest"))
        store.idempotency.save_answer(key, "x" * (idempotency.ANSWER_MAX + (key == "k5")))

    create("other", "blue")
    for number in range(6):
        create(f"k{number}", "red")
    found = {key: store.idempotency.find(key) for key in ("other", *(f"k{n}" for n in range(6)))}
    assert [key for key, earlier in found.items() if earlier is not None] == [
        "other", "k3", "k4", "k5",
    ], "the oldest go, and only those of the tenant"  # fmt: skip
    assert [e.answer is not None for e in found.values() if e is not None] == [
        True, True, True, False,
    ]  # fmt: skip
    create("k0", "blue")
    store.close()


def test_placements_are_remembered_as_last_seen(store: Store, tmp_path: Path) -> None:
    rows = (InterfaceRecord("eth2", None, 2), InterfaceRecord("eth1", "red-web-1", 1))
    high = BridgeRecord(Dpid((1 << 64) - 1), "s2", rows)
    store.placements.remember_bridges([high, BridgeRecord(Dpid(1), "s1")])
    store.placements.remember_bridges(
        [BridgeRecord(Dpid(1), "s1", (InterfaceRecord("eth1", None, 9),))]
    )
    twins = (InterfaceRecord("eth1", None, 1), InterfaceRecord("eth1", None, 2))
    store.placements.remember_bridges([BridgeRecord(Dpid(2), "s3", twins), high])
    store.placements.forget_bridge(Dpid(2), "s3", "tester", {})
    store.placements.forget_bridge(Dpid(3), "never there", "tester", {})
    store.close()
    again = Store(tmp_path / "state")

    assert again.placements.bridges() == (
        BridgeRecord(Dpid(1), "s1", (InterfaceRecord("eth1", None, 9),)),
        BridgeRecord(high.dpid, "s2", tuple(reversed(rows))),
    )
    again.close()


def test_threads_lose_no_change_and_share_no_number(store: Store) -> None:
    store.collectors.add(IDS, "tester")

    def add(index: int) -> int:
        session = another(id=SessionId(f"s-{index}"), name=f"n-{index}")
        store.sessions.add(session, "tester")
        store.desired()
        return store.numbers_for(Names(session=[session.id])).session[session.id]

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(add, range(40)))

    assert sorted(numbers) == list(range(1, 41))
    assert len(store.sessions.all()) == 40
    assert len(store.audit.entries()) == 41


def test_the_number_of_a_session_that_is_not_wholly_gone_stays_taken(filled: Store) -> None:
    filled.numbers_for(Names(session=[WEB.id]))
    filled.sessions.delete(WEB.id, "tester")
    filled.release_all_but(Numbers())
    assert filled.numbered().session == {WEB.id: 1}

    filled.sessions.finish_deletions([WEB.id])
    filled.release_all_but(Numbers())
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
    store.collectors.add(IDS, "tester")


def test_a_controller_that_was_killed_leaves_a_usable_directory(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from controller.store import Store\n"
        "from tests.controller.store import test_store as t\n"
        "Store(pathlib.Path(sys.argv[1])).collectors.add(t.IDS, 'x'); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True)
    assert killed.returncode == -9, killed.stderr
    store = Store(tmp_path)

    assert [record.collector for record in store.collectors.all()] == [IDS]
    store.close()


def test_a_database_that_another_program_has_locked_is_an_error_and_nothing_is_lost(
    filled: Store, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "state" / "state.db")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="is held by another program"):
        filled.sessions.add(another(name="other"), "tester")
    with pytest.raises(StoreError, match="is held by another program"):
        filled.numbers_for(Names(port={PortId("new"): WEB.tenant}))
    assert [record.session for record in filled.sessions.all()] == [WEB], "reading goes on"
    other.rollback()
    other.close()

    filled.sessions.add(another(name="other"), "tester")
    assert filled.numbers_for(Names(session=[WEB.id])).session == {WEB.id: 1}


def test_a_full_disk_is_an_error_and_nothing_is_lost(filled: Store) -> None:
    engine = filled._database.engine
    ports = Source(tuple(PortId(f"port-{n}") for n in range(2000)))
    with engine.connect() as connection:  # the pool has this one connection
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(StoreError, match="the disk is full"):
        filled.sessions.add(another(name="other", source=ports), "tester")

    assert [record.session for record in filled.sessions.all()] == [WEB]
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    filled.sessions.add(another(name="other", source=ports), "tester")


def test_a_read_only_database_is_an_error(filled: Store) -> None:
    with filled._database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only=1")
    with pytest.raises(StoreError, match="cannot be written"):
        filled.sessions.change(WEB.id, changed(name="other"), "tester")

    assert [record.session for record in filled.sessions.all()] == [WEB]


@pytest.mark.parametrize("damage", ["header", "pages"])
def test_a_damaged_database_is_an_error_and_left_as_it_is(
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


def test_a_state_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match=r"cannot be used: .*name another one"):
        Store(tmp_path / "file" / "state")


def test_a_closed_store_refuses_writes(filled: Store) -> None:
    filled.close()

    with pytest.raises(StoreError, match="is closed: the controller ends"):
        filled.sessions.delete(SessionId("s-1"), "tester")


PLACE = (Dpid(1), "s1-eth1")


def test_who_speaks_for_a_bridge_and_where_ports_are_survive_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    record = BridgeRecord(Dpid(1), "s1", (), "tcp:192.0.2.1:6640", "a-uuid", "hv1")
    store.placements.remember_bridges([record, BridgeRecord(Dpid(2), "s2")])
    many = {f"port p{n}": (Dpid(2), f"e{n}") for n in range(2500)}
    store.placements.remember_places({"port web": PLACE, **many})
    store.placements.remember_places({"port web": PLACE, "link s1 x": (Dpid(2), "x")})
    store.close()
    later = open_store(tmp_path)
    assert record in later.placements.bridges()
    assert later.placements.places() == {"port web": PLACE, "link s1 x": (Dpid(2), "x")}
    later.close()


def test_what_is_stored_of_a_bridge_follows_its_datapath_id(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.collectors.add(IDS, "tester")
    store.sessions.add(WEB, "tester")
    store.placements.remember_bridges([BridgeRecord(Dpid(1), "s1")])
    store.placements.remember_places({"port web": PLACE})
    store.installed_sessions.add(Dpid(1), {7})
    store.installed_sessions.add(Dpid(9), {8})
    store.placements.move_bridges({Dpid(1): Dpid(9)}, counts_at({9: 5}))
    assert store.placements.bridges() == (BridgeRecord(Dpid(1), "s1"), BridgeRecord(Dpid(9), "s1"))
    store.placements.retire_bridge(Dpid(1), Dpid(9))
    for _ in range(2):
        assert store.placements.bridges() == (BridgeRecord(Dpid(9), "s1"),)
        assert store.placements.places() == {"port web": (Dpid(9), "s1-eth1")}
        assert store.installed_sessions.bridges() == {Dpid(9)}
        assert store.installed_sessions.holders(7) == store.installed_sessions.holders(8) == {9}
        assert store.limits.counts() == counts_at({9: 5})
        store.close()
        store = open_store(tmp_path)
    store.close()


def test_what_is_stored_of_bridges_that_exchange_their_ids_is_exchanged_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    store.collectors.add(IDS, "tester")
    store.sessions.add(WEB, "tester")
    one, other = BridgeRecord(Dpid(1), "s1", row="a"), BridgeRecord(Dpid(2), "s2", row="b")
    store.placements.remember_bridges([one, other])
    places = {"port web": PLACE, "port db": (Dpid(2), "s2-eth1")}
    store.placements.remember_places(places)
    store.installed_sessions.add(Dpid(1), {7})
    store.limits.keep_counts(counts_at({1: 5, 2: 8}))
    exchange = {Dpid(1): Dpid(2), Dpid(2): Dpid(1)}

    def stored() -> tuple[object, ...]:
        return (
            store.placements.bridges(), store.placements.places(), store.limits.counts(),
            store.installed_sessions.holders(7),
        )  # fmt: skip

    before = stored()
    with monkeypatch.context() as patched:

        def fail(*arguments: object) -> None:
            raise StoreError("the disk is full")

        patched.setattr("controller.store.placements.write_counts", fail)
        with pytest.raises(StoreError):
            store.placements.move_bridges(exchange, counts_at({2: 5, 1: 9}))
    for _ in range(2):
        assert stored() == before
        store.close()
        store = open_store(tmp_path)
    store.placements.move_bridges(exchange, counts_at({2: 5, 1: 9}))
    for _ in range(2):
        moved = (dataclasses.replace(one, dpid=Dpid(2)), dataclasses.replace(other, dpid=Dpid(1)))
        where = {"port web": (Dpid(2), "s1-eth1"), "port db": (Dpid(1), "s2-eth1")}
        assert stored() == (moved, where, counts_at({2: 5, 1: 9}), {1, 2})
        store.close()
        store = open_store(tmp_path)
    store.close()


def counts_at(packets: Mapping[int, int]) -> StoredCounts:
    """What was counted of the session on bridges."""
    return {
        (WEB.id, Dpid(dpid), "made"): (PacketCount(), PacketCount(n, n))
        for dpid, n in packets.items()
    }

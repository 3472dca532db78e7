"""Switching off always works, and is recorded as soon as the database can be written."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.store import Limits, NameTaken, NotFound, SessionRecord, Store, StoreError
from controller.store.switched_off import RECORDS, How, SwitchedOff, SwitchOff
from flows.model import SessionId
from tests.controller.store.test_store import IDS, WEB, another

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "state")
    opened.collectors.add(IDS, "tester")
    opened.sessions.add(WEB, "tester", limits=Limits(max_packets=5))
    yield opened
    opened.close()


def disabled(record: SessionRecord) -> SessionRecord:
    return dataclasses.replace(record, session=dataclasses.replace(record.session, enabled=False))


_programs: dict[int, sqlite3.Connection] = {}


def block(store: Store, is_blocked: bool = True) -> None:
    """Let nothing be written: another program holds the database."""
    if is_blocked:
        other = sqlite3.connect(store._database.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        _programs[id(store)] = other
    else:
        other = _programs.pop(id(store))
        other.rollback()
        other.close()


def what(store: Store) -> list[tuple[str, str]]:
    return [(entry.what, entry.who) for entry in store.audit.entries(limit=1)]


Off = Callable[[Store], object]
OFFS: list[tuple[Off, tuple[str, str]]] = [
    (lambda store: store.sessions.delete(WEB.id, "alice"), ("deleted", "alice")),
    (lambda store: store.sessions.change(WEB.id, disabled, "bob"), ("changed", "bob")),
    (
        lambda store: store.limits.stop(WEB.id, "it reached its limit", Limits(max_packets=5)),
        ("stopped", "cloudtap"),
    ),
]


def is_off(store: Store) -> bool:
    desired = store.desired()
    session = desired.session_by_id.get(WEB.id)
    return session is None or not session.enabled


@pytest.mark.parametrize(("off", "entry"), OFFS)
def test_a_session_is_off_at_once_and_recorded_later(
    store: Store, off: Off, entry: tuple[str, str]
) -> None:
    before = store.desired().moment
    block(store)
    off(store)
    assert is_off(store)
    now = store.desired().moment
    assert WEB.id in (store.changed_between(before, now) or {WEB.id})
    assert "1 sessions were switched off" in store.unrecorded
    assert "a restart does not begin them again" in store.unrecorded
    block(store, False)
    store.retry()
    assert is_off(store) and not store.unrecorded and not store.problem
    assert what(store) == [entry]


@pytest.mark.parametrize(("off", "entry"), OFFS)
def test_it_stays_off_over_a_crash(
    store: Store, tmp_path: Path, off: Off, entry: tuple[str, str]
) -> None:
    block(store)
    off(store)
    store._database._directory.unlock()  # as the kernel does at a crash
    block(store, False)
    again = Store(tmp_path / "state")
    assert is_off(again) and not again.unrecorded
    assert what(again) == [entry]
    again.close()
    third = Store(tmp_path / "state")
    assert is_off(third) and len(third.audit.entries({"what": entry[0]})) == 1, "recorded once"
    third.close()


def test_other_changes_are_refused_meanwhile(store: Store) -> None:
    block(store)
    renamed = dataclasses.replace(WEB, name="other")
    with pytest.raises(StoreError):
        store.sessions.change(WEB.id, lambda r: dataclasses.replace(r, session=renamed), "t")
    both = dataclasses.replace(renamed, enabled=False)
    with pytest.raises(StoreError):
        store.sessions.change(WEB.id, lambda r: dataclasses.replace(r, session=both), "t")
    assert not is_off(store) and not store.unrecorded
    with pytest.raises(NotFound):
        block(store, False)
        store.sessions.delete(SessionId("nobody"), "t")


def test_what_comes_later_sees_what_was_switched_off_before(store: Store) -> None:
    block(store)
    store.sessions.change(WEB.id, disabled, "alice")
    store.sessions.delete(WEB.id, "alice")
    with pytest.raises(StoreError):
        store.sessions.finish_deletions([WEB.id])
    assert [r.is_deleting for r in store.sessions.all()] == [True]
    block(store, False)
    store.sessions.add(another(name="web"), "bob")  # the name is free
    store.sessions.finish_deletions([WEB.id])
    assert [r.session.id for r in store.sessions.all()] == ["s-2"]
    with pytest.raises(NameTaken):
        store.sessions.add(another(id=SessionId("s-3")), "bob")


def test_enabling_again_is_refused_until_it_can_be_recorded(store: Store) -> None:
    block(store)
    store.sessions.change(WEB.id, disabled, "alice")
    with pytest.raises(StoreError):
        store.sessions.change(WEB.id, lambda r: dataclasses.replace(r, session=WEB), "alice")
    assert is_off(store)
    block(store, False)
    store.sessions.change(WEB.id, lambda r: dataclasses.replace(r, session=WEB), "alice")
    assert not is_off(store) and not store.unrecorded


def test_a_closed_store_switches_nothing_off(store: Store) -> None:
    store.close()
    with pytest.raises(StoreError, match="is closed"):
        store.sessions.change(WEB.id, disabled, "alice")


def test_the_journal_holds_so_many_and_says_when_a_restart_would_lose_one(tmp_path: Path) -> None:
    journal = SwitchedOff(tmp_path, lambda: True)
    for n in range(RECORDS + 2):
        journal.note(SwitchOff(SessionId(f"s-{n}"), How.DELETED, NOW, "tester"))
    assert f"{RECORDS + 2} sessions" in journal.problem
    assert "2 of them would begin again if the controller restarted now" in journal.problem
    journal.close()
    again = SwitchedOff(tmp_path, lambda: True)
    assert len(again.waiting) == RECORDS
    again.forget(again.waiting)
    again.close()
    third = SwitchedOff(tmp_path, lambda: True)
    assert third.waiting == () and not third.problem
    third.close()


def test_what_is_noted_while_the_database_records_what_was_before_still_waits(
    tmp_path: Path,
) -> None:
    journal = SwitchedOff(tmp_path, lambda: True)
    journal.note(SwitchOff(SessionId("a"), How.STOPPED, NOW, "cloudtap", "it expired"))
    recorded = journal.waiting
    deleted = SwitchOff(SessionId("a"), How.DELETED, NOW, "tester")
    journal.note(deleted)
    journal.forget(recorded)
    assert journal.waiting == (deleted,)
    journal.close()
    again = SwitchedOff(tmp_path, lambda: True)
    assert again.waiting == (deleted,)
    again.close()


@pytest.mark.parametrize(
    "text",
    ["é" * 500, '"\\' * 100, "\0" * 90, "\U0001f600" * 80],
    ids=["accents", "quotes", "zeros", "emoji"],
)
def test_a_text_that_is_long_when_it_is_written_loses_no_record(tmp_path: Path, text: str) -> None:
    journal = SwitchedOff(tmp_path, lambda: True)
    journal.note(SwitchOff(SessionId("a" * 64), How.DISABLED, datetime.now(UTC), text, text))
    assert "a restart does not begin them again" in journal.problem
    journal.close()
    again = SwitchedOff(tmp_path, lambda: True)
    (entry,) = again.waiting
    assert entry.how is How.DISABLED and text.startswith(entry.who)
    again.close()


@pytest.mark.parametrize("damage", [b"x", b"\0" * 300, b"zzzzzzzz ["])
def test_a_record_that_was_not_written_whole_is_left_out(tmp_path: Path, damage: bytes) -> None:
    journal = SwitchedOff(tmp_path, lambda: True)
    journal.note(SwitchOff(SessionId("a"), How.DELETED, NOW, "tester"))
    journal.note(SwitchOff(SessionId("b"), How.STOPPED, NOW, "cloudtap", "é" * 500))
    journal.close()
    file = tmp_path / "switched-off"
    content = bytearray(file.read_bytes())
    content[20 : 20 + len(damage)] = damage
    file.write_bytes(content)
    again = SwitchedOff(tmp_path, lambda: True)
    assert SessionId("a") not in [entry.session for entry in again.waiting]
    again.close()


def test_without_a_journal_it_is_off_and_the_danger_is_said(tmp_path: Path) -> None:
    (tmp_path / "switched-off").symlink_to(tmp_path / "elsewhere")
    journal = SwitchedOff(tmp_path, lambda: True)
    journal.note(SwitchOff(SessionId("a"), How.DELETED, NOW, "tester"))
    assert journal.find(SessionId("a")) is not None
    assert "1 of them would begin again" in journal.problem
    assert not (tmp_path / "elsewhere").exists()

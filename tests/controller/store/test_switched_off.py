"""Switching off always works, and is recorded as soon as the database can be written."""

from __future__ import annotations

import dataclasses
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.store import Limits, NameTaken, NotFound, SessionRecord, Store, StoreError
from controller.store.sessions import SessionRepository
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
def test_a_record_that_is_not_whole_is_left_out_and_noticed(tmp_path: Path, damage: bytes) -> None:
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
    assert again.is_damaged and SessionId("a") in again.doubtful([SessionId("a"), SessionId("c")])
    again.close()


def test_without_a_journal_it_is_off_and_the_danger_is_said(tmp_path: Path) -> None:
    journal = SwitchedOff(tmp_path / "gone", lambda: True)
    journal.note(SwitchOff(SessionId("a"), How.DELETED, NOW, "tester"))
    assert journal.find(SessionId("a")) is not None
    assert "1 of them would begin again" in journal.problem


OTHER = another(id=SessionId("s-other"), name="other")
THIRD = another(id=SessionId("s-third"), name="third")


def flip(content: bytearray, at: bytes) -> bytearray:
    content[content.index(at)] ^= 1
    return content


Damage = Callable[[bytearray], bytes | bytearray]
DAMAGES: list[tuple[str, Damage, set[str]]] = [
    ("the number of a checksum", lambda c: flip(c, c[:1]), {"web"}),
    ("a word of a record", lambda c: flip(c, b"deleted"), {"web"}),
    ("the id of the session", lambda c: flip(c, WEB.id.encode()), {"web", "third"}),
    ("emptied", lambda c: b"", {"web", "third"}),
    ("cut off", lambda c: c[:1000], {"third"}),
    ("something added", lambda c: c + b"x", {"third"}),
]


@pytest.mark.parametrize(
    ("damage", "stopped"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES]
)
def test_what_a_damaged_journal_may_have_held_makes_no_copies(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Damage,
    stopped: set[str],
) -> None:
    """``stopped``: the sessions that are not known to be off, and must not be on."""
    store.sessions.add(OTHER, "tester")
    store.sessions.add(THIRD, "tester")
    block(store)
    store.sessions.delete(WEB.id, "alice")
    store.sessions.change(OTHER.id, disabled, "bob")
    store._database._directory.unlock()
    file = tmp_path / "state" / "switched-off"
    content = bytes(damage(bytearray(file.read_bytes())))
    file.write_bytes(content)
    block(store, False)

    monkeypatch.setattr(SessionRepository, "settle", cannot_be_written)
    again = Store(tmp_path / "state")  # the database cannot be written yet
    assert enabled(again) == {"web", "other", "third"} - stopped - {"web", "other"}
    assert "switched-off is damaged" in again.damage
    assert file.read_bytes() == content
    again._database._directory.unlock()
    monkeypatch.undo()

    third = Store(tmp_path / "state")
    assert {r.session.name for r in third.sessions.all() if r.stopped} == stopped | (
        {"other"} if not content else set()
    )
    assert enabled(third) == {"web", "other", "third"} - stopped - {"web", "other"}
    assert "cloudtap session enable NAME" in third.damage and not third.unrecorded
    assert file.with_name("switched-off.damaged").read_bytes() == content
    assert file.read_bytes() == bytes(RECORDS * 256)
    third.close()

    fourth = Store(tmp_path / "state")
    assert fourth.damage, "said until the operator removes what was kept"
    back = dataclasses.replace(THIRD, enabled=True)
    fourth.sessions.change(
        THIRD.id, lambda r: dataclasses.replace(r, session=back, stopped=None), "carol"
    )
    file.with_name("switched-off.damaged").unlink()
    assert not fourth.damage
    fourth.close()
    fifth = Store(tmp_path / "state")
    assert not fifth.damage and "third" in enabled(fifth)
    fifth.close()


def cannot_be_written(_: SessionRepository) -> None:
    raise StoreError("the disk is full")


def enabled(store: Store) -> set[str]:
    desired = store.desired()
    return {
        session.name
        for key, session in desired.session_by_id.items()
        if session.enabled and key not in desired.stopped
    }


def test_a_damaged_journal_is_still_used_while_the_database_cannot_be_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.sessions.add(OTHER, "tester")
    monkeypatch.setattr(SessionRepository, "settle", cannot_be_written)
    store.sessions.delete(WEB.id, "alice")
    store._database._directory.unlock()
    file = tmp_path / "state" / "switched-off"
    file.write_bytes(flip(bytearray(file.read_bytes()), b"deleted"))
    again = Store(tmp_path / "state")
    again.sessions.change(OTHER.id, disabled, "bob")
    assert "a restart does not begin them again" in again.unrecorded
    again._database._directory.unlock()
    third = Store(tmp_path / "state")
    assert enabled(third) == set()
    monkeypatch.undo()
    third.retry()
    assert not third.unrecorded and "is damaged" not in third.damage
    third.close()


@pytest.mark.parametrize("name", ["switched-off", "inventory-in-force.yaml"])
@pytest.mark.parametrize("kind", ["fifo", "link", "dangling", "directory"])
def test_what_is_no_file_in_the_place_of_one_is_refused(
    tmp_path: Path, name: str, kind: str
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    file = state / name
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "directory":
        file.mkdir()
    else:
        target = tmp_path / "elsewhere"
        if kind == "link":
            target.write_bytes(bytes(RECORDS * 256))
        file.symlink_to(target)
    with pytest.raises(StoreError, match=f"{name} is not a regular file"):
        Store(state)
    assert file.is_symlink() or kind not in ("link", "dangling")


def test_the_journal_is_never_seen_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    journal = SwitchedOff(tmp_path, lambda: True)
    assert not list(tmp_path.iterdir()) and not journal.is_damaged
    monkeypatch.undo()
    journal.note(SwitchOff(SessionId("a"), How.DELETED, NOW, "tester"))
    assert "a restart does not begin them again" in journal.problem
    journal.close()

"""A backup is of one moment and whole; a restore is refused, or complete."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.store import AlreadyRunning, NewerSchema, Store, StoreError, back_up, restore
from flows.model import SessionId
from tests.controller.store.test_store import IDS, WEB, another


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def opened(state: Path) -> Store:
    store = Store(state)
    if not store.collectors.all():
        store.collectors.add(IDS, "tester")
        store.sessions.add(WEB, "tester")
    return store


def names(state: Path) -> list[str]:
    store = Store(state)
    found = [record.session.name for record in store.sessions.all() if not record.is_deleting]
    store.close()
    return found


def test_a_backup_of_a_running_controller_has_all_that_was_confirmed(
    state: Path, tmp_path: Path
) -> None:
    store = opened(state)
    store.sessions.add(another(name="two"), "tester")
    store.sessions.delete(WEB.id, "tester")
    store.sessions.finish_deletions([WEB.id])
    assert back_up(state, tmp_path / "b.db") == 1
    shutil.copy(state / "state.db", tmp_path / "copy.db")
    store.close()
    assert (tmp_path / "b.db").stat().st_mode & 0o777 == 0o600
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.db", "copy.db", "state"]
    restore(state, tmp_path / "b.db")
    assert names(state) == ["two"], "a deleted session is not back"
    if restorable(state, tmp_path / "copy.db"):
        assert names(state) != ["two"], "why copying the file alone is no backup"


def restorable(state: Path, file: Path) -> bool:
    try:
        restore(state, file)
    except StoreError:
        return False
    return True


def test_backups_while_sessions_are_written_are_all_whole(state: Path, tmp_path: Path) -> None:
    store, is_over = opened(state), threading.Event()

    def write() -> None:
        for n in range(200):
            if is_over.is_set():
                return
            store.sessions.add(another(id=SessionId(f"n-{n}"), name=f"n-{n}"), "tester")

    writer = threading.Thread(target=write)
    writer.start()
    counts = [back_up(state, tmp_path / f"{n}.db") for n in range(5)]
    is_over.set()
    writer.join()
    store.close()
    assert counts == sorted(counts)
    for n, count in enumerate(counts):
        assert restore(state, tmp_path / f"{n}.db") == count
        assert len(names(state)) == count


def test_a_restore_is_refused_while_a_controller_runs(state: Path, tmp_path: Path) -> None:
    store = opened(state)
    back_up(state, tmp_path / "b.db")
    with pytest.raises(AlreadyRunning):
        restore(state, tmp_path / "b.db")
    assert [record.session for record in store.sessions.all()] == [WEB]
    store.close()


def refuse_link(old: Path, new: Path) -> None:
    """As on a file system without hard links."""
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("link", [os.link, refuse_link], ids=["links", "no links"])
def test_a_restore_can_be_undone(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: Callable[..., None]
) -> None:
    monkeypatch.setattr(os, "link", link)
    store = opened(state)
    back_up(state, tmp_path / "b.db")
    store.sessions.add(another(name="two"), "tester")
    store.close()
    restore(state, tmp_path / "b.db")
    assert names(state) == ["web"]
    restore(state, state / "state.db.before-restore")
    assert names(state) == ["two", "web"]
    assert (state / "state.db.before-restore").stat().st_mode & 0o777 == 0o600


def test_a_restore_makes_a_damaged_state_good_again(state: Path, tmp_path: Path) -> None:
    opened(state).close()
    back_up(state, tmp_path / "b.db")
    (state / "state.db").write_bytes(b"")
    with pytest.raises(StoreError, match="cloudtap restore FILE"):
        Store(state)
    restore(state, tmp_path / "b.db")
    assert names(state) == ["web"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_restore_that_fails_at_the_last_moment_changes_nothing(
    state: Path, tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(state)
    back_up(state, tmp_path / "b.db")
    store.sessions.add(another(name="two"), "tester")
    crashed = tmp_path / "crashed"
    shutil.copytree(state, crashed)
    store.close()
    assert (crashed / "state.db-wal").exists(), "that is what a crash leaves"
    seen: list[bool] = []

    def fail(*arguments: object) -> None:
        seen.append((crashed / "state.db").exists())
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os if failing == "fsync" else Path, failing, fail)
        with pytest.raises(StoreError, match="cannot be written"):
            restore(crashed, tmp_path / "b.db")
    assert seen and all(seen), "there is a database at every moment"
    assert names(crashed) == ["two", "web"]
    restore(crashed, tmp_path / "b.db")
    assert names(crashed) == ["web"]


def test_a_restore_into_a_new_machine(state: Path, tmp_path: Path) -> None:
    opened(state).close()
    back_up(state, tmp_path / "b.db")
    restore(tmp_path / "new" / "state", tmp_path / "b.db")
    assert names(tmp_path / "new" / "state") == ["web"]


@pytest.mark.parametrize("damage", ["empty", "text", "short", "flipped", "row", "newer", "none"])
def test_a_file_that_is_no_whole_backup_is_refused_and_nothing_is_changed(
    state: Path, tmp_path: Path, damage: str
) -> None:
    opened(state).close()
    file = tmp_path / "b.db"
    back_up(state, file)
    content = file.read_bytes()
    if damage in ("row", "newer"):
        with sqlite3.connect(file) as connection:
            connection.execute(
                "UPDATE schema SET version = 99"
                if damage == "newer"
                else "UPDATE sessions SET direction = 7, enabled = 9"
            )
        connection.close()
    elif damage == "none":
        file.unlink()
    else:
        file.write_bytes(
            {
                "empty": b"",
                "text": b"tenants: []" * 100,
                "short": content[: len(content) // 2],
                "flipped": content[:4096] + b"\xa5" * 20_000 + content[24_096:],
            }[damage]
        )
    before = (state / "state.db").read_bytes()
    error = NewerSchema if damage == "newer" else StoreError
    with pytest.raises(error) as caught:
        restore(state, file)
    assert str(file) in str(caught.value) and str(caught.value).isprintable()
    assert (state / "state.db").read_bytes() == before
    assert names(state) == ["web"]


def test_a_backup_never_overwrites_and_leaves_nothing_half(state: Path, tmp_path: Path) -> None:
    opened(state).close()
    (tmp_path / "b.db").write_text("mine")
    with pytest.raises(StoreError, match="exists: name a new file"):
        back_up(state, tmp_path / "b.db")
    assert (tmp_path / "b.db").read_text() == "mine"
    with pytest.raises(StoreError, match="there is no state database"):
        back_up(tmp_path / "none", tmp_path / "c.db")
    with pytest.raises(StoreError, match="cannot be written"):
        back_up(state, tmp_path / "no" / "folder.db")
    (state / "state.db").write_bytes(b"")
    with pytest.raises(StoreError, match="no state database that can be used"):
        back_up(state, tmp_path / "c.db")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.db", "state"]

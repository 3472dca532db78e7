"""Why writes fail is known until one succeeds, and nothing is lost meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.store import NameTaken, Store, StoreError, database
from flows.model import Collector, CollectorId, PortId, TenantName

IDS = Collector(CollectorId("c-1"), "ids", TenantName("red"), (PortId("red-ids-1"),))
MORE = Collector(CollectorId("c-2"), "more", TenantName("red"), (PortId("red-ids-1"),))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "state")
    opened.collectors.add(IDS, "tester")
    yield opened
    opened.close()


def names(store: Store) -> list[str]:
    return [record.collector.name for record in store.collectors.all()]


def test_a_database_that_becomes_read_only_is_a_problem_until_it_can_be_written(
    store: Store,
) -> None:
    assert store.problem == ""
    with store._database.engine.connect() as connection:  # the pool has this one connection
        connection.exec_driver_sql("PRAGMA query_only=1")
    with pytest.raises(StoreError, match="cannot be written"):
        store.collectors.add(MORE, "tester")
    assert "cannot be written: check the owner and the mount of its folder" in store.problem
    assert names(store) == ["ids"]
    store.try_again()
    assert store.problem == ""
    store.collectors.add(MORE, "tester")
    assert names(store) == ["ids", "more"]


def test_a_file_that_another_program_has_locked_is_a_problem_until_it_is_unlocked(
    store: Store, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "state" / "state.db")
    other.execute("BEGIN IMMEDIATE")
    store.try_again()
    assert "is held by another program" in store.problem
    other.rollback()
    other.close()
    store.collectors.add(MORE, "tester")
    assert store.problem == ""


def test_a_disk_with_less_than_the_needed_space_is_a_problem(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(database, "ROOM_BYTES", 1 << 62)
        with pytest.raises(StoreError, match="the disk is full; make room and try again"):
            store.prove_writable()
        assert "the disk is full" in store.problem
        store.close()
        again = Store(tmp_path / "state")
        assert names(again) == ["ids"], "a controller starts all the same"
        assert "the disk is full" in again.problem
    again.try_again()
    assert again.problem == ""
    again.close()


def test_a_refused_change_is_no_problem_of_the_disk(store: Store) -> None:
    with pytest.raises(NameTaken):
        store.collectors.add(IDS, "tester")
    assert store.problem == ""

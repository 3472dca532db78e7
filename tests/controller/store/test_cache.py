"""The cache of a query is never older than the last committed write, whoever reads meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, update

from controller.store import StoreError, tables
from controller.store.cache import Cached
from controller.store.database import Database


class CountingReader:
    """Reads one number of the database, counts the reads, and runs ``then`` after each."""

    def __init__(self) -> None:
        self.count = 0
        self.then: list[object] = []

    def __call__(self, connection: Connection) -> int:
        self.count += 1
        number: int = connection.execute(select(tables.schema.c.version)).scalar_one()
        for act in self.then:
            assert callable(act)
            act()
        return number


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path)
    yield opened
    opened.close()


def change(cached: Cached[int], number: int) -> None:
    with cached.writing() as connection:
        connection.execute(update(tables.schema).values(version=number))


def test_it_is_read_once_and_again_after_each_write(database: Database) -> None:
    reader = CountingReader()
    cached = Cached(database, reader)
    change(cached, 7)
    assert [cached.get(), cached.get(), cached.get()] == [7, 7, 7]
    assert reader.count == 1
    change(cached, 8)
    assert [cached.get(), cached.get()] == [8, 8]
    assert reader.count == 2


def test_what_was_read_before_a_change_ended_is_not_kept(database: Database) -> None:
    reader = CountingReader()
    cached = Cached(database, reader)
    change(cached, 7)
    with cached.writing() as connection:
        connection.execute(update(tables.schema).values(version=8))
        assert cached.get() == 7, "a write of another thread is seen once it is committed"
    assert cached.get() == 8


def test_a_look_that_a_whole_change_overtakes_is_not_kept(database: Database) -> None:
    reader = CountingReader()
    cached = Cached(database, reader)
    change(cached, 7)

    def overtake() -> None:
        reader.then = []
        change(cached, 8)

    reader.then = [overtake]
    assert cached.get() == 7, "as it was when the read began"
    assert cached.get() == 8


def test_a_look_that_began_inside_a_change_and_ends_after_it_is_not_kept(
    database: Database,
) -> None:
    reader = CountingReader()
    cached = Cached(database, reader)
    change(cached, 7)
    writing = cached.writing()
    connection = writing.__enter__()
    connection.execute(update(tables.schema).values(version=8))

    def finish() -> None:
        reader.then = []
        writing.__exit__(None, None, None)

    reader.then = [finish]
    assert cached.get() == 7
    assert cached.get() == 8


def test_a_write_that_fails_leaves_what_was_there(database: Database) -> None:
    cached = Cached(database, CountingReader())
    change(cached, 7)
    with pytest.raises(StoreError, match="not now"), cached.writing() as connection:
        connection.execute(update(tables.schema).values(version=8))
        raise StoreError("not now")
    assert [cached.get(), cached.get()] == [7, 7]

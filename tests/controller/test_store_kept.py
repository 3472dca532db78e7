"""A part of the database in memory: never older than the last change, whoever reads meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, update

from controller.store import tables
from controller.store.database import Database
from controller.store.errors import StoreError
from controller.store.cache import Kept


class Looks:
    """Reads one number of the database, counts how often, and does something after a look."""

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


def change(kept: Kept[int], number: int) -> None:
    with kept.writing() as connection:
        connection.execute(update(tables.schema).values(version=number))


def test_it_is_read_once_and_again_after_each_change(database: Database) -> None:
    looks = Looks()
    kept = Kept(database, looks)
    change(kept, 7)
    assert [kept.get(), kept.get(), kept.get()] == [7, 7, 7]
    assert looks.count == 1
    change(kept, 8)
    assert [kept.get(), kept.get()] == [8, 8]
    assert looks.count == 2


def test_what_was_read_before_a_change_ended_is_not_kept(database: Database) -> None:
    looks = Looks()
    kept = Kept(database, looks)
    change(kept, 7)
    with kept.writing() as connection:
        connection.execute(update(tables.schema).values(version=8))
        assert kept.get() == 7, "another one's change is seen when it is done"
    assert kept.get() == 8


def test_a_look_that_a_whole_change_overtakes_is_not_kept(database: Database) -> None:
    looks = Looks()
    kept = Kept(database, looks)
    change(kept, 7)

    def overtake() -> None:
        looks.then = []
        change(kept, 8)

    looks.then = [overtake]
    assert kept.get() == 7, "as it was when the look began"
    assert kept.get() == 8


def test_a_look_that_began_inside_a_change_and_ends_after_it_is_not_kept(
    database: Database,
) -> None:
    looks = Looks()
    kept = Kept(database, looks)
    change(kept, 7)
    writing = kept.writing()
    connection = writing.__enter__()
    connection.execute(update(tables.schema).values(version=8))

    def finish() -> None:
        looks.then = []
        writing.__exit__(None, None, None)

    looks.then = [finish]
    assert kept.get() == 7
    assert kept.get() == 8


def test_a_change_that_fails_leaves_what_was_there(database: Database) -> None:
    kept = Kept(database, Looks())
    change(kept, 7)
    with pytest.raises(StoreError, match="not now"), kept.writing() as connection:
        connection.execute(update(tables.schema).values(version=8))
        raise StoreError("not now")
    assert [kept.get(), kept.get()] == [7, 7]

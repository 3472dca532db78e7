"""Numbers are allocated once, stay the same, and are reused only after their release."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.store import StoreError
from controller.store.database import Database
from controller.store.numbers import NumberRepository
from flows.model import METERS, Names

KEYS = st.lists(st.sampled_from("abcdefgh"), max_size=6)
ALL_KINDS = ("network", "port", "session", "tag", "collector", "meter")
KINDS = st.sampled_from(ALL_KINDS)
STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "release", "restart"]), KINDS, KEYS), max_size=20
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path)
    yield database
    database.close()


def names_of(kind: str, keys: list[str]) -> Names:
    return Names(**{kind: keys})  # type: ignore[arg-type]


def book_of(numbers: NumberRepository, kind: str) -> dict[str, int]:
    return dict(getattr(numbers.all(), kind))


@given(STEPS)
@settings(deadline=None, max_examples=40)
def test_a_number_never_changes_and_is_never_shared(
    steps: list[tuple[str, str, list[str]]],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        database = Database(Path(directory))
        numbers = NumberRepository(database)
        expected: dict[str, dict[str, int]] = {kind: {} for kind in ALL_KINDS}
        for what, kind, keys in steps:
            held = expected[kind]
            if what == "ask":
                first = METERS.start if kind == "meter" else 1
                free = sorted(set(range(first, first + 100)) - set(held.values()))
                fresh = [key for key in dict.fromkeys(keys) if key not in held]
                given_now = dict(getattr(numbers.numbers_for(names_of(kind, keys)), kind))
                assert given_now.keys() == set(keys)
                if kind != "session":
                    assert [given_now[key] for key in fresh] == free[: len(fresh)]
                assert all(given_now[key] == held[key] for key in keys if key in held)
                held |= given_now
            elif what == "release":
                numbers.release(names_of(kind, keys))
                for key in keys:
                    held.pop(key, None)
            else:
                numbers = NumberRepository(database)
            for each in expected:
                assert book_of(numbers, each) == expected[each]
                assert len(set(expected[each].values())) == len(expected[each])
        database.close()


def test_the_smallest_free_number_of_a_port_is_given_again(database: Database) -> None:
    numbers = NumberRepository(database)
    numbers.numbers_for(names_of("port", ["a", "b", "c"]))
    numbers.release(names_of("port", ["a"]))

    assert numbers.numbers_for(names_of("port", ["d", "e"])).port == {"d": 1, "e": 4}


def test_the_number_of_a_session_comes_back_as_late_as_possible(database: Database) -> None:
    numbers = NumberRepository(database, highest={"session": 4})
    numbers.numbers_for(names_of("session", ["a", "b"]))
    numbers.release(names_of("session", ["a", "b"]))
    numbers = NumberRepository(database, highest={"session": 4})

    assert numbers.numbers_for(names_of("session", ["c", "d"])).session == {"c": 3, "d": 4}
    assert numbers.numbers_for(names_of("session", ["e"])).session == {"e": 1}
    numbers.release(names_of("session", ["c", "e"]))
    assert numbers.numbers_for(names_of("session", ["f", "g"])).session == {"f": 2, "g": 3}


def test_when_link_tags_run_out_the_last_ones_have_none(database: Database) -> None:
    numbers = NumberRepository(database, highest={"tag": 2})

    assert numbers.numbers_for(names_of("tag", ["a", "b", "c"])).tag == {"a": 1, "b": 2}
    numbers.release(names_of("tag", ["a"]))
    assert numbers.numbers_for(names_of("tag", ["b", "c"])).tag == {"b": 2, "c": 1}


def test_when_meters_run_out_the_last_sessions_have_none(database: Database) -> None:
    numbers = NumberRepository(database, highest={"meter": METERS.start + 1})
    two = {"a": METERS.start, "b": METERS.start + 1}

    assert numbers.numbers_for(names_of("meter", ["a", "b", "c"])).meter == two
    numbers.release(names_of("meter", ["a"]))
    assert numbers.numbers_for(names_of("meter", ["b", "c"])).meter == {
        "b": two["b"],
        "c": two["a"],
    }


def test_when_other_numbers_run_out_it_is_told_and_none_is_given(database: Database) -> None:
    numbers = NumberRepository(database, highest={"port": 2})

    with pytest.raises(StoreError, match="all 2 port numbers are in use"):
        numbers.numbers_for(names_of("port", ["a", "b", "c"]))
    assert numbers.all().port == {}
    assert numbers.numbers_for(names_of("port", ["a", "b"])).port == {"a": 1, "b": 2}

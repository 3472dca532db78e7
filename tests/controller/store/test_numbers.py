"""Numbers are allocated once, stay the same, and are reused only after their release."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from controller.store import StoreError, tables
from controller.store.database import Database
from controller.store.numbers import NumberRepository
from flows.model import KINDS_OF_TENANTS, METERS, Names, NetworkId, Numbers, PortId, TenantName

KEYS = st.lists(st.sampled_from("abcdefgh"), max_size=6)
ALL_KINDS = ("network", "port", "session", "tag", "collector", "meter")
RED, BLUE = TenantName("red"), TenantName("blue")
KINDS = st.sampled_from(ALL_KINDS)
STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "release", "restart"]), KINDS, KEYS), max_size=20
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path)
    yield database
    database.close()


def names_of(kind: str, keys: list[str], tenant: TenantName = RED) -> Names:
    names = dict.fromkeys(keys, tenant) if kind in KINDS_OF_TENANTS else keys
    return Names(**{kind: names})  # type: ignore[arg-type]


def book_of(numbers: NumberRepository, kind: str) -> dict[str, int]:
    book = dict(getattr(numbers.all(), kind))
    return {key.removeprefix("red/"): number for key, number in book.items()}


def release(numbers: NumberRepository, kind: str, keys: list[str]) -> None:
    """Free the numbers of some names, and no others."""
    of = numbers.all()
    gone = {f"red/{key}" if kind in KINDS_OF_TENANTS else key for key in keys}
    left = {key: number for key, number in getattr(of, kind).items() if key not in gone}
    numbers.release_all_but(replace(of, **{kind: left}))


@given(STEPS)
@settings(deadline=None, max_examples=40)
def test_a_number_never_changes_and_is_never_shared(
    steps: list[tuple[str, str, list[str]]],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        database = Database(Path(directory))
        numbers = NumberRepository(database)
        expected: dict[str, dict[str, int]] = {kind: {} for kind in ALL_KINDS}
        last = {"session": 0, "tag": 0}
        for what, kind, keys in steps:
            held = expected[kind]
            if what == "ask":
                first = METERS.start if kind == "meter" else 1
                free = sorted(set(range(first, first + 100)) - set(held.values()))
                fresh = [key for key in dict.fromkeys(keys) if key not in held]
                given_now = dict(getattr(numbers.numbers_for(names_of(kind, keys)), kind))
                assert given_now.keys() == set(keys)
                if kind in last:  # given again as late as possible
                    free = [last[kind] + n for n in range(1, len(fresh) + 1)]
                    last[kind] += len(fresh)
                assert [given_now[key] for key in fresh] == free[: len(fresh)]
                assert all(given_now[key] == held[key] for key in keys if key in held)
                held |= given_now
            elif what == "release":
                release(numbers, kind, keys)
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
    release(numbers, "port", ["a"])

    assert numbers.numbers_for(names_of("port", ["d", "e"])).port == {"d": 1, "e": 4}


def test_the_number_of_a_session_comes_back_as_late_as_possible(database: Database) -> None:
    numbers = NumberRepository(database, highest={"session": 4})
    numbers.numbers_for(names_of("session", ["a", "b"]))
    release(numbers, "session", ["a", "b"])
    numbers = NumberRepository(database, highest={"session": 4})

    assert numbers.numbers_for(names_of("session", ["c", "d"])).session == {"c": 3, "d": 4}
    assert numbers.numbers_for(names_of("session", ["e"])).session == {"e": 1}
    release(numbers, "session", ["c", "e"])
    assert numbers.numbers_for(names_of("session", ["f", "g"])).session == {"f": 2, "g": 3}


def test_a_link_tag_comes_back_as_late_as_possible_also_after_a_restart(
    database: Database,
) -> None:
    numbers = NumberRepository(database, highest={"tag": 4})
    numbers.numbers_for(names_of("tag", ["a", "b"]))
    release(numbers, "tag", ["a", "b"])
    numbers = NumberRepository(database, highest={"tag": 4})
    assert numbers.numbers_for(names_of("tag", ["c", "d"])).tag == {"c": 3, "d": 4}
    assert numbers.numbers_for(names_of("tag", ["e"])).tag == {"e": 1}


def test_when_link_tags_run_out_the_last_ones_have_none(database: Database) -> None:
    numbers = NumberRepository(database, highest={"tag": 2})

    assert numbers.numbers_for(names_of("tag", ["a", "b", "c"])).tag == {"a": 1, "b": 2}
    release(numbers, "tag", ["a"])
    assert numbers.numbers_for(names_of("tag", ["b", "c"])).tag == {"b": 2, "c": 1}


def test_when_meters_run_out_the_last_sessions_have_none(database: Database) -> None:
    numbers = NumberRepository(database, highest={"meter": METERS.start + 1})
    two = {"a": METERS.start, "b": METERS.start + 1}

    assert numbers.numbers_for(names_of("meter", ["a", "b", "c"])).meter == two
    release(numbers, "meter", ["a"])
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


@pytest.mark.parametrize("kind", KINDS_OF_TENANTS)
def test_what_goes_to_another_tenant_gets_a_number_that_nobody_has_had(
    database: Database, kind: str
) -> None:
    """Until its release the old one stays taken, over restarts too: bridges may use it."""
    numbers = NumberRepository(database)
    before = getattr(numbers.numbers_for(names_of(kind, ["a", "b"])), kind)
    numbers = NumberRepository(database)
    for key in ("a", "c"):
        given_now = getattr(numbers.numbers_for(names_of(kind, [key], BLUE)), kind)
        assert given_now.keys() == {key} and given_now[key] not in before.values()
    assert getattr(numbers.numbers_for(names_of(kind, ["a", "b"])), kind) == before, "back at once"

    numbers.release_all_but(numbers.numbers_for(names_of(kind, ["a", "c"], BLUE)))
    assert before["a"] not in getattr(numbers.all(), kind).values()
    free = 5 if kind == "tag" else before["a"]  # a tag is given again as late as possible
    assert getattr(numbers.numbers_for(names_of(kind, ["new"], BLUE)), kind) == {"new": free}


OLD = {"network": {"lan": 5}, "port": {"web": 6}, "tag": {"network:lan": 7, "tap:ids": 8}}
"""Numbers as they were kept without tenants."""


def declared(tenant: TenantName) -> Names:
    return Names(
        network={NetworkId("lan"): tenant}, port={PortId("web"): tenant},
        tag={"network:lan": tenant, "tap:ids": tenant},
    )  # fmt: skip


@pytest.fixture
def old(database: Database) -> Database:
    rows = [
        {"kind": kind, "key": key, "number": number}
        for kind, book in OLD.items()
        for key, number in book.items()
    ]
    with database.writing() as connection:
        connection.execute(insert(tables.numbers), rows)
    return database


@pytest.mark.parametrize("is_told", [False, True])
def test_numbers_without_a_tenant_stay_with_what_has_them(old: Database, is_told: bool) -> None:
    numbers = NumberRepository(old)
    assert numbers.lacks_tenants
    if is_told:
        numbers.give_tenants(declared(RED))
        assert not numbers.lacks_tenants
    without_links = replace(declared(RED), tag={})
    assert numbers.numbers_for(without_links).network == OLD["network"]
    assert numbers.numbers_for(declared(RED)) == Numbers(**OLD)  # type: ignore[arg-type]
    again = NumberRepository(old)
    assert not again.lacks_tenants
    assert again.numbers_for(declared(RED)) == Numbers(**OLD)  # type: ignore[arg-type]


@pytest.mark.parametrize("was", [declared(RED), Names()])
def test_numbers_without_a_tenant_are_not_given_to_another_one(old: Database, was: Names) -> None:
    """The inventory has changed while the older version did not run any more."""
    numbers = NumberRepository(old)
    numbers.give_tenants(was)
    for _ in range(2):
        blue = numbers.numbers_for(declared(BLUE))
        numbers = NumberRepository(old)
        for kind, book in OLD.items():
            given_now = getattr(blue, kind)
            assert given_now.keys() == book.keys()
            assert not set(given_now.values()) & set(book.values())
    numbers.release_all_but(blue)
    left = numbers.all()
    assert {kind: getattr(left, kind).keys() for kind in OLD} == {
        kind: {f"blue/{key}" for key in book} for kind, book in OLD.items()
    }

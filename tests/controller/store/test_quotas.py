"""No tenant uses up what all share, whatever it makes and deletes while a bridge is away."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.process import ChangeSignal
from controller.reconcile import SnapshotBuilder
from controller.store import Store
from flows.errors import NoMeterLeft, Refused, TooManyNumbers
from flows.model import (
    Attachment,
    Collector,
    CollectorId,
    Dpid,
    Filter,
    FilterId,
    Link,
    Ofport,
    Placement,
    PortId,
    Rate,
    RateUnit,
    Session,
    SessionId,
    Source,
    SourceKind,
    TenantName,
    transport_key,
)
from tests.controller.fakes import TWO_TENANTS, open_store

RED, BLUE = TenantName("red"), TenantName("blue")
TAPS = {RED: PortId("red-ids-1"), BLUE: PortId("blue-ids-1")}
LINK = Link(Placement(Dpid(1), Ofport(9)), Placement(Dpid(2), Ofport(9)))
MANY = 30
PART = MANY // 6
"""What is left for each of two tenants, and for one that is not known."""
KINDS = ("session", "meter", "filter", "collector", "tag")
RATE = Rate(RateUnit.KBPS, 1000)


@dataclass
class Places:
    """Nothing is anywhere, and bridges are linked."""

    placements: dict[PortId, Placement] = field(default_factory=dict)
    links: tuple[Link, ...] = (LINK,)
    contests: dict[PortId, tuple[Placement, ...]] = field(default_factory=dict)
    attachments: dict[Dpid, Attachment] = field(default_factory=dict)


class Cloud:
    """A store with few numbers of each kind, of which none is released: a bridge is away."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._serial = directory, count(1)
        self._open()
        self.base = {tenant: self._collector(tenant) for tenant in TAPS}
        for collector in self.base.values():
            self.store.collectors.add(collector, "tester")
        self.look()

    def _open(self) -> None:
        self.store = open_store(self._directory)
        for kind, numbers in self.store._numbers._ranges.items():
            if kind in KINDS:
                self.store._numbers._ranges[kind] = range(numbers.start, numbers.start + MANY)
        places = Places()
        self.world = SnapshotBuilder(
            self.store, lambda: TWO_TENANTS, lambda: places, changes=ChangeSignal()
        )
        self.world.snapshot()

    def restarted(self) -> Cloud:
        """The same cloud with its next controller."""
        self.store.close()
        self._open()
        return self

    def look(self) -> None:
        """Have everything numbered that needs it: this fails for all, or for none."""
        self.world.changes.changed()
        self.world.snapshot()

    def _collector(self, tenant: TenantName) -> Collector:
        number = next(self._serial)
        return Collector(CollectorId(f"c-{number}"), f"c-{number}", tenant, (TAPS[tenant],))

    def make(self, kind: str, tenant: TenantName, tag: int = 0) -> str | None:
        """Make one thing that needs a number of a kind; its id, or None if it got none."""
        number, store = next(self._serial), self.store
        try:
            if kind in ("session", "meter"):
                session = Session(
                    SessionId(f"s-{number}"), f"s-{number}", tenant,
                    Source(kind=SourceKind.TENANT), self.base[tenant].id,
                    max_rate=RATE if kind == "meter" else None,
                )  # fmt: skip
                store.sessions.add(session, "tester")
                self.look()
                refused = self.world.snapshot().resolved.sessions[session.id].refused
                assert refused is None or isinstance(refused, NoMeterLeft)
                return session.id if refused is None else None
            if kind == "filter":
                rules = Filter(FilterId(f"f-{number}"), f"f-{number}", tenant)
                store.filters.add(rules, "tester")
                self.look()
                return rules.id
            collector = self._collector(tenant)
            if kind == "collector":
                pool = (TAPS[tenant], PortId("another"))
                store.collectors.add(replace(collector, sensors=pool), "tester")
                self.look()
                return collector.id
            store.collectors.add(replace(collector, tenant_tag=tag), "tester")
            self.look()
            key = transport_key(TAPS[tenant], tag)
            return collector.id if key in self.world.snapshot().numbers.tag else None
        except TooManyNumbers:
            return None

    def drop(self, kind: str, key: str) -> None:
        """Delete what was made; its number stays given."""
        if kind in ("session", "meter"):
            self.store.sessions.delete(SessionId(key), "tester")
            self.store.sessions.finish_deletions([SessionId(key)])
        elif kind == "filter":
            self.store.filters.delete(key, "tester")
        else:
            self.store.collectors.delete(key, "tester")
        self.look()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path)
    yield cloud
    cloud.store.close()


STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.booleans(), st.integers(1, MANY)), min_size=1, max_size=6
)


@given(STEPS)
@settings(deadline=None, max_examples=10)
def test_whatever_one_tenant_makes_and_deletes_another_one_gets_what_it_needs(
    steps: list[tuple[str, bool, int]],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        cloud = Cloud(Path(directory))
        for kind, is_deleted, times in steps:
            for number in range(times):
                made = cloud.make(kind, RED, tag=1 + number)
                if made is None:
                    break
                if is_deleted:
                    cloud.drop(kind, made)
        for kind in KINDS:  # two of each are within its part, with what these need besides
            for number in range(2):
                assert cloud.make(kind, BLUE, tag=100 + number) is not None, (kind, number)
        cloud.store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_tenant_that_makes_and_deletes_in_a_loop_is_refused_before_another_one_is(
    cloud: Cloud, kind: str
) -> None:
    made = 0
    for number in range(MANY):
        if number == PART:  # whose numbers are is known after a restart, too
            cloud = cloud.restarted()
        key = cloud.make(kind, RED, tag=1 + number)
        if key is None:
            break
        made += 1
        cloud.drop(kind, key)
    assert PART <= made < MANY
    for number in range(2 if kind == "tag" else PART - 1):  # its network and ports have tags
        assert cloud.make(kind, BLUE, tag=100 + number) is not None


def test_who_has_too_many_is_told_how_many_and_gets_more_once_bridges_were_told(
    cloud: Cloud,
) -> None:
    with pytest.raises(Refused, match=r"'red' may have no filter more.*it has \d+, those incl"):
        for number in range(MANY):
            rules = Filter(FilterId(f"x-{number}"), f"x-{number}", RED)
            cloud.store.filters.add(rules, "tester")
            cloud.look()
            if number % 2:
                cloud.drop("filter", rules.id)
    version = cloud.world.changes.changed()
    cloud.world.snapshot()
    cloud.world.release_numbers(version)
    assert cloud.make("filter", RED) is not None


def test_production_has_link_tags_although_copies_of_other_tenants_have_many(cloud: Cloud) -> None:
    while cloud.make("tag", RED, tag=next(cloud._serial)) is not None:
        pass
    new = tuple(replace(TWO_TENANTS.networks[1], id=f"blue-{n}", name=f"n{n}") for n in range(PART))
    more = replace(TWO_TENANTS, networks=(*TWO_TENANTS.networks, *new))
    places = Places()
    world = SnapshotBuilder(cloud.store, lambda: more, lambda: places, changes=ChangeSignal())
    tags = world.snapshot().numbers.tag
    assert {f"network:{network.id}" for network in new} <= tags.keys()


def test_numbers_of_an_earlier_schema_belong_to_the_tenant_of_what_had_them(
    cloud: Cloud, tmp_path: Path
) -> None:
    stays, goes = cloud.make("meter", RED), cloud.make("filter", BLUE)
    assert stays is not None and goes is not None
    cloud.drop("filter", goes)
    cloud.store.close()
    with sqlite3.connect(tmp_path / "state" / "state.db") as connection:
        connection.execute("ALTER TABLE numbers DROP COLUMN tenant")
        connection.execute("UPDATE schema SET version = 10")
    connection.close()
    Store(tmp_path / "state").close()
    with sqlite3.connect(tmp_path / "state" / "state.db") as connection:
        rows = set(connection.execute("SELECT kind, key, tenant FROM numbers"))
    connection.close()
    assert {("session", stays, "red"), ("meter", stays, "red"), ("filter", goes, "blue")} <= rows
    assert {tenant for kind, _, tenant in rows if kind in ("network", "port", "tag")} == {""}

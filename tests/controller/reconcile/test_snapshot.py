"""The snapshot of the world: what tenants want, with a number for everything that needs one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

import pytest
from netaddr import IPAddress

from controller.process import ChangeSignal
from controller.reconcile import SnapshotBuilder
from controller.store import Limits, Store
from flows.errors import KeyHeld, NoMeterLeft
from flows.model import (
    ALL,
    METERS,
    Attachment,
    Collector,
    CollectorId,
    Delivery,
    Direction,
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
    TagMode,
    TenantName,
    tag_keys,
    transport_key,
)
from tests.controller.fakes import TWO_TENANTS, open_store

RED, BLUE = TenantName("red"), TenantName("blue")
IDS = Collector(CollectorId("c-1"), "ids", RED, (PortId("red-ids-1"),))
HTTP = Filter(FilterId("f-1"), "http", RED)
WEB = Session(SessionId("s-1"), "web", RED, Source(kind=SourceKind.TENANT), IDS.id, filter=HTTP.id)
FILTERS = (HTTP.id, ALL)
LINK = Link(Placement(Dpid(1), Ofport(9)), Placement(Dpid(2), Ofport(9)))


@dataclass
class Placements:
    """Nothing is anywhere; there may be links."""

    placements: Mapping[PortId, Placement] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    contests: Mapping[PortId, tuple[Placement, ...]] = field(default_factory=dict)
    attachments: Mapping[Dpid, Attachment] = field(default_factory=dict)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path)
    yield store
    store.close()


def world_of(store: Store, links: tuple[Link, ...] = ()) -> SnapshotBuilder:
    places = Placements(links=links)
    return SnapshotBuilder(store, lambda: TWO_TENANTS, lambda: places, changes=ChangeSignal())


def test_filters_are_in_the_world_and_have_numbers_until_they_are_gone(store: Store) -> None:
    store.collectors.add(IDS, "tester")
    store.filters.add(HTTP, "tester")
    world = world_of(store)

    snapshot = world.snapshot()
    assert snapshot.resolved.world.filter_by_id == {HTTP.id: HTTP}
    assert snapshot.numbers.filter == {HTTP.id: 1}
    store.filters.delete(HTTP.id, "tester")
    version = world.changes.changed()
    assert world.snapshot().numbers.filter == {}
    assert store.numbered().filter == {HTTP.id: 1}, "bridges may still use it"
    world.release_numbers(version)
    assert store.numbered().filter == {}


def test_numbers_of_what_goes_to_another_tenant_are_not_used_again_while_bridges_may(
    store: Store,
) -> None:
    inventory = [TWO_TENANTS]
    places = Placements(links=(LINK,))
    world = SnapshotBuilder(store, lambda: inventory[0], lambda: places, changes=ChangeSignal())
    store.collectors.add(dataclasses.replace(IDS, tenant_tag=7), "tester")
    before = world.snapshot().numbers
    tap = IDS.tap_ports[0]
    keys = (transport_key(tap, None), transport_key(tap, 7))

    ports = tuple(
        dataclasses.replace(p, tenant=BLUE, name="more") if p.id == tap else p
        for p in TWO_TENANTS.ports
    )
    inventory[0] = dataclasses.replace(TWO_TENANTS, ports=ports)
    theirs = dataclasses.replace(IDS, id=CollectorId("c-2"), tenant=BLUE, tenant_tag=7)
    store.collectors.add(theirs, "tester")
    version = world.changes.changed()
    after = world.snapshot().numbers
    assert before.tag.keys() == after.tag.keys() >= set(keys)
    assert not {after.tag[key] for key in keys} & set(before.tag.values())
    assert after.port[tap] not in before.port.values()
    for kind in ("network", "port", "tag"):
        old, new = getattr(before, kind), getattr(after, kind)
        assert {key for key in old if old[key] != new[key]} <= {tap, *keys}
    held = set(store.numbered().tag.values())
    assert held == {*before.tag.values(), *after.tag.values()}, "bridges may still use them"
    world.release_numbers(version)
    assert set(store.numbered().tag.values()) == set(after.tag.values())
    assert world.snapshot().numbers == after


def test_tunnel_keys_are_held_until_bridges_have_a_world_without_them(store: Store) -> None:
    """A change that is stored and not reported yet is in no world: nothing of it is released."""
    far = Collector(
        CollectorId("c-2"), "far", RED, (IPAddress("192.0.2.9"),), delivery=Delivery.VXLAN, key=7
    )
    theirs = dataclasses.replace(far, id=CollectorId("c-3"), tenant=BLUE)
    store.collectors.add(far, "tester")
    world = world_of(store)
    version = world.changes.changed()
    world.snapshot()
    store.collectors.delete(far.id, "tester")
    world.release_numbers(version)
    with pytest.raises(KeyHeld):
        store.collectors.add(theirs, "tester")

    newer = world.changes.changed()
    world.snapshot()
    world.release_numbers(version)
    with pytest.raises(KeyHeld):
        store.collectors.add(theirs, "tester")
    world.release_numbers(newer)
    store.collectors.add(theirs, "tester")


BASE = tag_keys(TWO_TENANTS.networks, TWO_TENANTS.ports)


@pytest.mark.parametrize(
    ("tag", "links", "keys"),
    [
        (TagMode.NONE, (), []),
        (7, (), []),
        (TagMode.AUTO, (), [*BASE]),
        (TagMode.NONE, (LINK,), [*BASE]),
        (7, (LINK,), [*BASE, transport_key(IDS.tap_ports[0], 7)]),
    ],
)
def test_tags_are_given_where_copies_or_links_need_them(
    store: Store, tag: TagMode | int, links: tuple[Link, ...], keys: list[str]
) -> None:
    store.collectors.add(dataclasses.replace(IDS, tenant_tag=tag), "tester")

    assert list(world_of(store, links).snapshot().numbers.tag) == keys


def test_a_stopped_session_is_switched_off_and_says_why(store: Store) -> None:
    store.collectors.add(IDS, "tester")
    store.filters.add(HTTP, "tester")
    store.sessions.add(WEB, "tester", limits=Limits(max_packets=5))
    world = world_of(store)
    assert world.snapshot().limits == {WEB.id: Limits(max_packets=5)}

    store.limits.stop(WEB.id, "enough", Limits(max_packets=5))
    world.changes.changed()
    snapshot = world.snapshot()
    assert snapshot.stopped == {WEB.id: "enough"} and snapshot.limits == {}
    assert [s.enabled for s in snapshot.resolved.world.sessions] == [False]


def change_something(rng: Random, store: Store, names: Iterator[int]) -> None:
    """One change of the sessions of the store, any of those there are."""
    records = store.sessions.all()
    live = [record.session for record in records if not record.is_deleting]
    action = rng.choice(("add", "add", "change", "delete", "finish", "stop"))
    if action == "add" or not live:
        name = f"s-{next(names)}"
        new = dataclasses.replace(WEB, id=SessionId(name), name=name, filter=rng.choice(FILTERS))
        store.sessions.add(new, "tester", limits=rng.choice((None, Limits(max_packets=9))))
    elif action == "change":
        other = {
            "enabled": rng.random() < 0.5,
            "direction": rng.choice(tuple(Direction)),
            "max_rate": rng.choice((None, Rate(RateUnit.PPS, 9))),
        }
        wanted = rng.choice(live).id
        store.sessions.change(
            wanted, lambda r: dataclasses.replace(r, session=_with(r.session, other)), "tester"
        )
    elif action == "delete":
        store.sessions.delete(rng.choice(live).id, "tester")
    elif action == "finish":
        store.sessions.finish_deletions(
            record.session.id for record in records if record.is_deleting
        )
    else:
        store.limits.stop(rng.choice(live).id, "enough", Limits(max_packets=9))


def _with(session: Session, other: dict) -> Session:
    return dataclasses.replace(session, **other)


@pytest.mark.parametrize("seed", range(5))
def test_a_world_that_follows_changes_is_the_one_that_is_made_anew(store: Store, seed: int) -> None:
    rng, names = Random(seed), count(1)
    store.collectors.add(IDS, "tester")
    store.filters.add(HTTP, "tester")
    followed = world_of(store)
    for _ in range(40):
        for _ in range(rng.randrange(3)):
            change_something(rng, store, names)
        version = followed.changes.changed()
        seen, anew = followed.snapshot(), world_of(store).snapshot()

        assert set(seen.resolved.world.sessions) == set(anew.resolved.world.sessions)
        assert dict(seen.resolved.sessions) == dict(anew.resolved.sessions)
        assert seen.numbers == anew.numbers
        assert (set(seen.deleting), seen.stopped, seen.limits) == (
            set(anew.deleting), anew.stopped, anew.limits,
        )  # fmt: skip
        if rng.random() < 0.3:
            followed.release_numbers(version)


def capped(name: str, pps: int | None = 100) -> Session:
    rate = None if pps is None else Rate(RateUnit.PPS, pps)
    return dataclasses.replace(WEB, id=SessionId(name), name=name, filter=ALL, max_rate=rate)


def test_capped_sessions_have_meters_until_they_are_gone_from_everywhere(store: Store) -> None:
    store.collectors.add(IDS, "tester")
    store.sessions.add(capped("a", None), "tester")
    world = world_of(store)
    assert world.snapshot().numbers.meter == {}

    store.sessions.add(capped("b"), "tester")
    world.changes.changed()
    assert world.snapshot().numbers.meter == {"b": METERS.start}
    store.sessions.change(
        SessionId("a"), lambda r: dataclasses.replace(r, session=capped("a")), "tester"
    )
    store.sessions.change(
        SessionId("b"), lambda r: dataclasses.replace(r, session=capped("b", None)), "tester"
    )
    world.changes.changed()
    both = {"a": METERS.start + 1, "b": METERS.start}
    assert world.snapshot().numbers.meter == both, "what it has shed is told as long as it exists"
    assert world_of(store).snapshot().numbers.meter == both

    store.sessions.delete(SessionId("b"), "tester")
    world.changes.changed()
    assert world.snapshot().numbers.meter == both, "bridges may still have the meter of b"
    store.sessions.finish_deletions([SessionId("b")])
    version = world.changes.changed()
    assert world.snapshot().numbers.meter == {"a": METERS.start + 1}
    world.release_numbers(version)
    assert store.numbered().meter == {"a": METERS.start + 1}


def test_a_capped_session_without_a_meter_copies_nothing_and_says_so(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(store._numbers._ranges, "meter", range(METERS.start, METERS.start + 1))
    store.collectors.add(IDS, "tester")
    store.sessions.add(capped("a"), "tester")
    store.sessions.add(capped("b"), "tester")
    world = world_of(store)

    refused = world.snapshot().resolved.sessions[SessionId("b")].refused
    assert isinstance(refused, NoMeterLeft)
    assert str(refused).startswith("session 'b' cannot be capped, so nothing is copied")
    store.sessions.delete(SessionId("a"), "tester")
    store.sessions.finish_deletions([SessionId("a")])
    version = world.changes.changed()
    world.snapshot()
    world.release_numbers(version)
    world.changes.changed()
    resolved_session = world.snapshot().resolved.sessions[SessionId("b")]
    assert resolved_session.refused is None
    assert world.snapshot().numbers.meter == {"b": METERS.start}


def test_pools_have_numbers_and_single_sensors_need_none(store: Store) -> None:
    store.collectors.add(IDS, "tester")
    world = world_of(store)
    assert world.snapshot().numbers.collector == {}

    pool = dataclasses.replace(IDS, sensors=(*IDS.sensors, PortId("red-ids-2")))
    store.collectors.change(IDS.id, lambda r: dataclasses.replace(r, collector=pool), "tester")
    world.changes.changed()
    assert world.snapshot().numbers.collector == {IDS.id: 1}
    store.collectors.change(IDS.id, lambda r: dataclasses.replace(r, collector=IDS), "tester")
    version = world.changes.changed()
    assert world.snapshot().numbers.collector == {}
    assert store.numbered().collector == {IDS.id: 1}
    world.release_numbers(version)
    assert store.numbered().collector == {}


def test_what_the_operator_allows_is_in_the_world(store: Store) -> None:
    rate = Rate(RateUnit.KBPS, 5)
    world = SnapshotBuilder(
        store,
        lambda: TWO_TENANTS,
        Placements,
        changes=ChangeSignal(),
        underlay_mtu=9000,
        bridge_rate=rate,
        link_mtu=8000,
    )

    assert world.snapshot().resolved.world.underlay_mtu == 9000
    assert world.snapshot().resolved.world.bridge_rate == rate
    assert world.snapshot().resolved.world.link_mtu == 8000
    store.collectors.add(IDS, "tester")
    world.changes.changed()
    assert world.snapshot().resolved.world.underlay_mtu == 9000

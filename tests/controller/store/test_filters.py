"""Filters, sources, tags and limits in the store, and the migration of older databases."""

from __future__ import annotations

import dataclasses
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.store import FilterRecord, InUse, Limits, NameTaken, NotFound, Store, filters
from controller.store.filters import FLOWS_IN_PLACE
from controller.syntax import flow_count, read_rules, show_rules
from flows.model import (
    ALL,
    EDITIONS,
    Collector,
    CollectorId,
    Dpid,
    Filter,
    FilterId,
    Names,
    NetworkId,
    Numbers,
    PortId,
    Rule,
    Session,
    SessionId,
    Source,
    SourceKind,
    TagMode,
    TenantName,
)
from flows.openflow import PacketCount

RED = TenantName("red")
IDS = Collector(CollectorId("c-1"), "ids", RED, (PortId("t"),), TagMode.AUTO)
WEB = Session(SessionId("s-1"), "web", RED, Source((PortId("a"),)), CollectorId("c-1"))
HTTP = Filter(
    FilterId("f-1"),
    "http",
    RED,
    ingress=read_rules(
        "ingress",
        [{"number": 1, "action": "accept", "match": {"protocol": "tcp", "source_port": "80"}}],
    ),
)

SCHEMA_2 = """
CREATE TABLE schema (version INTEGER NOT NULL);
INSERT INTO schema VALUES (2);
CREATE TABLE collectors (id VARCHAR PRIMARY KEY, tenant VARCHAR NOT NULL, name VARCHAR NOT NULL,
  sensor VARCHAR NOT NULL, created_at VARCHAR NOT NULL, UNIQUE (tenant, name));
CREATE TABLE sessions (id VARCHAR PRIMARY KEY, tenant VARCHAR NOT NULL, name VARCHAR NOT NULL,
  direction VARCHAR NOT NULL, number INTEGER NOT NULL, enabled BOOLEAN NOT NULL,
  collector VARCHAR NOT NULL REFERENCES collectors (id), created_at VARCHAR NOT NULL,
  deleting BOOLEAN NOT NULL);
CREATE UNIQUE INDEX session_names ON sessions (tenant, name) WHERE NOT deleting;
CREATE TABLE session_sources (session VARCHAR NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  position INTEGER NOT NULL, port VARCHAR NOT NULL, PRIMARY KEY (session, position));
CREATE TABLE numbers (kind VARCHAR, key VARCHAR, number INTEGER NOT NULL, PRIMARY KEY (kind, key),
  UNIQUE (kind, number));
CREATE TABLE last_numbers (kind VARCHAR PRIMARY KEY, number INTEGER NOT NULL);
CREATE TABLE bridges (dpid VARCHAR PRIMARY KEY, name VARCHAR NOT NULL);
CREATE TABLE placements (bridge VARCHAR REFERENCES bridges (dpid) ON DELETE CASCADE,
  interface VARCHAR, iface_id VARCHAR, ofport INTEGER NOT NULL, PRIMARY KEY (bridge, interface));
CREATE TABLE holdings (bridge VARCHAR, session INTEGER, PRIMARY KEY (bridge, session));
CREATE TABLE audit (number INTEGER PRIMARY KEY AUTOINCREMENT, at VARCHAR NOT NULL,
  who VARCHAR NOT NULL, what VARCHAR NOT NULL, kind VARCHAR NOT NULL, id VARCHAR NOT NULL,
  name VARCHAR NOT NULL, tenant VARCHAR NOT NULL, detail VARCHAR NOT NULL);
CREATE TABLE once (key VARCHAR PRIMARY KEY, digest VARCHAR NOT NULL, object_id VARCHAR NOT NULL,
  answer VARCHAR, at VARCHAR NOT NULL);
INSERT INTO collectors VALUES ('c-1', 'red', 'ids', 't', '2026-01-01T00:00:00+00:00');
INSERT INTO sessions VALUES ('s-1', 'red', 'web', 'both', 100, 1, 'c-1',
  '2026-01-01T00:00:00+00:00', 0);
INSERT INTO session_sources VALUES ('s-1', 0, 'a');
INSERT INTO bridges VALUES ('0000000000000001', 's1');
INSERT INTO numbers VALUES ('session', 's-1', 7);
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "state")
    store.collectors.add(IDS, "tester")
    yield store
    store.close()


def reopened(store: Store, tmp_path: Path) -> Store:
    store.close()
    return Store(tmp_path / "state")


def changed(**changes: object) -> Callable[[FilterRecord], FilterRecord]:
    """A change of these fields of a filter."""
    return lambda record: dataclasses.replace(
        record,
        filter=dataclasses.replace(record.filter, **changes),  # type: ignore[arg-type]
    )


def test_a_filter_is_there_after_a_restart_with_its_number(store: Store, tmp_path: Path) -> None:
    store.filters.add(HTTP, "tester")
    store.sessions.add(dataclasses.replace(WEB, filter=HTTP.id), "tester")
    numbers = store.numbers_for(Names(filter=[HTTP.id]))
    again = reopened(store, tmp_path)

    assert again.desired().filters == (HTTP,)
    assert again.desired().sessions[0].filter == HTTP.id
    assert again.numbers_for(Names(filter=[HTTP.id])).filter == numbers.filter == {"f-1": 1}
    again.release_all_but(Numbers())
    assert again.numbered().filter == {}
    again.close()


def test_a_filter_is_changed_in_place_and_parsed_again(store: Store) -> None:
    store.filters.add(HTTP, "tester")
    assert store.desired().filters == (HTTP,)
    assert store.desired().filters[0] is store.desired().filters[0], "it is not parsed again"
    new = store.filters.change(HTTP.id, changed(egress=HTTP.ingress, name="web"), "tester").filter

    assert store.desired().filters == (new,) and new.name == "web"
    assert store.audit.entries()[0].detail == {"ingress_rules": 1, "egress_rules": 1, "name": "web"}
    with pytest.raises(NotFound, match="there is no filter 'f-9'"):
        store.filters.change(FilterId("f-9"), changed(), "tester")


def test_rules_that_were_written_are_not_parsed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of rules take seconds, and every other tenant reads all filters."""

    def refuse(*arguments: object) -> tuple[Rule, ...]:
        raise AssertionError("rules are parsed")

    rules = numbered(range(1, 50))
    with monkeypatch.context() as patch:
        patch.setattr(filters, "read_rules", refuse)
        store.filters.add(HTTP, "tester")
        assert store.desired().filters == (HTTP,)
        new = store.filters.change(HTTP.id, changed(egress=rules), "tester").filter
        with pytest.raises(NameTaken):
            store.filters.change(HTTP.id, changed(name=ALL, ingress=rules), "tester")
        assert store.desired().filters == (new,)
        last = store.filters.change(HTTP.id, changed(ingress=()), "tester").filter
        assert store.desired().filters == (last,) and last.egress == rules
    again = reopened(store, tmp_path)
    assert again.desired().filters == (last,)
    again.close()


def test_nobody_waits_while_rules_are_written_as_text(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def write_beside(rules: tuple[Rule, ...]) -> list[dict[str, object]]:
        name = f"ids{len(written)}"
        other = dataclasses.replace(IDS, id=CollectorId(name), name=name)
        writing = threading.Thread(target=lambda: store.collectors.add(other, "other"), daemon=True)
        writing.start()
        writing.join(20.0)
        assert not writing.is_alive(), "another change waits"
        written.append(name)
        return show_rules(rules)

    monkeypatch.setattr(filters, "show_rules", write_beside)
    store.filters.add(HTTP, "tester")
    store.filters.change(HTTP.id, changed(egress=HTTP.ingress), "tester")

    assert len(written) == 4, "of each direction, once"


def test_rules_that_stay_are_the_same_objects(store: Store) -> None:
    """So nothing has to compare thousands of them, without a pause, to see that."""
    store.filters.add(dataclasses.replace(HTTP, egress=numbered(range(1, 50))), "tester")
    before = store.desired().filters[0]
    after = store.filters.change(HTTP.id, changed(egress=numbered([*range(1, 49), 80])), "t").filter

    assert after.egress == numbered([*range(1, 49), 80])
    assert [a is b for a, b in zip(before.egress, after.egress, strict=True)] == 48 * [True] + [
        False
    ]


def numbered(ports: Iterable[int]) -> tuple[Rule, ...]:
    """A rule for each port."""
    return read_rules(
        "egress",
        [
            {
                "number": n,
                "action": "accept",
                "match": {"protocol": "tcp", "source_port": str(port)},
            }
            for n, port in enumerate(ports, 1)
        ],
    )


def test_many_other_rules_make_another_edition_and_few_do_not(store: Store, tmp_path: Path) -> None:
    """Few rules change where they are: then the others are left alone."""
    many = range(1, FLOWS_IN_PLACE)  # a rule has two flows
    store.filters.add(dataclasses.replace(HTTP, egress=numbered(many)), "tester")

    def change(**changes: object) -> int:
        return store.filters.change(HTTP.id, changed(**changes), "tester").filter.edition

    assert change(name="same") == 0
    assert change(egress=numbered(many[:-10])) == 0
    assert change(egress=numbered(many[:10])) == 1, "many have gone"
    assert change(egress=numbered(many[:20])) == 1
    assert change(egress=numbered(many)) == 2, "many have come"
    assert change(ingress=numbered(many), edition=0) == 3, "only the store decides"
    wide = [{"number": 1, "action": "accept", "match": {"protocol": "tcp",
             "source_port": "1-65534", "destination_port": "1-510"}}]  # fmt: skip
    assert flow_count(read_rules("ingress", wide)[0].match) > FLOWS_IN_PLACE // 2
    assert change(egress=read_rules("egress", wide)) == 4
    assert change(ingress=numbered(reversed(many))) == 5, "many are other ones"
    again = reopened(store, tmp_path)
    assert again.desired().filters[0].edition == 5
    for count in range(EDITIONS):
        rules = numbered(reversed(many) if count % 2 else many)
        edition = again.filters.change(HTTP.id, changed(ingress=rules), "tester").filter.edition
        assert edition == (6 + count) % EDITIONS
    again.close()


def test_a_filter_in_use_cannot_be_deleted_and_the_error_names_its_sessions(store: Store) -> None:
    store.filters.add(HTTP, "tester")
    store.sessions.add(dataclasses.replace(WEB, filter=HTTP.id), "tester")
    with pytest.raises(InUse, match="filter 'http' is used by session 'web'"):
        store.filters.delete(HTTP.id, "tester")
    store.sessions.delete(WEB.id, "tester")
    with pytest.raises(InUse):
        store.filters.delete(HTTP.id, "tester")
    store.sessions.finish_deletions([WEB.id])
    store.filters.delete(HTTP.id, "tester")

    assert store.filters.all() == ()
    with pytest.raises(NotFound):
        store.filters.delete(HTTP.id, "tester")


def test_a_filter_name_is_unique_in_a_tenant_and_all_is_reserved(
    store: Store,
) -> None:
    store.filters.add(HTTP, "tester")
    for name in ("http", ALL):
        with pytest.raises(NameTaken):
            store.filters.add(dataclasses.replace(HTTP, id=FilterId("f-2"), name=name), "tester")
    other = dataclasses.replace(HTTP, id=FilterId("f-2"), name="dns")
    store.filters.add(other, "tester")
    with pytest.raises(NameTaken):
        store.filters.change(other.id, changed(name="http"), "tester")
    store.filters.add(
        dataclasses.replace(HTTP, id=FilterId("f-3"), tenant=TenantName("blue")), "tester"
    )


def test_a_session_needs_its_filter(store: Store) -> None:
    with pytest.raises(NotFound, match="there is no filter 'f-9'"):
        store.sessions.add(dataclasses.replace(WEB, filter=FilterId("f-9")), "tester")


@pytest.mark.parametrize(
    "source",
    [
        Source((PortId("b"), PortId("a"))),
        Source(kind=SourceKind.TENANT),
        Source(kind=SourceKind.NETWORK, networks=(NetworkId("n-2"), NetworkId("n-1"))),
        Source(kind=SourceKind.LABEL, labels=(("tier", "web"), ("zone", "a=b"), ("empty", ""))),
    ],
)
def test_every_kind_of_source_and_a_packet_length_survive_a_restart(
    store: Store, tmp_path: Path, source: Source
) -> None:
    session = dataclasses.replace(WEB, source=source, packet_length=128)
    store.sessions.add(session, "tester")
    again = reopened(store, tmp_path)

    assert [record.session for record in again.sessions.all()] == [session]
    again.close()


@pytest.mark.parametrize("tag", [TagMode.NONE, TagMode.AUTO, 7])
def test_the_changed_tag_of_a_collector_survives_a_restart(
    store: Store, tmp_path: Path, tag: TagMode | int
) -> None:
    other = dataclasses.replace(IDS, tenant_tag=tag)
    store.collectors.change(
        IDS.id, lambda record: dataclasses.replace(record, collector=other), "tester"
    )
    again = reopened(store, tmp_path)

    assert [record.collector for record in again.collectors.all()] == [other]
    again.close()


def test_limits_and_the_reason_of_a_stop_survive_a_restart(store: Store, tmp_path: Path) -> None:
    limits = Limits(datetime(2030, 1, 1, tzinfo=UTC) + timedelta(microseconds=5), 7, 900)
    store.sessions.add(WEB, "tester", limits=limits)
    assert store.desired().limits == {WEB.id: limits}
    store.limits.stop(WEB.id, "too early", Limits())
    assert store.desired().stopped == {}, "it has other limits now"
    store.limits.stop(WEB.id, "enough", limits)
    store.limits.stop(WEB.id, "again", limits)
    store.limits.keep_counts(
        {(WEB.id, Dpid(1 << 63), "shed"): (PacketCount(1, 2), PacketCount(3, 4))}
    )
    again = reopened(store, tmp_path)

    [record] = again.sessions.all()
    assert (record.limits, record.stopped, record.session.enabled) == (limits, "enough", True)
    assert again.limits.counts() == {
        (WEB.id, 1 << 63, "shed"): (PacketCount(1, 2), PacketCount(3, 4))
    }
    desired = again.desired()
    assert desired.stopped == {WEB.id: "enough"} and desired.limits == {}
    assert [session.enabled for session in desired.sessions] == [False]
    assert [e.what for e in again.audit.entries()] == ["stopped", "created", "created"]
    again.sessions.delete(WEB.id, "tester")
    again.sessions.finish_deletions([WEB.id])
    assert again.limits.counts() == {}
    again.limits.keep_counts({(WEB.id, Dpid(1), "wanted"): (PacketCount(), PacketCount())})
    assert again.limits.counts() == {}, "counters of a removed session are not stored"
    again.close()


def test_sums_that_no_integer_of_the_database_holds_are_stored_as_its_highest(
    store: Store, tmp_path: Path
) -> None:
    huge, most = PacketCount(2**63, 2**70), PacketCount(2**63 - 1, 2**63 - 1)
    store.sessions.add(WEB, "tester", limits=Limits(None, 7, None, counted_from=huge))
    one, two = (WEB.id, Dpid(1), "made"), (WEB.id, Dpid(2), "made")
    store.limits.keep_counts({one: (huge, huge), two: (PacketCount(1, 2), PacketCount(3, 4))})
    again = reopened(store, tmp_path)

    assert again.limits.counts() == {
        one: (most, most),
        two: (PacketCount(1, 2), PacketCount(3, 4)),
    }
    [record] = again.sessions.all()
    assert record.limits.counted_from == most
    again.close()


def test_a_database_of_an_older_cloudtap_is_migrated(tmp_path: Path) -> None:
    for version in (2, 1):
        directory = tmp_path / str(version)
        directory.mkdir(mode=0o700)
        with sqlite3.connect(directory / "state.db") as connection:
            connection.executescript(SCHEMA_2)
            if version == 1:
                connection.executescript("DROP TABLE holdings; UPDATE schema SET version = 1")
        connection.close()
        store = Store(directory)

        assert store.desired().sessions == (WEB,)
        assert store.desired().collectors == (dataclasses.replace(IDS, tenant_tag=TagMode.NONE),)
        assert store.installed_sessions.holders(7) == ({1} if version == 1 else set())
        store.filters.add(HTTP, "tester")
        store.close()
        Store(directory).close()


def test_copies_that_an_earlier_version_has_counted_go_on_as_copies_made(store: Store) -> None:
    """It stored what a session wanted; what was skipped or shed of it was never made."""
    store.sessions.add(WEB, "tester")
    old = {
        (WEB.id, Dpid(1), "wanted"): (PacketCount(60, 6000), PacketCount(40, 4000)),
        (WEB.id, Dpid(1), "skipped"): (PacketCount(), PacketCount(7, 700)),
        (WEB.id, Dpid(1), "shed"): (PacketCount(1, 100), PacketCount(2, 200)),
    }
    store.limits.keep_counts(old)

    seen = dict(store.limits.counts())

    assert seen.pop((WEB.id, Dpid(1), "flows")) == (PacketCount(90, 9000), PacketCount())
    assert set(seen) == {(WEB.id, Dpid(1), measure) for measure in ("skipped", "shed")}
    later = {(WEB.id, Dpid(1), "flows"): (PacketCount(90, 9000), PacketCount(5, 500))}
    store.limits.keep_counts(later)
    assert store.limits.counts()[WEB.id, Dpid(1), "flows"] == later[WEB.id, Dpid(1), "flows"]

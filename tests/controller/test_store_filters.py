"""Filters, sources, tags and limits in the store, and databases of older versions."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.syntax.filters import read_rules
from controller.store import Counted, InUse, Limits, NameTaken, NotFound, Store
from flows.model.filter import Filter
from flows.model.session import (
    ALL,
    Collector,
    CollectorId,
    Dpid,
    FilterId,
    NetworkId,
    PortId,
    Session,
    SessionId,
    Source,
    SourceKind,
    TagMode,
    TenantName,
)

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
    store.add_collector(IDS, "tester")
    yield store
    store.close()


def reopened(store: Store, tmp_path: Path) -> Store:
    store.close()
    return Store(tmp_path / "state")


def test_a_filter_is_there_after_a_restart_with_its_number(store: Store, tmp_path: Path) -> None:
    store.filters.add(HTTP, "tester")
    store.add_session(dataclasses.replace(WEB, filter=HTTP.id), "tester")
    numbers = store.numbers_for([], [], [], [], [HTTP.id])
    again = reopened(store, tmp_path)

    assert again.desired().filters == (HTTP,)
    assert again.desired().sessions[0].filter == HTTP.id
    assert again.numbers_for([], [], [], [], [HTTP.id]).filter == numbers.filter == {"f-1": 1}
    again.release(filters=[HTTP.id])
    assert again.numbered().filter == {}
    again.close()


def test_a_filter_is_changed_in_place_and_read_again(store: Store) -> None:
    store.filters.add(HTTP, "tester")
    assert store.desired().filters == (HTTP,)
    assert store.desired().filters[0] is store.desired().filters[0], "it is not read again"
    new = store.filters.change(
        HTTP.id, lambda f: dataclasses.replace(f, egress=f.ingress, name="web"), "tester"
    )

    assert store.desired().filters == (new,) and new.name == "web"
    assert store.audit()[0].detail == {"ingress_rules": 1, "egress_rules": 1, "name": "web"}
    with pytest.raises(NotFound, match="there is no filter 'f-9'"):
        store.filters.change(FilterId("f-9"), lambda f: f, "tester")


def test_a_filter_in_use_cannot_be_deleted_and_names_who_uses_it(store: Store) -> None:
    store.filters.add(HTTP, "tester")
    store.add_session(dataclasses.replace(WEB, filter=HTTP.id), "tester")
    with pytest.raises(InUse, match="filter 'http' is used by session 'web'"):
        store.filters.delete(HTTP.id, "tester")
    store.delete_session(WEB.id, "tester")
    with pytest.raises(InUse):
        store.filters.delete(HTTP.id, "tester")
    store.finish_deletions([WEB.id])
    store.filters.delete(HTTP.id, "tester")

    assert store.filters.all() == ()
    with pytest.raises(NotFound):
        store.filters.delete(HTTP.id, "tester")


def test_a_name_of_a_filter_is_taken_once_and_all_is_taken_by_the_built_in_one(
    store: Store,
) -> None:
    store.filters.add(HTTP, "tester")
    for name in ("http", ALL):
        with pytest.raises(NameTaken):
            store.filters.add(dataclasses.replace(HTTP, id=FilterId("f-2"), name=name), "tester")
    other = dataclasses.replace(HTTP, id=FilterId("f-2"), name="dns")
    store.filters.add(other, "tester")
    with pytest.raises(NameTaken):
        store.filters.change(other.id, lambda f: dataclasses.replace(f, name="http"), "tester")
    store.filters.add(
        dataclasses.replace(HTTP, id=FilterId("f-3"), tenant=TenantName("blue")), "tester"
    )


def test_a_session_needs_its_filter(store: Store) -> None:
    with pytest.raises(NotFound, match="there is no filter 'f-9'"):
        store.add_session(dataclasses.replace(WEB, filter=FilterId("f-9")), "tester")


@pytest.mark.parametrize(
    "source",
    [
        Source((PortId("b"), PortId("a"))),
        Source(kind=SourceKind.TENANT),
        Source(kind=SourceKind.NETWORK, networks=(NetworkId("n-2"), NetworkId("n-1"))),
        Source(kind=SourceKind.LABEL, labels=(("tier", "web"), ("zone", "a=b"), ("empty", ""))),
    ],
)
def test_every_kind_of_source_and_length_is_kept(
    store: Store, tmp_path: Path, source: Source
) -> None:
    session = dataclasses.replace(WEB, source=source, packet_length=128)
    store.add_session(session, "tester")
    again = reopened(store, tmp_path)

    assert [record.session for record in again.sessions()] == [session]
    again.close()


@pytest.mark.parametrize("tag", [TagMode.NONE, TagMode.AUTO, 7])
def test_the_tag_of_a_collector_is_kept_and_changed(
    store: Store, tmp_path: Path, tag: TagMode | int
) -> None:
    other = dataclasses.replace(IDS, tenant_tag=tag)
    store.change_collector(
        IDS.id, lambda record: dataclasses.replace(record, collector=other), "tester"
    )
    again = reopened(store, tmp_path)

    assert [record.collector for record in again.collectors()] == [other]
    again.close()


def test_limits_and_the_reason_of_a_stop_survive_a_restart(store: Store, tmp_path: Path) -> None:
    limits = Limits(datetime(2030, 1, 1, tzinfo=UTC) + timedelta(microseconds=5), 7, 900)
    store.add_session(WEB, "tester", limits=limits)
    assert store.desired().limits == {WEB.id: limits}
    store.limits.stop(WEB.id, "too early", Limits())
    assert store.desired().stopped == {}, "it has other limits now"
    store.limits.stop(WEB.id, "enough", limits)
    store.limits.stop(WEB.id, "again", limits)
    store.limits.keep_counts({(WEB.id, Dpid(1 << 63), "shed"): (Counted(1, 2), Counted(3, 4))})
    again = reopened(store, tmp_path)

    [record] = again.sessions()
    assert (record.limits, record.stopped, record.session.enabled) == (limits, "enough", True)
    assert again.limits.counts() == {(WEB.id, 1 << 63, "shed"): (Counted(1, 2), Counted(3, 4))}
    desired = again.desired()
    assert desired.stopped == {WEB.id: "enough"} and desired.limits == {}
    assert [session.enabled for session in desired.sessions] == [False]
    assert [e.what for e in again.audit()] == ["stopped", "created", "created"]
    again.delete_session(WEB.id, "tester")
    again.finish_deletions([WEB.id])
    assert again.limits.counts() == {}
    again.limits.keep_counts({(WEB.id, Dpid(1), "wanted"): (Counted(), Counted())})
    assert again.limits.counts() == {}, "what is gone is not counted any more"
    again.close()


def test_a_database_of_an_older_cloudtap_is_brought_up_to_date(tmp_path: Path) -> None:
    for version in (2, 1):
        directory = tmp_path / str(version)
        directory.mkdir()
        with sqlite3.connect(directory / "state.db") as connection:
            connection.executescript(SCHEMA_2)
            if version == 1:
                connection.executescript("DROP TABLE holdings; UPDATE schema SET version = 1")
        connection.close()
        store = Store(directory)

        assert store.desired().sessions == (WEB,)
        assert store.desired().collectors == (dataclasses.replace(IDS, tenant_tag=TagMode.NONE),)
        assert store.holdings.holders(7) == ({1} if version == 1 else set())
        store.filters.add(HTTP, "tester")
        store.close()
        Store(directory).close()

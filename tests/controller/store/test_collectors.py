"""Tunnels, pools and rate caps in the store, and the migration of databases without them."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from netaddr import IPAddress

from controller.store import CollectorRecord, IdempotencyKey, Repeated, Store
from flows.errors import InvalidValue, KeyHeld, KeyTaken, NoKeyLeft, Refused
from flows.model import (
    Balance,
    Collector,
    CollectorId,
    Delivery,
    KeyUse,
    Names,
    NetworkId,
    Oversize,
    PortId,
    Rate,
    RateUnit,
    Session,
    SessionId,
    Source,
    TagMode,
    TenantName,
    free_key,
)

RED, BLUE = TenantName("red"), TenantName("blue")
FAR, SIX = IPAddress("192.0.2.9"), IPAddress("2001:db8::9")
IDS = Collector(CollectorId("c-1"), "ids", RED, (PortId("t"),), TagMode.AUTO)
POOL = dataclasses.replace(IDS, sensors=(PortId("t2"), PortId("t1")), balance=Balance.HOSTS)
SOC = Collector(
    CollectorId("c-2"), "soc", RED, (SIX, FAR), 7, Delivery.GRE, (1 << 32) - 1, path_mtu=1400
)
WEB = Session(SessionId("s-1"), "web", RED, Source((PortId("a"),)), IDS.id)

SCHEMA_3 = """
CREATE TABLE schema (version INTEGER NOT NULL);
INSERT INTO schema VALUES (3);
CREATE TABLE collectors (id VARCHAR NOT NULL, tenant VARCHAR NOT NULL, name VARCHAR NOT NULL,
  sensor VARCHAR NOT NULL, created_at VARCHAR NOT NULL, tenant_tag VARCHAR, PRIMARY KEY (id),
  UNIQUE (tenant, name));
CREATE TABLE filters (id VARCHAR NOT NULL, tenant VARCHAR NOT NULL, name VARCHAR NOT NULL,
  created_at VARCHAR NOT NULL, revision INTEGER NOT NULL, rules VARCHAR NOT NULL, PRIMARY KEY (id),
  UNIQUE (tenant, name));
CREATE TABLE numbers (kind VARCHAR NOT NULL, "key" VARCHAR NOT NULL, number INTEGER NOT NULL,
  PRIMARY KEY (kind, "key"), UNIQUE (kind, number));
CREATE TABLE last_numbers (kind VARCHAR NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (kind));
CREATE TABLE bridges (dpid VARCHAR NOT NULL, name VARCHAR NOT NULL, PRIMARY KEY (dpid));
CREATE TABLE holdings (bridge VARCHAR NOT NULL, session INTEGER NOT NULL,
  PRIMARY KEY (bridge, session));
CREATE TABLE audit (number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, at VARCHAR NOT NULL,
  who VARCHAR NOT NULL, what VARCHAR NOT NULL, kind VARCHAR NOT NULL, id VARCHAR NOT NULL,
  name VARCHAR NOT NULL, tenant VARCHAR NOT NULL, detail VARCHAR NOT NULL);
CREATE TABLE once ("key" VARCHAR NOT NULL, digest VARCHAR NOT NULL, object_id VARCHAR NOT NULL,
  answer VARCHAR, at VARCHAR NOT NULL, PRIMARY KEY ("key"));
CREATE TABLE sessions (id VARCHAR NOT NULL, tenant VARCHAR NOT NULL, name VARCHAR NOT NULL,
  direction VARCHAR NOT NULL, number INTEGER NOT NULL, enabled BOOLEAN NOT NULL,
  collector VARCHAR NOT NULL, created_at VARCHAR NOT NULL, deleting BOOLEAN NOT NULL,
  source_kind VARCHAR DEFAULT 'port' NOT NULL, filter VARCHAR, packet_length INTEGER,
  expires_at VARCHAR, max_packets INTEGER, max_bytes INTEGER,
  from_packets INTEGER DEFAULT '0' NOT NULL, from_bytes INTEGER DEFAULT '0' NOT NULL,
  stopped VARCHAR, PRIMARY KEY (id), FOREIGN KEY(collector) REFERENCES collectors (id),
  FOREIGN KEY(filter) REFERENCES filters (id));
CREATE UNIQUE INDEX session_names ON sessions (tenant, name) WHERE NOT deleting;
CREATE INDEX ix_sessions_collector ON sessions (collector);
CREATE INDEX ix_sessions_filter ON sessions (filter);
CREATE TABLE placements (bridge VARCHAR NOT NULL, interface VARCHAR NOT NULL, iface_id VARCHAR,
  ofport INTEGER NOT NULL, PRIMARY KEY (bridge, interface),
  FOREIGN KEY(bridge) REFERENCES bridges (dpid) ON DELETE CASCADE);
CREATE TABLE session_sources (session VARCHAR NOT NULL, position INTEGER NOT NULL,
  item VARCHAR NOT NULL, value VARCHAR, PRIMARY KEY (session, position),
  FOREIGN KEY(session) REFERENCES sessions (id) ON DELETE CASCADE);
CREATE TABLE counts (session VARCHAR NOT NULL, bridge VARCHAR NOT NULL,
  before_packets INTEGER NOT NULL, before_bytes INTEGER NOT NULL, last_packets INTEGER NOT NULL,
  last_bytes INTEGER NOT NULL, PRIMARY KEY (session, bridge),
  FOREIGN KEY(session) REFERENCES sessions (id) ON DELETE CASCADE);
INSERT INTO collectors VALUES ('c-1', 'red', 'ids', 't', '2030-01-01T00:00:00+00:00', 'auto');
INSERT INTO sessions (id, tenant, name, direction, number, enabled, collector, created_at, deleting)
  VALUES ('s-1', 'red', 'web', 'both', 100, 1, 'c-1', '2030-01-01T00:00:00+00:00', 0);
INSERT INTO session_sources VALUES ('s-1', 0, 'a', NULL);
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "state")
    yield store
    store.close()


def reopened(store: Store, tmp_path: Path) -> Store:
    """The same database, as the next controller finds it."""
    store.close()
    return Store(tmp_path / "state")


def collectors(store: Store) -> list[Collector]:
    return [record.collector for record in store.collectors.all()]


def becomes(collector: Collector, record: CollectorRecord) -> CollectorRecord:
    return dataclasses.replace(record, collector=collector)


@pytest.mark.parametrize("collector", [IDS, POOL, SOC])
def test_a_collector_survives_a_restart(store: Store, tmp_path: Path, collector: Collector) -> None:
    store.collectors.add(collector, "tester", probes={collector.sensors[-1]: "tcp://192.0.2.1:1"})
    again = reopened(store, tmp_path)

    assert collectors(again) == [collector]
    [record] = again.collectors.all()
    assert record.probes == {collector.sensors[-1]: "tcp://192.0.2.1:1"}
    assert again.desired().probes == {(collector.id, collector.sensors[-1]): "tcp://192.0.2.1:1"}
    again.close()


def test_sensors_of_a_changed_collector_are_the_new_ones_in_their_order(
    store: Store, tmp_path: Path
) -> None:
    store.collectors.add(POOL, "tester", probes={PortId("t1"): "tcp://192.0.2.1:1"})
    new = dataclasses.replace(POOL, sensors=(PortId("t1"), PortId("t3"), PortId("t0")))

    changed = store.collectors.change(POOL.id, lambda record: becomes(new, record), "tester")
    assert changed.collector == new
    again = reopened(store, tmp_path)
    assert collectors(again) == [new]
    assert again.audit.entries()[0].detail == {"sensors": ["t1", "t3", "t0"]}
    again.collectors.delete(POOL.id, "tester")
    assert collectors(again) == []
    again.close()


def test_a_change_that_is_refused_changes_nothing(store: Store) -> None:
    store.collectors.add(POOL, "tester")

    with pytest.raises(InvalidValue):
        store.collectors.change(
            POOL.id, lambda r: becomes(dataclasses.replace(POOL, sensors=()), r), "tester"
        )
    assert collectors(store) == [POOL]


def test_a_tunnel_key_that_another_tenant_uses_is_refused_inside_the_transaction(
    store: Store,
) -> None:
    store.collectors.add(SOC, "tester")
    theirs = dataclasses.replace(SOC, id=CollectorId("c-3"), tenant=BLUE, sensors=(FAR,))
    with pytest.raises(KeyTaken, match=r"192\.0\.2\.9 with key 4294967295: another tenant does"):
        store.collectors.add(theirs, "tester")

    elsewhere = dataclasses.replace(theirs, sensors=(IPAddress("192.0.2.10"),))
    store.collectors.add(elsewhere, "tester")
    with pytest.raises(KeyTaken):
        store.collectors.change(theirs.id, lambda record: becomes(theirs, record), "tester")
    assert collectors(store) == [elsewhere, SOC]


THEIRS = dataclasses.replace(SOC, id=CollectorId("c-3"), tenant=BLUE, sensors=(FAR,))
ELSEWHERE = IPAddress("192.0.2.10")


def give_up(store: Store, how: str) -> None:
    """Have SOC not send to FAR any more."""
    if how == "deletion":
        store.collectors.delete(SOC.id, "tester")
        return
    changes = {
        "address": {"sensors": (SIX, ELSEWHERE)},
        "key": {"key": 5},
        "delivery": {"delivery": Delivery.GENEVE, "key": 5},
    }
    new = dataclasses.replace(SOC, **changes[how])
    store.collectors.change(SOC.id, lambda record: becomes(new, record), "tester")


@pytest.mark.parametrize("how", ["deletion", "address", "key", "delivery"])
def test_a_key_that_is_given_up_is_held_for_its_tenant_until_bridges_were_told(
    store: Store, tmp_path: Path, how: str
) -> None:
    store.collectors.add(SOC, "tester")
    before = store.desired().last_held
    give_up(store, how)
    after = store.desired().last_held
    store.release_keys(before)
    store = reopened(store, tmp_path)
    with pytest.raises(KeyHeld, match=r"192\.0\.2\.9 with key 4294967295 yet: another tenant did"):
        store.collectors.add(THEIRS, "tester")
    other = dataclasses.replace(THEIRS, sensors=(IPAddress("192.0.2.11"),))
    store.collectors.add(other, "tester")
    with pytest.raises(KeyHeld):
        store.collectors.change(other.id, lambda record: becomes(THEIRS, record), "tester")
    own = dataclasses.replace(SOC, id=CollectorId("c-4"), name="again")
    store.collectors.add(dataclasses.replace(own, sensors=(FAR,)), "tester")
    store.collectors.delete(own.id, "tester")

    store.release_keys(after)
    with pytest.raises(KeyHeld):  # it was given up once more
        store.collectors.change(other.id, lambda record: becomes(THEIRS, record), "tester")
    store.release_keys(store.desired().last_held)
    store.collectors.change(other.id, lambda record: becomes(THEIRS, record), "tester")
    store.close()


def test_what_is_given_up_after_a_release_has_a_higher_number_than_before(store: Store) -> None:
    """A release is of a moment: what is held later must not have a number of that time."""
    last = [store.desired().last_held]
    for _ in range(3):
        store.collectors.add(SOC, "tester")
        store.collectors.delete(SOC.id, "tester")
        last.append(store.desired().last_held)
        store.release_keys(last[-1])
    assert last == sorted(set(last)) and store.desired().last_held == 0


def give_up_many(store: Store, tmp_path: Path, keys: range) -> Store:
    """Have red hold these ERSPAN session ids at FAR: each took two transactions."""
    store.close()
    rows = [("red", "erspan2", key, str(FAR)) for key in keys]
    insert = "INSERT INTO held_keys (tenant, delivery, key, address) VALUES (?, ?, ?, ?)"
    with sqlite3.connect(tmp_path / "state" / "state.db") as connection:
        connection.executemany(insert, rows)
    connection.close()
    return Store(tmp_path / "state")


def test_a_tenant_that_takes_and_gives_up_keys_while_a_bridge_is_away_leaves_others_some(
    store: Store, tmp_path: Path
) -> None:
    """Nothing is released meanwhile: no desired state was confirmed by every bridge."""
    store.numbers_for(Names(network={NetworkId("lan"): RED, NetworkId("net"): BLUE}))
    store = give_up_many(store, tmp_path, range(1, 650))
    ours = dataclasses.replace(SOC, delivery=Delivery.ERSPAN2, key=1, sensors=(FAR,))
    taken = 649
    with contextlib.suppress(Refused):
        for key in range(650, 1024):
            store.collectors.add(dataclasses.replace(ours, key=key), "tester")
            store.collectors.delete(ours.id, "tester")
            taken += 1
    assert taken < 1023, "it has taken all"

    def build(others: Sequence[Collector], held: Sequence[KeyUse]) -> Collector:
        key = free_key(Delivery.ERSPAN3, others, BLUE, held, store.tenants)
        return dataclasses.replace(THEIRS, delivery=Delivery.ERSPAN3, key=key)

    assert store.collectors.add_built(build, "tester").key == taken + 1
    with pytest.raises(Refused, match=f"have 0, and {taken} that it has given up"):
        store.collectors.add(dataclasses.replace(ours, key=taken + 2), "tester")
    store.collectors.add(ours, "tester")
    store.release_keys(store.desired().last_held)
    own = dataclasses.replace(ours, id=CollectorId("c-4"), name="own", key=taken + 2)
    store.collectors.add(own, "tester")
    store.close()


def test_a_change_that_is_refused_holds_nothing(store: Store) -> None:
    store.collectors.add(SOC, "tester")
    store.collectors.add(dataclasses.replace(THEIRS, sensors=(ELSEWHERE,)), "tester")
    with pytest.raises(KeyTaken):
        give_up(store, "address")
    assert store.desired().last_held == 0


def test_an_upgrade_holds_what_collectors_had_before_and_leaves_what_they_have(
    store: Store, tmp_path: Path
) -> None:
    """It is not known which bridges were told since: the audit log tells what there was."""
    store.collectors.add(IDS, "tester")
    store.collectors.add(SOC, "tester")
    give_up(store, "address")
    store.collectors.delete(SOC.id, "tester")
    store.release_keys(store.desired().last_held)
    store.collectors.add(THEIRS, "tester")
    store.close()
    with sqlite3.connect(tmp_path / "state" / "state.db") as connection:
        connection.execute("DROP TABLE held_keys")
        connection.execute("UPDATE schema SET version = 9")
    connection.close()

    store = Store(tmp_path / "state")
    new = dataclasses.replace(THEIRS, name="new")
    store.collectors.change(THEIRS.id, lambda record: becomes(new, record), "tester")
    for address in (SIX, ELSEWHERE):
        more = dataclasses.replace(new, sensors=(FAR, address))
        with pytest.raises(KeyHeld, match=str(address)):
            store.collectors.change(THEIRS.id, lambda r, new=more: becomes(new, r), "tester")
    store.release_keys(store.desired().last_held)
    more = dataclasses.replace(new, sensors=(FAR, SIX, ELSEWHERE))
    store.collectors.change(THEIRS.id, lambda record: becomes(more, record), "tester")
    store.close()


def test_a_collector_is_built_knowing_all_others(store: Store) -> None:
    store.collectors.add(SOC, "tester")

    def build(others: Sequence[Collector], held: Sequence[KeyUse]) -> Collector:
        assert (others, held) == ([SOC], ())
        return dataclasses.replace(SOC, id=CollectorId("c-3"), name="next", key=5)

    assert store.collectors.add_built(build, "tester", IdempotencyKey("k", "d")).key == 5
    with pytest.raises(Repeated):
        store.collectors.add_built(
            lambda others, held: dataclasses.replace(IDS, id=CollectorId("c-4")),
            "tester",
            IdempotencyKey("k", "d"),
        )

    def fail(others: Sequence[Collector], held: Sequence[KeyUse]) -> Collector:
        raise NoKeyLeft("gre", "key", 1, 2)

    with pytest.raises(NoKeyLeft):
        store.collectors.add_built(fail, "tester")
    assert len(collectors(store)) == 2


@pytest.mark.parametrize("rate", [None, Rate(RateUnit.KBPS, 1), Rate(RateUnit.PPS, (1 << 32) - 1)])
@pytest.mark.parametrize("oversize", list(Oversize))
def test_a_rate_cap_and_the_treatment_of_oversize_copies_survive_a_restart(
    store: Store, tmp_path: Path, rate: Rate | None, oversize: Oversize
) -> None:
    store.collectors.add(IDS, "tester")
    session = dataclasses.replace(WEB, max_rate=rate, oversize=oversize)
    store.sessions.add(session, "tester")
    again = reopened(store, tmp_path)

    assert again.desired().sessions == (session,)
    again.close()


def test_a_database_without_tunnels_is_migrated_with_its_tap_ports(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir(mode=0o700)
    with sqlite3.connect(old / "state.db") as connection:
        connection.executescript(SCHEMA_3)
    connection.close()
    store = Store(old)
    desired = store.desired()
    assert (desired.collectors, desired.sessions, desired.probes) == ((IDS,), (WEB,), {})
    store.collectors.add(SOC, "tester")
    store.sessions.delete(WEB.id, "tester")
    store.sessions.finish_deletions([WEB.id])
    store.collectors.delete(IDS.id, "tester")
    store.close()
    Store(new).close()

    assert columns(old) == columns(new)


def test_a_key_of_an_earlier_schema_belongs_to_the_tenant_of_its_object(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.executescript(SCHEMA_3)
        for key, made in (("k1", "s-1"), ("k2", "c-1"), ("k3", "gone")):
            row = key, "digest", made, None, "2030-01-01T00:00:00+00:00"
            connection.execute("INSERT INTO once VALUES (?, ?, ?, ?, ?)", row)
    connection.close()
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "state.db") as connection:
        found = connection.execute("SELECT key, tenant FROM once ORDER BY key").fetchall()
    connection.close()
    assert found == [("k1", "red"), ("k2", "red"), ("k3", "")]


def test_link_tags_of_an_earlier_schema_belong_to_whoever_has_copies_sent_there(
    tmp_path: Path,
) -> None:
    """Of tap ports that no collector names, or those of two tenants, it is not known."""
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.executescript(SCHEMA_3)
        for key, tenant, sensor in (
            ("c-2", "red", "x:7"),
            ("c-3", "red", "u"),
            ("c-4", "blue", "u"),
        ):
            row = key, tenant, key, sensor, "2030-01-01T00:00:00+00:00", None
            connection.execute("INSERT INTO collectors VALUES (?, ?, ?, ?, ?, ?)", row)
        keys = ("tap:t", "tap-7:t", "tap:x:7", "tap:u", "tap-7:u", "tap:x", "network:t", "port:t")
        for number, key in enumerate(keys, 1):
            connection.execute("INSERT INTO numbers VALUES ('tag', ?, ?)", (key, number))
        connection.execute("INSERT INTO numbers VALUES ('session', 's-1', 9)")
    connection.close()
    store = Store(tmp_path)
    assert store.lacks_tenants
    assert store.numbered().tag == {
        "red/tap:t": 1, "red/tap-7:t": 2, "red/tap:x:7": 3, "/tap:u": 4, "/tap-7:u": 5,
        "tap:x": 6, "network:t": 7, "port:t": 8,
    }  # fmt: skip
    assert store.numbered().session == {"s-1": 9}
    store.close()


def columns(directory: Path) -> set[tuple[str, str, str, int]]:
    """Table, column, type and whether null is refused, of everything in a database."""
    with sqlite3.connect(directory / "state.db") as connection:
        rows = connection.execute(
            'SELECT t.name, c.name, c.type, c."notnull" FROM sqlite_master t '
            "JOIN pragma_table_info(t.name) c WHERE t.type = 'table'"
        )
        found = set(rows)
    connection.close()
    return found

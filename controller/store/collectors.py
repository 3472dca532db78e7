"""Collectors and their sensors in the database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from netaddr import IPAddress
from sqlalchemy import Connection, Row, delete, insert, select, update

from controller.store import tables
from controller.store.content_check import read_time, reading_rows
from controller.store.database import Database
from controller.store.held_key_rows import hold, read_held
from controller.store.held_keys import HeldKeys
from controller.store.named_objects import NamedRepository
from controller.store.values import CollectorRecord, IdempotencyKey
from flows.model import (
    Balance,
    Collector,
    CollectorId,
    Delivery,
    KeyUse,
    PortId,
    Sensor,
    TagMode,
    TenantName,
    check_held_keys,
    check_key,
    key_uses,
)

_SensorRow = tuple[str, str | None]
"""A tap port or address, and its probe."""


class CollectorRepository(NamedRepository[CollectorRecord]):
    """Every collector; see NamedRepository.

    What a collector that is changed or deleted does not send with any more is held for its tenant
    (see HeldKeys).
    """

    kind = "collector"
    table = tables.collectors

    def __init__(self, database: Database, held: HeldKeys, now: Callable[[], datetime]) -> None:
        super().__init__(database, now)
        self._held = held

    def add(
        self,
        collector: Collector,
        who: str,
        idempotency_key: IdempotencyKey | None = None,
        probes: Mapping[Sensor, str] | None = None,
    ) -> None:
        """Add a collector; raises what ``add_built`` raises."""
        self.add_built(lambda others, held: collector, who, idempotency_key, probes)

    def add_built(
        self,
        build: Callable[[Sequence[Collector], Sequence[KeyUse]], Collector],
        who: str,
        idempotency_key: IdempotencyKey | None = None,
        probes: Mapping[Sensor, str] | None = None,
    ) -> Collector:
        """Add the collector that ``build`` makes of all the others, in one transaction.

        It is given the keys that are held for those who have given them up, too.

        Raises:
            NameTaken: the tenant has one of this name.
            KeyTaken: another tenant sends to one of its addresses with its key.
            KeyHeld: another tenant did, and bridges may not know yet that it does not any more.
            Repeated: the idempotency key was used before.
            Whatever ``build`` raises; then nothing was changed.
        """

        def record(
            connection: Connection, now: datetime, others: Sequence[CollectorRecord]
        ) -> CollectorRecord:
            collector = build([r.collector for r in others], read_held(connection))
            return CollectorRecord(collector, now, probes or {})

        return self._add(record, who, idempotency_key).collector

    def _object(self, record: CollectorRecord) -> Collector:
        return record.collector

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._held.changing(), super()._writing() as connection:
            yield connection

    def _check(
        self,
        connection: Connection,
        record: CollectorRecord,
        others: Sequence[CollectorRecord],
        old: CollectorRecord | None = None,
    ) -> None:
        check_key(record.collector, (other.collector for other in others))
        before = None if old is None else old.collector
        check_held_keys(record.collector, read_held(connection), before)

    def _detail(self, record: CollectorRecord) -> dict[str, object]:
        sensors = [str(sensor) for sensor in record.collector.sensors]
        probes = {str(sensor): probe for sensor, probe in record.probes.items()}
        return _columns(record.collector) | {"sensors": sensors, "probes": probes}

    def _read(self, connection: Connection) -> tuple[CollectorRecord, ...]:
        return read_collectors(connection)

    def _insert(self, connection: Connection, record: CollectorRecord) -> None:
        fixed = {"id": record.collector.id, "created_at": record.created_at.isoformat()}
        values = _columns(record.collector) | fixed
        connection.execute(insert(tables.collectors).values(values))
        _insert_sensors(connection, record)

    def _update(self, connection: Connection, old: CollectorRecord, new: CollectorRecord) -> None:
        key, values = new.collector.id, _columns(new.collector)
        connection.execute(update(tables.collectors).filter_by(id=key).values(values))
        connection.execute(delete(tables.sensors).filter_by(collector=key))
        _insert_sensors(connection, new)
        hold(connection, key_uses(old.collector) - key_uses(new.collector))

    def _delete(self, connection: Connection, key: str) -> None:
        for record in self._read(connection):
            if record.collector.id == key:
                hold(connection, key_uses(record.collector))
        super()._delete(connection, key)


def read_collectors(connection: Connection) -> tuple[CollectorRecord, ...]:
    """Every collector, by tenant and name."""
    columns, sensors = tables.collectors.c, tables.sensors.c
    items: defaultdict[str, list[_SensorRow]] = defaultdict(list)
    query = select(sensors.collector, sensors.item, sensors.probe).order_by(sensors.position)
    for owner, item, probe in connection.execute(query):
        items[owner].append((item, probe))
    rows = select(tables.collectors).order_by(columns.tenant, columns.name)
    found = []
    for row in connection.execute(rows):
        with reading_rows(f"collector {row.name!r}"):
            found.append(_record(row, items[row.id]))
    return tuple(found)


def _insert_sensors(connection: Connection, record: CollectorRecord) -> None:
    collector = record.collector
    rows = [
        {
            "collector": collector.id,
            "position": position,
            "item": str(sensor),
            "probe": record.probes.get(sensor),
        }
        for position, sensor in enumerate(collector.sensors)
    ]
    connection.execute(insert(tables.sensors), rows)


def _columns(collector: Collector) -> dict[str, object]:
    """The columns of a collector that may change."""
    tag = collector.tenant_tag
    number_or_word = str(tag) if isinstance(tag, int) else tag.value
    return {
        "tenant": collector.tenant,
        "name": collector.name,
        "tenant_tag": None if tag is TagMode.NONE else number_or_word,
        "delivery": collector.delivery.value,
        "key": collector.key,
        "balance": collector.balance.value,
        "path_mtu": collector.path_mtu,
    }


def _record(row: Row[tuple[object, ...]], items: Sequence[_SensorRow]) -> CollectorRecord:
    delivery = Delivery(row.delivery)
    sensors: list[Sensor] = [
        PortId(item) if delivery is Delivery.PORT else IPAddress(item) for item, _ in items
    ]
    tag: TagMode | int = TagMode.NONE
    if row.tenant_tag is not None:
        tag = TagMode.AUTO if row.tenant_tag == TagMode.AUTO.value else int(row.tenant_tag)
    collector = Collector(
        id=CollectorId(row.id),
        name=row.name,
        tenant=TenantName(row.tenant),
        sensors=tuple(sensors),
        tenant_tag=tag,
        delivery=delivery,
        key=row.key,
        balance=Balance(row.balance),
        path_mtu=row.path_mtu,
    )
    pairs = zip(sensors, items, strict=True)
    probes = {sensor: probe for sensor, (_, probe) in pairs if probe is not None}
    return CollectorRecord(collector, read_time(row.created_at), probes)

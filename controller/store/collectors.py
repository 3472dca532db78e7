"""Collectors and their sensors in the database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from netaddr import IPAddress
from sqlalchemy import Connection, Row, delete, insert, select, update

from controller.store import tables
from controller.store.cache import Cached
from controller.store.content_check import reading_rows
from controller.store.database import Database
from controller.store.held_keys import held_numbers, hold, read_held, release_held
from controller.store.named_objects import NamedRepository
from controller.store.numbers import NumberRepository
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
    check_key_quota,
    key_uses,
)

_SensorRow = tuple[str, str | None]
"""A tap port or address, and its probe."""


class CollectorRepository(NamedRepository[CollectorRecord]):
    """Every collector, and the tunnel keys that are held; see NamedRepository.

    What a collector that is changed or deleted does not send with any more is held for its tenant,
    until bridges are known to have been told.
    """

    kind = "collector"
    table = tables.collectors

    def __init__(
        self,
        database: Database,
        now: Callable[[], datetime],
        *,
        numbers: NumberRepository,
    ) -> None:
        super().__init__(database, now)
        self._held, self._numbers = Cached(database, held_numbers), numbers

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
            TooManyKeys, TooManyHeldKeys: the tenant has, or has given up, as many as it may.
            TooManyNumbers: the tenant has as many collectors as it may.
            Repeated: the idempotency key was used before.
            Whatever ``build`` raises; then nothing was changed.
        """

        def record(
            connection: Connection, now: datetime, others: Sequence[CollectorRecord]
        ) -> CollectorRecord:
            collector = build([r.collector for r in others], read_held(connection))
            return CollectorRecord(collector, now, probes or {})

        return self._add(record, who, idempotency_key).collector

    def last_held(self) -> int:
        """The number of the newest key that is held; 0 if none is."""
        return max(self._held.get(), default=0)

    def release_keys(self, last: int) -> None:
        """Let other tenants have what is held under numbers up to ``last``."""
        if any(number <= last for number in self._held.get()):
            with self._held.writing() as connection:
                release_held(connection, last)

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
        new, held = record.collector, read_held(connection)
        of_others = [other.collector for other in others]
        before = None if old is None else old.collector
        check_key(new, of_others)
        check_held_keys(new, held, before)
        check_key_quota(new, of_others, held, self._numbers.tenants, before)
        if old is None:
            self._numbers.check_quota(connection, self.table, self.kind, new.tenant)

    def _detail(self, record: CollectorRecord) -> dict[str, object]:
        sensors = [str(sensor) for sensor in record.collector.sensors]
        probes = {str(sensor): probe for sensor, probe in record.probes.items()}
        return _columns(record.collector) | {"sensors": sensors, "probes": probes}

    def _read(self, connection: Connection) -> tuple[CollectorRecord, ...]:
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
    return CollectorRecord(collector, datetime.fromisoformat(row.created_at), probes)

"""Collectors and their sensors in the database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from netaddr import IPAddress
from sqlalchemy import Connection, Row, delete, insert, select, update

from controller.store import tables
from controller.store import audit as journal
from controller.store.constraints import refuse_taken_name
from controller.store.database import Database
from controller.store.errors import InUse, NotFound
from controller.store.cache import Kept
from controller.store.values import CollectorRecord, OnceKey
from flows.model.session import (
    Balance,
    Collector,
    CollectorId,
    Delivery,
    PortId,
    Sensor,
    TagMode,
    TenantName,
)
from flows.model.tenancy import check_key

_Item = tuple[str, str | None]
_Make = Callable[[Sequence[Collector]], Collector]


class CollectorBook:
    """Every collector. Any number of threads may use it.

    Every method may raise StoreError; then nothing was changed.
    """

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._now = now
        self._kept = Kept(database, self._read)

    def all(self) -> tuple[CollectorRecord, ...]:
        """Every collector, by tenant and name."""
        return self._kept.get()

    def _read(self, connection: Connection) -> tuple[CollectorRecord, ...]:
        columns, sensors = tables.collectors.c, tables.sensors.c
        items: defaultdict[str, list[_Item]] = defaultdict(list)
        query = select(sensors.collector, sensors.item, sensors.probe).order_by(sensors.position)
        for owner, item, probe in connection.execute(query):
            items[owner].append((item, probe))
        rows = select(tables.collectors).order_by(columns.tenant, columns.name)
        return tuple(_record(row, items[row.id]) for row in connection.execute(rows))

    def make(
        self,
        make: _Make,
        who: str,
        once: OnceKey | None = None,
        probes: Mapping[Sensor, str] | None = None,
    ) -> Collector:
        """Keep the new collector that ``make`` makes of all that there are, nobody in between.

        Raises:
            NameTaken: the tenant has one of this name.
            KeyTaken: another tenant sends to one of its addresses with its key.
            Repeated: the key of the request was used before.
            Whatever ``make`` raises; then nothing was changed.
        """
        now = self._now()
        with self._kept.writing() as connection:
            others = [record.collector for record in self._read(connection)]
            collector = make(others)
            if once is not None:
                journal.take_key(connection, once, collector.id, now)
            refuse_taken_name(connection, "collector", collector.tenant, collector.name)
            check_key(collector, others)
            record = CollectorRecord(collector, now, probes or {})
            fixed = {"id": collector.id, "created_at": now.isoformat()}
            connection.execute(insert(tables.collectors).values(_columns(collector) | fixed))
            _write_sensors(connection, record)
            journal.write_entry(connection, now, who, "created", _thing(collector), _told(record))
        return collector

    def change(
        self, key: CollectorId, change: Callable[[CollectorRecord], CollectorRecord], who: str
    ) -> CollectorRecord:
        """Replace a collector by ``change(record)``, with nobody else in between.

        Raises:
            NotFound: there is none of this id.
            NameTaken: the tenant has another one of the new name.
            KeyTaken: another tenant sends to one of its new addresses with its key.
            Whatever ``change`` raises; then nothing was changed.
        """
        with self._kept.writing() as connection:
            known = {record.collector.id: record for record in self._read(connection)}
            old = known.pop(key, None)
            if old is None:
                raise NotFound("collector", key)
            record = change(old)
            if record == old:
                return old
            new = record.collector
            if new.name != old.collector.name:
                refuse_taken_name(connection, "collector", new.tenant, new.name)
            check_key(new, (other.collector for other in known.values()))
            connection.execute(update(tables.collectors).filter_by(id=key).values(_columns(new)))
            _write_sensors(connection, record)
            before, after = _told(old), _told(record)
            changed = {word: after[word] for word in after if after[word] != before[word]}
            thing = _thing(old.collector)
            journal.write_entry(connection, self._now(), who, "changed", thing, changed)
        return record

    def delete(self, key: CollectorId, who: str) -> None:
        """Forget a collector.

        Raises:
            NotFound: there is none of this id.
            InUse: sessions deliver into it, or are not wholly gone yet.
        """
        with self._kept.writing() as connection:
            row = connection.execute(select(tables.collectors).filter_by(id=key)).one_or_none()
            if row is None:
                raise NotFound("collector", key)
            names = select(tables.sessions.c.name).filter_by(collector=key)
            users = list(connection.execute(names.order_by(tables.sessions.c.name)).scalars())
            if users:
                raise InUse("collector", row.name, users)
            connection.execute(delete(tables.collectors).filter_by(id=key))
            thing = ("collector", row.id, row.name, row.tenant)
            journal.write_entry(connection, self._now(), who, "deleted", thing, {})


def _columns(collector: Collector) -> dict[str, object]:
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


def _told(record: CollectorRecord) -> dict[str, object]:
    """What the journal tells of a collector."""
    sensors = [str(sensor) for sensor in record.collector.sensors]
    probes = {str(sensor): probe for sensor, probe in record.probes.items()}
    return _columns(record.collector) | {"sensors": sensors, "probes": probes}


def _write_sensors(connection: Connection, record: CollectorRecord) -> None:
    """Replace the sensors of a collector."""
    collector = record.collector
    connection.execute(delete(tables.sensors).filter_by(collector=collector.id))
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


def _record(row: Row[tuple[object, ...]], items: Sequence[_Item]) -> CollectorRecord:
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
    asked = zip(sensors, items, strict=True)
    probes = {sensor: probe for sensor, (_, probe) in asked if probe is not None}
    return CollectorRecord(collector, datetime.fromisoformat(row.created_at), probes)


def _thing(collector: Collector) -> tuple[str, str, str, str]:
    return "collector", collector.id, collector.name, collector.tenant

"""Filters in the database; rules that were read once are not read again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection, Row, delete, insert, select, update

from controller.syntax.filters import read_rules, show_rules
from controller.store import tables
from controller.store import audit as journal
from controller.store.constraints import refuse_taken_name
from controller.store.database import Database
from controller.store.errors import InUse, NotFound
from controller.store.cache import Kept
from controller.store.values import FilterRecord, OnceKey
from flows.model.filter import Filter
from flows.model.session import FilterId, TenantName


class FilterBook:
    """Every filter but the built-in one. Any number of threads may use it.

    Every method may raise StoreError; then nothing was changed.
    """

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._now = now
        self._kept = Kept(database, self._read)
        self._reading = threading.Lock()
        self._by_revision: dict[str, tuple[int, FilterRecord]] = {}

    def all(self) -> tuple[FilterRecord, ...]:
        """Every filter, by tenant and name."""
        return self._kept.get()

    def _read(self, connection: Connection) -> tuple[FilterRecord, ...]:
        columns = tables.filters.c
        query = select(columns.id, columns.revision).order_by(columns.tenant, columns.name)
        with self._reading:
            before = self._by_revision
        found: dict[str, tuple[int, FilterRecord]] = {}
        for key, revision in connection.execute(query):
            known = before.get(key)
            if known is None or known[0] != revision:
                row = connection.execute(select(tables.filters).filter_by(id=key)).one()
                known = revision, _record(row)
            found[key] = known
        with self._reading:
            self._by_revision = found
        return tuple(record for _, record in found.values())

    def add(self, wanted: Filter, who: str, once: OnceKey | None = None) -> None:
        """Keep a new filter.

        Raises:
            NameTaken: the tenant has one of this name, or it is that of the built-in one.
            Repeated: the key of the request was used before.
        """
        now = self._now()
        with self._kept.writing() as connection:
            if once is not None:
                journal.take_key(connection, once, wanted.id, now)
            refuse_taken_name(connection, "filter", wanted.tenant, wanted.name)
            fixed = {"id": wanted.id, "created_at": now.isoformat(), "revision": 1}
            connection.execute(insert(tables.filters).values(_columns(wanted) | fixed))
            journal.write_entry(connection, now, who, "created", _thing(wanted), _size(wanted))

    def change(self, key: FilterId, change: Callable[[Filter], Filter], who: str) -> Filter:
        """Replace a filter by ``change(filter)``, with nobody else in between.

        Raises:
            NotFound: there is none of this id.
            NameTaken: the tenant has another one of the new name.
        """
        with self._kept.writing() as connection:
            row = connection.execute(select(tables.filters).filter_by(id=key)).one_or_none()
            if row is None:
                raise NotFound("filter", key)
            old = _record(row).filter
            new = change(old)
            if new == old:
                return old
            if new.name != old.name:
                refuse_taken_name(connection, "filter", new.tenant, new.name)
            values = _columns(new) | {"revision": row.revision + 1}
            connection.execute(update(tables.filters).filter_by(id=key).values(values))
            detail = _size(new) | ({"name": new.name} if new.name != old.name else {})
            journal.write_entry(connection, self._now(), who, "changed", _thing(old), detail)
        return new

    def delete(self, key: FilterId, who: str) -> None:
        """Forget a filter.

        Raises:
            NotFound: there is none of this id.
            InUse: sessions use it, or are not wholly gone yet.
        """
        with self._kept.writing() as connection:
            row = connection.execute(select(tables.filters).filter_by(id=key)).one_or_none()
            if row is None:
                raise NotFound("filter", key)
            names = select(tables.sessions.c.name).filter_by(filter=key)
            users = list(connection.execute(names.order_by(tables.sessions.c.name)).scalars())
            if users:
                raise InUse("filter", row.name, users)
            connection.execute(delete(tables.filters).filter_by(id=key))
            thing = ("filter", row.id, row.name, row.tenant)
            journal.write_entry(connection, self._now(), who, "deleted", thing, {})


def _record(row: Row[tuple[object, ...]]) -> FilterRecord:
    rules = json.loads(row.rules)
    wanted = Filter(
        FilterId(row.id),
        row.name,
        TenantName(row.tenant),
        read_rules("ingress", rules["ingress"]),
        read_rules("egress", rules["egress"]),
    )
    return FilterRecord(wanted, datetime.fromisoformat(row.created_at))


def _columns(wanted: Filter) -> dict[str, object]:
    rules = {"ingress": show_rules(wanted.ingress), "egress": show_rules(wanted.egress)}
    return {"tenant": wanted.tenant, "name": wanted.name, "rules": json.dumps(rules)}


def _thing(wanted: Filter) -> tuple[str, str, str, str]:
    return "filter", wanted.id, wanted.name, wanted.tenant


def _size(wanted: Filter) -> dict[str, object]:
    """What the journal says of rules: there may be thousands."""
    return {"ingress_rules": len(wanted.ingress), "egress_rules": len(wanted.egress)}

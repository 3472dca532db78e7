"""Filters in the database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, Row, insert, select, update

from controller.process import Yielder, read_objects, write_list
from controller.store import tables
from controller.store.content_check import reading_rows
from controller.store.database import Database
from controller.store.named_objects import NamedRepository
from controller.store.values import FilterRecord, IdempotencyKey
from controller.syntax import flow_count, read_rules, show_rules
from flows.model import EDITIONS, Filter, FilterId, Rule, TenantName

FLOWS_IN_PLACE = 1000
"""Most flows of rules that are changed together where they are: a switch forwards nothing meanwhile
(Open vSwitch 3.1 in the userspace datapath)."""


class FilterRepository(NamedRepository[FilterRecord]):
    """Every filter but the built-in one; see NamedRepository.

    Parsing rules is slow: a filter is parsed again only when its revision differs.
    """

    kind = "filter"
    table = tables.filters

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        super().__init__(database, now)
        self._lock = threading.Lock()
        self._parsed: dict[str, tuple[int, FilterRecord]] = {}

    def add(self, new: Filter, who: str, idempotency_key: IdempotencyKey | None = None) -> None:
        """Add a filter.

        Raises:
            NameTaken: the tenant has one of this name, or it is that of the built-in one.
            Repeated: the idempotency key was used before.
        """
        self._add(lambda now, others: FilterRecord(new, now), who, idempotency_key)

    def _object(self, record: FilterRecord) -> Filter:
        return record.filter

    def _following(self, old: FilterRecord, new: FilterRecord) -> FilterRecord:
        """With many other rules it is another edition of the filter."""
        before, wanted = old.filter, new.filter
        edition = before.edition
        if differs_much(before, wanted):
            edition = (edition + 1) % EDITIONS
        return replace(new, filter=replace(wanted, edition=edition))

    def _check(self, record: FilterRecord, others: Sequence[FilterRecord]) -> None:
        """Filters do not depend on each other."""

    def _detail(self, record: FilterRecord) -> dict[str, object]:
        """The number of rules: there may be thousands."""
        rules = record.filter
        return {"ingress_rules": len(rules.ingress), "egress_rules": len(rules.egress)}

    def _changes(self, old: FilterRecord, new: FilterRecord) -> dict[str, object]:
        """The number of rules even if it is the same: other rules may have replaced them."""
        name = new.filter.name
        return self._detail(new) | ({"name": name} if name != old.filter.name else {})

    def _read(self, connection: Connection) -> tuple[FilterRecord, ...]:
        columns = tables.filters.c
        query = select(columns.id, columns.revision).order_by(columns.tenant, columns.name)
        with self._lock:
            before = self._parsed
        found: dict[str, tuple[int, FilterRecord]] = {}
        for key, revision in connection.execute(query):
            known = before.get(key)
            if known is None or known[0] != revision:
                row = connection.execute(select(tables.filters).filter_by(id=key)).one()
                with reading_rows(f"filter {row.name!r}"):
                    known = revision, _record(row)
            found[key] = known
        with self._lock:
            self._parsed = found
        return tuple(record for _, record in found.values())

    def _insert(self, connection: Connection, record: FilterRecord) -> None:
        fixed = {"id": record.filter.id, "created_at": record.created_at.isoformat()}
        values = _columns(record.filter) | fixed | {"revision": 1}
        connection.execute(insert(tables.filters).values(values))

    def _update(self, connection: Connection, record: FilterRecord) -> None:
        values = _columns(record.filter) | {"revision": tables.filters.c.revision + 1}
        statement = update(tables.filters).filter_by(id=record.filter.id)
        connection.execute(statement.values(values))


def differs_much(old: Filter, new: Filter) -> bool:
    """Whether the rules that differ between two versions of a filter have many flows."""
    found = 0
    for changed in _changed_rules(old, new):
        found += flow_count(changed.match)
        if found > FLOWS_IN_PLACE:
            return True
    return False


def _changed_rules(old: Filter, new: Filter) -> Iterator[Rule]:
    """The rules that are added, and those that are removed; other threads run meanwhile."""
    yielder = Yielder()
    for before, after in ((old.ingress, new.ingress), (old.egress, new.egress)):
        if before is after:
            continue
        left = {rule.number: rule for rule in before}
        for rule in after:
            yielder.pause()
            known = left.get(rule.number)
            if known == rule:
                del left[rule.number]
            else:
                yield rule
        yield from left.values()


def _columns(stored: Filter) -> dict[str, object]:
    """The columns of a filter that may change."""
    ingress, egress = (write_list(show_rules(rules)) for rules in (stored.ingress, stored.egress))
    rules = f'{{"ingress": {ingress}, "egress": {egress}, "edition": {stored.edition}}}'
    return {"tenant": stored.tenant, "name": stored.name, "rules": rules}


def _record(row: Row[tuple[object, ...]]) -> FilterRecord:
    rules = read_objects(row.rules)
    stored = Filter(
        FilterId(row.id),
        row.name,
        TenantName(row.tenant),
        read_rules("ingress", rules["ingress"]),
        read_rules("egress", rules["egress"]),
        rules.get("edition", 0),
    )
    return FilterRecord(stored, datetime.fromisoformat(row.created_at))

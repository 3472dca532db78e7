"""Filters in the database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, Row, insert, select, update

from controller.process import Yielder, read_objects, write_list
from controller.store import tables
from controller.store.content_check import reading_rows
from controller.store.database import Database
from controller.store.errors import NotFound
from controller.store.named_objects import NamedRepository
from controller.store.numbers import NumberRepository
from controller.store.values import FilterRecord, IdempotencyKey
from controller.syntax import flow_count, read_rules, show_rules
from flows.model import EDITIONS, Filter, FilterId, Rule, TenantName

FLOWS_IN_PLACE = 1000
"""Most flows of rules that are changed together where they are: a switch forwards nothing meanwhile
(Open vSwitch 3.1 in the userspace datapath)."""
WRITTEN_KEPT = 16
"""Filters that are known as they were written last, until somebody reads them."""


class FilterRepository(NamedRepository[FilterRecord]):
    """Every filter but the built-in one; see NamedRepository.

    Thousands of rules take seconds to parse, and as long to write as text. A filter is parsed only
    when its revision is not known: what was written here is. Its text is made before the
    transaction, for which the writes of all others wait.
    """

    kind = "filter"
    table = tables.filters

    def __init__(
        self, database: Database, now: Callable[[], datetime], *, numbers: NumberRepository
    ) -> None:
        super().__init__(database, now)
        self._numbers = numbers
        self._lock = threading.Lock()
        self._parsed: dict[str, tuple[int, FilterRecord]] = {}
        self._written: dict[str, tuple[int, FilterRecord]] = {}
        """The revisions written last, by id: that of a transaction that failed is written again
        before it can be read.
        """
        self._texts: dict[int, str] = {}
        """Rules as text, by the identity of lists that are going to be written."""

    def add(self, new: Filter, who: str, idempotency_key: IdempotencyKey | None = None) -> None:
        """Add a filter.

        Raises:
            NameTaken: the tenant has one of this name, or it is that of the built-in one.
            TooManyNumbers: the tenant has as many filters as it may.
            Repeated: the idempotency key was used before.
        """
        with self._written_out(new):
            self._add(lambda _, now, others: FilterRecord(new, now), who, idempotency_key)

    def change(
        self, key: str, change: Callable[[FilterRecord], FilterRecord], who: str
    ) -> FilterRecord:
        """Replace a filter by ``change`` of it, called twice; see NamedRepository."""
        known = self.find(key)
        if known is None:
            raise NotFound(self.kind, key)
        before, wanted = known.filter, change(known).filter
        lists = {
            id(rules): (rules, _sharing(rules, old))
            for rules, old in ((wanted.ingress, before.ingress), (wanted.egress, before.egress))
        }

        def sharing(record: FilterRecord) -> FilterRecord:
            new = change(record)
            ingress, egress = (
                lists[id(rules)][1] if id(rules) in lists else rules
                for rules in (new.filter.ingress, new.filter.egress)
            )
            return replace(new, filter=replace(new.filter, ingress=ingress, egress=egress))

        with self._written_out(sharing(known).filter):
            return super().change(key, sharing, who)

    @contextmanager
    def _written_out(self, wanted: Filter) -> Iterator[None]:
        """Write the rules of a filter as text; inside, its row takes them from there."""
        texts = {
            id(rules): write_list(show_rules(rules)) for rules in (wanted.ingress, wanted.egress)
        }
        with self._lock:
            self._texts |= texts
        try:
            yield
        finally:
            with self._lock:
                for key in texts:
                    self._texts.pop(key, None)

    def _object(self, record: FilterRecord) -> Filter:
        return record.filter

    def _following(self, old: FilterRecord, new: FilterRecord) -> FilterRecord:
        """With many other rules it is another edition of the filter."""
        before, wanted = old.filter, new.filter
        edition = before.edition
        if differs_much(before, wanted):
            edition = (edition + 1) % EDITIONS
        return replace(new, filter=replace(wanted, edition=edition))

    def _check(
        self,
        connection: Connection,
        record: FilterRecord,
        others: Sequence[FilterRecord],
        old: FilterRecord | None = None,
    ) -> None:
        """Filters do not depend on each other, but each needs a number."""
        if old is None:
            self._numbers.check_quota(connection, self.table, self.kind, record.filter.tenant)

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
            before, written = self._parsed, dict(self._written)
        found: dict[str, tuple[int, FilterRecord]] = {}
        for key, revision in connection.execute(query):
            known = written.get(key)
            if known is None or known[0] != revision:
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
        values = self._columns(record.filter) | fixed | {"revision": 1}
        connection.execute(insert(tables.filters).values(values))
        self._note_written(record, 1)

    def _update(self, connection: Connection, old: FilterRecord, new: FilterRecord) -> None:
        key, columns = new.filter.id, tables.filters.c
        revision = connection.execute(select(columns.revision).filter_by(id=key)).scalar_one() + 1
        values = self._columns(new.filter) | {"revision": revision}
        connection.execute(update(tables.filters).filter_by(id=key).values(values))
        self._note_written(new, revision)

    def _columns(self, stored: Filter) -> dict[str, object]:
        """The columns of a filter that may change."""
        with self._lock:
            known = [self._texts.get(id(rules)) for rules in (stored.ingress, stored.egress)]
        ingress, egress = (
            write_list(show_rules(rules)) if text is None else text
            for text, rules in zip(known, (stored.ingress, stored.egress), strict=True)
        )
        rules = f'{{"ingress": {ingress}, "egress": {egress}, "edition": {stored.edition}}}'
        return {"tenant": stored.tenant, "name": stored.name, "rules": rules}

    def _note_written(self, record: FilterRecord, revision: int) -> None:
        """A transaction that is not committed yet has written this revision."""
        key = record.filter.id
        with self._lock:
            self._written.pop(key, None)
            self._written[key] = revision, record
            while len(self._written) > WRITTEN_KEPT:
                del self._written[next(iter(self._written))]


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
            if known is rule or known == rule:
                del left[rule.number]
            else:
                yield rule
        yield from left.values()


def _sharing(rules: tuple[Rule, ...], before: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """The same rules, with those that were there before as they were.

    Then it takes little time to compare the lists, which nobody can interrupt.
    """
    if rules is before:
        return before
    yielder, known = Yielder(), {rule.number: rule for rule in before}
    shared = list[Rule]()
    for rule in rules:
        yielder.pause()
        old = known.get(rule.number)
        shared.append(old if old is not None and old == rule else rule)
    return tuple(shared)


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

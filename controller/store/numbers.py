"""Numbers that stand for names on switches: allocated once, reused only after their release."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from itertools import chain, filterfalse

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from controller.store import tables
from controller.store.database import Database
from controller.store.errors import StoreError
from flows.model import (
    KINDS_OF_TENANTS,
    NUMBER_RANGES,
    CollectorId,
    FilterId,
    Names,
    NetworkId,
    Numbers,
    PortId,
    SessionId,
    TenantName,
)

ROWS_PER_SLICE = 1000
"""Numbers that are written before other threads may run."""

_SCARCE = ("tag", "meter")
"""Kinds of which the last keys may have no number; the compiler refuses what needs one."""


class NumberRepository:
    """All numbers, in the database and, because nobody else writes it, in memory too.

    Each is kept under a name (see Names.by_kind), which for some kinds has the tenant before it.
    ``highest`` replaces the highest number of a kind (for tests of exhaustion).
    """

    def __init__(self, database: Database, highest: dict[str, int] | None = None) -> None:
        self._database = database
        self._ranges = dict(NUMBER_RANGES)
        for kind, last in (highest or {}).items():
            self._ranges[kind] = range(NUMBER_RANGES[kind].start, last + 1)
        self._changing = threading.Lock()
        self._numbers: dict[str, dict[str, int]] = {kind: {} for kind in NUMBER_RANGES}
        with database.reading() as connection:
            for kind, key, number in connection.execute(select(tables.numbers)):
                self._numbers[kind][key] = number
            ends = connection.execute(select(tables.last_numbers))
            self._last: dict[str, int] = {row.kind: row.number for row in ends}
        self._taken = {kind: set(book.values()) for kind, book in self._numbers.items()}
        self._old_kinds = {kind for kind in KINDS_OF_TENANTS if self._without_tenant(kind)}
        self._tenants = self._find_tenants()

    @property
    def tenants(self) -> Collection[TenantName]:
        """The tenants whose networks and ports have numbers. Waits for nobody."""
        return self._tenants

    def numbers_for(self, names: Names) -> Numbers:
        """The number of each name; see Store.numbers_for."""
        asked = names.by_kind
        with self._changing:
            if self._old_kinds:
                self._give_tenants(asked, {kind for kind in self._old_kinds if asked[kind]})
            missing = {
                kind: [key for key in keys.values() if key not in self._numbers[kind]]
                for kind, keys in asked.items()
            }
            if any(missing.values()):
                with self._allocating(missing):
                    pass
            return _as_numbers(
                {
                    kind: {name: book[key] for name, key in asked[kind].items() if key in book}
                    for kind, book in self._numbers.items()
                }
            )

    @property
    def lacks_tenants(self) -> bool:
        """Whether numbers of an older version have no tenant yet."""
        with self._changing:
            return bool(self._old_kinds)

    def give_tenants(self, names: Names) -> None:
        """Numbers of an older version have no tenant; see Store.give_tenants."""
        with self._changing:
            self._give_tenants(names.by_kind, self._old_kinds)

    def _give_tenants(self, asked: Mapping[str, Mapping[str, str]], kinds: Set[str]) -> None:
        """Keep numbers without a tenant under the names that are asked for, the rest as nobody's.

        The rest stays taken: a bridge that is away may use it.
        """
        if not kinds:
            return
        renamed = {
            kind: {key: asked[kind].get(key, f"/{key}") for key in self._without_tenant(kind)}
            for kind in kinds
        }
        with self._database.writing() as connection:
            for kind, keys in renamed.items():
                for old, new in keys.items():
                    row = update(tables.numbers).filter_by(kind=kind, key=old)
                    connection.execute(row.values(key=new))
        for kind, keys in renamed.items():
            book = self._numbers[kind]
            self._numbers[kind] = {keys.get(key, key): number for key, number in book.items()}
        self._old_kinds = self._old_kinds - kinds
        self._tenants = self._find_tenants()

    def _find_tenants(self) -> frozenset[TenantName]:
        keys = chain(self._numbers["network"], self._numbers["port"])
        found = {key.partition("/")[0] for key in keys if "/" in key}
        return frozenset(TenantName(tenant) for tenant in found if tenant)

    def _without_tenant(self, kind: str) -> list[str]:
        """The keys of an older version, which had no tenant before the name."""
        return [key for key in self._numbers[kind] if "/" not in key]

    @contextmanager
    def giving(self, session: SessionId) -> Iterator[Connection]:
        """A transaction that also allocates the number of a new session."""
        with self._changing, self._allocating({"session": [session]}) as connection:
            yield connection

    def all(self) -> Numbers:
        """Everything that has a number."""
        with self._changing:
            return _as_numbers({kind: dict(book) for kind, book in self._numbers.items()})

    def release_all_but(self, used: Numbers) -> None:
        """Free the numbers that are not in use any more; see Store.release_all_but."""
        with self._changing:
            unused: dict[str, list[str]] = {}
            for kind, book in self._numbers.items():
                kept = set(getattr(used, kind).values())
                unused[kind] = [key for key, number in book.items() if number not in kept]
            if not any(unused.values()):
                return
            with self._database.writing() as connection:
                unused["session"] = _without_stored(connection, unused["session"])
                for kind, keys in unused.items():
                    for key in keys:
                        connection.execute(delete(tables.numbers).filter_by(kind=kind, key=key))
            for kind, keys in unused.items():
                for key in keys:
                    self._taken[kind].discard(self._numbers[kind].pop(key))
            if unused["network"] or unused["port"]:
                self._tenants = self._find_tenants()

    @contextmanager
    def _allocating(self, missing: Mapping[str, list[str]]) -> Iterator[Connection]:
        """A transaction that also allocates a number for each of these keys."""
        new: dict[str, dict[str, int]] = {}
        with self._database.writing() as connection:
            yield connection
            for kind, keys in missing.items():
                free = filterfalse(self._taken[kind].__contains__, self._offered(kind))
                new[kind] = dict(zip(keys, free, strict=False))
                if kind not in _SCARCE and len(new[kind]) < len(keys):
                    count = len(self._ranges[kind])
                    raise StoreError(f"all {count} {kind} numbers are in use: remove some {kind}s")
                self._write(connection, kind, new[kind])
        for kind, numbers in new.items():
            self._numbers[kind].update(numbers)
            self._taken[kind].update(numbers.values())
        if new.get("network") or new.get("port"):
            self._tenants = self._find_tenants()
        if new.get("session"):
            self._last["session"] = next(reversed(new["session"].values()))

    def _offered(self, kind: str) -> Iterable[int]:
        """The numbers of a kind, in the order in which they are given.

        Those of sessions begin after the last one that was given: a packet or a flow of a deleted
        session may still be in flight, so its number is reused as late as possible, and it is never
        counted for a new session. Others begin at the start, or where a restore has said.
        """
        numbers, last = self._ranges[kind], self._last.get(kind, 0)
        middle = min(max(last + 1, numbers.start), numbers.stop)
        return chain(range(middle, numbers.stop), range(numbers.start, middle))

    def _write(self, connection: Connection, kind: str, numbers: dict[str, int]) -> None:
        if not numbers:
            return
        rows = [{"kind": kind, "key": key, "number": n} for key, n in numbers.items()]
        for first in range(0, len(rows), ROWS_PER_SLICE):
            connection.execute(insert(tables.numbers), rows[first : first + ROWS_PER_SLICE])
            time.sleep(0)
        if kind == "session":
            last = list(numbers.values())[-1]
            connection.execute(
                upsert(tables.last_numbers)
                .values(kind=kind, number=last)
                .on_conflict_do_update(index_elements=["kind"], set_={"number": last})
            )


def _without_stored(connection: Connection, sessions: Iterable[str]) -> list[str]:
    """The sessions that are no longer in the store: the numbers of others are not free."""
    query = select(tables.sessions.c.id)
    return [key for key in sessions if connection.execute(query.filter_by(id=key)).first() is None]


def _as_numbers(given: dict[str, dict[str, int]]) -> Numbers:
    return Numbers(
        network={NetworkId(key): number for key, number in given["network"].items()},
        port={PortId(key): number for key, number in given["port"].items()},
        session={SessionId(key): number for key, number in given["session"].items()},
        tag=given["tag"],
        filter={FilterId(key): number for key, number in given["filter"].items()},
        collector={CollectorId(key): number for key, number in given["collector"].items()},
        meter={SessionId(key): number for key, number in given["meter"].items()},
    )

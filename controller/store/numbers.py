"""Numbers that stand for names on switches: allocated once, reused only after their release."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from itertools import chain, filterfalse

from sqlalchemy import Connection, Table, delete, func, insert, select, union, update
from sqlalchemy.dialects.sqlite import insert as upsert

from controller.store import tables
from controller.store.database import Database
from controller.store.errors import StoreError
from flows.errors import TooManyNumbers
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
    may_take,
)

ROWS_PER_SLICE = 1000
"""Numbers that are written before other threads may run."""

NOBODY = TenantName("")
"""In place of a tenant that is not known."""

_SCARCE = ("tag", "meter")
"""Kinds of which the last keys may have no number; the compiler refuses what needs one."""
_ASCENDING = ("session", "tag")
"""Kinds of which a number is given again as late as possible."""
_TABLES: Mapping[str, Table] = {
    **dict.fromkeys(("session", "meter"), tables.sessions),
    "filter": tables.filters,
    "collector": tables.collectors,
}
"""Where the ids are that numbers of a kind are kept under."""


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
        self._owners: dict[str, dict[str, TenantName]] = {kind: {} for kind in NUMBER_RANGES}
        """Whose numbers are where the key does not say it, as far as known."""
        with database.reading() as connection:
            for kind, key, number, tenant in connection.execute(select(tables.numbers)):
                self._numbers[kind][key] = number
                if tenant:
                    self._owners[kind][key] = TenantName(tenant)
            ends = connection.execute(select(tables.last_numbers))
            self._last: dict[str, int] = {row.kind: row.number for row in ends}
        self._taken = {kind: set(book.values()) for kind, book in self._numbers.items()}
        self._old_kinds = {kind for kind in KINDS_OF_TENANTS if self._without_tenant(kind)}
        self._tenants = self._find_tenants()
        self._used = {kind: self._count_used(kind) for kind in NUMBER_RANGES}
        """How many numbers of each kind each tenant has."""

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
        self._used |= {kind: self._count_used(kind) for kind in kinds}

    def _find_tenants(self) -> frozenset[TenantName]:
        keys = chain(self._numbers["network"], self._numbers["port"])
        found = {key.partition("/")[0] for key in keys if "/" in key}
        return frozenset(TenantName(tenant) for tenant in found if tenant)

    def _without_tenant(self, kind: str) -> list[str]:
        """The keys of an older version, which had no tenant before the name."""
        return [key for key in self._numbers[kind] if "/" not in key]

    @contextmanager
    def giving(self, session: SessionId, tenant: TenantName) -> Iterator[Connection]:
        """A transaction that also allocates the number of a new session.

        Raises:
            TooManyNumbers: the tenant may have no more of them.
        """
        with self._changing:
            if not self._may_take("session", tenant, self._used["session"]):
                raise TooManyNumbers("session", tenant, self._used["session"][tenant])
            with self._allocating({"session": [session]}) as connection:
                yield connection

    def check_quota(
        self, connection: Connection, table: Table, kind: str, tenant: TenantName
    ) -> None:
        """Refuse another object of a ``kind`` whose numbers are given later; waits for nobody.

        Those that are in the ``table`` of the kind count, and those that are gone and whose numbers
        bridges may still have.

        Raises:
            TooManyNumbers: the tenant may have no more of them.
        """
        numbers, every = tables.numbers.c, table.c
        numbered = select(numbers.key, numbers.tenant).where(numbers.kind == kind)
        known = union(select(every.id, every.tenant), numbered).subquery()
        query = select(known.c.tenant, func.count()).group_by(known.c.tenant)
        used = Counter({TenantName(each): count for each, count in connection.execute(query)})
        if not self._may_take(kind, tenant, used):
            raise TooManyNumbers(kind, tenant, used[tenant])

    def _may_take(self, kind: str, tenant: TenantName, used: Counter[TenantName]) -> bool:
        """Whether a tenant may have one more number of a kind; see may_take."""
        total = len(self._ranges[kind])
        free = total - used.total()
        known = {each: count for each, count in used.items() if each}
        return may_take(tenant, known, free=free, total=total, tenants=self._tenants)

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
                    self._used[kind][self._owner(kind, key)] -= 1
                    self._taken[kind].discard(self._numbers[kind].pop(key))
                    self._owners[kind].pop(key, None)
                self._used[kind] = +self._used[kind]
            if unused["network"] or unused["port"]:
                self._tenants = self._find_tenants()

    @contextmanager
    def _allocating(self, missing: Mapping[str, list[str]]) -> Iterator[Connection]:
        """A transaction that also allocates a number for each of these keys."""
        new: dict[str, dict[str, int]] = {}
        owners: dict[str, dict[str, TenantName]] = {}
        with self._database.writing() as connection:
            yield connection
            for kind, keys in missing.items():
                owners[kind] = _find_owners(connection, kind, keys)
                wanted = self._within_quota(kind, keys, owners[kind])
                free = filterfalse(self._taken[kind].__contains__, self._offered(kind))
                new[kind] = dict(zip(wanted, free, strict=False))
                if kind not in _SCARCE and len(new[kind]) < len(keys):
                    count = len(self._ranges[kind])
                    raise StoreError(f"all {count} {kind} numbers are in use: remove some {kind}s")
                self._write(connection, kind, new[kind], owners[kind])
        for kind, numbers in new.items():
            self._numbers[kind].update(numbers)
            self._taken[kind].update(numbers.values())
            self._owners[kind].update((k, of) for k, of in owners[kind].items() if k in numbers)
            self._used[kind].update(self._owner(kind, key) for key in numbers)
        if new.get("network") or new.get("port"):
            self._tenants = self._find_tenants()
        for kind in _ASCENDING:
            if new.get(kind):
                self._last[kind] = next(reversed(new[kind].values()))

    def _within_quota(
        self, kind: str, keys: list[str], owners: Mapping[str, TenantName]
    ) -> list[str]:
        """Those of some keys that may have a number: tenants leave each other meters, and link tags
        of copies. Production has its link tags before copies.
        """
        if kind not in _SCARCE:
            return keys
        used, wanted = Counter(self._used[kind]), []
        for key in keys:
            tenant = _tenant_in(kind, key) or owners.get(key, NOBODY)
            is_of_copies = kind == "meter" or key.startswith(f"{tenant}/tap-")
            if tenant and is_of_copies and not self._may_take(kind, tenant, used):
                continue
            used[tenant] += 1
            wanted.append(key)
        return wanted

    def _owner(self, kind: str, key: str) -> TenantName:
        """Whose number it is that is kept under a key; nobody's if that is not known."""
        return _tenant_in(kind, key) or self._owners[kind].get(key, NOBODY)

    def _count_used(self, kind: str) -> Counter[TenantName]:
        return Counter(self._owner(kind, key) for key in self._numbers[kind])

    def _offered(self, kind: str) -> Iterable[int]:
        """The numbers of a kind, in the order in which they are given.

        Those of sessions begin after the last one that was given: a packet or a flow of a deleted
        session may still be in flight, so its number is reused as late as possible, and it is never
        counted for a new session. So do link tags: a backup may give a name the tag that it had,
        and a bridge that is away must not have that for another tenant. Others begin at the start,
        or where a restore has said.
        """
        numbers, last = self._ranges[kind], self._last.get(kind, 0)
        middle = min(max(last + 1, numbers.start), numbers.stop)
        return chain(range(middle, numbers.stop), range(numbers.start, middle))

    def _write(
        self,
        connection: Connection,
        kind: str,
        numbers: dict[str, int],
        owners: Mapping[str, TenantName],
    ) -> None:
        if not numbers:
            return
        rows = [
            {"kind": kind, "key": key, "number": n, "tenant": owners.get(key, NOBODY)}
            for key, n in numbers.items()
        ]
        for first in range(0, len(rows), ROWS_PER_SLICE):
            connection.execute(insert(tables.numbers), rows[first : first + ROWS_PER_SLICE])
            time.sleep(0)
        if kind in _ASCENDING:
            last = list(numbers.values())[-1]
            connection.execute(
                upsert(tables.last_numbers)
                .values(kind=kind, number=last)
                .on_conflict_do_update(index_elements=["kind"], set_={"number": last})
            )


def _tenant_in(kind: str, key: str) -> TenantName:
    """The tenant that stands before a name; nobody if none does."""
    tenant, slash, _ = key.partition("/")
    return TenantName(tenant) if slash and kind in KINDS_OF_TENANTS else NOBODY


def _find_owners(connection: Connection, kind: str, keys: Sequence[str]) -> dict[str, TenantName]:
    """Whose the objects with these ids are, or were: what was asked for may be gone meanwhile."""
    if kind in KINDS_OF_TENANTS:
        return {}
    found: dict[str, TenantName] = {}
    table = _TABLES[kind]
    for first in range(0, len(keys), ROWS_PER_SLICE):
        some = keys[first : first + ROWS_PER_SLICE]
        query = select(table.c.id, table.c.tenant).where(table.c.id.in_(some))
        found |= {key: TenantName(tenant) for key, tenant in connection.execute(query)}
    entries = tables.audit.c
    for key in keys:
        if key not in found:
            last = select(entries.tenant).where(entries.id == key).order_by(entries.number.desc())
            tenant = connection.execute(last.limit(1)).scalar()
            found |= {} if tenant is None else {key: TenantName(tenant)}
    return found


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

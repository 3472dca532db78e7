"""The store: every change is one transaction, with its entry in the audit journal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, delete, insert, update

from controller.store import tables
from controller.store import audit as journal
from controller.store.constraints import refuse_taken_name, refuse_unfit
from controller.store.collectors import CollectorBook
from controller.store.database import Database
from controller.store.deeds import DeedBook
from controller.store.errors import NotFound, Repeated
from controller.store.filters import FilterBook
from controller.store.installed import HoldingBook
from controller.store.limits import LimitBook
from controller.store.numbers import NumberBook
from controller.store.placements import PlaceBook, delete_bridge
from controller.store.session_rows import (
    insert_sources,
    read_sessions,
    session_columns,
    thing_of,
    told_of,
    write_sources,
)
from controller.store.session_cache import SessionMemory
from controller.store.values import (
    AuditEntry,
    BridgeRecord,
    CollectorRecord,
    Desired,
    Limits,
    OnceKey,
    SessionRecord,
)
from flows.model.session import (
    Collector,
    CollectorId,
    Dpid,
    FilterId,
    NetworkId,
    PortId,
    Sensor,
    Session,
    SessionId,
)
from flows.model.world import Numbers


class _TrialOver(Exception):
    """Ends a transaction whose only purpose was to see whether it would do."""


class Store:
    """Desired state in one SQLite file, ``state.db``. Any number of threads may use it.

    Every method may raise StoreError, with a sentence; then nothing was changed. ``holdings`` is
    the part that knows which bridge may hold which session, ``filters`` the part with the filters,
    ``limits`` the part for sessions that stop by themselves, ``deeds`` that for the journal alone.

    Raises:
        AlreadyRunning: another controller uses the directory.
        NewerSchema, StoreError: the file cannot be used.
    """

    def __init__(
        self, directory: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._now = now
        self._database = Database(directory)
        self._numbers = NumberBook(self._database)
        self._places = PlaceBook(self._database)
        self.holdings = HoldingBook(self._database)
        self._collectors = CollectorBook(self._database, now)
        self.filters = FilterBook(self._database, now)
        self.deeds = DeedBook(self._database, now)
        self._sessions = SessionMemory(self._database)
        self.limits = LimitBook(self._database, now, self._sessions.touch)

    def close(self) -> None:
        """Close the file; another controller may open it then."""
        self._database.close()

    # --- collectors -------------------------------------------------------------------------

    def collectors(self) -> tuple[CollectorRecord, ...]:
        """Every collector, by tenant and name."""
        return self._collectors.all()

    def make_collector(
        self,
        make: Callable[[Sequence[Collector]], Collector],
        who: str,
        once: OnceKey | None = None,
        probes: Mapping[Sensor, str] | None = None,
    ) -> Collector:
        """Keep the new collector that ``make`` makes of all there are; see CollectorBook.make."""
        return self._collectors.make(make, who, once, probes)

    def add_collector(
        self,
        collector: Collector,
        who: str,
        once: OnceKey | None = None,
        probes: Mapping[Sensor, str] | None = None,
    ) -> None:
        """Keep a new collector; see CollectorBook.make for what it raises."""
        self._collectors.make(lambda others: collector, who, once, probes)

    def change_collector(
        self, collector: CollectorId, change: Callable[[CollectorRecord], CollectorRecord], who: str
    ) -> CollectorRecord:
        """Replace a collector by ``change(record)``; see CollectorBook.change."""
        return self._collectors.change(collector, change, who)

    def delete_collector(self, collector: CollectorId, who: str) -> None:
        """Forget a collector; see CollectorBook.delete."""
        self._collectors.delete(collector, who)

    # --- sessions ---------------------------------------------------------------------------

    def sessions(self) -> tuple[SessionRecord, ...]:
        """Every session, those being deleted too, by tenant, name and id."""
        return tuple(sorted(self._sessions.all(), key=_order_of))

    def session(self, session: SessionId) -> SessionRecord | None:
        """One session by its id, also while it is being deleted."""
        return self._sessions.get(session)

    def sessions_named(self, name: str) -> tuple[SessionRecord, ...]:
        """The sessions of this name, of all tenants, those being deleted too."""
        found = (r for r in self._sessions.all() if r.session.name == name)
        return tuple(sorted(found, key=_order_of))

    def desired(self) -> Desired:
        """What tenants want now."""
        # sessions first: what they name was there before them, and stays as long as they do
        sessions = self._sessions.desired()
        collectors, filters = self._collectors.all(), self.filters.all()
        return dataclasses.replace(
            sessions,
            collectors=tuple(record.collector for record in collectors),
            filters=tuple(record.filter for record in filters),
            probes={
                (record.collector.id, sensor): probe
                for record in collectors
                for sensor, probe in record.probes.items()
            },
        )

    def changed_between(self, before: int, now: int) -> Set[SessionId] | None:
        """The sessions that may differ at two moments (see Desired); None: any may."""
        return self._sessions.changed_between(before, now)

    def add_session(
        self,
        session: Session,
        who: str,
        once: OnceKey | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Keep a new session, and give it its number.

        Raises:
            NameTaken, NumberTaken: the tenant has one of this name, or exclusive number.
            NotFound: its collector or filter is not there (any more).
            Repeated: the key of the request was used before.
        """
        now = self._now()
        record = SessionRecord(session, now, limits=limits or Limits())
        with self._numbers.giving(session.id) as connection:
            if once is not None:
                journal.take_key(connection, once, session.id, now)
            _insert_session(connection, record)
            journal.write_entry(connection, now, who, "created", thing_of(session), told_of(record))
        self._sessions.touch([session.id])

    def try_session(self, session: Session) -> None:
        """Raise what add_session would raise, and keep nothing."""
        try:
            with self._database.writing() as connection:
                _insert_session(connection, SessionRecord(session, self._now()))
                raise _TrialOver
        except _TrialOver:
            return

    def change_session(
        self, session: SessionId, change: Callable[[SessionRecord], SessionRecord], who: str
    ) -> SessionRecord:
        """Replace a session by ``change(record)``, with nobody else in between.

        Raises:
            NotFound: there is none of this id, or it is being deleted, or its collector or filter
                is gone.
            NameTaken, NumberTaken: the tenant has another one of the new name, or number.
            Whatever ``change`` raises; then nothing was changed.
        """
        with self._database.writing() as connection:
            found = [r for r in read_sessions(connection, session) if not r.is_deleting]
            if not found:
                raise NotFound("session", session)
            old = found[0]
            new = change(old)
            if new == old:
                return old
            if new.session.name != old.session.name:
                refuse_taken_name(connection, "session", new.session.tenant, new.session.name)
            refuse_unfit(connection, new.session)
            columns = session_columns(new)
            connection.execute(update(tables.sessions).filter_by(id=session).values(columns))
            write_sources(connection, new.session)
            changed = _changed(told_of(old), told_of(new))
            thing = thing_of(old.session)
            journal.write_entry(connection, self._now(), who, "changed", thing, changed)
        self._sessions.touch([session])
        return new

    def delete_session(self, session: SessionId, who: str) -> None:
        """Mark a session as being deleted: it is wanted no more, and listed until it is gone.

        Raises:
            NotFound: there is none of this id.
        """
        with self._database.writing() as connection:
            found = read_sessions(connection, session)
            if not found:
                raise NotFound("session", session)
            if found[0].is_deleting:
                return
            connection.execute(update(tables.sessions).filter_by(id=session).values(deleting=True))
            thing = thing_of(found[0].session)
            journal.write_entry(connection, self._now(), who, "deleted", thing, {})
        self._sessions.touch([session])

    def finish_deletions(self, sessions: Iterable[SessionId]) -> None:
        """Forget sessions marked as being deleted, once no switch has a flow of theirs.

        Others are left alone. Their numbers stay taken until ``release``.
        """
        gone = list(sessions)
        if not gone:
            return
        with self._database.writing() as connection:
            for session in gone:
                connection.execute(delete(tables.sessions).filter_by(id=session, deleting=True))
        self._sessions.touch(gone)

    # --- numbers ----------------------------------------------------------------------------

    def numbers_for(
        self,
        networks: Iterable[NetworkId],
        ports: Iterable[PortId],
        sessions: Iterable[SessionId],
        tag_keys: Iterable[str],
        filters: Iterable[FilterId] = (),
        collectors: Iterable[CollectorId] = (),
        meters: Iterable[SessionId] = (),
    ) -> Numbers:
        """The numbers of these; what has none yet gets one, kept from then on.

        All get the smallest free number, only sessions the next one after the last that was given.
        When link tags or meters run out the last keys have none: the compiler then refuses what
        needs them, and the rest goes on.

        Raises:
            StoreError: another kind has no free number.
        """
        return self._numbers.numbers_for(
            {
                "network": list(networks),
                "port": list(ports),
                "session": list(sessions),
                "tag": list(tag_keys),
                "filter": list(filters),
                "collector": list(collectors),
                "meter": list(meters),
            }
        )

    def release(
        self,
        networks: Iterable[NetworkId] = (),
        ports: Iterable[PortId] = (),
        sessions: Iterable[SessionId] = (),
        tag_keys: Iterable[str] = (),
        filters: Iterable[FilterId] = (),
        collectors: Iterable[CollectorId] = (),
        meters: Iterable[SessionId] = (),
    ) -> None:
        """Free the numbers of things that are gone from everywhere, switches included.

        The number of a session that is still in the store stays taken.
        """
        self._numbers.release(
            {
                "network": list(networks),
                "port": list(ports),
                "session": list(sessions),
                "tag": list(tag_keys),
                "filter": list(filters),
                "collector": list(collectors),
                "meter": list(meters),
            }
        )

    def numbered(self) -> Numbers:
        """Everything that has a number now, to find what may be released."""
        return self._numbers.all()

    def prove_writable(self) -> None:
        """Raises StoreError when no change could be stored now."""
        self._database.prove_writable()

    def try_again(self) -> None:
        """See whether changes can be stored now; ``problem`` says why not."""
        self._database.try_again()

    @property
    def problem(self) -> str:
        """Why the last change could not be stored; empty when it was."""
        return self._database.problem

    # --- placements -------------------------------------------------------------------------

    def bridges(self) -> tuple[BridgeRecord, ...]:
        """Every bridge as it was last seen, by name."""
        return self._places.all()

    def remember_bridges(self, bridges: Iterable[BridgeRecord]) -> None:
        """Replace what is known of these bridges; writes nothing of what is known already."""
        self._places.remember(bridges)

    def forget_bridge(self, dpid: Dpid, name: str, who: str) -> None:
        """Forget one bridge: its interfaces, and which sessions it may be making copies of.

        What was counted of sessions on it stays.
        """
        with self._places.forgetting(dpid), self.holdings.forgetting(dpid) as connection:
            delete_bridge(connection, dpid)
            thing = ("bridge", f"{dpid:016x}", name, "")
            journal.write_entry(connection, self._now(), who, "forgotten", thing, {})

    # --- audit and requests that count once -------------------------------------------------

    def audit(
        self, filters: Mapping[str, str] | None = None, before: int | None = None, limit: int = 100
    ) -> tuple[AuditEntry, ...]:
        """Changes, newest first; filters by who, what, kind, id, name, tenant."""
        with self._database.reading() as connection:
            return journal.read_entries(connection, filters or {}, before, limit)

    def repeated(self, key: str) -> Repeated | None:
        """What a request with this key has led to, if there was one."""
        with self._database.reading() as connection:
            return journal.find_key(connection, key, self._now())

    def remember_answer(self, key: str, answer: str) -> None:
        """Keep the answer to the request with this key."""
        with self._database.writing() as connection:
            journal.write_answer(connection, key, answer)


def _order_of(record: SessionRecord) -> tuple[str, str, str]:
    return record.session.tenant, record.session.name, record.session.id


def _insert_session(connection: Connection, record: SessionRecord) -> None:
    session = record.session
    refuse_taken_name(connection, "session", session.tenant, session.name)
    refuse_unfit(connection, session)
    fixed = {"id": session.id, "created_at": record.created_at.isoformat(), "deleting": False}
    connection.execute(insert(tables.sessions), session_columns(record) | fixed)
    insert_sources(connection, session)


def _changed(before: dict[str, object], after: dict[str, object]) -> dict[str, object]:
    return {key: after[key] for key in after if after[key] != before[key]}

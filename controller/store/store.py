"""The store: every change is one transaction, with its entry in the audit journal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Row, delete, insert, select, update

from controller.store import journal, tables
from controller.store.database import Database
from controller.store.errors import InUse, NameTaken, NotFound, Repeated
from controller.store.holdings import HoldingBook
from controller.store.numbers import NumberBook
from controller.store.places import PlaceBook
from controller.store.values import (
    AuditEntry,
    BridgeRecord,
    CollectorRecord,
    Desired,
    OnceKey,
    SessionRecord,
)
from flows.model import (
    Collector,
    CollectorId,
    Direction,
    Dpid,
    NetworkId,
    PortId,
    Session,
    SessionId,
    Source,
    TenantName,
)
from flows.world import Numbers


class _TrialOver(Exception):
    """Ends a transaction whose only purpose was to see whether it would do."""


class Store:
    """Desired state in one SQLite file, ``state.db``. Any number of threads may use it.

    Every method may raise StoreError, with a sentence; then nothing was changed. ``holdings`` is
    the part that knows which bridge may hold which session.

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

    def close(self) -> None:
        """Close the file; another controller may open it then."""
        self._database.close()

    # --- collectors -------------------------------------------------------------------------

    def collectors(self) -> tuple[CollectorRecord, ...]:
        """Every collector, by tenant and name."""
        with self._database.reading() as connection:
            return _read_collectors(connection)

    def add_collector(self, collector: Collector, who: str, once: OnceKey | None = None) -> None:
        """Keep a new collector.

        Raises:
            NameTaken: the tenant has one of this name.
            Repeated: the key of the request was used before.
        """
        now = self._now()
        with self._database.writing() as connection:
            if once is not None:
                journal.take_key(connection, once, collector.id, now)
            _refuse_taken_name(connection, "collector", collector.tenant, collector.name)
            connection.execute(
                insert(tables.collectors).values(
                    id=collector.id,
                    tenant=collector.tenant,
                    name=collector.name,
                    sensor=collector.sensor,
                    created_at=now.isoformat(),
                )
            )
            thing = ("collector", collector.id, collector.name, collector.tenant)
            detail = {"sensors": list(collector.sensors)}
            journal.write_entry(connection, now, who, "created", thing, detail)

    def delete_collector(self, collector: CollectorId, who: str) -> None:
        """Forget a collector.

        Raises:
            NotFound: there is none of this id.
            InUse: sessions deliver into it, or are not wholly gone yet.
        """
        with self._database.writing() as connection:
            row = connection.execute(
                select(tables.collectors).filter_by(id=collector)
            ).one_or_none()
            if row is None:
                raise NotFound("collector", collector)
            users = connection.execute(
                select(tables.sessions.c.name)
                .filter_by(collector=collector)
                .order_by(tables.sessions.c.name)
            ).scalars()
            if names := list(users):
                raise InUse(row.name, names)
            connection.execute(delete(tables.collectors).filter_by(id=collector))
            thing = ("collector", row.id, row.name, row.tenant)
            journal.write_entry(connection, self._now(), who, "deleted", thing, {})

    # --- sessions ---------------------------------------------------------------------------

    def sessions(self) -> tuple[SessionRecord, ...]:
        """Every session, those being deleted too, by tenant, name and id."""
        with self._database.reading() as connection:
            return _read_sessions(connection)

    def desired(self) -> Desired:
        """What tenants want now, all of one moment."""
        with self._database.reading() as connection:
            records = _read_sessions(connection)
            collectors = _read_collectors(connection)
        return Desired(
            collectors=tuple(record.collector for record in collectors),
            sessions=tuple(record.session for record in records if not record.is_deleting),
            deleting=tuple(record.session.id for record in records if record.is_deleting),
        )

    def add_session(self, session: Session, who: str, once: OnceKey | None = None) -> None:
        """Keep a new session.

        Raises:
            NameTaken: the tenant has one of this name.
            NotFound: its collector is not there (any more).
            Repeated: the key of the request was used before.
        """
        now = self._now()
        with self._database.writing() as connection:
            if once is not None:
                journal.take_key(connection, once, session.id, now)
            _insert_session(connection, session, now)
            journal.write_entry(connection, now, who, "created", _thing(session), _fields(session))

    def try_session(self, session: Session) -> None:
        """Raise what add_session would raise, and keep nothing."""
        try:
            with self._database.writing() as connection:
                _insert_session(connection, session, self._now())
                raise _TrialOver
        except _TrialOver:
            return

    def change_session(
        self, session: SessionId, change: Callable[[Session], Session], who: str
    ) -> Session:
        """Replace a session by ``change(session)``, with nobody else in between.

        Raises:
            NotFound: there is none of this id, or it is being deleted, or its collector is gone.
            NameTaken: the tenant has another one of the new name.
            Whatever ``change`` raises; then nothing was changed.
        """
        with self._database.writing() as connection:
            found = [r for r in _read_sessions(connection, session) if not r.is_deleting]
            if not found:
                raise NotFound("session", session)
            old = found[0].session
            new = change(old)
            if new == old:
                return old
            if new.name != old.name:
                _refuse_taken_name(connection, "session", new.tenant, new.name)
            _refuse_missing_collector(connection, new.collector)
            connection.execute(update(tables.sessions).filter_by(id=session).values(_columns(new)))
            connection.execute(delete(tables.session_sources).filter_by(session=session))
            connection.execute(insert(tables.session_sources), _source_rows(new))
            before, after = _fields(old), _fields(new)
            changed = {key: after[key] for key in after if after[key] != before[key]}
            journal.write_entry(connection, self._now(), who, "changed", _thing(old), changed)
        return new

    def delete_session(self, session: SessionId, who: str) -> None:
        """Mark a session as being deleted: it is wanted no more, and listed until it is gone.

        Raises:
            NotFound: there is none of this id.
        """
        with self._database.writing() as connection:
            found = _read_sessions(connection, session)
            if not found:
                raise NotFound("session", session)
            if found[0].is_deleting:
                return
            connection.execute(update(tables.sessions).filter_by(id=session).values(deleting=True))
            thing = _thing(found[0].session)
            journal.write_entry(connection, self._now(), who, "deleted", thing, {})

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

    # --- numbers ----------------------------------------------------------------------------

    def numbers_for(
        self,
        networks: Iterable[NetworkId],
        ports: Iterable[PortId],
        sessions: Iterable[SessionId],
        tag_keys: Iterable[str],
    ) -> Numbers:
        """The numbers of these; what has none yet gets one, kept from then on.

        Networks, ports and tags get the smallest free number; sessions get the next one after the
        last that was given. When link tags run out the last keys have none: the compiler then
        refuses what needs them, and the rest goes on.

        Raises:
            StoreError: a kind other than tags has no free number.
        """
        return self._numbers.numbers_for(
            {
                "network": list(networks),
                "port": list(ports),
                "session": list(sessions),
                "tag": list(tag_keys),
            }
        )

    def release(
        self,
        networks: Iterable[NetworkId] = (),
        ports: Iterable[PortId] = (),
        sessions: Iterable[SessionId] = (),
        tag_keys: Iterable[str] = (),
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
            }
        )

    def numbered(self) -> Numbers:
        """Everything that has a number now, to find what may be released."""
        return self._numbers.all()

    # --- placements -------------------------------------------------------------------------

    def bridges(self) -> tuple[BridgeRecord, ...]:
        """Every bridge as it was last seen, by name."""
        return self._places.all()

    def remember_bridge(self, bridge: BridgeRecord) -> None:
        """Replace what is known of one bridge; writes nothing when it is known already."""
        self._places.remember(bridge)

    def forget_bridge(self, dpid: Dpid) -> None:
        """Forget one bridge and its interfaces."""
        self._places.forget(dpid)

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


def _read_collectors(connection: Connection) -> tuple[CollectorRecord, ...]:
    columns = tables.collectors.c
    query = select(tables.collectors).order_by(columns.tenant, columns.name)
    return tuple(
        CollectorRecord(
            Collector(CollectorId(row.id), row.name, TenantName(row.tenant), (PortId(row.sensor),)),
            datetime.fromisoformat(row.created_at),
        )
        for row in connection.execute(query)
    )


def _read_sessions(
    connection: Connection, session: SessionId | None = None
) -> tuple[SessionRecord, ...]:
    columns, sources = tables.sessions.c, tables.session_sources.c
    query = select(tables.sessions).order_by(columns.tenant, columns.name, columns.id)
    source_query = select(sources.session, sources.port).order_by(sources.position)
    if session is not None:
        query, source_query = query.filter_by(id=session), source_query.filter_by(session=session)
    ports: defaultdict[str, list[PortId]] = defaultdict(list)
    for owner, port in connection.execute(source_query):
        ports[owner].append(PortId(port))
    return tuple(_record(row, ports[row.id]) for row in connection.execute(query))


def _record(row: Row[tuple[object, ...]], ports: list[PortId]) -> SessionRecord:
    session = Session(
        id=SessionId(row.id),
        name=row.name,
        tenant=TenantName(row.tenant),
        source=Source(tuple(ports)),
        collector=CollectorId(row.collector),
        direction=Direction(row.direction),
        number=row.number,
        enabled=row.enabled,
    )
    return SessionRecord(session, datetime.fromisoformat(row.created_at), row.deleting)


def _insert_session(connection: Connection, session: Session, now: datetime) -> None:
    _refuse_taken_name(connection, "session", session.tenant, session.name)
    _refuse_missing_collector(connection, session.collector)
    fixed = {"id": session.id, "created_at": now.isoformat(), "deleting": False}
    connection.execute(insert(tables.sessions).values(_columns(session) | fixed))
    connection.execute(insert(tables.session_sources), _source_rows(session))


def _columns(session: Session) -> dict[str, object]:
    return {
        "tenant": session.tenant,
        "name": session.name,
        "direction": session.direction.value,
        "number": session.number,
        "enabled": session.enabled,
        "collector": session.collector,
    }


def _source_rows(session: Session) -> list[dict[str, object]]:
    return [
        {"session": session.id, "position": position, "port": port}
        for position, port in enumerate(session.source.ports)
    ]


def _refuse_taken_name(connection: Connection, kind: str, tenant: str, name: str) -> None:
    table = tables.sessions if kind == "session" else tables.collectors
    query = select(table.c.id).filter_by(tenant=tenant, name=name)
    if kind == "session":
        query = query.filter_by(deleting=False)
    if connection.execute(query).first() is not None:
        raise NameTaken(kind, tenant, name)


def _refuse_missing_collector(connection: Connection, collector: str) -> None:
    if connection.execute(select(tables.collectors.c.id).filter_by(id=collector)).first() is None:
        raise NotFound("collector", collector)


def _thing(session: Session) -> tuple[str, str, str, str]:
    return "session", session.id, session.name, session.tenant


def _fields(session: Session) -> dict[str, object]:
    return _columns(session) | {"source": list(session.source.ports)}

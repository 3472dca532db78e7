"""Sessions and their sources as rows of the database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import Connection, Row, delete, insert, select

from controller.store import tables
from controller.store.content_check import read_time, reading_rows
from controller.store.values import Limits, SessionRecord
from flows.model import (
    ALL,
    CollectorId,
    Direction,
    FilterId,
    Mode,
    NetworkId,
    Oversize,
    PortId,
    Rate,
    RateUnit,
    Session,
    SessionId,
    Source,
    SourceKind,
    TenantName,
)
from flows.openflow import PacketCount

_SourceItem = tuple[str, str | None]
"""A port or network id, or the key of a label; and the value of a label."""


def read_sessions(
    connection: Connection, session: SessionId | None = None
) -> tuple[SessionRecord, ...]:
    """Every session, or one, by tenant, name and id."""
    columns, sources = tables.sessions.c, tables.session_sources.c
    query = select(tables.sessions).order_by(columns.tenant, columns.name, columns.id)
    source_query = select(sources.session, sources.item, sources.value).order_by(sources.position)
    if session is not None:
        query, source_query = query.filter_by(id=session), source_query.filter_by(session=session)
    items: defaultdict[str, list[_SourceItem]] = defaultdict(list)
    for owner, item, value in connection.execute(source_query):
        items[owner].append((item, value))
    found = []
    for row in connection.execute(query):
        with reading_rows(f"session {row.name!r}"):
            found.append(_record(row, items[row.id]))
    return tuple(found)


def session_columns(record: SessionRecord) -> dict[str, object]:
    """The columns of a session that may change."""
    session, limits = record.session, record.limits
    return {
        "tenant": session.tenant,
        "name": session.name,
        "direction": session.direction.value,
        "number": session.number,
        "enabled": session.enabled,
        "collector": session.collector,
        "source_kind": session.source.kind.value,
        "filter": None if session.filter == ALL else session.filter,
        "packet_length": session.packet_length,
        "oversize": session.oversize.value,
        "rate_unit": None if session.max_rate is None else session.max_rate.unit.value,
        "rate": None if session.max_rate is None else session.max_rate.value,
        "mode": session.mode.value,
        "expires_at": None if limits.expires_at is None else limits.expires_at.isoformat(),
        "max_packets": limits.max_packets,
        "max_bytes": limits.max_bytes,
        "from_packets": tables.storable(limits.counted_from.packets),
        "from_bytes": tables.storable(limits.counted_from.bytes),
        "stopped": record.stopped,
    }


def write_sources(connection: Connection, session: Session) -> None:
    """Replace the rows of a session's source."""
    connection.execute(delete(tables.session_sources).filter_by(session=session.id))
    insert_sources(connection, session)


def insert_sources(connection: Connection, session: Session) -> None:
    """Write the rows of a new session's source."""
    rows = [
        {"session": session.id, "position": position, "item": item, "value": value}
        for position, (item, value) in enumerate(_items(session.source))
    ]
    if rows:
        connection.execute(insert(tables.session_sources), rows)


def audit_detail(record: SessionRecord) -> dict[str, object]:
    """A session as the detail of an audit entry."""
    hidden = ("from_packets", "from_bytes")
    columns = {k: v for k, v in session_columns(record).items() if k not in hidden}
    items = _items(record.session.source)
    return columns | {"source": [k if v is None else f"{k}={v}" for k, v in items]}


def _record(row: Row[tuple[object, ...]], items: Sequence[_SourceItem]) -> SessionRecord:
    session = Session(
        id=SessionId(row.id),
        name=row.name,
        tenant=TenantName(row.tenant),
        source=_source(SourceKind(row.source_kind), items),
        collector=CollectorId(row.collector),
        direction=Direction(row.direction),
        number=row.number,
        enabled=row.enabled,
        filter=ALL if row.filter is None else FilterId(row.filter),
        packet_length=row.packet_length,
        oversize=Oversize(row.oversize),
        max_rate=None if row.rate is None else Rate(RateUnit(row.rate_unit), row.rate),
        mode=Mode(row.mode),
    )
    limits = Limits(
        None if row.expires_at is None else read_time(row.expires_at),
        row.max_packets,
        row.max_bytes,
        PacketCount(row.from_packets, row.from_bytes),
    )
    created_at = read_time(row.created_at)
    return SessionRecord(session, created_at, row.deleting, limits, row.stopped)


def _items(source: Source) -> list[_SourceItem]:
    match source.kind:
        case SourceKind.PORT:
            return [(port, None) for port in source.ports]
        case SourceKind.NETWORK:
            return [(network, None) for network in source.networks]
        case SourceKind.LABEL:
            return list(source.labels)
        case SourceKind.TENANT:
            return []


def _source(kind: SourceKind, items: Sequence[_SourceItem]) -> Source:
    match kind:
        case SourceKind.PORT:
            return Source(tuple(PortId(item) for item, _ in items))
        case SourceKind.NETWORK:
            return Source(kind=kind, networks=tuple(NetworkId(item) for item, _ in items))
        case SourceKind.LABEL:
            return Source(kind=kind, labels=tuple((item, value or "") for item, value in items))
        case SourceKind.TENANT:
            return Source(kind=kind)

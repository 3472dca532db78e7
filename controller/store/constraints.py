"""Constraints that a change must keep: unique names and numbers, references that exist.

The schema enforces them, too; these checks give each violation its own sentence.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from controller.store import tables
from controller.store.errors import NameTaken, NotFound, NumberTaken
from flows.model import ALL, Mode, Session

_TABLES = {
    "collector": tables.collectors,
    "filter": tables.filters,
    "session": tables.sessions,
}


def check_name_free(connection: Connection, kind: str, tenant: str, name: str) -> None:
    """Check that no object of this kind has the name in the tenant, or is built in under it.

    Raises:
        NameTaken: one has.
    """
    table = _TABLES[kind]
    query = select(table.c.id).filter_by(tenant=tenant, name=name)
    if kind == "session":
        # the exact condition of the partial index: otherwise SQLite scans all rows
        query = query.where(tables.IS_LIVE)
    is_built_in = kind == "filter" and name == ALL
    if is_built_in or connection.execute(query).first() is not None:
        raise NameTaken(kind, tenant, name)


def check_session_rows(connection: Connection, session: Session) -> None:
    """Check a session against the other rows: its collector and filter exist, its number is free.

    Raises:
        NotFound: the collector or the filter does not exist.
        NumberTaken: another exclusive session of the tenant has the number.
    """
    references: list[tuple[str, str]] = [("collector", session.collector)]
    references += [("filter", session.filter)] if session.filter != ALL else []
    for kind, key in references:
        query = select(_TABLES[kind].c.id).filter_by(id=key)
        if connection.execute(query).first() is None:
            raise NotFound(kind, key)
    if session.mode is Mode.EXCLUSIVE:
        _check_number_free(connection, session)


def _check_number_free(connection: Connection, session: Session) -> None:
    columns = tables.sessions.c
    query = select(columns.name).filter_by(tenant=session.tenant, number=session.number)
    # the exact condition of the partial index: otherwise SQLite scans all rows
    others = query.where(tables.IS_EXCLUSIVE).where(columns.id != session.id)
    other = connection.execute(others).scalar()
    if other is not None:
        raise NumberTaken(session.tenant, session.number, other)

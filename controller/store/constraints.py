"""What a change may not do: take a name twice, or leave a session without its parts."""

from __future__ import annotations

from sqlalchemy import Connection, select

from controller.store import tables
from controller.store.errors import NameTaken, NotFound, NumberTaken
from flows.model.session import ALL, Mode, Session

_TABLES = {
    "collector": tables.collectors,
    "filter": tables.filters,
    "session": tables.sessions,
}


def refuse_taken_name(connection: Connection, kind: str, tenant: str, name: str) -> None:
    """Refuse a name that the tenant has given already, or that a built-in thing has.

    Raises:
        NameTaken: for that reason.
    """
    table = _TABLES[kind]
    query = select(table.c.id).filter_by(tenant=tenant, name=name)
    if kind == "session":
        query = query.where(tables.IS_LIVE)  # in the words of the index, or all rows are read
    is_built_in = kind == "filter" and name == ALL
    if is_built_in or connection.execute(query).first() is not None:
        raise NameTaken(kind, tenant, name)


def refuse_unfit(connection: Connection, session: Session) -> None:
    """Refuse a session whose collector or filter is gone, or whose exclusive number is taken.

    Raises:
        NotFound, NumberTaken: for that reason.
    """
    parts: list[tuple[str, str]] = [("collector", session.collector)]
    parts += [("filter", session.filter)] if session.filter != ALL else []
    for kind, key in parts:
        query = select(_TABLES[kind].c.id).filter_by(id=key)
        if connection.execute(query).first() is None:
            raise NotFound(kind, key)
    if session.mode is Mode.EXCLUSIVE:
        _refuse_taken_number(connection, session)


def _refuse_taken_number(connection: Connection, session: Session) -> None:
    columns = tables.sessions.c
    query = select(columns.name).filter_by(tenant=session.tenant, number=session.number)
    # in the words of the index, or all rows are read
    others = query.where(tables.IS_EXCLUSIVE).where(columns.id != session.id)
    other = connection.execute(others).scalar()
    if other is not None:
        raise NumberTaken(session.tenant, session.number, other)

"""What a change may not do: take a name twice, or leave a session without its parts."""

from __future__ import annotations

from sqlalchemy import Connection, select

from controller.store import tables
from controller.store.errors import NameTaken, NotFound
from flows.model import ALL, Session

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


def refuse_missing_parts(connection: Connection, session: Session) -> None:
    """Refuse a session whose collector or filter is gone.

    Raises:
        NotFound: for that reason.
    """
    parts: list[tuple[str, str]] = [("collector", session.collector)]
    parts += [("filter", session.filter)] if session.filter != ALL else []
    for kind, key in parts:
        query = select(_TABLES[kind].c.id).filter_by(id=key)
        if connection.execute(query).first() is None:
            raise NotFound(kind, key)

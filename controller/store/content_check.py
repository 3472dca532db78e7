"""Checks what a state database holds, before any of it is believed.

SQLite finds broken pages and indexes, not a changed value in a row. A datapath id that is no number
or a kind that nobody knows must be a sentence at the start, not a failure somewhere later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from netaddr import AddrFormatError
from sqlalchemy import Connection

from controller.store.errors import BadContent
from flows.errors import CloudtapError
from flows.model import NUMBER_RANGES, Delivery

_WORD = (
    "typeof({c}) = 'text' AND length({c}) BETWEEN 1 AND 64 "
    "AND {c} GLOB '[A-Za-z0-9]*' AND {c} NOT GLOB '*[^A-Za-z0-9._:-]*' AND instr({c}, char(0)) = 0"
)
_DPID = "typeof({c}) = 'text' AND length({c}) = 16 AND {c} NOT GLOB '*[^0-9a-f]*'"
_TEXT = "typeof({c}) = 'text' AND length({c}) <= 65536"
_COUNT = "typeof({c}) = 'integer' AND {c} >= 0"
_SERIAL = "typeof({c}) = 'integer' AND {c} BETWEEN 0 AND 4611686018427387904"
"""Half of what SQLite can count: at the end nothing more could be inserted."""
_DIFFERENCE = "typeof({c}) = 'integer'"
"""What was counted before a restart: negative where frames of a check are taken off."""
_FLAG = "{c} IN (0, 1)"
_PORT = "typeof({c}) = 'integer' AND {c} BETWEEN 0 AND 4294967295"
_TIME = "typeof({c}) = 'text' AND datetime({c}) IS NOT NULL"
_DELIVERY = "{c} IN (" + ", ".join(f"'{each.value}'" for each in Delivery) + ")"
_KIND = "{c} IN (" + ", ".join(f"'{kind}'" for kind in NUMBER_RANGES) + ")"

COLUMN_RULES: Mapping[str, Mapping[str, str]] = {
    "collectors": {"id": _WORD, "tenant": _WORD, "name": _WORD, "created_at": _TIME},
    "held_keys": {
        "number": _SERIAL,
        "tenant": _WORD,
        "delivery": _DELIVERY,
        "key": _COUNT,
        "address": _TEXT,
    },
    "sensors": {"collector": _WORD, "position": _COUNT, "item": _TEXT, "probe": _TEXT},
    "filters": {
        "id": _WORD,
        "tenant": _WORD,
        "name": _WORD,
        "created_at": _TIME,
        "revision": _COUNT,
        "rules": "json_valid({c})",
    },
    "sessions": {
        "id": _WORD,
        "tenant": _WORD,
        "name": _WORD,
        "enabled": _FLAG,
        "deleting": _FLAG,
        "created_at": _TIME,
        "expires_at": _TIME,
        **dict.fromkeys(("max_packets", "max_bytes", "from_packets", "from_bytes"), _COUNT),
        "stopped": _TEXT,
    },
    "session_sources": {"session": _WORD, "position": _COUNT, "item": _TEXT, "value": _TEXT},
    "counts": {
        "session": _WORD,
        "bridge": _DPID,
        **dict.fromkeys(("before_packets", "before_bytes"), _DIFFERENCE),
        **dict.fromkeys(("last_packets", "last_bytes"), _COUNT),
    },
    "numbers": {"kind": _KIND, "key": _TEXT, "number": _COUNT, "tenant": _TEXT},
    "last_numbers": {"kind": _KIND, "number": _COUNT},
    "bridges": {"dpid": _DPID, "name": _TEXT},
    "speakers": {"bridge": _DPID, "database": _TEXT, "row": _TEXT, "certificate": _TEXT},
    "places": {"who": _TEXT, "bridge": _DPID, "interface": _TEXT},
    "placements": {"bridge": _DPID, "interface": _TEXT, "iface_id": _TEXT, "ofport": _PORT},
    "holdings": {"bridge": _DPID, "session": _COUNT},
}
"""What each column must be where it is not null: a condition of SQL with ``{c}`` for the column."""


SEQUENCE_RULES = {"sqlite_sequence": {"seq": _SERIAL}}
"""The same for the table in which SQLite keeps the last number of the audit log."""


def check_content(connection: Connection) -> None:
    """Compare every row with COLUMN_RULES and SEQUENCE_RULES.

    Raises:
        BadContent: a table or column is missing, a row is not as it must be, or something is there
            that acts by itself.
    """
    added = "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view') LIMIT 1"
    found = connection.exec_driver_sql(added).first()
    if found is not None:
        raise BadContent(f"it has a {found[0]} {_shown(found[1])}, and cloudtap makes none")
    for table, rules in (*COLUMN_RULES.items(), *SEQUENCE_RULES.items()):
        known = {row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table})")}
        if not known:
            raise BadContent(f"table {table!r} is missing")
        for column, rule in rules.items():
            if column not in known:
                raise BadContent(f"column {column!r} of table {table!r} is missing")
            condition = rule.format(c=f'"{column}"')
            query = (
                f'SELECT rowid, "{column}" FROM {table} '
                f'WHERE "{column}" IS NOT NULL AND NOT coalesce({condition}, 0) LIMIT 1'
            )
            found = connection.exec_driver_sql(query).first()
            if found is not None:
                raise BadContent(
                    f"row {found[0]} of table {table!r}: {column} is {_shown(found[1])}"
                )


@contextmanager
def reading_rows(what: str) -> Iterator[None]:
    """Make a sentence of what goes wrong while rows become values.

    Raises:
        BadContent: a value was refused, or could not be read.
    """
    try:
        yield
    except BadContent:
        raise
    except (
        *(ValueError, TypeError, KeyError, AttributeError, IndexError),
        *(AddrFormatError, CloudtapError),
    ) as error:
        raise BadContent(f"{what} cannot be read: {error}") from error


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."

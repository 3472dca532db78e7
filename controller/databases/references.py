"""Which rows of a database refer to a row: references between rows, read and followed backwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from controller.databases.columns import Row

Referrers = defaultdict[str, set[str]]
"""The rows that refer to a row in one column, by the uuid of that row."""


def refs(row: Row | None, column: str) -> frozenset[str]:
    """The uuids of the rows that a row refers to; none if there is no row."""
    value = None if row is None else row[column]
    if isinstance(value, dict):
        return frozenset(value.values())
    if isinstance(value, str):
        return frozenset([value])
    return value if isinstance(value, frozenset) else frozenset()


def refer(
    referrers: Referrers, uuid: str, old: Row | None, new: Row | None, column: str
) -> frozenset[str]:
    """Note which rows a row refers to now; those that it did not before, or no longer."""
    before, after = refs(old, column), refs(new, column)
    for other in before - after:
        referrers[other].discard(uuid)
        if not referrers[other]:
            del referrers[other]
    for other in after - before:
        referrers[other].add(uuid)
    return before ^ after


def only(found: Mapping[str, set[str]], key: str) -> str:
    """The one row that is found by a key; empty if there is none, or more than one."""
    rows = found.get(key, set())
    return next(iter(rows)) if len(rows) == 1 else ""

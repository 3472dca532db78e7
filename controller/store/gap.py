"""New numbers begin far from those that are known, when it is not known which bridges have."""

from __future__ import annotations

import random
from itertools import pairwise

from sqlalchemy import Connection, delete, insert, select

from controller.store import tables
from flows.model import NUMBER_RANGES


def begin_after_a_gap(connection: Connection) -> None:
    """Have new numbers of each kind begin in the middle of the largest gap of a database.

    Numbers that were given later than the database knows follow those that it has, and a bridge
    that is away may use them. Where exactly new ones begin is left to chance, because the same
    backup may be restored again.
    """
    given = select(tables.numbers.c.kind, tables.numbers.c.number)
    queries = (given, select(tables.last_numbers))
    known = [(row[0], row[1]) for query in queries for row in connection.execute(query)]
    last = []
    for kind, numbers in NUMBER_RANGES.items():
        taken = {n for k, n in known if k == kind and n in numbers}
        edges = sorted({numbers.start - 1, *taken, numbers.stop})
        size, first = max((b - a - 1, a) for a, b in pairwise(edges))
        last.append({"kind": kind, "number": first + random.randint(size // 3, size // 2)})
    connection.execute(delete(tables.last_numbers))
    connection.execute(insert(tables.last_numbers), last)

"""What flows ask for: matches in columns, and patterns, of which flows differ in values alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple
from weakref import WeakValueDictionary

from flows.errors import InvalidFlow
from flows.openflow.field import Field, RegField, Term

TABLE_MAX, PRIORITY_MAX = 254, 0xFFFF
SHAPES_MAX = 4096
"""Shapes of flows that are kept; the compiler makes some hundred."""

_new = tuple.__new__
Columns = tuple[tuple[Field, ...], tuple[int, ...]]
"""Fields with their masks."""


class Match(NamedTuple):
    """The conditions of a flow, one for each field, in canonical order.

    In columns, because flows of one pattern share two of them, and the third holds nothing but
    numbers.
    """

    fields: tuple[Field, ...] = ()
    values: tuple[int, ...] = ()
    masks: tuple[int, ...] = ()

    @staticmethod
    def of(*terms: Term) -> Match:
        """Sort and merge ``terms``; parts of one register become one term.

        Raises:
            InvalidFlow: two terms ask the same bits of a field.
        """
        if not terms:
            return Match()
        fields, values, masks = zip(*terms)  # noqa: B905
        known = _columns(fields, masks)
        return _arrange(terms) if known is None else _new(Match, (known[0], values, known[1]))

    @property
    def terms(self) -> tuple[Term, ...]:
        """The conditions one by one."""
        return tuple([_new(Term, condition) for condition in zip(*self, strict=True)])

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))


class Pattern:
    """A table, a priority, and the conditions of its flows, of which some values are left open.

    ``form`` is a text that no flow of another pattern has, with a place for each open value (see
    ``%``). Made by ``pattern`` and ``open_pattern`` alone: there is one pattern of each kind, so it
    is compared by identity.

    Raises:
        InvalidFlow: there is no such table or priority.
    """

    __slots__ = ("__weakref__", "columns", "fixed", "form", "is_open", "order", "priority", "table")

    def __init__(
        self, table: int, priority: int, columns: Columns, fixed: Sequence[int | None]
    ) -> None:
        if not (0 <= table <= TABLE_MAX and 0 <= priority <= PRIORITY_MAX):
            raise InvalidFlow(f"no table {table} with priority {priority} in OpenFlow")
        self.table, self.priority, self.columns = table, priority, columns
        self.is_open = tuple([value is None for value in fixed])
        self.fixed = tuple([value for value in fixed if value is not None])
        self.order = _order_of(self.is_open) if self.fixed else tuple
        asks = [
            f"{field.order}={'%x' if value is None else f'{value:x}'}/{mask:x}"
            for field, mask, value in zip(*columns, fixed, strict=True)
        ]
        self.form = f"{table},{priority},{','.join(asks)},"

    def __repr__(self) -> str:
        return f"Pattern({self.form!r})"

    def match(self, values: tuple[int, ...]) -> Match:
        """The conditions of the flow with these values."""
        fields, masks = self.columns
        return _new(Match, (fields, self.order(values + self.fixed), masks))


@lru_cache(maxsize=SHAPES_MAX)
def pattern(table: int, priority: int, *conditions: Term | Field | RegField) -> Pattern:
    """The pattern of flows with these conditions; a field in place of a term is left open.

    They stand in canonical order, a field once; a part of a register that is open is its lowest.
    So the values of a flow need no work but to be written down.

    Raises:
        InvalidFlow: they are in another order.
    """
    columns: list[tuple[Field, int, int | None]] = []
    for condition in conditions:
        match condition:
            case Field():
                columns.append((condition, condition.full, None))
            case RegField(low=0):
                columns.append((condition.field, condition.mask, None))
            case Term():
                columns.append((condition.field, condition.mask, condition.value))
            case _:
                raise InvalidFlow(f"{condition.name!r} is not the lowest part of its register")
    fields, masks, fixed = zip(*columns, strict=True) if columns else ((), (), ())
    if _columns(fields, masks) is None:
        raise InvalidFlow(f"not in canonical order: {', '.join(f.name for f in fields)}")
    return _only(table, priority, (fields, masks), fixed)


@lru_cache(maxsize=SHAPES_MAX)
def open_pattern(
    table: int, priority: int, fields: tuple[Field, ...], masks: tuple[int, ...]
) -> Pattern:
    """The pattern of this table and priority with every value open."""
    return _only(table, priority, (fields, masks), (None,) * len(fields))


_known: WeakValueDictionary[tuple[int, int, Columns, tuple[int | None, ...]], Pattern] = (
    WeakValueDictionary()
)


def _only(table: int, priority: int, columns: Columns, fixed: tuple[int | None, ...]) -> Pattern:
    """The one pattern of its kind, as long as somebody has it.

    Whoever makes flows in several threads sees to it that they take turns.
    """
    key = table, priority, columns, fixed
    found = _known.get(key)
    if found is None:
        found = _known[key] = Pattern(table, priority, columns, fixed)
    return found


def _order_of(is_open: Sequence[bool]) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    """Puts values in the order of fields: first the open ones, then the fixed ones, are given."""
    opened = iter(range(is_open.count(True)))
    fixed = iter(range(is_open.count(True), len(is_open)))
    places = [next(opened if open_one else fixed) for open_one in is_open]
    return itemgetter(*places) if len(places) > 1 else tuple


@lru_cache(maxsize=SHAPES_MAX)
def _columns(fields: tuple[Field, ...], masks: tuple[int, ...]) -> Columns | None:
    """The same columns for every match that has them; None if they are in another order."""
    orders = [field.order for field in fields]
    return (fields, masks) if orders == sorted(set(orders)) else None


def _arrange(terms: Iterable[Term]) -> Match:
    """Sort terms, and make one of those that ask parts of one register."""
    merged: dict[Field, Term] = {}
    for term in terms:
        other = merged.get(term.field)
        if other is not None:
            if other.mask & term.mask:
                raise InvalidFlow(f"two conditions on the same bits of {term.field.name}")
            term = Term(term.field, other.value | term.value, other.mask | term.mask)
        merged[term.field] = term
    return Match.of(*sorted(merged.values(), key=lambda term: term.field.order))

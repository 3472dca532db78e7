"""Matches of flows, and patterns: matches with some values left open, which many flows share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from sys import intern
from typing import NamedTuple
from weakref import WeakValueDictionary

from flows.errors import InvalidFlow
from flows.openflow.field import Field, RegField, Term

TABLE_MAX, PRIORITY_MAX = 254, 0xFFFF
PATTERNS_MAX = 4096
"""Patterns that are cached; the compiler makes some hundred."""

_new = tuple.__new__
Columns = tuple[tuple[Field, ...], tuple[int, ...]]
"""Fields with their masks."""


class Match(NamedTuple):
    """The match of a flow: fields, values and masks, one of each per condition, in field order.

    Three columns instead of terms, because the flows of one pattern share fields and masks.
    """

    fields: tuple[Field, ...] = ()
    values: tuple[int, ...] = ()
    masks: tuple[int, ...] = ()

    @staticmethod
    def of(*terms: Term) -> Match:
        """Sort and merge ``terms``; parts of one register become one term.

        Raises:
            InvalidFlow: two terms match the same bits of a field.
        """
        if not terms:
            return Match()
        fields, values, masks = zip(*terms)  # noqa: B905
        known = _columns(fields, masks)
        return _arrange(terms) if known is None else _new(Match, (known[0], values, known[1]))

    @property
    def terms(self) -> tuple[Term, ...]:
        """The conditions as terms."""
        return tuple([_new(Term, condition) for condition in zip(*self, strict=True)])

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))


class Pattern:
    """A table, a priority, and a match of which some values are left open.

    ``form`` is a printf-style format for the open values; it is unique to the pattern. ``kind`` is
    the same for all patterns that differ at most in the priority. Only ``pattern`` and
    ``open_pattern`` make patterns: equal ones are one object, so patterns are compared by identity.

    Raises:
        InvalidFlow: there is no such table or priority.
    """

    __slots__ = (
        *("__weakref__", "columns", "fixed", "form", "is_open", "kind", "order", "priority"),
        "table",
    )

    def __init__(
        self, table: int, priority: int, columns: Columns, fixed: Sequence[int | None]
    ) -> None:
        if not (0 <= table <= TABLE_MAX and 0 <= priority <= PRIORITY_MAX):
            raise InvalidFlow(f"no table {table} with priority {priority} in OpenFlow")
        self.table, self.priority, self.columns = table, priority, columns
        self.is_open, self.fixed, self.order, form = _parts_of(columns, tuple(fixed))
        self.form, self.kind = f"{table},{priority},{form},", intern(f"{table},{form}")

    def __repr__(self) -> str:
        return f"Pattern({self.form!r})"

    def match(self, values: tuple[int, ...]) -> Match:
        """The match with these values in place of the open ones."""
        fields, masks = self.columns
        return _new(Match, (fields, self.order(values + self.fixed), masks))


@lru_cache(maxsize=PATTERNS_MAX)
def pattern(table: int, priority: int, *conditions: Term | Field | RegField) -> Pattern:
    """The pattern of flows with these conditions; a field in place of a term leaves its value open.

    Conditions are in field order, each field once. An open part of a register must start at bit 0,
    so that values need no shift.

    Raises:
        InvalidFlow: they are in another order, or an open part starts at another bit.
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
    return _unique_pattern(table, priority, (fields, masks), fixed)


@lru_cache(maxsize=PATTERNS_MAX)
def open_pattern(
    table: int, priority: int, fields: tuple[Field, ...], masks: tuple[int, ...]
) -> Pattern:
    """The pattern of a table and priority with every value open."""
    return _unique_pattern(table, priority, (fields, masks), (None,) * len(fields))


class _Parts(NamedTuple):
    """The parts of a pattern that do not depend on its table and its priority."""

    is_open: tuple[bool, ...]
    fixed: tuple[int, ...]
    order: Callable[[tuple[int, ...]], tuple[int, ...]]
    form: str


_pattern_by_key: WeakValueDictionary[tuple[int, int, Columns, tuple[int | None, ...]], Pattern] = (
    WeakValueDictionary()
)


def _unique_pattern(
    table: int, priority: int, columns: Columns, fixed: tuple[int | None, ...]
) -> Pattern:
    """The one pattern with this key, for as long as a reference to it exists.

    It is not thread-safe: threads that make flows must take turns.
    """
    key = table, priority, columns, fixed
    found = _pattern_by_key.get(key)
    if found is None:
        found = _pattern_by_key[key] = Pattern(table, priority, columns, fixed)
    return found


@lru_cache(maxsize=PATTERNS_MAX)
def _parts_of(columns: Columns, fixed: tuple[int | None, ...]) -> _Parts:
    """What all patterns with this match have in common: the rules of a filter have thousands."""
    is_open = tuple([value is None for value in fixed])
    values = tuple([value for value in fixed if value is not None])
    terms = [
        f"{field.order}={'%x' if value is None else f'{value:x}'}/{mask:x}"
        for field, mask, value in zip(*columns, fixed, strict=True)
    ]
    order = _order_of(is_open) if values else tuple
    return _Parts(is_open, values, order, ",".join(terms))


def _order_of(is_open: Sequence[bool]) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    """A function that sorts values (the open ones, then the fixed ones) into field order."""
    opened = iter(range(is_open.count(True)))
    fixed = iter(range(is_open.count(True), len(is_open)))
    places = [next(opened if open_one else fixed) for open_one in is_open]
    return itemgetter(*places) if len(places) > 1 else tuple


@lru_cache(maxsize=PATTERNS_MAX)
def _columns(fields: tuple[Field, ...], masks: tuple[int, ...]) -> Columns | None:
    """One object for equal columns; None when the fields are not in order."""
    orders = [field.order for field in fields]
    return (fields, masks) if orders == sorted(set(orders)) else None


def _arrange(terms: Iterable[Term]) -> Match:
    """The match of unsorted terms; terms on parts of one register become one term."""
    merged: dict[Field, Term] = {}
    for term in terms:
        other = merged.get(term.field)
        if other is not None:
            if other.mask & term.mask:
                raise InvalidFlow(f"two conditions on the same bits of {term.field.name}")
            term = Term(term.field, other.value | term.value, other.mask | term.mask)
        merged[term.field] = term
    return Match.of(*sorted(merged.values(), key=lambda term: term.field.order))

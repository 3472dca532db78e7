"""Match and Flow as values with one canonical text, the syntax of ovs-ofctl.

Actions (flows/action.py) and cookies (flows/cookie.py) are imported from here too.
flows/text.py reads the text back; controller/southbound/wire.py turns values into bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter
from typing import NamedTuple

from flows.action import (
    Action,
    CheckLarger,
    Clone,
    ForgetInPort,
    HashOf,
    Learn,
    Load,
    Metered,
    MoveToVlan,
    Multipath,
    Output,
    PopVlan,
    PushVlan,
    Resubmit,
    SetTunnelKey,
    SetTunnelRemote,
    SetVlan,
    SetVlanPriority,
    show_actions,
)
from flows.cookie import (
    LEARNED_OBJECT,
    OBJECT_MASK,
    OBJECT_MAX,
    OBJECT_SHIFT,
    OWNER,
    OWNER_MASK,
    OWNER_SHIFT,
    PRODUCTION,
    Cookie,
    is_ours,
    make_cookie,
    object_of,
)
from flows.errors import InvalidFlow
from flows.field import Field, Term

__all__ = [
    "LEARNED_OBJECT",
    "OBJECT_MASK",
    "OBJECT_MAX",
    "OBJECT_SHIFT",
    "OWNER",
    "OWNER_MASK",
    "OWNER_SHIFT",
    "PRODUCTION",
    "Action",
    "CheckLarger",
    "Clone",
    "Cookie",
    "Flow",
    "FlowKey",
    "ForgetInPort",
    "HashOf",
    "Learn",
    "Load",
    "Match",
    "Metered",
    "MoveToVlan",
    "Multipath",
    "Output",
    "PopVlan",
    "PushVlan",
    "Resubmit",
    "SetTunnelKey",
    "SetTunnelRemote",
    "SetVlan",
    "SetVlanPriority",
    "is_ours",
    "make_cookie",
    "object_of",
    "show_actions",
]  # fmt: skip

TABLE_MAX, PRIORITY_MAX = 254, 0xFFFF
SHAPES_MAX = 4096
"""Shapes of flows that are kept; the compiler makes some hundred."""
SHAPED_ACTIONS = 32
"""A longer list of actions is hardly ever like another one."""

_by_order = attrgetter("field.order")
_new = tuple.__new__


class Match(NamedTuple):
    """The conditions of a flow, one for each field, in canonical order.

    In columns, because flows of one shape share two of them, and the third holds nothing but
    numbers: that is half of the objects that a compilation makes.
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


class FlowKey(NamedTuple):
    """What makes two flows the same flow for a switch: table, priority and match.

    A flow of a switch whose match we cannot read has its cookie in place of it.
    """

    table: int
    priority: int
    match: Match | Cookie


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow that a bridge should have; ``why`` is one clause for people.

    ``owner`` is the object in its cookie: a session number, or PRODUCTION.
    """

    table: int
    priority: int
    match: Match
    actions: tuple[Action, ...]
    owner: int
    why: str
    shape: str = field(init=False, compare=False, repr=False)
    """What flows share that differ in numbers alone: table, priority, fields with their masks,
    and the forms of their actions."""
    cookie: Cookie = field(init=False, compare=False, repr=False)
    """Owner, object and a digest of everything that the flow does."""

    def __post_init__(self) -> None:
        if not 0 <= self.owner <= OBJECT_MAX:
            raise InvalidFlow(f"owner {self.owner} does not fit the 20 bits of a cookie")
        actions = self.actions
        fields, values, masks = self.match
        forms = tuple([action.form for action in actions])
        shape_of = _shape if len(forms) <= SHAPED_ACTIONS else _write_shape
        shape = shape_of(self.table, self.priority, fields, masks, forms)
        text = shape % (*values, *[number for action in actions for number in action.numbers])
        digest = int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "cookie", make_cookie(self.owner, digest))

    @property
    def key(self) -> FlowKey:
        """What a switch identifies this flow by."""
        return FlowKey(self.table, self.priority, self.match)

    def __str__(self) -> str:
        match = f",{self.match}" if self.match.fields else ""
        return (
            f"cookie={self.cookie:#x},table={self.table},priority={self.priority}{match},"
            f"actions={show_actions(self.actions)}"
        )


@lru_cache(maxsize=SHAPES_MAX)
def _columns(
    fields: tuple[Field, ...], masks: tuple[int, ...]
) -> tuple[tuple[Field, ...], tuple[int, ...]] | None:
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
    return Match.of(*sorted(merged.values(), key=_by_order))


def _write_shape(
    table: int, priority: int, fields: Iterable[Field], masks: Iterable[int], forms: Sequence[str]
) -> str:
    """A text that no flow of another shape has, with places for the numbers (see ``%``)."""
    if not (0 <= table <= TABLE_MAX and 0 <= priority <= PRIORITY_MAX):
        raise InvalidFlow(f"no table {table} with priority {priority} in OpenFlow")
    if Metered.form in forms[1:]:
        raise InvalidFlow("a meter comes before everything else that a flow does")
    asks = ",".join([f"{f.order}=%x/{mask:x}" for f, mask in zip(fields, masks, strict=True)])
    return f"{table},{priority},{asks},{','.join(forms) or 'drop'}"


_shape = lru_cache(maxsize=SHAPES_MAX)(_write_shape)

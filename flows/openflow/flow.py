"""A flow as a value with one canonical text, the syntax of ovs-ofctl.

text.py reads the text back; controller/southbound/wire/flow.py turns values into bytes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from xxhash import xxh3_64_intdigest

from flows.errors import InvalidFlow
from flows.openflow.action import (
    Action,
    Metered,
    show_actions,
)
from flows.openflow.cookie import (
    DIGEST_MASK,
    OBJECT_MAX,
    OBJECT_SHIFT,
    Cookie,
    make_cookie,
)
from flows.openflow.pattern import Match, Pattern, open_pattern

Mark = tuple[int, int, Cookie]
"""Table, priority and cookie: they identify a flow without its match, but for equal digests."""

_OURS = make_cookie(0, 0)
_new = tuple.__new__


class Steps(NamedTuple):
    """An action list with its text.

    ``form`` is the text as a printf-style format for ``numbers``; action lists that differ only in
    numbers share it. ``text`` is the whole text.
    """

    actions: tuple[Action, ...]
    form: str
    numbers: tuple[int, ...]
    text: str

    @staticmethod
    def of(*actions: Action) -> Steps:
        """The action list of these actions.

        Raises:
            InvalidFlow: a meter is not the first action.
        """
        form = ",".join([action.form for action in actions]) or "drop"
        if f",{Metered.form}" in form:
            raise InvalidFlow("a meter comes before everything else that a flow does")
        numbers = tuple([number for action in actions for number in action.numbers])
        return _new(Steps, (actions, form, numbers, form % numbers if numbers else form))

    def then(self, more: Steps) -> Steps:
        """These actions followed by ``more``; these are not empty, and ``more`` has no meter."""
        actions, form, numbers, text = self
        more_actions, more_form, more_numbers, more_text = more
        form, text = f"{form},{more_form}", f"{text},{more_text}"
        return _new(Steps, (actions + more_actions, form, numbers + more_numbers, text))


NOTHING = Steps((), "drop", (), "drop")
"""The empty action list: it drops packets."""


class FlowKey(NamedTuple):
    """What identifies a flow on a switch: table, priority and match.

    An installed flow with a match that we cannot read has its cookie in place of the match.
    """

    table: int
    priority: int
    match: Match | Cookie


class _Flow(NamedTuple):
    pattern: Pattern
    values: tuple[int, ...]
    steps: Steps
    owner: int
    why: str
    mark: Mark


class Flow(_Flow):
    """One flow that a bridge should have; ``why`` is one clause for people.

    ``owner`` is the object in its cookie: a session number, or PRODUCTION. The cookie also holds a
    digest of match and actions. A tuple, because a compilation makes some hundred thousand of them.
    """

    __slots__ = ()

    def __new__(
        cls, table: int, priority: int, match: Match, actions: tuple[Action, ...], owner: int,
        why: str,
    ) -> Flow:  # fmt: skip
        """Make one flow; ``make_flow`` is faster for many flows of one pattern."""
        fields, values, masks = match
        pattern = open_pattern(table, priority, fields, masks)
        return make_flow(pattern, values, Steps.of(*actions), owner, why)

    @property
    def table(self) -> int:
        """The number of its table."""
        return self.pattern.table

    @property
    def priority(self) -> int:
        """Its priority; the matching flow with the highest one is executed."""
        return self.pattern.priority

    @property
    def match(self) -> Match:
        """Its match."""
        return self.pattern.match(self.values)

    @property
    def actions(self) -> tuple[Action, ...]:
        """Its action list."""
        return self.steps.actions

    @property
    def cookie(self) -> Cookie:
        """Our mark, the owner, and a digest of match and actions."""
        return self.mark[2]

    @property
    def shape(self) -> tuple[Pattern, str]:
        """Pattern and form of its actions: flows with the same shape differ only in numbers."""
        return self.pattern, self.steps.form

    @property
    def key(self) -> FlowKey:
        """Table, priority and match, which identify it on a switch."""
        return FlowKey(self.table, self.priority, self.match)

    def replace(self, **changes: Any) -> Flow:
        """The same flow with some arguments of the constructor changed."""
        names = ("table", "priority", "match", "actions", "owner", "why")
        return Flow(**{name: getattr(self, name) for name in names} | changes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Flow):
            return NotImplemented
        return self.mark == other.mark and (
            (self.match, self.actions, self.why) == (other.match, other.actions, other.why)
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.mark)

    def __repr__(self) -> str:
        return f"Flow({str(self)!r}, {self.why!r})"

    def __str__(self) -> str:
        match = f",{self.match}" if self.match.fields else ""
        return (
            f"cookie={self.cookie:#x},table={self.table},priority={self.priority}{match},"
            f"actions={show_actions(self.actions)}"
        )


def make_flow(
    pattern: Pattern, values: tuple[int, ...], steps: Steps, owner: int, why: str
) -> Flow:
    """The flow of a pattern with these values.

    It does not check that the values fit their fields: they are numbers and addresses of a world,
    which were checked on input.

    Raises:
        InvalidFlow: the owner does not fit a cookie.
    """
    if not 0 <= owner <= OBJECT_MAX:
        raise InvalidFlow(f"owner {owner} does not fit the 20 bits of a cookie")
    text = pattern.form % values + steps.text
    digest = xxh3_64_intdigest(text.encode()) & DIGEST_MASK
    mark = pattern.table, pattern.priority, _OURS | owner << OBJECT_SHIFT | digest
    return _new(Flow, (pattern, values, steps, owner, why, mark))

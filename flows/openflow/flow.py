"""A flow as a value with one canonical text, the syntax of ovs-ofctl.

What flows ask for (flows/pattern.py), actions (flows/action.py) and cookies (flows/cookie.py) are
imported from here too.
flows/text.py reads the text back; controller/southbound/wire.py turns values into bytes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from xxhash import xxh3_64_intdigest

from flows.openflow.action import (
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
from flows.openflow.cookie import (
    DIGEST_MASK,
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
from flows.openflow.pattern import Match, Pattern, open_pattern

__all__ = [
    "LEARNED_OBJECT",
    "NOTHING",
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
    "Mark",
    "Match",
    "Metered",
    "MoveToVlan",
    "Multipath",
    "Output",
    "Pattern",
    "PopVlan",
    "PushVlan",
    "Resubmit",
    "SetTunnelKey",
    "SetTunnelRemote",
    "SetVlan",
    "SetVlanPriority",
    "Steps",
    "is_ours",
    "make_cookie",
    "make_flow",
    "object_of",
    "show_actions",
]  # fmt: skip

Mark = tuple[int, int, Cookie]
"""Table, priority and cookie: what tells flows apart without a look at their matches."""

_OURS = make_cookie(0, 0)
_new = tuple.__new__


class Steps(NamedTuple):
    """What a flow does, in order.

    ``form`` is what it has in common with lists of actions that differ in ``numbers`` alone,
    ``text`` says all of it.
    """

    actions: tuple[Action, ...]
    form: str
    numbers: tuple[int, ...]
    text: str

    @staticmethod
    def of(*actions: Action) -> Steps:
        """The steps with these actions.

        Raises:
            InvalidFlow: a meter comes after something else.
        """
        form = ",".join([action.form for action in actions]) or "drop"
        if f",{Metered.form}" in form:
            raise InvalidFlow("a meter comes before everything else that a flow does")
        numbers = tuple([number for action in actions for number in action.numbers])
        return _new(Steps, (actions, form, numbers, form % numbers if numbers else form))

    def then(self, more: Steps) -> Steps:
        """These steps, which do something, and ``more``, which do not begin with a meter."""
        actions, form, numbers, text = self
        more_actions, more_form, more_numbers, more_text = more
        form, text = f"{form},{more_form}", f"{text},{more_text}"
        return _new(Steps, (actions + more_actions, form, numbers + more_numbers, text))


NOTHING = Steps((), "drop", (), "drop")
"""A flow that does nothing drops its packets."""


class FlowKey(NamedTuple):
    """What makes two flows the same flow for a switch: table, priority and match.

    A flow of a switch whose match we cannot read has its cookie in place of it.
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

    ``owner`` is the object in its cookie: a session number, or PRODUCTION. The cookie holds the
    owner and a digest of everything that the flow does. A tuple, because a compilation makes some
    hundred thousand of them.
    """

    __slots__ = ()

    def __new__(
        cls, table: int, priority: int, match: Match, actions: tuple[Action, ...], owner: int,
        why: str,
    ) -> Flow:  # fmt: skip
        """Any flow; see ``make_flow`` for those of which there are many."""
        fields, values, masks = match
        pattern = open_pattern(table, priority, fields, masks)
        return make_flow(pattern, values, Steps.of(*actions), owner, why)

    @property
    def table(self) -> int:
        """The number of its table."""
        return self.pattern.table

    @property
    def priority(self) -> int:
        """Which of the flows of a table that match is taken: the highest."""
        return self.pattern.priority

    @property
    def match(self) -> Match:
        """Its conditions."""
        return self.pattern.match(self.values)

    @property
    def actions(self) -> tuple[Action, ...]:
        """What it does."""
        return self.steps.actions

    @property
    def cookie(self) -> Cookie:
        """Owner, object and a digest of everything that the flow does."""
        return self.mark[2]

    @property
    def shape(self) -> tuple[Pattern, str]:
        """What flows share that differ in numbers alone."""
        return self.pattern, self.steps.form

    @property
    def key(self) -> FlowKey:
        """What a switch identifies this flow by."""
        return FlowKey(self.table, self.priority, self.match)

    def replace(self, **changes: Any) -> Flow:
        """The same flow, but with other arguments of the constructor."""
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

    Whether the values fit their fields is not asked here: they are numbers and addresses of a
    world, which were checked when they came in.

    Raises:
        InvalidFlow: the owner does not fit a cookie.
    """
    if not 0 <= owner <= OBJECT_MAX:
        raise InvalidFlow(f"owner {owner} does not fit the 20 bits of a cookie")
    text = pattern.form % values + steps.text
    digest = xxh3_64_intdigest(text.encode()) & DIGEST_MASK
    mark = pattern.table, pattern.priority, _OURS | owner << OBJECT_SHIFT | digest
    return _new(Flow, (pattern, values, steps, owner, why, mark))

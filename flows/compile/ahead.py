"""Rules of filters that come ahead: part by part, before any flow of the bridge refers to them.

Until they are there, flows refer to the rules that the bridge had before, and new sessions wait;
all other sessions go on (see ``Program.find_ahead``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from flows.compile.filter import filter_key, filter_rules
from flows.compile.flow_set import FLOWS_BETWEEN_PAUSES
from flows.compile.stages import FLOWS_TOGETHER
from flows.model import Filter, FilterId, SessionId
from flows.openflow import Flow
from flows.pipeline import check_flows


@dataclass(frozen=True, slots=True)
class Held:
    """What is left as it was on a bridge, because the rules for it have not come yet.

    ``filters`` are those that flows refer to, as they were compiled. ``waiting`` are sessions that
    had no flows before, with their filters.
    """

    filters: Mapping[FilterId, Filter] = field(default_factory=dict)
    waiting: Mapping[SessionId, FilterId] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.filters or self.waiting)

    @property
    def wanted(self) -> frozenset[FilterId]:
        """The filters whose rules should come ahead."""
        return frozenset((*self.filters, *self.waiting.values()))

    def without(self, ready: Mapping[FilterId, RulesAhead]) -> Held:
        """What is held until other rules than these have come."""
        return Held(
            {key: each for key, each in self.filters.items() if key not in ready},
            {key: needed for key, needed in self.waiting.items() if needed not in ready},
        )


NOTHING_HELD = Held()


@dataclass(frozen=True, slots=True)
class RulesAhead:
    """All rules of a filter, compiled as ``wanted``; ``key`` stands for them in FILTER_ID."""

    wanted: Filter
    key: int
    flows: tuple[Flow, ...]


NOTHING_READY: Mapping[FilterId, RulesAhead] = {}


class RulesComing:
    """The rules of a filter while they come; ``flows`` are those of the parts so far."""

    def __init__(self, number: int, wanted: Filter) -> None:
        self.wanted, self.key = wanted, filter_key(number, wanted)
        self.flows: list[Flow] = []
        self._rest = filter_rules(number, wanted)
        self.is_whole = False
        """Whether no part is left."""

    def next_part(self, pause: Callable[[], None] = lambda: None) -> tuple[Flow, ...]:
        """The next FLOWS_TOGETHER flows at most; ``pause`` is called every few of them.

        Raises:
            InvalidFlow: a flow breaks the contract of its table, which is a defect of the compiler.
        """
        part: list[Flow] = []
        while len(part) < FLOWS_TOGETHER and not self.is_whole:
            room = min(FLOWS_BETWEEN_PAUSES, FLOWS_TOGETHER - len(part))
            some = list(islice(self._rest, room))
            self.is_whole = len(some) < room
            part += some
            pause()
        check_flows(part)
        self.flows += part
        return tuple(part)

    def whole(self) -> RulesAhead:
        """All rules, once no part is left."""
        return RulesAhead(self.wanted, self.key, tuple(self.flows))

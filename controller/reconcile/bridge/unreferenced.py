"""Rules of filters on one bridge that no flow refers to: those that come, and those that go.

They are sent in small parts. Between two parts the writer applies the changes of others, so nobody
waits until one tenant's thousands of rules are there, or gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Set
from itertools import islice
from typing import NamedTuple

from controller.process import APPLY_SECONDS, TIME_SLICES
from controller.southbound import Rejected, Switch
from flows.compile import (
    FLOWS_TOGETHER,
    Held,
    Program,
    RulesAhead,
    RulesComing,
    filter_key_of,
)
from flows.model import FilterId
from flows.openflow import Flow
from flows.plan import InstalledFlow, Plan, as_installed
from flows.resolve import ResolvedWorld


class _Going(NamedTuple):
    """A part of the rules that go, and the filters that they are of, as in FILTER_ID."""

    keys: frozenset[int | None]
    flows: tuple[InstalledFlow, ...]


class UnreferencedRules:
    """What is to be sent of them to a switch; used by the thread of its writer alone.

    Where something is sent, ``check`` raises SwitchGone if the writer was stopped.
    """

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._coming: dict[FilterId, RulesComing] = {}
        self._going: deque[_Going] = deque()

    def __len__(self) -> int:
        """How many flows the bridge has of them."""
        coming = sum(len(rules.flows) for rules in self._coming.values())
        return coming + sum(len(part.flows) for part in self._going)

    @property
    def has_part(self) -> bool:
        """Whether a part is left to be sent."""
        return bool(self._going) or any(not rules.is_whole for rules in self._coming.values())

    def hold(
        self, program: Program, resolved: ResolvedWorld
    ) -> tuple[Held, dict[FilterId, RulesAhead]]:
        """What a program has to leave as it is for this world, and which rules have come ahead.

        Begins to send those that are wanted; those that are not any more will go. The caller brings
        the program to this world: then the rules that have come are those of the program.
        """
        held = program.find_ahead(resolved)
        numbers, known = resolved.world.numbers.filter, resolved.world.filter_by_id
        for key in [key for key in self._coming if key not in held.wanted]:
            self._abandon(key)
        for key in held.wanted:
            rules = RulesComing(numbers[key], known[key])
            if key in self._coming and self._coming[key].key != rules.key:
                self._abandon(key)
            self._coming.setdefault(key, rules)
        whole = [key for key, rules in self._coming.items() if rules.is_whole]
        ready = {key: self._coming.pop(key).whole() for key in whole}
        return held.without(ready), ready

    def leave(self, left: Iterable[Flow], plans: Iterable[Plan]) -> None:
        """Flows that nothing will refer to, once the plan that comes next is applied."""
        self._add_going(left)
        with TIME_SLICES.taken():
            for plan in plans:
                self._going.append(_going(plan.remove))
                TIME_SLICES.pause()

    def make_way(self, keys: Set[int], check: Callable[[], None]) -> tuple[Rejected, ...]:
        """Remove now what goes of these filters, as they stand in FILTER_ID.

        The caller is going to refer to them: their number belongs to another filter by now, or
        their edition has come round.
        """
        rejected: tuple[Rejected, ...] = ()
        for part in [part for part in self._going if not part.keys.isdisjoint(keys)]:
            rejected += self._send(Plan((), part.flows, 0), check)
            self._going.remove(part)
        return rejected

    def send_part(self, check: Callable[[], None]) -> tuple[Rejected, ...]:
        """Send one part, old rules first; what the switch refused of it.

        Raises:
            CloudtapError: the switch does not take it.
        """
        if self._going:
            rejected = self._send(Plan((), self._going[0].flows, 0), check)
            self._going.popleft()
            return rejected
        for rules in self._coming.values():
            if not rules.is_whole:
                with TIME_SLICES.taken():
                    flows = rules.next_part(TIME_SLICES.pause)
                return self._send(Plan(flows, (), 0), check)
        return ()

    def clear(self) -> bool:
        """Forget all of them, since the bridge is read again; True if there were any."""
        had_any = bool(self._coming or self._going)
        self._coming.clear()
        self._going.clear()
        return had_any

    def _abandon(self, key: FilterId) -> None:
        self._add_going(self._coming.pop(key).flows)

    def _add_going(self, flows: Iterable[Flow]) -> None:
        """Add flows in parts, in the order in which a switch removes them fast."""
        with TIME_SLICES.taken():
            rest = iter(sorted(flows, key=lambda flow: flow.priority))
            while part := [as_installed(flow) for flow in islice(rest, FLOWS_TOGETHER)]:
                self._going.append(_going(part))
                TIME_SLICES.pause()

    def _send(self, part: Plan, check: Callable[[], None]) -> tuple[Rejected, ...]:
        if not part:
            return ()
        check()
        with APPLY_SECONDS.time():
            return self._switch.apply(part)


def _going(flows: Iterable[InstalledFlow]) -> _Going:
    part = tuple(flows)
    return _Going(frozenset(map(filter_key_of, part)), part)

"""What of a plan a switch takes: found out with few questions, and all the rest is applied.

Open vSwitch names one flow when it refuses a bundle at its end, and does nothing of the bundle. So
whoever leaves out that flow alone asks as often as there are flows too many, for instance in a
table that is full. Here what is left out doubles with each refusal, and is offered again later.

Whatever is refused, no flow that the plan removes or exchanges stays as it was: that would lead
packets where they went before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from controller.southbound.switch import Rejected
from flows.plan.plan import Installed
from flows.openflow.flow import PRODUCTION, Flow, FlowKey

TOGETHER = 3
"""So often the whole plan is tried as one bundle, before production goes first."""


@dataclass(frozen=True, slots=True)
class Clearing:
    """Takes away whatever flow of ours is where ``flow`` was to be."""

    flow: Flow


Change = Flow | Installed | Clearing
Unit = tuple[Change, ...]
"""What is taken or left out as a whole: one flow of production, or all of a session."""


class _Refusal(NamedTuple):
    """Why a unit was refused, and the table of the change that was."""

    why: str
    table: int


def tries_for(units: int) -> int:
    """How often a switch is asked at most for so many units, of production and of sessions each."""
    return 4 + 2 * units.bit_length()


@dataclass
class Acceptance:
    """One plan, offered to one switch.

    ``commit`` does a list of changes in their order as one atomic bundle; it returns which were
    refused, and why: then none of them was done. ``there`` tells which flows of ours the switch
    has; it is asked only when the plan is not taken together.
    """

    commit: Callable[[Sequence[Change]], dict[int, str]]
    there: Callable[[], Set[FlowKey]]
    rejected: list[Rejected] = field(default_factory=list)
    _why: str = ""

    def offer(self, add: Iterable[Flow], remove: Iterable[Installed]) -> None:
        """Have the switch do as much of a plan as it takes.

        Removals come first, because they make room, with what takes the place of another flow,
        which needs none; then new production, then session by session. Of a session the switch
        takes all or nothing.
        """
        production = [flow for flow in add if flow.owner == PRODUCTION]
        copying = [flow for flow in add if flow.owner != PRODUCTION]
        changes: list[Change] = [*remove, *production, *copying]
        said = self.commit(changes)
        if not said:  # nearly always, and a plan may have 100,000 flows
            return
        units = _units(changes)
        why = {id(changes[place]): reason for place, reason in said.items()}
        refused = {
            at: _Refusal(why[id(change)], _table(change))
            for at, unit in enumerate(units)
            for change in unit
            if id(change) in why
        }
        for _ in range(TOGETHER - 1):
            units = self._without(units, refused)
            refused = self._ask(units)
            if not refused:
                return
        units = self._without(units, refused)
        self._go_through(self._exchange(units))
        self._go_through([unit for unit in units if _is_of_session(unit)])

    def _exchange(self, units: Iterable[Unit]) -> list[Unit]:
        """Do what needs no room in one bundle; the production that is new, and so is left to do.

        It is done with the rest if the switch takes that. What a session has is cleared, and so is
        what production has and may not exchange.
        """
        there, new = self.there(), list[Unit]()
        exchanged: list[Unit] = []
        for unit in units:
            change = unit[0]
            if _is_of_session(unit):
                exchanged.append(_cleared(unit))
            elif isinstance(change, Flow) and change.key not in there:
                new.append(unit)
            else:
                exchanged.append(unit)
        if not self._ask([*exchanged, *new]):
            return []
        for _ in range(TOGETHER):
            refused = self._ask(exchanged)
            if not refused:
                return new
            exchanged = self._without(exchanged, refused)
        again = [unit for unit in exchanged if isinstance(unit[0], Flow)]
        if refused := self._ask([_cleared(unit) or unit for unit in exchanged]):
            for at, refusal in refused.items():
                self._reject(exchanged[at], refusal.why)
        return [*again, *new]

    def _go_through(self, units: list[Unit]) -> None:
        """Apply what is taken of ``units``, in several bundles."""
        waiting, later = [units], list[Unit]()
        width, is_any_taken = 1, False
        for _ in range(tries_for(len(units))):
            if not any(waiting):
                if not (later and is_any_taken):
                    break
                waiting, later, width, is_any_taken = [later], [], 1, False
            batch = waiting.pop(0)
            refused = self._ask(batch)
            if not refused:
                is_any_taken = True
                continue
            if len(refused) > 1:
                parts = [self._without(batch, refused)]
            else:
                before, after, suspects = self._part(batch, refused, width)
                parts, later = [before, after], [*later, *suspects]
                width *= 2
            waiting = [part for part in (*parts, *waiting) if part]
        for unit in (*(unit for batch in waiting for unit in batch), *later):
            self._reject(unit, self._why)

    def _part(
        self, units: list[Unit], refused: dict[int, _Refusal], width: int
    ) -> tuple[list[Unit], list[Unit], list[Unit]]:
        """Leave out the refused one: what the switch took before it, what it may take after it,
        and so many that it will hardly take, as they change the same table.
        """
        ((at, refusal),) = refused.items()
        self._reject(units[at], refusal.why)
        after, suspects = list[Unit](), list[Unit]()
        for unit in units[at + 1 :]:
            is_like = any(_table(change) == refusal.table for change in unit)
            (suspects if is_like and len(suspects) < width - 1 else after).append(unit)
        return units[:at], after, suspects

    def _ask(self, units: Sequence[Unit]) -> dict[int, _Refusal]:
        """Offer one bundle; which units were refused, and why."""
        unit_of = [at for at, unit in enumerate(units) for _ in unit]
        changes = [change for unit in units for change in unit]
        refused: dict[int, _Refusal] = {}
        for place, why in sorted(self.commit(changes).items()):
            refused.setdefault(unit_of[place], _Refusal(why, _table(changes[place])))
        return refused

    def _without(self, units: Sequence[Unit], refused: dict[int, _Refusal]) -> list[Unit]:
        """The units that were not refused; what was where refused ones should be is cleared."""
        left = []
        for at, unit in enumerate(units):
            if at not in refused:
                left.append(unit)
                continue
            self._reject(unit, refused[at].why)
            if isinstance(unit[0], Flow):
                left.append(_cleared(unit))
        return left

    def _reject(self, unit: Unit, why: str) -> None:
        self._why = why
        self.rejected += [Rejected(c, why) for c in unit if not isinstance(c, Clearing)]


def _units(changes: Iterable[Change]) -> list[Unit]:
    """Removals and production, change by change; and the new flows of each session."""
    first: list[Unit] = []
    sessions: dict[int, list[Change]] = {}
    for change in changes:
        if isinstance(change, Flow) and change.owner != PRODUCTION:
            sessions.setdefault(change.owner, []).append(change)
        else:
            first.append((change,))
    return [*first, *map(tuple, sessions.values())]


def _is_of_session(unit: Unit) -> bool:
    return isinstance(unit[0], Flow) and unit[0].owner != PRODUCTION


def _cleared(unit: Unit) -> Unit:
    return tuple(Clearing(change) for change in unit if isinstance(change, Flow))


def _table(change: Change) -> int:
    return change.flow.table if isinstance(change, Clearing) else change.table

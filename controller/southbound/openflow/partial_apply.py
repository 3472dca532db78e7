"""Applies the part of a plan that a switch accepts, with few bundles.

Open vSwitch names one flow when it refuses the commit of a bundle, and applies nothing of it. To
leave out that flow alone would take as many bundles as there are flows too many, for example in a
full table. Here the number of flows left out doubles with each refusal; they are tried again later.

Whatever is refused, no flow that the plan removes or replaces stays installed: it would send
packets where they went before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from controller.southbound.switch import Rejected
from flows.openflow import PRODUCTION, Flow, FlowKey
from flows.plan import InstalledFlow

WHOLE_TRIES = 3
"""Bundles with the whole plan that are tried before production is applied separately."""


@dataclass(frozen=True, slots=True)
class Clearing:
    """Deletes our flow with the table, priority and match of ``flow``, if there is one."""

    flow: Flow


FlowChange = Flow | InstalledFlow | Clearing
Unit = tuple[FlowChange, ...]
"""Changes that are applied or left out together: one flow of production, or all of a session."""


class _Refusal(NamedTuple):
    """Why a unit was refused, and the flow table of the refused change."""

    why: str
    table: int


def tries_for(units: int) -> int:
    """The limit of bundles for this number of units, of production and of sessions each."""
    return 4 + 2 * units.bit_length()


@dataclass
class PartialApply:
    """One plan for one switch.

    ``commit`` applies a list of changes in order as one bundle. It returns the reason by position
    of each refused change; then none was applied. ``installed`` reads which flows of ours the
    switch has; it is called only if the plan is refused as a whole. ``rejected`` is the result.
    """

    commit: Callable[[Sequence[FlowChange]], dict[int, str]]
    installed: Callable[[], Set[FlowKey]]
    rejected: list[Rejected] = field(default_factory=list)
    _why: str = ""

    def apply(self, add: Iterable[Flow], remove: Iterable[InstalledFlow]) -> None:
        """Apply as much of a plan as the switch accepts.

        First removals, which free table space, and flows that replace another one, which need none;
        then new production flows; then session by session. Of a session the switch gets all flows
        or none.
        """
        production = [flow for flow in add if flow.owner == PRODUCTION]
        copying = [flow for flow in add if flow.owner != PRODUCTION]
        changes: list[FlowChange] = [*remove, *production, *copying]
        reasons = self.commit(changes)
        if not reasons:  # nearly always, and a plan may have 100,000 flows
            return
        units = _units(changes)
        why = {id(changes[position]): reason for position, reason in reasons.items()}
        refused = {
            at: _Refusal(why[id(change)], _table(change))
            for at, unit in enumerate(units)
            for change in unit
            if id(change) in why
        }
        for _ in range(WHOLE_TRIES - 1):
            units = self._without(units, refused)
            refused = self._commit(units)
            if not refused:
                return
        units = self._without(units, refused)
        self._apply_units(self._replace(units))
        self._apply_units([unit for unit in units if _is_of_session(unit)])

    def _replace(self, units: Iterable[Unit]) -> list[Unit]:
        """Apply in one bundle what needs no table space; the units of production left to apply.

        New production is part of that bundle if the switch accepts it. Flows of sessions are
        deleted, and so are flows of production that may not be replaced.
        """
        installed, new = self.installed(), list[Unit]()
        replaced: list[Unit] = []
        for unit in units:
            change = unit[0]
            if _is_of_session(unit):
                replaced.append(_cleared(unit))
            elif isinstance(change, Flow) and change.key not in installed:
                new.append(unit)
            else:
                replaced.append(unit)
        if not self._commit([*replaced, *new]):
            return []
        for _ in range(WHOLE_TRIES):
            refused = self._commit(replaced)
            if not refused:
                return new
            replaced = self._without(replaced, refused)
        again = [unit for unit in replaced if isinstance(unit[0], Flow)]
        if refused := self._commit([_cleared(unit) or unit for unit in replaced]):
            for at, refusal in refused.items():
                self._reject(replaced[at], refusal.why)
        return [*again, *new]

    def _apply_units(self, units: list[Unit]) -> None:
        """Apply those of ``units`` that the switch accepts, in several bundles."""
        waiting, later = [units], list[Unit]()
        width, is_any_applied = 1, False
        for _ in range(tries_for(len(units))):
            if not any(waiting):
                if not (later and is_any_applied):
                    break
                waiting, later, width, is_any_applied = [later], [], 1, False
            batch = waiting.pop(0)
            refused = self._commit(batch)
            if not refused:
                is_any_applied = True
                continue
            if len(refused) > 1:
                parts = [self._without(batch, refused)]
            else:
                before, after, suspects = self._split(batch, refused, width)
                parts, later = [before, after], [*later, *suspects]
                width *= 2
            waiting = [part for part in (*parts, *waiting) if part]
        for unit in (*(unit for batch in waiting for unit in batch), *later):
            self._reject(unit, self._why)

    def _split(
        self, units: list[Unit], refused: dict[int, _Refusal], width: int
    ) -> tuple[list[Unit], list[Unit], list[Unit]]:
        """Reject the refused unit; the units before it, those after it, and up to ``width`` - 1
        later units that change the same table and will probably be refused too.
        """
        ((at, refusal),) = refused.items()
        self._reject(units[at], refusal.why)
        after, suspects = list[Unit](), list[Unit]()
        for unit in units[at + 1 :]:
            is_same_table = any(_table(change) == refusal.table for change in unit)
            (suspects if is_same_table and len(suspects) < width - 1 else after).append(unit)
        return units[:at], after, suspects

    def _commit(self, units: Sequence[Unit]) -> dict[int, _Refusal]:
        """Try one bundle; the refusals by position of the unit."""
        unit_of = [at for at, unit in enumerate(units) for _ in unit]
        changes = [change for unit in units for change in unit]
        refused: dict[int, _Refusal] = {}
        for position, why in sorted(self.commit(changes).items()):
            refusal = _Refusal(why, _table(changes[position]))
            refused.setdefault(unit_of[position], refusal)
        return refused

    def _without(self, units: Sequence[Unit], refused: dict[int, _Refusal]) -> list[Unit]:
        """The units that were not refused; in place of refused ones, what deletes the old flows."""
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


def _units(changes: Iterable[FlowChange]) -> list[Unit]:
    """One unit for each removal and flow of production, and one for the flows of each session."""
    first: list[Unit] = []
    sessions: dict[int, list[FlowChange]] = {}
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


def _table(change: FlowChange) -> int:
    return change.flow.table if isinstance(change, Clearing) else change.table

"""A plan in parts, so that a bridge forwards meanwhile however many rules its filters have.

Open vSwitch commits a bundle in one go; its main thread does nothing else, and in the userspace
datapath without DPDK that thread also forwards. Rules of a filter that nothing refers to yet, or
any more, decide about no packet: they come before the others, or go after them, in small bundles.

Flows that carry copies from links to a tap port are such flows too, but what refers to them is on
other bridges: so they come before any bridge sends copies that way, and go after all have stopped.

When copies of a session are made by other bridges than before, what ends copies here comes in a
part of its own (see ``overlap.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from flows.compile.filter import filter_key_of
from flows.openflow import Flow
from flows.pipeline import CUT, DELIVER, FILTER, SEND, START
from flows.plan import NO_OVERLAP, InstalledFlow, MeterPlan, Overlap, Plan, as_installed

FLOWS_TOGETHER = 1000
"""The most flows of one such bundle: Open vSwitch 3.1 commits them in a few milliseconds."""
COPYING = frozenset({DELIVER.number, SEND.number, CUT.number})
Change = TypeVar("Change", Flow, InstalledFlow)
NO_PLAN = Plan((), (), 0)


@dataclass(frozen=True, slots=True)
class Stages:
    """Plans to be applied one after the other.

    Only ``main`` and ``late`` change what happens to packets. ``late`` ends copies that other
    bridges make from now on.
    """

    before: tuple[Plan, ...]
    main: Plan
    after: tuple[Plan, ...]
    late: Plan = NO_PLAN
    has_way_before: bool = False
    """Whether ``before`` has ways of copies from other bridges."""
    ways_after: int = 0
    """How many plans at the beginning of ``after`` have some that other bridges may still use."""

    @property
    def has_way_after(self) -> bool:
        """Whether ``after`` has ways of copies from other bridges."""
        return bool(self.ways_after)

    @property
    def unused(self) -> tuple[Plan, ...]:
        """The plans that remove rules of filters: those may stay for a while."""
        return self.after[self.ways_after :]

    def without_unused(self) -> Stages:
        """The same, for a bridge on which these rules are removed later."""
        return replace(self, after=self.after[: self.ways_after])

    @property
    def changes_copies(self) -> bool:
        """Whether this bridge sends copies elsewhere than before."""
        return any(flow.table in COPYING for flow in self.main.add)

    @property
    def parts(self) -> tuple[Plan, ...]:
        """All plans in order."""
        return (*self.before, self.main, self.late, *self.after)


def in_stages(
    todo: Plan,
    referred_before: Set[int] | None,
    referred_after: Set[int],
    pause: Callable[[], None] = lambda: None,
    overlap: Overlap = NO_OVERLAP,
) -> Stages:
    """The stages of a plan; it is one stage if it is short and no copies move to other bridges.

    ``referred_before`` and ``referred_after`` are the filters that flows of the bridge refer to,
    as they stand in FILTER_ID; None: not known. ``pause`` is called every FLOWS_TOGETHER flows.
    """
    first: list[Flow] = []
    last: list[InstalledFlow] = []
    ways, add = _split_ways(todo.add)
    old_ways, remove = _split_ways(todo.remove)
    if referred_before is not None and len(add) > FLOWS_TOGETHER:
        first, add = _split(add, referred_before, pause)
    if len(remove) > FLOWS_TOGETHER:
        last, remove = _split(remove, referred_after, pause)
        last.sort(key=lambda flow: flow.priority)
    first = [*ways, *first]
    end_ways, end_rules = (
        tuple(Plan((), tuple(part), todo.kept) for part in _parts(some))
        for some in (old_ways, last)
    )
    main, late = _split_late(replace(todo, add=tuple(add), remove=tuple(remove)), overlap)
    return Stages(
        tuple(Plan(tuple(part), (), todo.kept) for part in _parts(first)),
        main,
        (*end_ways, *end_rules),
        late,
        has_way_before=bool(ways),
        ways_after=len(end_ways),
    )


def _split_late(todo: Plan, overlap: Overlap) -> tuple[Plan, Plan]:
    """What is done at once, and what waits for other bridges; meters go with the flows that do."""
    if not overlap:
        return todo, NO_PLAN
    late = overlap.late
    add = tuple(flow for flow in todo.add if flow.key not in late)
    main = Plan(
        (*add, *overlap.meanwhile),
        tuple(flow for flow in todo.remove if flow.key not in late),
        todo.kept,
        replace(todo.meters, remove=()),
    )
    ended = map(as_installed, overlap.ended)
    return main, Plan(
        (*(flow for flow in todo.add if flow.key in late), *overlap.restored),
        (*(flow for flow in todo.remove if flow.key in late), *ended),
        todo.kept,
        MeterPlan(remove=todo.meters.remove),
    )


def _split_ways(changes: Sequence[Change]) -> tuple[list[Change], Sequence[Change]]:
    """The flows that carry copies from links, and all other flows."""
    ways = [flow for flow in changes if flow.table == START.number and _is_way(flow)]
    if not ways:
        return [], changes
    return ways, [f for f in changes if f.table != START.number or not _is_way(f)]


def _is_way(flow: Flow | InstalledFlow) -> bool:
    return flow.priority == START["transport"]


def _split(
    changes: Sequence[Change], referred: Set[int], pause: Callable[[], None]
) -> tuple[list[Change], list[Change]]:
    """The rules of filters that nothing refers to, and all other flows."""
    unused: list[Change] = []
    others: list[Change] = []
    for at, flow in enumerate(changes):
        if at % FLOWS_TOGETHER == 0:
            pause()
        number = filter_key_of(flow) if flow.table == FILTER.number else None
        (others if number is None or number in referred else unused).append(flow)
    return unused, others


def _parts(changes: Sequence[Change]) -> Iterator[list[Change]]:
    rest = iter(changes)
    while part := list(islice(rest, FLOWS_TOGETHER)):
        yield part

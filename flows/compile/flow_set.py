"""The flows of one bridge, what they ask for being told apart, and what has changed of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from flows.compile.sink import Outlet
from flows.pipeline.contract import check_flows
from flows.plan.plan import Delta
from flows.openflow.flow import Flow
from flows.openflow.pattern import Pattern

PAUSE_AFTER = 32
"""Flows that are worked on between two calls of ``pause``."""
PART = 512
"""About so many flows are given out together."""
Slot = tuple[Pattern, tuple[int, ...]]
"""What a flow asks for: in one set there is one flow for it."""


class FlowSet:
    """Flows of which no two ask for the same; later ones take the place of earlier ones.

    ``pause`` is called again and again, for who must not be kept waiting by many flows. The
    outlet gets every flow that is put here, until changes are asked for.
    """

    def __init__(self, outlet: Outlet | None = None) -> None:
        self._outlet, self._part = outlet, list[Flow]()
        self._shapes: set[tuple[Pattern, str]] = set()
        """Those of flows that keep the contract."""
        self.pause: Callable[[], None] = lambda: None
        self._flows: defaultdict[Pattern, dict[tuple[int, ...], Flow]] = defaultdict(dict)
        self._before: dict[Slot, Flow | None] | None = None
        """What was there for each slot that was touched; not noted before ``note``."""

    def __len__(self) -> int:
        return sum(map(len, self._flows.values()))

    def __iter__(self) -> Iterator[Flow]:
        for alike in self._flows.values():
            yield from alike.values()

    def note(self) -> None:
        """Remember from now on what changes."""
        self._before = {}

    def put(self, flows: Iterable[Flow]) -> None:
        """Add flows."""
        found, part = self._flows, self._part
        coming = iter(flows)
        while some := list(islice(coming, PAUSE_AFTER)):
            if self._before is not None:
                for flow in some:
                    self._set((flow.pattern, flow.values), flow)
            else:
                for flow in some:
                    found[flow.pattern][flow.values] = flow
                part += some
                if len(part) >= PART:
                    self._give_out()
            self.pause()

    def end_stage(self) -> None:
        """What was put so far makes sense by itself.

        Raises:
            InvalidFlow: a flow breaks the contract of its table; the outlet does not get it.
        """
        self._give_out()
        if self._outlet is not None:
            self._outlet.end_stage()

    def take_away(self, flows: Iterable[Flow]) -> None:
        """Remove flows, or those that ask for the same."""
        for flow in flows:
            self._set((flow.pattern, flow.values), None)

    def changes(self) -> Delta:
        """What has changed since ``note``.

        Raises:
            InvalidFlow: a new flow breaks the contract of its table.
        """
        before = self._before or {}
        return self._delta((self._get(slot), old) for slot, old in before.items())

    def changes_from(self, old: FlowSet) -> Delta:
        """What is other than in an older set.

        Raises:
            InvalidFlow: a new flow breaks the contract of its table.
        """
        self._give_out()
        self._outlet = None
        if not old:
            return Delta(tuple(self))
        return self._delta(self._pairs(old))

    def _give_out(self) -> None:
        part = self._part.copy()
        self._part.clear()
        shapes = {(flow.pattern, flow.steps.form): flow for flow in part}
        check_flows(shapes[shape] for shape in shapes.keys() - self._shapes)
        self._shapes |= shapes.keys()
        if self._outlet is not None and part:
            self._outlet.take(part)

    def _pairs(self, old: FlowSet) -> Iterator[tuple[Flow | None, Flow | None]]:
        for flow in self:
            yield flow, old._get((flow.pattern, flow.values))
        for flow in old:
            if self._get((flow.pattern, flow.values)) is None:
                yield None, flow

    def _delta(self, pairs: Iterable[tuple[Flow | None, Flow | None]]) -> Delta:
        put: list[Flow] = []
        gone: list[Flow] = []
        for number, (new, old) in enumerate(pairs):
            if number % PAUSE_AFTER == 0:
                self.pause()
            if new is None:
                gone += [old] if old is not None else []
            elif old is None or old.mark != new.mark:
                put.append(new)
        check_flows(put)
        return Delta(tuple(put), tuple(gone))

    def _get(self, slot: Slot) -> Flow | None:
        alike = self._flows.get(slot[0])
        return None if alike is None else alike.get(slot[1])

    def _set(self, slot: Slot, flow: Flow | None) -> None:
        if self._before is not None:
            self._before.setdefault(slot, self._get(slot))
        alike = self._flows[slot[0]]
        if flow is not None:
            alike[slot[1]] = flow
            return
        alike.pop(slot[1], None)
        if not alike:
            del self._flows[slot[0]]  # a pattern that nobody uses is forgotten

"""The flows of one bridge, what they ask for being told apart, and what has changed of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from flows.contract import check_flows
from flows.diff import Delta
from flows.flow import Flow
from flows.pattern import Pattern

PAUSE_AFTER = 32
"""Flows that are worked on between two calls of ``pause``."""
Slot = tuple[Pattern, tuple[int, ...]]
"""What a flow asks for: in one set there is one flow for it."""


class FlowSet:
    """Flows of which no two ask for the same; later ones take the place of earlier ones.

    ``pause`` is called again and again, for who must not be kept waiting by many flows.
    """

    def __init__(self) -> None:
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
        if self._before is None:
            found = self._flows
            for flow in self._slowly(flows):
                found[flow.pattern][flow.values] = flow
        else:
            for flow in self._slowly(flows):
                self._set((flow.pattern, flow.values), flow)

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
        if not old:
            put = tuple(self)
            check_flows(put)
            return Delta(put)
        return self._delta(self._pairs(old))

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

    def _slowly(self, flows: Iterable[Flow]) -> Iterator[Flow]:
        """The same flows, with a pause now and then."""
        for number, flow in enumerate(flows):
            if number % PAUSE_AFTER == 0:
                self.pause()
            yield flow

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

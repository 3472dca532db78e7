"""The flows of one bridge, unique by match and priority, and the changes to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from flows.compile.sink import FlowSink
from flows.openflow import Flow, Pattern
from flows.pipeline import check_flows
from flows.plan import Delta

FLOWS_BETWEEN_PAUSES = 32
"""Flows that are processed between two calls of ``pause``."""
FLOWS_PER_BATCH = 512
"""The sink receives about so many flows at once."""
FlowId = tuple[Pattern, tuple[int, ...]]
"""The identity of a flow: its pattern (table, priority, matched fields) and the values of these."""


class FlowSet:
    """Flows by identity; a later flow replaces an earlier one of the same identity.

    ``pause`` is called every few flows, so that other work of the process is not delayed. ``sink``
    receives every flow that is put, until ``changes_from`` is called.
    """

    def __init__(self, sink: FlowSink | None = None) -> None:
        self._sink, self._batch = sink, list[Flow]()
        self._shapes: set[tuple[Pattern, str]] = set()
        """The shapes of flows that were checked against the contract."""
        self.pause: Callable[[], None] = lambda: None
        self._flows: defaultdict[Pattern, dict[tuple[int, ...], Flow]] = defaultdict(dict)
        self._before: dict[FlowId, Flow | None] | None = None
        """The flow of each changed identity when ``record_changes`` was called; None before."""

    def __len__(self) -> int:
        return sum(map(len, self._flows.values()))

    def __iter__(self) -> Iterator[Flow]:
        for flows in self._flows.values():
            yield from flows.values()

    def record_changes(self) -> None:
        """Record changes from now on."""
        self._before = {}

    def put(self, flows: Iterable[Flow]) -> None:
        """Add flows."""
        found, batch = self._flows, self._batch
        coming = iter(flows)
        while some := list(islice(coming, FLOWS_BETWEEN_PAUSES)):
            if self._before is not None:
                for flow in some:
                    self._set((flow.pattern, flow.values), flow)
            else:
                for flow in some:
                    found[flow.pattern][flow.values] = flow
                batch += some
                if len(batch) >= FLOWS_PER_BATCH:
                    self._flush()
            self.pause()

    def end_stage(self) -> None:
        """The flows that were put so far can be installed by themselves.

        Raises:
            InvalidFlow: a flow breaks the contract of its table; the sink does not receive it.
        """
        self._flush()
        if self._sink is not None:
            self._sink.end_stage()

    def remove(self, flows: Iterable[Flow]) -> None:
        """Remove flows, or those of the same identity."""
        for flow in flows:
            self._set((flow.pattern, flow.values), None)

    def adopt(self, flows: Iterable[Flow]) -> None:
        """Add flows that the bridge has already: no change is recorded."""
        for number, flow in enumerate(flows):
            if number % FLOWS_BETWEEN_PAUSES == 0:
                self.pause()
            self._flows[flow.pattern][flow.values] = flow

    def leave(self, flows: Iterable[Flow]) -> None:
        """Remove flows that others remove from the bridge: no change is recorded."""
        for number, flow in enumerate(flows):
            if number % FLOWS_BETWEEN_PAUSES == 0:
                self.pause()
            self._drop((flow.pattern, flow.values))

    def find(self, flow: Flow) -> Flow | None:
        """The flow of the same identity."""
        return self._get((flow.pattern, flow.values))

    def changes(self) -> Delta:
        """The changes since ``record_changes``.

        Raises:
            InvalidFlow: a new flow breaks the contract of its table.
        """
        before = self._before or {}
        return self._delta((self._get(key), old) for key, old in before.items())

    def changes_from(self, old: FlowSet) -> Delta:
        """The changes from an older set.

        Raises:
            InvalidFlow: a new flow breaks the contract of its table.
        """
        self._flush()
        self._sink = None
        if not old:
            return Delta(tuple(self))
        return self._delta(self._pairs(old))

    def _flush(self) -> None:
        batch = self._batch.copy()
        self._batch.clear()
        shapes = {(flow.pattern, flow.steps.form): flow for flow in batch}
        check_flows(shapes[shape] for shape in shapes.keys() - self._shapes)
        self._shapes |= shapes.keys()
        if self._sink is not None and batch:
            self._sink.take(batch)

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
            if number % FLOWS_BETWEEN_PAUSES == 0:
                self.pause()
            if new is None:
                gone += [old] if old is not None else []
            elif old is None or old.mark != new.mark:
                put.append(new)
        check_flows(put)
        return Delta(tuple(put), tuple(gone))

    def _get(self, key: FlowId) -> Flow | None:
        flows = self._flows.get(key[0])
        return None if flows is None else flows.get(key[1])

    def _set(self, key: FlowId, flow: Flow | None) -> None:
        if self._before is not None:
            self._before.setdefault(key, self._get(key))
        flows = self._flows[key[0]]
        if flow is not None:
            flows[key[1]] = flow
        else:
            self._drop(key)

    def _drop(self, key: FlowId) -> None:
        flows = self._flows[key[0]]
        flows.pop(key[1], None)
        if not flows:
            del self._flows[key[0]]  # patterns without flows are not kept

"""The printable difference between the flows a bridge has and the flows it should have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from flows.openflow.flow import (
    LEARNED_OBJECT,
    PRODUCTION,
    Cookie,
    Flow,
    FlowKey,
    Match,
    is_ours,
    object_of,
)
from flows.openflow.flow import Mark as Mark
from flows.plan.meters import NO_METERS, MeterPlan


@dataclass(frozen=True, slots=True)
class Installed:
    """One flow as a switch reports it; packets and bytes are its counters."""

    table: int
    priority: int
    match: Match | None
    cookie: Cookie
    packets: int = 0
    bytes: int = 0

    @property
    def key(self) -> FlowKey:
        """What the switch identifies it by.

        A match that we cannot read is known by its cookie alone, as a deletion knows it.
        """
        match = self.cookie if self.match is None else self.match
        return FlowKey(self.table, self.priority, match)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The flows that a bridge should have, by their marks.

    ``alike`` are flows whose mark is another's too, because a digest has 32 bits: with 40,000 flows
    of one table and priority that happens on every fifth bridge. They are compared whole.
    """

    by_mark: Mapping[Mark, Flow]
    alike: tuple[Flow, ...] = ()

    @property
    def marks(self) -> Set[Mark]:
        """What tells that a flow is there."""
        return self.by_mark.keys()

    def __len__(self) -> int:
        return len(self.by_mark) + len(self.alike)


@dataclass(frozen=True, slots=True)
class Scan:
    """What a switch has of ours: flows known by their marks, and the rest as they are.

    ``known`` are marks that were expected and are there exactly once.
    """

    known: Set[Mark]
    others: tuple[Installed, ...] = ()

    def without(self, flows: Iterable[Flow]) -> Scan:
        """The same as if these flows were not there."""
        left_out = list(flows)
        marks, keys = {flow.mark for flow in left_out}, {flow.key for flow in left_out}
        others = tuple(flow for flow in self.others if flow.key not in keys)
        return Scan(self.known - marks, others)


@dataclass(frozen=True, slots=True)
class Delta:
    """What changed in the flows of a bridge: new or other flows, and those that are gone."""

    put: tuple[Flow, ...] = ()
    gone: tuple[Flow, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send: flows to add (or to overwrite) and flows to remove; the rest is right.

    ``kept`` counts the flows that are right already; their counters go on. ``meters`` are what
    changes of the meters that flows use.
    """

    add: tuple[Flow, ...]
    remove: tuple[Installed, ...]
    kept: int
    meters: MeterPlan = NO_METERS

    def __bool__(self) -> bool:
        return bool(self.add or self.remove or self.meters)

    def __str__(self) -> str:
        lines = [*self.meters.lines, *(f"+ {flow}  # {flow.why}" for flow in self.add)]
        lines += [f"- table={f.table},priority={f.priority},{f.match}" for f in self.remove]
        return "\n".join([*lines, f"= {self.kept} flows are right"])


def plan(desired: Iterable[Flow], actual: Iterable[Installed]) -> Plan:
    """What turns ``actual`` into ``desired``; only flows with our cookie are ever removed.

    A flow is right when the same table, priority and match carry the same cookie, because the
    cookie holds a digest of the actions. Flows that the switch learned are left alone.
    """
    ours: Mapping[FlowKey, Installed] = {
        flow.key: flow
        for flow in actual
        if is_ours(flow.cookie) and object_of(flow.cookie) != LEARNED_OBJECT
    }
    wanted = {flow.key: flow for flow in desired}
    add = tuple(f for key, f in wanted.items() if key not in ours or ours[key].cookie != f.cookie)
    remove = tuple(flow for key, flow in ours.items() if key not in wanted)
    return Plan(add, remove, len(wanted) - len(add))


def mark_of(flow: Flow | Installed) -> Mark:
    """What tells a flow apart without a look at its match."""
    return flow.mark if isinstance(flow, Flow) else (flow.table, flow.priority, flow.cookie)


def wanted_of(desired: Iterable[Flow]) -> Wanted:
    """The desired flows by their marks, and those that share one."""
    flows = list(desired)
    by_mark = {flow.mark: flow for flow in flows}
    if len(by_mark) == len(flows):
        return Wanted(by_mark)
    count = Counter(flow.mark for flow in flows)
    alike = tuple(flow for flow in flows if count[flow.mark] > 1)
    return Wanted({mark: f for mark, f in by_mark.items() if count[mark] == 1}, alike)


def plan_from_scan(wanted: Wanted, seen: Scan) -> Plan:
    """``plan``, from a scan for the marks of wanted flows: no match is compared where the mark
    says that table, priority, match and actions are right.
    """
    missing: list[Flow] = []
    if len(seen.known) < len(wanted.by_mark):
        missing = [flow for mark, flow in wanted.by_mark.items() if mark not in seen.known]
    missing += wanted.alike
    places = {(other.table, other.priority) for other in seen.others}
    new = [flow for flow in missing if (flow.table, flow.priority) not in places]
    part = plan((f for f in missing if (f.table, f.priority) in places), seen.others)
    add = (*new, *part.add)
    return Plan(add, part.remove, len(wanted) - len(add))


def plan_from_delta(delta: Delta, total: int) -> Plan:
    """The plan for a bridge that had all that it should; ``total`` flows it should have now."""
    gone = tuple(_installed(flow) for flow in delta.gone)
    return Plan(delta.put, gone, total - len(delta.put))


def scan_of(wanted: Wanted, had: Mapping[Mark, Flow | Installed]) -> Scan:
    """The scan for ``wanted`` of a switch of which it is known that it has ``had``."""
    others = tuple(_installed(flow) for mark, flow in had.items() if mark not in wanted.by_mark)
    return Scan(had.keys() & wanted.by_mark.keys(), others)


def had_after(
    desired: Wanted, seen: Scan, todo: Plan, refused: Iterable[Flow | Installed]
) -> dict[Mark, Flow | Installed]:
    """What a switch has after a plan but for what it refused, without asking it.

    A refused flow of a session leaves no older one where it should have been.
    """
    left_out = list(refused)
    had: dict[Mark, Flow | Installed] = {**desired.by_mark}
    had.update((flow.mark, flow) for flow in desired.alike)
    for refusal in left_out:
        had.pop(mark_of(refusal), None)
    if seen.others:
        cleared = {f.key for f in left_out if isinstance(f, Flow) and f.owner != PRODUCTION}
        gone = {flow.key for flow in todo.add} | {flow.key for flow in todo.remove}
        gone -= {flow.key for flow in left_out} - cleared
        had.update((mark_of(other), other) for other in seen.others if other.key not in gone)
    return had


def _installed(flow: Flow | Installed) -> Installed:
    if isinstance(flow, Installed):
        return flow
    return Installed(flow.table, flow.priority, flow.match, flow.cookie)

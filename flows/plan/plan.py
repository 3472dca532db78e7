"""The printable difference between the flows a bridge has and the flows it should have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from flows.openflow import (
    PRODUCTION,
    UNPLANNED_OBJECTS,
    Cookie,
    Flow,
    FlowKey,
    Match,
    is_ours,
    object_of,
)
from flows.openflow import Mark as Mark
from flows.plan.meters import NO_METERS, MeterPlan


@dataclass(frozen=True, slots=True)
class InstalledFlow:
    """One flow as a switch reports it; ``packets`` and ``bytes`` are its counters.

    ``match`` is None when it matches fields that we cannot read.
    """

    table: int
    priority: int
    match: Match | None
    cookie: Cookie
    packets: int = 0
    bytes: int = 0

    @property
    def key(self) -> FlowKey:
        """What the switch identifies it by; an unreadable match is represented by the cookie.

        A deletion of such a flow also names it by its cookie.
        """
        match = self.cookie if self.match is None else self.match
        return FlowKey(self.table, self.priority, match)


@dataclass(frozen=True, slots=True)
class DesiredFlows:
    """The flows that a bridge should have, by table, priority and cookie (their marks).

    ``alike`` are flows that share their mark with another one, because a digest has 32 bits: with
    40,000 flows of one table and priority that happens on every fifth bridge. They are compared by
    match.
    """

    by_mark: Mapping[Mark, Flow]
    alike: tuple[Flow, ...] = ()

    @property
    def marks(self) -> Set[Mark]:
        """The marks that are unique: an installed flow with one of them is the desired flow."""
        return self.by_mark.keys()

    def __len__(self) -> int:
        return len(self.by_mark) + len(self.alike)


@dataclass(frozen=True, slots=True)
class InstalledFlows:
    """Our flows on a switch: desired ones by their marks, all others with their matches.

    ``known`` are marks of desired flows that the switch reports exactly once.
    """

    known: Set[Mark]
    others: tuple[InstalledFlow, ...] = ()

    def without(self, flows: Iterable[Flow]) -> InstalledFlows:
        """The same without these flows."""
        excluded = list(flows)
        marks, keys = {flow.mark for flow in excluded}, {flow.key for flow in excluded}
        others = tuple(flow for flow in self.others if flow.key not in keys)
        return InstalledFlows(self.known - marks, others)


@dataclass(frozen=True, slots=True)
class Overlap:
    """How copies go on being made while linked bridges change one after the other.

    ``late`` names changes that have to wait until the other bridges make the copies of the new
    version; ``meanwhile`` are flows that stand in for some of them until then. Where nothing else
    changes, ``restored`` are the flows that take their places then, and ``ended`` those of them
    whose places are empty.
    """

    late: Set[FlowKey] = frozenset()
    meanwhile: tuple[Flow, ...] = ()
    restored: tuple[Flow, ...] = ()
    ended: tuple[Flow, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.late)


NO_OVERLAP = Overlap()


@dataclass(frozen=True, slots=True)
class Delta:
    """What changed in the desired flows of a bridge: new or changed flows, and removed ones.

    ``left`` are removed ones that nothing refers to any more, so that they may stay for a while;
    they are not among ``gone``.
    """

    put: tuple[Flow, ...] = ()
    gone: tuple[Flow, ...] = ()
    overlap: Overlap = NO_OVERLAP
    left: tuple[Flow, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The difference to send: flows to add or overwrite, flows to remove, and meters to change.

    ``kept`` counts the flows that are right already; their counters go on.
    """

    add: tuple[Flow, ...]
    remove: tuple[InstalledFlow, ...]
    kept: int
    meters: MeterPlan = NO_METERS

    def __bool__(self) -> bool:
        return bool(self.add or self.remove or self.meters)

    def __str__(self) -> str:
        lines = [*self.meters.lines, *(f"+ {flow}  # {flow.why}" for flow in self.add)]
        lines += [f"- table={f.table},priority={f.priority},{f.match}" for f in self.remove]
        return "\n".join([*lines, f"= {self.kept} flows are right"])


def plan(desired: Iterable[Flow], actual: Iterable[InstalledFlow]) -> Plan:
    """The plan that turns ``actual`` into ``desired``; it removes only flows with our cookie.

    A flow is right when the switch has the same table, priority, match and cookie, because the
    cookie holds a digest of the actions. Flows that the switch learned
    and flows of epochs are left alone.
    """
    ours: Mapping[FlowKey, InstalledFlow] = {
        flow.key: flow
        for flow in actual
        if is_ours(flow.cookie) and object_of(flow.cookie) not in UNPLANNED_OBJECTS
    }
    by_key = {flow.key: flow for flow in desired}
    add = tuple(f for key, f in by_key.items() if key not in ours or ours[key].cookie != f.cookie)
    remove = tuple(flow for key, flow in ours.items() if key not in by_key)
    return Plan(add, remove, len(by_key) - len(add))


def mark_of(flow: Flow | InstalledFlow) -> Mark:
    """Table, priority and cookie of a flow."""
    return flow.mark if isinstance(flow, Flow) else (flow.table, flow.priority, flow.cookie)


def desired_flows_of(desired: Iterable[Flow]) -> DesiredFlows:
    """The desired flows by their marks, and those whose marks are not unique."""
    flows = list(desired)
    by_mark = {flow.mark: flow for flow in flows}
    if len(by_mark) == len(flows):
        return DesiredFlows(by_mark)
    count = Counter(flow.mark for flow in flows)
    alike = tuple(flow for flow in flows if count[flow.mark] > 1)
    return DesiredFlows({mark: f for mark, f in by_mark.items() if count[mark] == 1}, alike)


def plan_from_scan(desired: DesiredFlows, installed: InstalledFlows) -> Plan:
    """The same plan as ``plan``, from a scan of the switch for the marks of the desired flows.

    Matches are compared only in tables and priorities with installed flows of other marks.
    """
    missing: list[Flow] = []
    if len(installed.known) < len(desired.by_mark):
        missing = [flow for mark, flow in desired.by_mark.items() if mark not in installed.known]
    missing += desired.alike
    places = {(other.table, other.priority) for other in installed.others}
    new = [flow for flow in missing if (flow.table, flow.priority) not in places]
    part = plan((f for f in missing if (f.table, f.priority) in places), installed.others)
    add = (*new, *part.add)
    return Plan(add, part.remove, len(desired) - len(add))


def plan_from_delta(delta: Delta, total: int) -> Plan:
    """The plan for a bridge that had all its desired flows before ``delta``.

    ``total`` is the number of flows that it should have now.
    """
    gone = tuple(as_installed(flow) for flow in delta.gone)
    return Plan(delta.put, gone, total - len(delta.put))


def installed_flows_of(
    desired: DesiredFlows, flows: Mapping[Mark, Flow | InstalledFlow]
) -> InstalledFlows:
    """What a scan for ``desired`` would find on a switch that is known to have ``flows``."""
    others = tuple(as_installed(f) for mark, f in flows.items() if mark not in desired.by_mark)
    return InstalledFlows(flows.keys() & desired.by_mark.keys(), others)


def installed_after(
    desired: DesiredFlows,
    installed: InstalledFlows,
    todo: Plan,
    refused: Iterable[Flow | InstalledFlow],
) -> dict[Mark, Flow | InstalledFlow]:
    """What a switch has after it applied ``todo`` except what it ``refused``, without a scan.

    When it refuses a flow of a session, the flow with the same match that was there is removed too.
    """
    failed = list(refused)
    after: dict[Mark, Flow | InstalledFlow] = {**desired.by_mark}
    after.update((flow.mark, flow) for flow in desired.alike)
    for refusal in failed:
        after.pop(mark_of(refusal), None)
    if installed.others:
        cleared = {f.key for f in failed if isinstance(f, Flow) and f.owner != PRODUCTION}
        gone = {flow.key for flow in todo.add} | {flow.key for flow in todo.remove}
        gone -= {flow.key for flow in failed} - cleared
        after.update((mark_of(other), other) for other in installed.others if other.key not in gone)
    return after


def as_installed(flow: Flow | InstalledFlow) -> InstalledFlow:
    """A flow as a switch reports it that has it."""
    if isinstance(flow, InstalledFlow):
        return flow
    return InstalledFlow(flow.table, flow.priority, flow.match, flow.cookie)

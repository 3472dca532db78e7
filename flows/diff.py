"""The printable difference between the flows a bridge has and the flows it should have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flows.flow import LEARNED_OBJECT, Cookie, Flow, FlowKey, Match, is_ours, object_of


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
        """What the switch identifies it by."""
        return FlowKey(self.table, self.priority, str(self.match))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send: flows to add (or to overwrite) and flows to remove; the rest is right.

    ``kept`` counts the flows that are right already; their counters go on.
    """

    add: tuple[Flow, ...]
    remove: tuple[Installed, ...]
    kept: int

    def __bool__(self) -> bool:
        return bool(self.add or self.remove)

    def __str__(self) -> str:
        lines = [f"+ {flow}  # {flow.why}" for flow in self.add]
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

"""Reachability: all that packets of one port could reach, with any content, by a walk over flows.

Packet fields are unknown and match anything. So do the registers that hold results of filters and
checks; other registers, the port of arrival and our link tag are known. Priorities are ignored, so
the walk reaches at least all that a real packet reaches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from flows.model import Dpid, Link, Ofport, Placement
from flows.openflow import (
    IN_PORT,
    VLAN_VID,
    CheckLarger,
    Clone,
    Flow,
    Load,
    MoveToVlan,
    Multipath,
    Output,
    PopVlan,
    PushVlan,
    RegField,
    Resubmit,
    SetTunnelKey,
    SetTunnelRemote,
    SetVlan,
)
from flows.pipeline import (
    BUCKET,
    COHORTS,
    FILTER_ID,
    LARGER,
    LEARNED,
    NOWHERE,
    OUT,
    START,
    TAKEN,
    VERDICT,
    WINNER,
)

Known = tuple[tuple[int, int], ...]
"""For each register its value, and the bits of it that are known."""
FOUND = (FILTER_ID, VERDICT, TAKEN, WINNER, *COHORTS, LARGER, BUCKET)
"""Registers with results of filters, length checks and hashes: these may hold any value."""
UNKNOWN = [sum(part.mask for part in FOUND if part.reg == reg) for reg in range(16)]
"""The bits of each register that hold such results."""
BLANK: Known = tuple((0, 0xFFFFFFFF & ~unknown) for unknown in UNKNOWN)


@dataclass(frozen=True)
class State:
    """What is known of a packet; ``tag`` is the outer tag if one of our flows pushed it.

    ``key`` and ``remote`` are the tunnel key and destination of an output to a tunnel port.
    """

    in_port: int
    registers: Known = BLANK
    tag: int | None = None
    key: int | None = None
    remote: str | None = None

    def narrowed(self, flow: Flow) -> State | None:
        """What is known once the flow has matched; None when it cannot match."""
        registers = list(self.registers)
        for term in flow.match.terms:
            if term.field is IN_PORT and term.value != self.in_port:
                return None
            if term.field is VLAN_VID and term.value != 0x1000 | (self.tag or -1):
                return None
            if term.field.is_register:
                value, known = registers[term.field.oxm_field]
                if (value ^ term.value) & known & term.mask:
                    return None
                learned = term.mask & ~UNKNOWN[term.field.oxm_field]
                registers[term.field.oxm_field] = (value | term.value & learned, known | learned)
        return replace(self, registers=tuple(registers))

    def load(self, part: RegField, value: int | None) -> State:
        """Set a part of a register; None makes it unknown."""
        registers = list(self.registers)
        old, known = registers[part.reg]
        if value is None:
            registers[part.reg] = (old & ~part.mask, known & ~part.mask)
        elif not part.mask & UNKNOWN[part.reg]:
            registers[part.reg] = (old & ~part.mask | value << part.low, known | part.mask)
        return replace(self, registers=tuple(registers))

    def get(self, part: RegField) -> int | None:
        value, known = self.registers[part.reg]
        return (value & part.mask) >> part.low if part.mask & known == part.mask else None


@dataclass
class Reach:
    """Bridges with their flows and links; ``ports``, ``tags`` and ``remotes`` were reached.

    A remote is an address and the key of the tunnel to it.
    """

    flows: Mapping[Dpid, Iterable[Flow]]
    links: Iterable[Link]
    ports: set[Placement] = field(default_factory=set)
    tags: set[int | None] = field(default_factory=set)
    remotes: set[tuple[str, int | None]] = field(default_factory=set)

    def walk(self, start: Placement) -> None:
        """Follow everything that comes in at one port, over all bridges."""
        far = {link.a: link.b for link in self.links} | {link.b: link.a for link in self.links}
        todo, done = [(start, None)], set()
        while todo:
            (place, tag) = todo.pop()
            if (place, tag) in done:
                continue
            done.add((place, tag))
            for ofport, sent in self._process(place, tag):
                out = Placement(place.dpid, Ofport(ofport))
                if out in far:
                    self.tags.add(sent)
                    todo.append((far[out], sent))
                else:
                    self.ports.add(out)

    def _process(self, place: Placement, tag: int | None) -> set[tuple[int, int | None]]:
        out: set[tuple[int, int | None]] = set()
        self._table(place.dpid, START.number, {State(place.ofport, tag=tag)}, out)
        return out

    def _table(
        self, dpid: Dpid, table: int, states: set[State], out: set[tuple[int, int | None]]
    ) -> set[State]:
        after = set(states)
        if table == LEARNED.number:
            after |= {state.load(OUT, None) for state in states}
        for flow in self.flows.get(dpid, ()):
            if flow.table == table:
                met = {new for state in states if (new := state.narrowed(flow)) is not None}
                if met:
                    after |= self._do(dpid, flow.actions, met, out)
        return after

    def _do(self, dpid, actions, states: set[State], out) -> set[State]:
        for action in actions:
            match action:
                case Resubmit(table=table):
                    states = self._table(dpid, table, states, out)
                case Clone(actions=inner):
                    self._do(dpid, inner, states, out)
                case Output(ofport=ofport) if ofport != NOWHERE:
                    out |= {(ofport, state.tag) for state in states if state.remote is None}
                    self.remotes |= {(s.remote, s.key) for s in states if s.remote is not None}
                case SetTunnelKey(key=key):
                    states = {replace(state, key=key) for state in states}
                case SetTunnelRemote(address=address):
                    states = {replace(state, remote=str(address)) for state in states}
                case Multipath(target=target) | CheckLarger(target=target):
                    states = {state.load(target, None) for state in states}
                case Load(target=target, value=value):
                    states = {state.load(target, value) for state in states}
                case PushVlan() | PopVlan():
                    states = {replace(state, tag=None) for state in states}
                case SetVlan(vid=vid):
                    states = {replace(state, tag=vid) for state in states}
                case MoveToVlan(source=source):
                    states = {replace(state, tag=state.get(source)) for state in states}
                case _:
                    pass
        return states

"""Reference interpreter of compiled flows: which frames a packet becomes, where, and why.

It executes action lists as ofproto-dpif-xlate of Open vSwitch 3.1 does: registers survive resubmit
and are restored after clone; output to the ingress port sends nothing.
"""

from __future__ import annotations

import struct
from collections import defaultdict, deque
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from netaddr import IPAddress

from flows.model import Datapath, Dpid, Link, Ofport, Placement, Segmenter
from flows.openflow import (
    ETH_DST,
    ETH_IPV4,
    ETH_IPV6,
    ETH_QINQ,
    ETH_SRC,
    ETH_TYPE,
    ETH_VLAN,
    IN_PORT,
    IP_DST,
    IP_PROTO,
    IP_SRC,
    IPV6_DST,
    IPV6_SRC,
    LEARNED_OBJECT,
    PKT_MARK,
    PORT_FIELDS,
    REGISTERS,
    VLAN_HEADER,
    VLAN_ID_MASK,
    VLAN_PCP,
    VLAN_PRESENT,
    VLAN_VID,
    Action,
    CheckLarger,
    Clone,
    Field,
    Fields,
    Flow,
    ForgetInPort,
    HashOf,
    Learn,
    Load,
    Match,
    Metered,
    MoveToVlan,
    Multipath,
    Output,
    PopMpls,
    PopVlan,
    PushMpls,
    PushVlan,
    RegField,
    Resubmit,
    SetMark,
    SetTunnelKey,
    SetTunnelRemote,
    SetVlan,
    SetVlanPriority,
    length_without_padding,
    read_fields,
)
from flows.pipeline import CUT, DELIVER, NOWHERE, SEND, SESSION, START, TABLE_BY_NUMBER

NO_PORT = 0xFFFF
DELIVERING = frozenset({DELIVER.number, SEND.number, CUT.number})
"""The tables whose outputs are copies."""
Shape = tuple[int, tuple[tuple[Field, int], ...]]
"""A priority, and the fields that a flow matches with their masks (a subtable of OVS)."""
NO_DATAPATHS: Mapping[Dpid, Datapath] = {}
NO_SEGMENTERS: Mapping[Dpid, Segmenter] = {}
MAX_HOPS = 64
"""Links that one packet may cross before the interpreter calls it a loop."""


@dataclass(frozen=True, slots=True)
class Emission:
    """One frame that left a port; ``session`` is the session number when it is a copy.

    ``key`` and ``remote`` are the tunnel metadata of an output to a tunnel port, ``mark`` is the
    mark beside the packet.
    """

    place: Placement
    frame: bytes
    session: int | None
    key: int | None = None
    remote: IPAddress | None = None
    mark: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One flow that a packet hit."""

    dpid: Dpid
    flow: Flow

    def __str__(self) -> str:
        table = TABLE_BY_NUMBER[self.flow.table].name
        return f"{self.dpid:x} {table:16} {self.flow.why}  [{self.flow}]"


@dataclass(frozen=True, slots=True)
class Trace:
    """What became of one packet: frames at ports that are not links, and the flows it hit.

    ``crossed`` are the ends of links by which it left a bridge.
    """

    emissions: tuple[Emission, ...]
    steps: tuple[Step, ...]
    crossed: frozenset[Placement] = frozenset()

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))


class Interpreter:
    """Bridges with flows and links; learned flows stay from one packet to the next.

    A bridge whose datapath is not known counts as one of the userspace datapath.
    """

    def __init__(
        self,
        flows: Mapping[Dpid, Iterable[Flow]],
        links: Iterable[Link] = (),
        datapaths: Mapping[Dpid, Datapath] = NO_DATAPATHS,
        segmenters: Mapping[Dpid, Segmenter] = NO_SEGMENTERS,
    ) -> None:
        self._bridges = {
            dpid: _BridgeState(dpid, given, datapaths.get(dpid)) for dpid, given in flows.items()
        }
        self._far_end: dict[Placement, Placement] = {}
        self._segmenters = segmenters
        for link in links:
            self._far_end[link.a] = link.b
            self._far_end[link.b] = link.a

    def copy(self) -> Interpreter:
        """The same bridges as they are now: what one of the two learns, the other does not."""
        other = Interpreter({})
        other._bridges = {dpid: bridge.copy() for dpid, bridge in self._bridges.items()}
        other._far_end, other._segmenters = self._far_end, self._segmenters
        return other

    def send(
        self, place: Placement, frame: bytes, closed: Container[Placement] = frozenset()
    ) -> Trace:
        """Receive ``frame`` at a port, and follow it over links until every frame has left.

        What leaves by the ends of links in ``closed`` does not arrive.
        """
        emissions: list[Emission] = []
        steps: list[Step] = []
        crossed: set[Placement] = set()
        arriving = deque([(place, frame, 0, 0)])
        while arriving:
            at, frame, mark, hops = arriving.popleft()
            bridge = self._bridges.get(at.dpid)
            if bridge is None:
                continue
            for out in bridge.process(at.ofport, frame, mark, steps):
                pair = self._segmenters.get(at.dpid)
                if pair is not None and out.place.ofport == pair.out:
                    arriving.append((Placement(at.dpid, pair.back), out.frame, out.mark, hops))
                    continue
                far = self._far_end.get(out.place)
                if far is None:
                    emissions.append(out)
                    continue
                crossed.add(out.place)
                if hops < MAX_HOPS and out.place not in closed:
                    arriving.append((far, out.frame, 0, hops + 1))
        return Trace(tuple(emissions), tuple(steps), frozenset(crossed))


@dataclass
class _Packet:
    """A packet inside one bridge: its bytes, the fields read on arrival, and its registers."""

    frame: bytes
    fields: Fields
    registers: list[int] = field(default_factory=lambda: [0] * len(REGISTERS))
    table: int = START.number
    learned: list[tuple[int, Flow]] = field(default_factory=list)
    pushed: int = 0
    """Bytes of tags that were pushed in this clone; truncation does not count them."""
    key: int | None = None
    remote: IPAddress | None = None
    padding: int = 0
    """Bytes after the IP packet on arrival; check_pkt_larger of userspace does not count them."""
    datapath: Datapath | None = None

    def get(self, wanted: Field) -> int:
        if wanted.is_register:
            return self.registers[wanted.oxm_field]
        return self.fields.get(wanted, -1)

    def register(self, part: RegField) -> int:
        return (self.registers[part.reg] & part.mask) >> part.low

    def load(self, part: RegField, value: int) -> None:
        self.registers[part.reg] = self.registers[part.reg] & ~part.mask | value << part.low

    def push_vlan(self) -> None:
        self.frame = self.frame[:12] + struct.pack("!HH", ETH_VLAN, 0) + self.frame[12:]
        self.pushed += VLAN_HEADER
        self.fields = self.fields | {VLAN_VID: VLAN_PRESENT, VLAN_PCP: 0}

    def pop_vlan(self) -> None:
        self.frame = self.frame[:12] + self.frame[16:]
        self.fields = {f: v for f, v in self.fields.items() if f is not VLAN_PCP} | {VLAN_VID: 0}

    def read_again(self) -> None:
        """Read the fields of the packet as it is now, like a switch that recirculates it."""
        kept = {field: self.fields[field] for field in (IN_PORT, PKT_MARK)}
        self.fields = read_fields(self.frame) | kept
        self.padding = len(self.frame) - length_without_padding(self.frame)
        self.pushed = 0

    def set_tag(self, value: int, mask: int) -> None:
        old = int.from_bytes(self.frame[14:16], "big")
        tag = (old & ~mask | value & mask).to_bytes(2, "big")
        self.frame = self.frame[:14] + tag + self.frame[16:]

    def duplicate(self) -> _Packet:
        registers = list(self.registers)
        copy = _Packet(self.frame, dict(self.fields), registers, self.table, self.learned)
        copy.key, copy.remote, copy.padding = self.key, self.remote, self.padding
        copy.datapath = self.datapath
        return copy

    @property
    def uncounted(self) -> int:
        """The bytes of tags that truncation does not count: those pushed in this clone, and in
        Linux the outermost tag of the frame that arrived.
        """
        is_kernel = self.datapath is Datapath.KERNEL
        return self.pushed + VLAN_HEADER * (is_kernel and self._has_tag(self.pushed))

    def _has_tag(self, before: int = 0) -> bool:
        """Whether there is a tag at the place of the outermost one, after so many bytes of tags."""
        kind = self.frame[12 + before : 14 + before]
        return int.from_bytes(kind, "big") in (ETH_VLAN, ETH_QINQ)

    @property
    def checked_length(self) -> int:
        """The bytes that check_pkt_larger compares: Linux does not count the outermost tag."""
        if self.datapath is not Datapath.KERNEL:
            return len(self.frame) - self.padding
        return len(self.frame) - VLAN_HEADER * self._has_tag()


class _Table:
    """The flows of one table, looked up by tuple space search: a hash table for each shape."""

    def __init__(self) -> None:
        self._shapes: dict[Shape, dict[tuple[int, ...], Flow]] = {}
        self._order: list[Shape] = []

    def add(self, flow: Flow) -> None:
        """Add a flow, or replace the one of the same priority and match."""
        fields = tuple((term.field, term.mask) for term in flow.match.terms)
        shape = (flow.priority, fields)
        if shape not in self._shapes:
            self._shapes[shape] = {}
            self._order = sorted(self._shapes, key=lambda shape: -shape[0])
        self._shapes[shape][tuple(term.value for term in flow.match.terms)] = flow

    def copy(self) -> _Table:
        """The same flows."""
        other = _Table()
        other._shapes = {shape: dict(flows) for shape, flows in self._shapes.items()}
        other._order = self._order
        return other

    def find(self, packet: _Packet) -> Flow | None:
        """The flow of the highest priority that matches."""
        for shape in self._order:
            # get() returns -1 for a field that the packet lacks, which equals no masked value
            values = tuple(
                value & mask if (value := packet.get(wanted)) >= 0 else value
                for wanted, mask in shape[1]
            )
            if (found := self._shapes[shape].get(values)) is not None:
                return found
        return None


class _BridgeState:
    """The flows of one bridge by table, learned ones included."""

    def __init__(self, dpid: Dpid, flows: Iterable[Flow], datapath: Datapath | None) -> None:
        self.dpid, self.datapath = dpid, datapath
        self._tables: dict[int, _Table] = defaultdict(_Table)
        for flow in flows:
            self._tables[flow.table].add(flow)

    def copy(self) -> _BridgeState:
        """The same flows."""
        other = _BridgeState(self.dpid, (), self.datapath)
        other._tables.update((number, table.copy()) for number, table in self._tables.items())
        return other

    def process(
        self, in_port: Ofport, frame: bytes, mark: int, steps: list[Step]
    ) -> list[Emission]:
        packet = _Packet(frame, read_fields(frame) | {IN_PORT: in_port, PKT_MARK: mark})
        packet.padding = len(frame) - length_without_padding(frame)
        packet.datapath = self.datapath
        out: list[Emission] = []
        self._resubmit(packet, START.number, out, steps)
        for table, flow in packet.learned:
            self._tables[table].add(flow)
        return out

    def _resubmit(
        self, packet: _Packet, table: int, out: list[Emission], steps: list[Step]
    ) -> None:
        found = self._tables[table].find(packet)
        if found is not None:
            steps.append(Step(self.dpid, found))
            before, packet.table = packet.table, table
            self._do(packet, found.actions, out, steps)
            packet.table = before

    def _do(
        self, packet: _Packet, actions: Iterable[Action], out: list[Emission], steps: list[Step]
    ) -> None:
        for action in actions:
            match action:
                case Resubmit(table=table):
                    self._resubmit(packet, table, out, steps)
                case Clone(actions=inner):
                    self._do(packet.duplicate(), inner, out, steps)
                case Output(ofport=ofport, max_len=max_len):
                    self._output(packet, ofport, max_len, out)
                case Learn():
                    _learn(packet, action)
                case _:
                    _change(packet, action)

    def _output(self, packet: _Packet, ofport: int, max_len: int, out: list[Emission]) -> None:
        if ofport not in (0, NOWHERE, packet.fields[IN_PORT]):
            is_copy = packet.table in DELIVERING
            session = packet.register(SESSION) if is_copy else None
            place = Placement(self.dpid, Ofport(ofport))
            frame = packet.frame[: max_len + packet.uncounted] if max_len else packet.frame
            mark = packet.fields[PKT_MARK]
            out.append(Emission(place, frame, session, packet.key, packet.remote, mark))


def flow_hash(fields: Fields, hash_of: HashOf) -> int:
    """A hash that is the same for both directions of a flow; not the hash that OVS computes.

    Packets that are not IP all have the same hash.
    """
    pairs = [(IP_SRC, IP_DST), (IPV6_SRC, IPV6_DST)]
    protocol = fields.get(IP_PROTO)
    if hash_of is HashOf.CONNECTION and protocol in PORT_FIELDS:
        pairs.append(PORT_FIELDS[protocol])
    found = [sorted((fields[a], fields[b])) for a, b in pairs if a in fields and b in fields]
    if not found or fields[ETH_TYPE] not in (ETH_IPV4, ETH_IPV6):
        return 0
    text = repr((protocol, found))
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big")


def _learn(packet: _Packet, learn: Learn) -> None:
    """Notes the learned flow; it takes effect for the next packet, as in Open vSwitch."""
    match = Match.of(
        learn.network.eq(packet.register(learn.network)), ETH_DST.eq(packet.fields[ETH_SRC])
    )
    load = Load(learn.out, packet.fields[IN_PORT])
    learned = Flow(learn.table, learn.priority, match, (load,), LEARNED_OBJECT, "learned")
    packet.learned.append((learn.table, learned))


def _change(packet: _Packet, action: Action) -> None:
    match action:
        case Load(target=target, value=value):
            packet.load(target, value)
        case PushVlan():
            packet.push_vlan()
        case PopVlan():
            packet.pop_vlan()
        case PushMpls():
            pass  # what follows it removes the label
        case PopMpls():
            packet.read_again()
        case ForgetInPort():
            packet.fields = packet.fields | {IN_PORT: NO_PORT}
        case SetVlan(vid=vid):
            packet.set_tag(vid, VLAN_ID_MASK)
        case SetVlanPriority(pcp=pcp):
            packet.set_tag(pcp << 13, 0xE000)
        case MoveToVlan(source=source):
            packet.set_tag(packet.register(source), VLAN_ID_MASK)
        case SetMark(mark=mark):
            packet.fields = packet.fields | {PKT_MARK: mark}
        case SetTunnelKey(key=key):
            packet.key = key
        case SetTunnelRemote(address=address):
            packet.remote = address
        case CheckLarger(length=length, target=target):
            packet.load(target, packet.checked_length > length)
        case Multipath(hash=hash_of, buckets=buckets, target=target):
            packet.load(target, flow_hash(packet.fields, hash_of) % buckets)
        case Metered():
            pass  # what a meter drops depends on time; the interpreter has none
        case _:
            raise AssertionError(f"no meaning for {action}")

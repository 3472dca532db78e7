"""A scene of the matrix: a world, the packets sent in it, and every frame that must come out.

Each cell is known by where its copy arrives and by the bytes of the frame, so a copy too many never
makes up for one that is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from netaddr import EUI, IPAddress

from flows.model import (
    ALL,
    Collector,
    CollectorId,
    Filter,
    FilterId,
    Link,
    Mode,
    Network,
    NetworkId,
    Numbers,
    Ofport,
    Oversize,
    Placement,
    Port,
    PortId,
    PortKind,
    PortRange,
    Rule,
    RuleMatch,
    Session,
    SessionId,
    Source,
    SourceKind,
    TagMode,
    TenantName,
    Verdict,
    World,
    tag_keys,
    transport_keys,
)
from tests import frames
from tests.arrivals import Frames, Remote, Where
from tests.datapath import TUNNEL_KINDS, datapaths, segmenters
from tests.generators.random_worlds import BRIDGES, FIRST_TUNNEL, LINK_PORTS
from tests.matrix.cells import (
    PACKET_LENGTH,
    Apart,
    Cast,
    Request,
    SensorPath,
    Size,
    Wanted,
    Watched,
    length_of_copy,
)

SLOTS = range(101, 165)
"""OpenFlow ports of each bridge that a scene may use."""
ON_A_LINK, BURST = 64, 32
"""Frames that the receive buffers of a link, and of any other port, hold with certainty."""
RED = TenantName("red")
SENDER, RECEIVER, BYSTANDER = 0x02000000000A, 0x02000000000B, 0x02000000000C
STRANGER = 0x0200000000EE
DESTINATIONS = {
    Cast.UNICAST: RECEIVER, Cast.BROADCAST: frames.BROADCAST, Cast.MULTICAST: 0x01005E000001,
    Cast.UNKNOWN: STRANGER, Cast.HAIRPIN: SENDER,
}  # fmt: skip
"""The addresses are the same in every network: nothing but the network tells packets apart."""
ACCEPT = (Rule(20, Verdict.ACCEPT, RuleMatch(protocol=17, destination_port=(PortRange(53, 53),))),)
REJECT = (Rule(10, Verdict.REJECT, RuleMatch(eth_type=0x0800)), *ACCEPT)
RULES = {
    Wanted.BOTH: (ACCEPT, ACCEPT),
    Wanted.EGRESS: (ACCEPT, REJECT),
    Wanted.INGRESS: (REJECT, ACCEPT),
    Wanted.REJECT: (REJECT, REJECT),
}
"""The egress and the ingress rules of each filter; a packet meets both kinds."""
FILTERS = tuple(
    Filter(FilterId(wanted.name), wanted.name, RED, egress=egress, ingress=ingress)
    for wanted, (egress, ingress) in RULES.items()
)


@dataclass(frozen=True)
class Trio:
    """The workloads of one network: a sender, a receiver, and perhaps a third for floods."""

    network: NetworkId
    apart: Apart
    places: tuple[Placement, ...]

    @property
    def ports(self) -> tuple[Port, ...]:
        """The workloads, the sender first."""
        macs = (SENDER, RECEIVER, BYSTANDER)
        return tuple(
            Port(
                PortId(f"{self.network}-{role}"), f"{self.network}-{role}", RED, self.network,
                mac=EUI(mac, version=48),
            )
            for role, mac, _ in zip("abc", macs, self.places, strict=False)
        )  # fmt: skip

    def receivers(self, cast: Cast) -> tuple[Placement, ...]:
        """The places where production delivers what the sender sends."""
        if cast is Cast.HAIRPIN:
            return ()
        return self.places[1:2] if cast is Cast.UNICAST else self.places[1:]


@dataclass(frozen=True)
class Packet:
    """One packet of a scene: who sends it to whom, and its bytes."""

    trio: Trio
    cast: Cast
    frame: bytes

    @property
    def sender(self) -> Port:
        """The workload that sends it."""
        return self.trio.ports[0]


def packet(trio: Trio, cast: Cast, serial: int, length: int) -> Packet:
    """A packet of a length, in bytes, that no other packet with another serial number equals."""
    headers = 14 + 20 + 8
    data = (b"%06d" % serial).ljust(length - headers, b".")
    body = frames.ipv4("10.0.0.1", "10.0.0.2", 17, frames.udp(1024 + serial, 53, data))
    return Packet(trio, cast, frames.ethernet(DESTINATIONS[cast], SENDER, 0x0800, body))


@dataclass(frozen=True)
class Scene:
    """A world, what is sent in it, what must come out, and how many cells that answers.

    ``one_of`` joins tap ports of a pool: the matrix does not check which of them gets a copy.
    """

    name: str
    world: World
    packets: tuple[Packet, ...]
    one_of: Mapping[Where, Where]
    production: Frames
    copies: Frames
    cells: int

    @property
    def expected(self) -> Frames:
        """Every frame that must come out, and where."""
        return self.production + self.copies

    @property
    def burst(self) -> int:
        """Packets that may be sent at once: all their copies may have to cross one link."""
        copies = sum(n for (where, _), n in self.copies.items() if isinstance(where, Placement))
        return max(1, min(BURST, ON_A_LINK * len(self.packets) // (copies or 1)))

    def place(self, where: Where) -> Where:
        """The place that represents ``where``: one for all sensors of a pool."""
        return self.one_of.get(where, where)


@dataclass
class SceneBuilder:
    """Builds a scene: its workloads, tap ports, collectors, sessions and expected copies."""

    trios: tuple[Trio, ...]
    taps: dict[Placement, Port] = field(default_factory=dict)
    collectors: list[Collector] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    one_of: dict[Where, Where] = field(default_factory=dict)
    copies: Frames = field(default_factory=Counter)
    cells: int = 0

    def collector(
        self, name: str, path: SensorPath, ofport: int, key: int, is_tight: bool
    ) -> Collector:
        """Sensors at one port number of some bridges, or at remote addresses with a key."""
        places = [Placement(dpid, Ofport(ofport)) for dpid in path.bridges]
        for place in places:
            tap = PortId(f"tap-{place.dpid:x}-{place.ofport}")
            self.taps[place] = Port(tap, tap, RED, None, PortKind.TAP)
            self.one_of[place] = places[0]
        sensors = tuple(self.taps[place].id for place in places)
        made = Collector(
            CollectorId(name), name, RED, sensors or tuple(map(IPAddress, path.addresses)),
            tenant_tag=path.tag, delivery=path.delivery, key=key if path.is_tunnel else None,
            path_mtu=path.path_mtu if is_tight else None,
        )  # fmt: skip
        for address in path.addresses:
            there = Remote(path.delivery, address, key)
            self.one_of[there] = Remote(path.delivery, path.addresses[0], key)
        self.collectors.append(made)
        return made

    def session(
        self, name: str, request: Request, trios: Iterable[Trio], to: Collector,
        size: Size = Size.WHOLE, exclusive: int | None = None,
    ) -> None:  # fmt: skip
        """A session that watches its ends of some networks."""
        trios = tuple(trios)
        ends = {Watched.SENDER: (0, 1), Watched.RECEIVER: (1, 2), Watched.BOTH: (0, 2)}
        source = Source(kind=SourceKind.NETWORK, networks=tuple(trio.network for trio in trios))
        if request.watched in ends:
            part = slice(*ends[request.watched])
            source = Source(tuple(port.id for trio in trios for port in trio.ports[part]))
        self.sessions.append(
            Session(
                SessionId(name), name, RED, source, to.id, request.direction,
                number=exclusive or 100,
                filter=ALL if request.wanted is Wanted.ALL else FilterId(request.wanted.name),
                packet_length=PACKET_LENGTH if size is Size.SHORTENED else None,
                oversize=Oversize.SKIP if size is Size.SKIPPED else Oversize.TRUNCATE,
                mode=Mode.COPY if exclusive is None else Mode.EXCLUSIVE,
            )
        )  # fmt: skip

    def expect(
        self, packet: Packet, count: int, path: SensorPath, size: Size, to: Collector, tags: Numbers
    ) -> None:
        """Count one cell, and expect its frame at a sensor."""
        self.cells += 1
        length = length_of_copy(len(packet.frame), path, size)
        if not count or length is None:
            return
        copy = packet.frame[:length]
        tag = tags.tag[f"network:{packet.trio.network}"] if path.tag is TagMode.AUTO else path.tag
        if isinstance(tag, int):
            copy = copy[:12] + bytes((0x81, 0, tag >> 8, tag & 0xFF)) + copy[12:]
        where: Where
        if path.is_tunnel:
            assert to.key is not None
            where = Remote(path.delivery, path.addresses[0], to.key)
        else:
            where = next(place for place, tap in self.taps.items() if tap.id == to.sensors[0])
        self.copies[where, copy] += count

    def numbers(self) -> Numbers:
        """A number for everything that has one, in the order of its making."""
        networks, ports = self._networks(), self._ports()
        tags = {key: n for n, key in enumerate(tag_keys(networks, ports), 1)}
        wanted = transport_keys(self.collectors, networks, ports, Numbers(tag=tags))
        tags |= {key: n for n, key in enumerate(wanted, len(tags) + 1)}
        return Numbers(
            {network.id: n for n, network in enumerate(networks, 1)},
            {port.id: n for n, port in enumerate(ports, 1)},
            {session.id: n for n, session in enumerate(self.sessions, 1)},
            tags,
            {each.id: n for n, each in enumerate(FILTERS, 1)},
            {collector.id: n for n, collector in enumerate(self.collectors, 1)},
        )

    def scene(self, name: str, packets: tuple[Packet, ...], numbers: Numbers) -> Scene:
        """The finished scene."""
        placements = {tap.id: place for place, tap in self.taps.items()}
        for trio in self.trios:
            placements |= {p.id: at for p, at in zip(trio.ports, trio.places, strict=True)}
        ends = [(Placement(d, Ofport(LINK_PORTS[1])), d) for d in BRIDGES[:-1]]
        links = tuple(
            Link(end, Placement(BRIDGES[n], Ofport(LINK_PORTS[0])))
            for n, (end, _) in enumerate(ends, 1)
        )
        tunnels = {
            (dpid, kind): Ofport(FIRST_TUNNEL + n)
            for dpid in BRIDGES
            for n, kind in enumerate(TUNNEL_KINDS)
        }
        world = World(
            self._networks(), self._ports(), tuple(self.collectors), tuple(self.sessions),
            placements, links, numbers, FILTERS, tunnels=tunnels,
            datapaths=datapaths(BRIDGES), segmenters=segmenters(BRIDGES),
        )  # fmt: skip
        production: Frames = Counter(
            (place, p.frame) for p in packets for place in p.trio.receivers(p.cast)
        )
        return Scene(name, world, packets, self.one_of, production, self.copies, self.cells)

    def _networks(self) -> tuple[Network, ...]:
        return tuple(Network(trio.network, trio.network, RED) for trio in self.trios)

    def _ports(self) -> tuple[Port, ...]:
        return (*(port for trio in self.trios for port in trio.ports), *self.taps.values())

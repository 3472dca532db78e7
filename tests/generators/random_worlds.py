"""Random worlds and packets from a seed: few addresses and many collisions, on purpose.

The same worlds run through the interpreter in tests/flows and over real bridges in tests/ovs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from netaddr import EUI, IPAddress

from flows.model import (
    ALL,
    LINK_MTU,
    METERS,
    NUMBER_RANGES,
    TUNNEL_KEYS,
    Balance,
    Collector,
    CollectorId,
    Delivery,
    Direction,
    Down,
    Dpid,
    Filter,
    FilterId,
    Label,
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
    Rate,
    RateUnit,
    Segmenter,
    Session,
    SessionId,
    Source,
    SourceKind,
    TagMode,
    TenantName,
    TunnelKind,
    World,
    link_limit,
    path_limit,
    tag_keys,
    transport_keys,
)
from tests import frames
from tests.datapath import TUNNEL_KINDS, datapaths, segmenters
from tests.generators.random_filters import IPS, IPS6, MACS, broad_filter, random_filter

BRIDGES = (Dpid(0xA1), Dpid(0xB2), Dpid(0xC3))
SLOTS = range(1, 7)
"""OpenFlow ports of each bridge that workloads and tap ports may be on."""
LINK_PORTS = (21, 22)
STRANGER = 0x0200000000EE
REMOTE = tuple(kind for kind in Delivery if kind is not Delivery.PORT)
FIRST_TUNNEL = 31
"""OpenFlow port of the first tunnel of a bridge; one for each kind follows."""
ADDRESSES = ("192.0.2.9", "192.0.2.10", "fd00:9::9")
PLENTY = 1_000_000
"""A rate that drops none of the few copies here: tests see only that copies pass the meter."""
FRAMES = range(60, 1515)
"""Bytes of the frames that workloads send."""
GROUPS = (frames.BROADCAST, 0x01005E000001, 0x333300000001, 0x0180C200000E)


@dataclass(frozen=True)
class Sent:
    """One packet of a story: who sends it, what it is called, and its bytes."""

    sender: Port
    kind: str
    frame: bytes


def random_world(rng: Random, bridges: int | None = None) -> World:
    """Tenants with networks that use the same addresses, on one to three linked bridges.

    Every fourth world is crowded: one network, where many exclusive sessions compete.
    """
    dpids = BRIDGES[: bridges or rng.choice((1, 1, 2, 2, 3))]
    is_crowded = rng.random() < 0.25
    count = 1 if is_crowded else rng.randint(1, 3)
    tenants = [TenantName(name) for name in ("red", "blue", "green")[:count]]
    networks = tuple(
        Network(NetworkId(f"{tenant}-n{n}"), f"n{n}", tenant)
        for tenant in tenants
        for n in range(1 if is_crowded else rng.choice((1, 1, 2)))
    )
    free = [Placement(d, Ofport(p)) for d in dpids for p in SLOTS]
    rng.shuffle(free)
    ports: list[Port] = []
    placements: dict[PortId, Placement] = {}
    for network in networks:
        for n in range(rng.randint(3 if is_crowded else 1, 5)):
            port = random_workload(rng, network, n)
            ports.append(port)
            if free and rng.random() < 0.9:
                placements[port.id] = free.pop()
    collectors: list[Collector] = []
    for tenant in tenants:
        taps = [
            Port(PortId(f"{tenant}-tap{n}"), f"tap{n}", tenant, None, PortKind.TAP)
            for n in range(rng.choice((1, 2, 2, 3)))
        ]
        ports += taps
        for tap in taps:
            if free and rng.random() < 0.95:
                placements[tap.id] = free.pop()
        collectors += random_collectors(rng, tenant, [tap.id for tap in taps])
    ports = [dataclasses.replace(p, labels=random_labels(rng, p)) for p in ports]
    most_filters = rng.choice((0, 2, 2, 2))
    filters = tuple(
        (broad_filter if is_crowded else random_filter)(rng, f"{tenant}-f{n}", tenant)
        for tenant in tenants
        for n in range(3 if is_crowded else rng.randint(0, most_filters))
    )
    sessions = tuple(
        _session(rng, n, ports, networks, collectors, filters)
        for n in range(rng.randint(5, 9) if is_crowded else rng.randint(0, 7))
    )
    sessions = _rivals(rng, sessions, 0.9 if is_crowded else rng.choice((0, 0.3)))
    rng.shuffle(ports)
    return World(
        networks, tuple(ports), tuple(collectors), sessions, placements,
        _links(rng, dpids), _numbers(rng, networks, ports, sessions, filters, collectors), filters,
        tunnels=_tunnels(rng, dpids),
        down=_down(rng, collectors),
        bridge_rate=rng.choice((None, None, None, Rate(RateUnit.PPS, PLENTY))),
        link_mtu=rng.choice((LINK_MTU, LINK_MTU, 600, 1000)),
        datapaths=datapaths(dpids),
        segmenters=_segmenters(rng, dpids),
    )  # fmt: skip


def _down(rng: Random, collectors: Iterable[Collector]) -> frozenset[Down]:
    """Some sensors that are down: by the state of their port, or by the probe of one collector."""
    down: set[Down] = set()
    for collector in collectors:
        for sensor in collector.sensors:
            if rng.random() < 0.1:
                is_link = rng.random() < 0.3 and not isinstance(sensor, IPAddress)
                down.add(sensor if is_link else (collector.id, sensor))
    return frozenset(down)


def random_collectors(rng: Random, tenant: TenantName, taps: list[PortId]) -> list[Collector]:
    """One collector for each tap port, perhaps one for several, and perhaps tunnels."""

    def tag() -> TagMode | int:
        return rng.choice((TagMode.NONE, TagMode.AUTO, TagMode.AUTO, rng.randint(1, 4094)))

    balance = rng.choice(list(Balance))
    found = [Collector(CollectorId(f"c-{t}"), f"c-{t}", tenant, (t,), tag()) for t in taps]
    if len(taps) > 1 and rng.random() < 0.5:
        some = tuple(rng.sample(taps, rng.randint(2, len(taps))))
        name = f"pool-{tenant}"
        found.append(Collector(CollectorId(name), name, tenant, some, tag(), balance=balance))
    for n in range(rng.choice((0, 0, 1, 2))):
        name, kind = f"far-{tenant}-{n}", rng.choice(REMOTE)
        addresses = tuple(rng.sample(ADDRESSES, rng.choice((1, 1, 2, 3))))
        keys = TUNNEL_KEYS[kind]
        found.append(
            Collector(
                CollectorId(name), name, tenant, tuple(map(IPAddress, addresses)), tag(), kind,
                rng.choice((keys.start, keys.stop - 1, rng.choice(keys))), balance,
                rng.choice((None, 600, 1000, 9000)),
            )
        )  # fmt: skip
    return found


def _tunnels(rng: Random, dpids: tuple[Dpid, ...]) -> dict[tuple[Dpid, TunnelKind], Ofport]:
    """A tunnel port of each kind on nearly every bridge."""
    numbered = [(dpid, n, kind) for dpid in dpids for n, kind in enumerate(TUNNEL_KINDS)]
    chances = {(d, kind): rng.random() for d, _, kind in numbered if not kind.is_over_ipv6}
    own = Random(sum(chances.values()))  # so that what is drawn later is the same on each datapath
    chances |= {(d, kind): own.random() for d, _, kind in numbered if kind.is_over_ipv6}
    return {(d, k): Ofport(FIRST_TUNNEL + n) for d, n, k in numbered if chances[d, k] < 0.95}


def _segmenters(rng: Random, dpids: tuple[Dpid, ...]) -> dict[Dpid, Segmenter]:
    """A segmenting pair on most of the bridges whose datapath needs one to truncate."""
    own = Random()
    own.setstate(rng.getstate())  # so that what is drawn later is the same on each datapath
    return {dpid: pair for dpid, pair in segmenters(dpids).items() if own.random() < 0.75}


def random_packets(rng: Random, world: World, count: int) -> list[Sent]:
    """Packets of placed workloads and what a tap port might try, each with its own payload."""
    senders = [p for p in world.ports if p.id in world.placements]
    edges = edge_lengths(world)
    return [_packet(rng, rng.choice(senders), n, edges) for n in range(count if senders else 0)]


def edge_lengths(world: World) -> list[int]:
    """Bytes of frames at the limits of copies (of sessions and paths), one less and one more.

    Only lengths that workloads can send.
    """
    limits = {s.packet_length for s in world.sessions} - {None} | {link_limit(world.link_mtu)}
    for collector in world.collectors:
        limits |= {
            path_limit(collector, address, world.underlay_mtu, is_tagged)
            for address in collector.addresses
            for is_tagged in (True, False)
        }
    near = {limit + more for limit in limits for more in (-1, 0, 1)}
    return sorted(length for length in near if length in FRAMES)


def random_workload(rng: Random, network: Network, n: int) -> Port:
    """The n-th workload of a network, protected or not, with addresses or without."""
    kind = rng.choice(("mac", "mac+ip", "mac+ip", "mac+ips", "open", "unknown"))
    ips = {
        "mac+ip": (IPAddress(IPS[n]),),
        "mac+ips": (IPAddress(IPS[n]), IPAddress(IPS6[n])),
    }.get(kind, ())
    return Port(
        PortId(f"{network.id}-p{n}"), f"{network.name}-p{n}", network.tenant, network.id,
        mac=None if kind == "unknown" else EUI(MACS[n], version=48),
        ips=ips,
        anti_spoofing=kind not in ("open", "unknown"),
    )  # fmt: skip


def _session(
    rng: Random, n: int, ports: list[Port], networks: tuple[Network, ...],
    collectors: list[Collector], filters: tuple[Filter, ...],
) -> Session:  # fmt: skip
    """Mostly an allowed session; sometimes it names another tenant's things, or a tap port."""
    collector = rng.choice(collectors)
    own = [p for p in ports if p.tenant == collector.tenant and p.kind is PortKind.VM]
    pool = ports if rng.random() < 0.1 else own
    watched = rng.sample(pool, min(len(pool), rng.choice((1, 1, 2, 3, 5))))
    return Session(
        SessionId(f"s{n}"), f"s{n}", collector.tenant,
        _source(rng, collector.tenant, watched, networks), collector.id,
        rng.choice(list(Direction)), enabled=rng.random() < 0.95,
        filter=_filter_of(rng, collector.tenant, filters),
        packet_length=rng.choice((None, None, None, 64, 100, 1000)),
        oversize=rng.choice(list(Oversize)),
        max_rate=Rate(rng.choice(list(RateUnit)), PLENTY) if rng.random() < 0.15 else None,
    )  # fmt: skip


def _rivals(rng: Random, sessions: tuple[Session, ...], share: float) -> tuple[Session, ...]:
    """A share of the sessions is exclusive; their numbers may be equal, and some want all."""
    everything = {"source": Source(kind=SourceKind.TENANT), "direction": Direction.BOTH}
    return tuple(
        dataclasses.replace(
            s,
            mode=Mode.EXCLUSIVE,
            number=rng.choice((1, 2, 3, 100, 32766)),
            **(everything if rng.random() < 0.3 else {}),
        )
        if rng.random() < share
        else s
        for s in sessions
    )


def random_labels(rng: Random, port: Port) -> tuple[Label, ...]:
    """Labels of a workload."""
    if port.kind is PortKind.TAP:
        return ()
    return tuple((key, rng.choice("ab")) for key in ("tier", "zone") if rng.random() < 0.6)


def _source(
    rng: Random, tenant: TenantName, watched: list[Port], networks: tuple[Network, ...]
) -> Source:
    kind = rng.choice((*[SourceKind.PORT] * 5, *SourceKind))
    own = tuple(n.id for n in networks if n.tenant == tenant or rng.random() < 0.05)
    match kind:
        case SourceKind.NETWORK if own:
            return Source(kind=kind, networks=tuple(rng.sample(own, rng.randint(1, len(own)))))
        case SourceKind.TENANT:
            return Source(kind=kind)
        case SourceKind.LABEL:
            labels = (("tier", rng.choice("ab")), ("zone", rng.choice("ab")))
            return Source(kind=kind, labels=labels[: rng.randint(1, 2)])
        case _:
            return Source(tuple(p.id for p in watched))


def _filter_of(rng: Random, tenant: TenantName, filters: tuple[Filter, ...]) -> FilterId:
    """The built-in filter, or one of the tenant; rarely one of another tenant."""
    own = [f.id for f in filters if f.tenant == tenant or rng.random() < 0.05]
    return rng.choice(own) if own and rng.random() < 0.6 else ALL


def _links(rng: Random, dpids: tuple[Dpid, ...]) -> tuple[Link, ...]:
    """A chain, a chain with a gap, or a ring (one link of which must not be used)."""
    ends = [
        (Placement(d, Ofport(LINK_PORTS[0])), Placement(d, Ofport(LINK_PORTS[1]))) for d in dpids
    ]
    links = [Link(left[1], right[0]) for left, right in pairwise(ends)]
    if len(dpids) == 3 and rng.random() < 0.3:
        links.append(Link(ends[2][1], ends[0][0]))
    if rng.random() < 0.1:
        links = links[:-1]
    return tuple(links)


def _numbers(
    rng: Random, networks: tuple[Network, ...], ports: list[Port],
    sessions: tuple[Session, ...], filters: tuple[Filter, ...], collectors: list[Collector],
) -> Numbers:  # fmt: skip
    def spread(keys: list[str], highest: int) -> dict[str, int]:
        return dict(zip(keys, rng.sample(range(1, highest), len(keys)), strict=True))

    keys = list(tag_keys(networks, ports))
    tags = spread(keys, 4095)
    wanted = transport_keys(collectors, networks, ports, Numbers(tag=tags))
    taken = set(tags.values())
    left = [vid for vid in range(1, 4095) if vid not in taken]
    tags |= zip(wanted, rng.sample(left, len(wanted)), strict=True)
    most = NUMBER_RANGES["session"].stop
    return Numbers(
        {NetworkId(k): v for k, v in spread([n.id for n in networks], 1 << 20).items()},
        {PortId(k): v for k, v in spread([p.id for p in ports], 1 << 20).items()},
        {SessionId(k): v for k, v in spread([s.id for s in sessions], most).items()},
        tags,
        {FilterId(k): v for k, v in spread([f.id for f in filters], 1 << 16).items()},
        {CollectorId(k): v for k, v in spread([c.id for c in collectors], 1 << 20).items()},
        {s.id: METERS.start + n for n, s in enumerate(sessions)},
    )


def _packet(rng: Random, sender: Port, n: int, edges: list[int]) -> Sent:
    own = int(sender.mac) if sender.mac is not None else rng.choice((*MACS, STRANGER))
    own_ip = str(sender.ips[0]) if sender.ips else rng.choice(IPS)
    src = own if rng.random() < 0.9 else rng.choice((*MACS, STRANGER))
    dst = rng.choice((*MACS, *MACS, *MACS, STRANGER, *GROUPS))
    ip = own_ip if rng.random() < 0.9 else rng.choice((*IPS, "0.0.0.0"))
    tags: tuple[tuple[int, int], ...] = ()
    if rng.random() < 0.2:
        tci = rng.choice((0, 5, 77, 0x2005, 4095))
        tags = rng.choice(
            (((0x8100, tci),), ((0x88A8, tci), (0x8100, 9)), ((0x8100, tci), (0x8100, 9)))
        )
    make, size = rng.choice(_BODIES), rng.choice((24, 46, 306, 1306, 1436))
    if rng.random() < 0.3:
        wanted = rng.choice((*edges, FRAMES[-1]))
        size = max(24, wanted - HEADERS.get(make, 100) - 4 * len(tags))
    payload = b"%06d" % n + rng.randbytes(size - 6)
    kind, eth_type, body = make(rng, src, ip, payload)
    frame = frames.ethernet(dst, src, eth_type, body, tags)
    padded = rng.choice((*edges, FRAMES[-1])) if rng.random() < 0.1 and not tags else FRAMES[0]
    if len(frame) < padded != FRAMES[0]:
        kind += "+padding"
    return Sent(sender, kind + "+vlan" * len(tags), frames.pad(frame, padded))


Body = tuple[str, int, bytes]


def _udp(rng: Random, src: int, ip: str, payload: bytes) -> Body:
    return "udp", 0x0800, frames.ipv4(ip, rng.choice(IPS), 17, frames.udp(1000, 53, payload))


def _tcp(rng: Random, src: int, ip: str, payload: bytes) -> Body:
    return "tcp", 0x0800, frames.ipv4(ip, rng.choice(IPS), 6, frames.tcp(1000, 80, 2, payload))


def _fragment(rng: Random, src: int, ip: str, payload: bytes) -> Body:
    """The first fragment of a packet, which has its transport header, or a later one."""
    flags = rng.choice((0x2000, 0x2000, 0x2005, 0x0010))
    head = {
        1: bytes([rng.choice((0, 8)), 0]) + bytes(6),
        6: frames.tcp(1000, rng.choice((0, 80)), 2, b""),
        17: frames.udp(1000, rng.choice((0, 53)), bytes(8)),
    }
    proto = rng.choice(tuple(head))
    body = (head[proto] if flags == 0x2000 else b"") + payload
    body = body[: max(8, len(payload) - 28) // 8 * 8]
    if rng.random() < 0.3:
        own = rng.choice((*IPS6, _link_local(src)))
        offset = 1 if flags == 0x2000 else rng.choice((0x51, 0x80))
        header = bytes([proto if proto != 1 else 58, 0]) + offset.to_bytes(2, "big") + bytes(4)
        return "fragment", 0x86DD, frames.ipv6(own, rng.choice(IPS6), 44, header + body)
    return "fragment", 0x0800, frames.ipv4(ip, rng.choice(IPS), proto, body, flags)


def _dhcp(rng: Random, src: int, ip: str, payload: bytes) -> Body:
    return (
        "dhcp",
        0x0800,
        frames.ipv4("0.0.0.0", "255.255.255.255", 17, frames.udp(68, 67, payload)),
    )


def _arp(rng: Random, src: int, ip: str, payload: bytes) -> Body:
    sha = src if rng.random() < 0.9 else rng.choice(MACS)
    spa = rng.choice((ip, ip, ip, "0.0.0.0"))
    return (
        "arp",
        0x0806,
        frames.arp(rng.choice((1, 2)), sha, spa, 0, rng.choice(IPS)) + payload[:18],
    )


def _udp6(rng: Random, src: int, ip: str, payload: bytes) -> Body:
    own = rng.choice((*IPS6, _link_local(src), "::"))
    return "udp6", 0x86DD, frames.ipv6(own, rng.choice(IPS6), 17, frames.udp(1000, 53, payload))


def _neighbour(rng: Random, src: int, ip: str, payload: bytes) -> Body:
    own = rng.choice((*IPS6, _link_local(src), "::"))
    target = rng.choice((own, own, *IPS6))
    body = frames.icmpv6_nd(rng.choice((135, 136)), target, payload[:16])
    return "neighbour", 0x86DD, frames.ipv6(own, rng.choice((*IPS6, "ff02::1")), 58, body)


def _odd(rng: Random, src: int, ip: str, payload: bytes) -> Body:
    return "odd", rng.choice((0x88CC, 0x88B6, 0x9000)), payload


def _truncated(rng: Random, src: int, ip: str, payload: bytes) -> Body:
    whole = frames.ipv4(ip, rng.choice(IPS), 17, frames.udp(1000, 53, payload))
    return "truncated", 0x0800, whole[: rng.choice((50, len(whole) - 1))]


_BODIES = (_udp, _udp, _tcp, _fragment, _dhcp, _arp, _arp, _udp6, _neighbour, _odd, _truncated)


HEADERS = {_udp: 42, _dhcp: 42, _tcp: 54, _udp6: 62, _odd: 14}
"""Bytes before the payload, of packets that hold all of it."""


def _link_local(mac: int) -> str:
    return str(EUI(mac, version=48).ipv6_link_local())

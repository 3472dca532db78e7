"""The contract as executable Python: a packet that a port sends in a world, and its copies.

Nothing here knows tables or registers. Tests compare compiled flows, the interpreter and real
switches with this file, so it stays small enough to read in one sitting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from netaddr import IPAddress

from flows.errors import Refused
from flows.model import (
    ALL,
    NOTHING_KNOWN,
    Collector,
    Datapath,
    Direction,
    Dpid,
    Link,
    Mode,
    NetworkId,
    Oversize,
    Port,
    PortId,
    Sensor,
    Session,
    SessionId,
    SpanningTree,
    World,
    check_session,
    cut_length,
    is_watched,
    link_limit,
    path_limit,
    tap_limit,
    watched_by,
)
from flows.openflow import (
    ARP_SHA,
    ARP_SPA,
    ETH_ARP,
    ETH_DST,
    ETH_HEADER,
    ETH_IPV4,
    ETH_IPV6,
    ETH_QINQ,
    ETH_SRC,
    ETH_TYPE,
    ETH_VLAN,
    ICMPV6_TYPE,
    IP_PROTO,
    IP_SRC,
    IPV6_SRC,
    ND_ADVERTISEMENT,
    ND_TARGET,
    PROTO_ICMPV6,
    PROTO_UDP,
    UDP_DST,
    UDP_SRC,
    VLAN_HEADER,
    Fields,
    is_group,
    length_without_padding,
    read_fields,
)
from flows.semantics.filter import is_accepted
from flows.semantics.tags import tag_of_copy, wears_tags

LearnedAddresses = Mapping[tuple[Dpid, NetworkId, int], PortId]
"""The port that each bridge has learned for a MAC address of a network, one nobody declares."""

PortDirection = tuple[PortId, Direction]
"""A port and what it does with a packet: it sends it (egress) or receives it (ingress)."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """Who receives a packet, which sessions get a copy (one each), and what bridges learn.

    ``taken`` is the exclusive session that takes the packet from the others at each port;
    ``makers`` is the bridge that makes the copy of each session, left-out copies included.
    """

    receivers: frozenset[PortId]
    copies: frozenset[SessionId]
    learned: LearnedAddresses
    taken: Mapping[PortDirection, SessionId]
    makers: Mapping[SessionId, Dpid]


def meaning(
    frame: bytes, sender: Port, world: World, learned: LearnedAddresses | None = None
) -> Meaning:
    """What happens to ``frame`` when ``sender``, a placed workload, sends it.

    Raises:
        InvalidValue: ``frame`` is shorter than an Ethernet header.
    """
    fields = read_fields(frame)
    spanning_tree = _spanning_tree(world.links)
    known = dict(learned or {})
    receivers: frozenset[Port] = frozenset()
    if may_send(sender, fields):
        receivers, visited = _forward(fields, sender, world, spanning_tree, known)
        if not sender.is_protected and not is_group(fields[ETH_SRC]):
            known |= {(dpid, _network(sender), fields[ETH_SRC]): sender.id for dpid in visited}
    copies, taken, makers = _copies(frame, fields, sender, receivers, world)
    return Meaning(frozenset(p.id for p in receivers), copies, known, taken, makers)


def copies_of_delivered(
    frame: bytes, sender: Port, receivers: Iterable[Port], world: World
) -> frozenset[SessionId]:
    """The sessions that get a copy, one each, of a frame that the bridge of somebody else forwards.

    ``receivers`` are the workloads there to which that bridge delivers it: whatever it decides.
    """
    return _copies(frame, read_fields(frame), sender, frozenset(receivers), world)[0]


def _copies(
    frame: bytes, fields: Fields, sender: Port, receivers: frozenset[Port], world: World
) -> tuple[frozenset[SessionId], Mapping[PortDirection, SessionId], Mapping[SessionId, Dpid]]:
    """The copies of a packet that some ports receive, and what Meaning says of them."""
    allowed = [session for session in world.sessions if _may_copy(session, sender, world)]
    allowed.sort(key=lambda session: _turn(session, sender, world))
    ends = [(sender, Direction.EGRESS), *((port, Direction.INGRESS) for port in receivers)]
    wanted: dict[SessionId, list[PortDirection]] = {}
    taken: dict[PortDirection, SessionId] = {}
    for port, direction in ends:
        for session in allowed:
            if wants(session, port, direction, fields, world):
                wanted.setdefault(session.id, []).append((port.id, direction))
                if session.mode is Mode.EXCLUSIVE:
                    taken.setdefault((port.id, direction), session.id)
    copying = [
        s for s in allowed if s.id in wanted and (s.mode is Mode.COPY or s.id in taken.values())
    ]
    makers = {s.id: _maker(s, wanted[s.id], taken, world) for s in copying}
    known_sessions = world.session_by_id
    copies = frozenset(
        session
        for session, maker in makers.items()
        if not _is_skipped(known_sessions[session], frame, maker, world)
        and _arrives(known_sessions[session], sender, maker, world)
    )
    return copies, taken, makers


def copied_frame(frame: bytes, session: Session, sender: Port, maker: Dpid, world: World) -> bytes:
    """The bytes of one session's copy: the frame as it was sent, truncated and tagged as declared.

    ``maker`` is the bridge that makes it. The header of a tunnel is not part of it.
    """
    longest = cut_length(session, _limit(session, maker, world))
    # elsewhere a frame of which only the padding exceeds the limit is copied with its padding
    is_cut = world.datapaths.get(maker) is Datapath.USERSPACE or (
        longest is not None and _length(frame, maker, world) > longest
    )
    copy = frame
    if longest is not None and is_cut and _can_truncate(session, maker, world):
        copy = frame[: max(longest, _shortest_cut(frame, maker, world))]
    tag = tag_of_copy(session, _network(sender), world)
    if tag is None:
        return copy
    return copy[:12] + ETH_VLAN.to_bytes(2, "big") + tag.to_bytes(2, "big") + copy[12:]


def sensors_of(
    session: Session, sender: Port, world: World, maker: Dpid | None = None
) -> frozenset[Sensor]:
    """The sensors of which one gets a session's copy of what ``sender`` sends.

    ``maker`` is the bridge that makes it (None: that of the sender). These are the reachable
    sensors that ports, links and routes let receive and whose probes do not fail; when the probes
    of all of these fail, all of them.
    """
    collector, spanning_tree = world.collector_by_id[session.collector], _spanning_tree(world.links)
    reachable: set[Sensor] = {
        address
        for address in collector.addresses
        if maker is None or world.tunnel_to(maker, collector.delivery, address) is not None
    }
    reachable |= {
        tap
        for tap in collector.tap_ports
        if tap in world.placements
        and _is_joined(spanning_tree, _place(sender, world), _at(tap, world))
    }
    here = _place(sender, world) if maker is None else maker
    open_ones = {
        sensor for sensor in reachable if _is_open(sensor, collector, here, world, spanning_tree)
    }
    up = {sensor for sensor in open_ones if not world.is_down(collector, sensor)}
    return frozenset(up or open_ones or reachable)


def may_send(port: Port, fields: Fields) -> bool:
    """Whether anti-spoofing lets a packet of ``port`` pass.

    A protected port uses its own MAC address. If IP addresses are declared, it uses these in IPv4,
    ARP, IPv6 and neighbour advertisements; DHCP requests, ARP probes (RFC 5227) and IPv6 duplicate
    address detection (RFC 4862), which have no source address, pass as well.
    """
    if not port.is_protected:
        return True
    assert port.mac is not None, "a protected port has a MAC address"
    mac = int(port.mac)
    if fields[ETH_SRC] != mac:
        return False
    if not port.ips:
        return True
    own_ipv4 = {int(ip) for ip in port.ips if ip.version == 4}
    own_ipv6 = {int(ip) for ip in port.ips if ip.version == 6} | {int(port.mac.ipv6_link_local())}
    match fields[ETH_TYPE]:
        case t if t == ETH_IPV4:
            asks_dhcp = fields[IP_PROTO] == PROTO_UDP and (fields[UDP_SRC], fields[UDP_DST]) == (
                68,
                67,
            )
            return fields[IP_SRC] in own_ipv4 or (fields[IP_SRC] == 0 and asks_dhcp)
        case t if t == ETH_ARP:
            return fields[ARP_SHA] == mac and fields[ARP_SPA] in own_ipv4 | {0}
        case t if t == ETH_IPV6:
            is_icmp = fields[IP_PROTO] == PROTO_ICMPV6
            if (
                is_icmp
                and fields[ICMPV6_TYPE] == ND_ADVERTISEMENT
                and fields[ND_TARGET] not in own_ipv6
            ):
                return False
            return fields[IPV6_SRC] in own_ipv6 or (fields[IPV6_SRC] == 0 and is_icmp)
        case _:
            return True


def wants(session: Session, port: Port, direction: Direction, fields: Fields, world: World) -> bool:
    """Whether a session watches a port in one direction, and its rules accept the packet there."""
    collector = world.collector_by_id[session.collector]
    can_send = not collector.is_tunnelled or _has_tunnel(port, collector, world)
    watches = can_send and session.direction.includes(direction) and is_watched(session, port)
    if not watches or session.filter == ALL:
        return watches
    wanted = world.filter_by_id.get(session.filter)
    if wanted is None:
        return False
    rules = wanted.egress if direction is Direction.EGRESS else wanted.ingress
    return is_accepted(rules, fields)


def _forward(
    fields: Fields,
    sender: Port,
    world: World,
    spanning_tree: SpanningTree,
    learned: LearnedAddresses,
) -> tuple[frozenset[Port], frozenset[Dpid]]:
    """The receivers of an admitted packet, and the bridges that it visits."""
    here = world.placements[sender.id].dpid
    others = [
        port
        for port in world.members_by_network[_network(sender)]
        if port != sender and _is_joined(spanning_tree, here, world.placements[port.id].dpid)
    ]
    target = _owner(fields[ETH_DST], (sender, *others))
    receivers = frozenset(others) if target is None else frozenset({target} - {sender})
    if target is None and (here, _network(sender), fields[ETH_DST]) in learned:
        forwarding = _LearnedForwarding(
            _network(sender), fields[ETH_DST], others, world, spanning_tree, learned
        )
        forwarding.visit(here)
        return frozenset(forwarding.receivers), frozenset(forwarding.visited)
    ends = [world.placements[port.id].dpid for port in receivers]
    visited = {dpid for end in ends for dpid in spanning_tree.path(here, end)}
    return receivers, frozenset({here} | visited)


def _owner(mac: int, ports: Iterable[Port]) -> Port | None:
    """The port that is declared to have an address."""
    return next((p for p in ports if p.mac is not None and int(p.mac) == mac), None)


class _LearnedForwarding:
    """Forwarding of a packet to a learned address: each bridge sends it towards its learned port.

    A bridge nearer to the address has received every packet from it that this one has received,
    and perhaps more. A bridge whose entry has timed out floods the packet from there on (late
    flood).
    """

    def __init__(
        self,
        network: NetworkId,
        mac: int,
        others: list[Port],
        world: World,
        spanning_tree: SpanningTree,
        learned: LearnedAddresses,
    ) -> None:
        self.network, self.mac, self.others = network, mac, others
        self.world, self.spanning_tree, self.learned = world, spanning_tree, learned
        self.receivers: set[Port] = set()
        self.visited: set[Dpid] = set()

    def visit(self, here: Dpid) -> None:
        """Forward the packet at bridge ``here``, then at each bridge that it goes to."""
        self.visited.add(here)
        learned = self.learned.get((here, self.network, self.mac))
        for port in self.others:
            there = self.world.placements[port.id].dpid
            if learned not in (None, port.id):
                continue
            if there == here:
                self.receivers.add(port)
            elif (after := self.spanning_tree.path(here, there)[1]) not in self.visited:
                self.visit(after)


def _may_copy(session: Session, sender: Port, world: World) -> bool:
    """Whether a session may copy at all, and some sensor is reachable from this sender."""
    collector = world.collector_by_id.get(session.collector)
    if not session.enabled or collector is None:
        return False
    try:
        check_session(
            session, world.port_by_id, world.collector_by_id, world.filter_by_id,
            world.network_by_id,
        )  # fmt: skip
    except Refused:
        return False
    return bool(sensors_of(session, sender, world))


def _turn(session: Session, sender: Port, world: World) -> tuple[bool, int, int]:
    """The place of a session in the order in which exclusive ones are asked; the lowest is first.

    One that cannot get a copy to a sensor from any port that it watches, as far as links lead, is
    asked last: it takes nothing from others.
    """
    spanning_tree, here = _spanning_tree(world.links), _place(sender, world)
    collector = world.collector_by_id[session.collector]
    watched = (
        port
        for port in watched_by(session, world.workloads)
        if port.id in world.placements and _is_joined(spanning_tree, here, _place(port, world))
    )
    arrives = session.mode is Mode.COPY or any(
        (not collector.is_tunnelled or _has_tunnel(port, collector, world))
        and _arrives(session, port, _place(port, world), world)
        for port in watched
    )
    return not arrives, session.number, world.numbers.session[session.id]


def _has_tunnel(port: Port, collector: Collector, world: World) -> bool:
    """Whether the bridge of a port has a tunnel port to a sensor of the collector."""
    return world.has_tunnel(_place(port, world), collector)


def _maker(
    session: Session,
    ends: list[PortDirection],
    taken: Mapping[PortDirection, SessionId],
    world: World,
) -> Dpid:
    """The bridge that makes a copy: the sender's, or the lowest that delivers to a watched port.

    An exclusive session that another one beats at the sender makes its copy where it is delivered.
    """
    sent = [
        port
        for port, direction in ends
        if direction is Direction.EGRESS
        and (session.mode is Mode.COPY or taken[port, direction] == session.id)
    ]
    received = [port for port, direction in ends if direction is Direction.INGRESS]
    return min(_at(port, world) for port in sent or received)


def _limit(session: Session, maker: Dpid, world: World) -> int | None:
    """Bytes of the longest frame that a bridge can copy whole to every sensor; None: no limit."""
    collector, is_tagged = world.collector_by_id[session.collector], wears_tags(session, world)
    spanning_tree, limits = _spanning_tree(world.links), list[int | None]()
    places = {_at(tap, world) for tap in collector.tap_ports if tap in world.placements}
    if any(there != maker and _is_joined(spanning_tree, maker, there) for there in places):
        limits.append(link_limit(world.link_mtu_now))
    longest = _longest(session, world)
    limits += [
        tap_limit(world.hop_of(tap), longest, is_tagged=is_tagged) for tap in collector.tap_ports
    ]
    for address in collector.addresses:
        route = world.routes.get((maker, address))
        mtu = world.underlay_mtu if route is None or route.mtu is None else route.mtu
        mtu = min(mtu, world.underlay_mtu)
        limits.append(path_limit(collector, address, mtu, is_tagged))
    return min((limit for limit in limits if limit is not None), default=None)


def _longest(session: Session, world: World) -> int | None:
    """The MTU of the longest packets in the networks that a session watches; None: any."""
    watched = (p for p in watched_by(session, world.workloads) if p.id in world.placements)
    longest = [world.longest_by_network.get(_network(port)) for port in watched]
    known = [each for each in longest if each is not None]
    return max(known, default=None) if len(known) == len(longest) else None


def _arrives(session: Session, sender: Port, maker: Dpid, world: World) -> bool:
    """Whether ports, links and routes let the copies that a bridge makes reach a sensor."""
    spanning_tree = _spanning_tree(world.links)
    return any(
        _is_open(sensor, world.collector_by_id[session.collector], maker, world, spanning_tree)
        for sensor in sensors_of(session, sender, world, maker)
    )


def _is_open(
    sensor: Sensor, collector: Collector, maker: Dpid, world: World, spanning_tree: SpanningTree
) -> bool:
    """Whether copies that a bridge makes can reach a sensor."""
    if world.is_stopped(sensor) or world.is_cut_off(maker, collector.delivery, sensor):
        return False
    if isinstance(sensor, IPAddress) or sensor not in world.placements:
        return True
    crossed = spanning_tree.exits(maker, _at(sensor, world))
    return not any(out in world.broken_links for out, _ in crossed)


def _shortest_cut(frame: bytes, maker: Dpid, world: World) -> int:
    """The bytes that truncation always leaves: the Ethernet header, and the outermost tag where the
    kernel's datapath keeps it beside the packet.
    """
    has_tag = int.from_bytes(frame[12:14], "big") in (ETH_VLAN, ETH_QINQ)
    is_kernel = world.datapaths.get(maker) is Datapath.KERNEL
    return ETH_HEADER + VLAN_HEADER * (has_tag and is_kernel)


def _length(frame: bytes, maker: Dpid, world: World) -> int:
    """The bytes of a frame that a bridge compares with a limit: the kernel's datapath counts
    padding after an IP packet, others do not.
    """
    is_kernel = world.datapaths.get(maker) is Datapath.KERNEL
    return len(frame) if is_kernel else length_without_padding(frame)


def _is_skipped(session: Session, frame: bytes, maker: Dpid, world: World) -> bool:
    """Whether a packet is not copied, because its copy does not fit its path, or would have to be
    truncated where that is not possible.
    """
    length = _length(frame, maker, world)
    limit = _limit(session, maker, world)
    longest = cut_length(session, limit)
    if longest is not None and length > longest and not _can_truncate(session, maker, world):
        return True
    wanted = length if session.packet_length is None else min(length, session.packet_length)
    return session.oversize is Oversize.SKIP and limit is not None and wanted > limit


def _can_truncate(session: Session, maker: Dpid, world: World) -> bool:
    """Whether a bridge can truncate what it sends to, or towards, the sensors of a session."""
    if world.datapaths.get(maker) is Datapath.KERNEL and world.segmenter_at(maker) is None:
        return False
    collector, spanning_tree = world.collector_by_id[session.collector], _spanning_tree(world.links)
    for tap in collector.tap_ports:
        if (place := world.placements.get(tap)) is None:
            continue
        exits = [out for out, _ in spanning_tree.exits(maker, place.dpid)]
        is_reached = place.dpid == maker or exits
        by = exits[0] if exits else place
        if is_reached and not world.hops.get(by, NOTHING_KNOWN).truncates:
            return False
    return True


@lru_cache(maxsize=4)
def _spanning_tree(links: tuple[Link, ...]) -> SpanningTree:
    """The tree of a world, which is asked for again for each session and port."""
    return SpanningTree(links)


def _place(port: Port, world: World) -> Dpid:
    return _at(port.id, world)


def _at(port: PortId, world: World) -> Dpid:
    return world.placements[port].dpid


def _is_joined(spanning_tree: SpanningTree, one: Dpid, other: Dpid) -> bool:
    return spanning_tree.component(one) == spanning_tree.component(other)


def _network(port: Port) -> NetworkId:
    assert port.network is not None, "only workloads send"
    return port.network

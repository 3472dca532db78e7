"""What the contract means, as Python: a packet that a port sends in a world, and its copies.

Nothing here knows of tables or registers. Compiled flows, the interpreter and real switches are
held against this file, so it is kept small enough to read in one sitting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flows.errors import Refused
from flows.model.spanning_tree import Fabric
from flows.openflow.field import (
    ARP_SHA,
    ARP_SPA,
    ETH_ARP,
    ETH_DST,
    ETH_IPV4,
    ETH_IPV6,
    ETH_SRC,
    ETH_TYPE,
    ETH_VLAN,
    ICMPV6_TYPE,
    IP_PROTO,
    IP_SRC,
    IPV6_SRC,
    ND_TARGET,
    UDP_DST,
    UDP_SRC,
)
from flows.semantics.filter import is_accepted
from flows.model.session import (
    ALL,
    Collector,
    Direction,
    Dpid,
    Mode,
    NetworkId,
    Oversize,
    Port,
    PortId,
    Sensor,
    Session,
    SessionId,
)
from flows.openflow.packet import Fields, is_group, length_without_padding, read_fields
from flows.model.source import is_watched
from flows.semantics.tags import tag_of_copy, wears_tags
from flows.model.tenancy import check_session
from flows.model.tunnel import cut_length, link_limit, path_limit
from flows.model.world import World

Learned = Mapping[tuple[Dpid, NetworkId, int], PortId]
"""Behind which port a bridge believes an undeclared MAC address of a network to be."""


Touched = tuple[PortId, Direction]
"""A port that a packet concerns: the one that sends it (egress), or one that receives it."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """Who receives a packet, which sessions get a copy (one each), and what bridges learned.

    ``taken`` says which exclusive session takes the packet from the others, port by port, and
    ``makers`` which bridge makes the copy of a session that wants one.
    """

    receivers: frozenset[PortId]
    copies: frozenset[SessionId]
    learned: Learned
    taken: Mapping[Touched, SessionId]
    makers: Mapping[SessionId, Dpid]


def meaning(frame: bytes, sender: Port, world: World, learned: Learned | None = None) -> Meaning:
    """What happens to ``frame`` when ``sender``, a placed workload, sends it.

    Raises:
        InvalidValue: ``frame`` is shorter than an Ethernet header.
    """
    fields = read_fields(frame)
    fabric = Fabric(world.links)
    known = dict(learned or {})
    receivers: frozenset[Port] = frozenset()
    if may_send(sender, fields):
        receivers, visited = _forward(fields, sender, world, fabric, known)
        if not sender.is_protected and not is_group(fields[ETH_SRC]):
            known |= {(dpid, _network(sender), fields[ETH_SRC]): sender.id for dpid in visited}
    able = [session for session in world.sessions if _may_copy(session, sender, world)]
    able.sort(key=lambda session: (session.number, world.numbers.session[session.id]))
    touched = [(sender, Direction.EGRESS), *((port, Direction.INGRESS) for port in receivers)]
    wanted: dict[SessionId, list[Touched]] = {}
    taken: dict[Touched, SessionId] = {}
    for port, direction in touched:
        for session in able:
            if wants(session, port, direction, fields, world):
                wanted.setdefault(session.id, []).append((port.id, direction))
                if session.mode is Mode.EXCLUSIVE:
                    taken.setdefault((port.id, direction), session.id)
    copying = [
        s for s in able if s.id in wanted and (s.mode is Mode.COPY or s.id in taken.values())
    ]
    makers = {s.id: _maker(s, wanted[s.id], taken, world) for s in copying}
    length, known_sessions = length_without_padding(frame), world.session_by_id
    copies = frozenset(
        session
        for session, maker in makers.items()
        if not _is_skipped(known_sessions[session], length, maker, world)
    )
    return Meaning(frozenset(p.id for p in receivers), copies, known, taken, makers)


def copied_frame(frame: bytes, session: Session, sender: Port, maker: Dpid, world: World) -> bytes:
    """The bytes of one session's copy: the frame as it was sent, cut and tagged as declared.

    ``maker`` is the bridge that makes it. What a tunnel puts around them is not part of it.
    """
    copy = frame[: cut_length(session, _limit(session, maker, world))]
    tag = tag_of_copy(session, _network(sender), world)
    if tag is None:
        return copy
    return copy[:12] + ETH_VLAN.to_bytes(2, "big") + tag.to_bytes(2, "big") + copy[12:]


def sensors_of(session: Session, sender: Port, world: World) -> frozenset[Sensor]:
    """The sensors of which one gets a session's copy of what ``sender`` sends.

    Those that can be reached and are not known to be down; if all are down, any of them.
    """
    collector, fabric = world.collector_by_id[session.collector], Fabric(world.links)
    there = set(collector.addresses) | {
        tap
        for tap in collector.tap_ports
        if tap in world.placements and _is_joined(fabric, _place(sender, world), _at(tap, world))
    }
    well = {sensor for sensor in there if not world.is_down(collector, sensor)}
    return frozenset(well or there)


def may_send(port: Port, fields: Fields) -> bool:
    """Whether anti-spoofing lets a packet of ``port`` pass.

    A protected port uses its own MAC address; if IP addresses are declared, its own addresses in
    IPv4, ARP, IPv6 and neighbour advertisements, next to DHCP, ARP probes and address detection.
    """
    if not port.is_protected:
        return True
    assert port.mac is not None, "a protected port has a MAC address"
    mac = int(port.mac)
    if fields[ETH_SRC] != mac:
        return False
    if not port.ips:
        return True
    own4 = {int(ip) for ip in port.ips if ip.version == 4}
    own6 = {int(ip) for ip in port.ips if ip.version == 6} | {int(port.mac.ipv6_link_local())}
    match fields[ETH_TYPE]:
        case t if t == ETH_IPV4:
            asks_dhcp = fields[IP_PROTO] == 17 and (fields[UDP_SRC], fields[UDP_DST]) == (68, 67)
            return fields[IP_SRC] in own4 or (fields[IP_SRC] == 0 and asks_dhcp)
        case t if t == ETH_ARP:
            return fields[ARP_SHA] == mac and fields[ARP_SPA] in own4 | {0}
        case t if t == ETH_IPV6:
            is_icmp = fields[IP_PROTO] == 58
            if is_icmp and fields[ICMPV6_TYPE] == 136 and fields[ND_TARGET] not in own6:
                return False
            return fields[IPV6_SRC] in own6 or (fields[IPV6_SRC] == 0 and is_icmp)
        case _:
            return True


def wants(session: Session, port: Port, direction: Direction, fields: Fields, world: World) -> bool:
    """Whether a session watches a port in one direction, and its rules of it accept a packet."""
    collector = world.collector_by_id[session.collector]
    is_near = not collector.is_tunnelled or _has_tunnel(port, collector, world)
    watches = is_near and session.direction.includes(direction) and is_watched(session, port)
    if not watches or session.filter == ALL:
        return watches
    wanted = world.filter_by_id.get(session.filter)
    if wanted is None:
        return False
    rules = wanted.egress if direction is Direction.EGRESS else wanted.ingress
    return is_accepted(rules, fields)


def _forward(
    fields: Fields, sender: Port, world: World, fabric: Fabric, learned: Learned
) -> tuple[frozenset[Port], frozenset[Dpid]]:
    """The receivers of an admitted packet, and the bridges that it visits."""
    here = world.placements[sender.id].dpid
    others = [
        port
        for port in world.members_by_network[_network(sender)]
        if port != sender and _is_joined(fabric, here, world.placements[port.id].dpid)
    ]
    target = _owner(fields[ETH_DST], (sender, *others))
    receivers = frozenset(others) if target is None else frozenset({target} - {sender})
    if target is None and (here, _network(sender), fields[ETH_DST]) in learned:
        search = _Search(_network(sender), fields[ETH_DST], others, world, fabric, learned)
        search.visit(here)
        return frozenset(search.receivers), frozenset(search.visited)
    ends = [world.placements[port.id].dpid for port in receivers]
    visited = {dpid for end in ends for dpid in fabric.way(here, end)}
    return receivers, frozenset({here} | visited)


def _owner(mac: int, ports: Iterable[Port]) -> Port | None:
    """The port that is declared to have an address."""
    return next((p for p in ports if p.mac is not None and int(p.mac) == mac), None)


class _Search:
    """The way of a packet to a learned address: every bridge sends it where it believes it to be.

    A bridge nearer to it has heard all that this one has heard from there, and perhaps more. One
    that has forgotten it sends the packet to every port from there on (late flood).
    """

    def __init__(
        self, network: NetworkId, mac: int, others: list[Port], world: World, fabric: Fabric,
        learned: Learned,
    ) -> None:  # fmt: skip
        self.network, self.mac, self.others = network, mac, others
        self.world, self.fabric, self.learned = world, fabric, learned
        self.receivers: set[Port] = set()
        self.visited: set[Dpid] = set()

    def visit(self, here: Dpid) -> None:
        """What bridge ``here`` does with the packet, and the bridges that it sends it to."""
        self.visited.add(here)
        believed = self.learned.get((here, self.network, self.mac))
        for port in self.others:
            there = self.world.placements[port.id].dpid
            if believed not in (None, port.id):
                continue
            if there == here:
                self.receivers.add(port)
            elif (then := self.fabric.way(here, there)[1]) not in self.visited:
                self.visit(then)


def _may_copy(session: Session, sender: Port, world: World) -> bool:
    """Whether a session is allowed to copy anything, and copies of this sender have a way."""
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


def _has_tunnel(port: Port, collector: Collector, world: World) -> bool:
    """Whether the bridge of a port can send copies to a collector's remote sensors by itself."""
    return (_place(port, world), collector.delivery) in world.tunnels


def _maker(
    session: Session, ends: list[Touched], taken: Mapping[Touched, SessionId], world: World
) -> Dpid:
    """The bridge that makes a copy: the sender's, or the lowest that delivers what is wanted.

    An exclusive session may have lost the packet there, but takes it elsewhere.
    """
    sent = [
        port
        for port, direction in ends
        if direction is Direction.EGRESS
        and (session.mode is Mode.COPY or taken[port, direction] == session.id)
    ]
    heard = [port for port, direction in ends if direction is Direction.INGRESS]
    return min(_at(port, world) for port in sent or heard)


def _limit(session: Session, maker: Dpid, world: World) -> int | None:
    """Bytes of the longest frame that a bridge can copy whole, whichever sensor gets the copy."""
    collector, is_tagged = world.collector_by_id[session.collector], wears_tags(session, world)
    fabric = Fabric(world.links)
    places = {_at(tap, world) for tap in collector.tap_ports if tap in world.placements}
    if any(there != maker and _is_joined(fabric, maker, there) for there in places):
        return link_limit(world.link_mtu)
    limits = [
        path_limit(collector, address, world.underlay_mtu, is_tagged)
        for address in collector.addresses
    ]
    return min(limits, default=None)


def _is_skipped(session: Session, length: int, maker: Dpid, world: World) -> bool:
    """Whether a packet of ``length`` bytes is left out, as its copy would not fit its path.

    Padding behind the packet does not count: of a copy that fits without it, it is cut off.
    """
    limit = _limit(session, maker, world)
    wanted = length if session.packet_length is None else min(length, session.packet_length)
    return session.oversize is Oversize.SKIP and limit is not None and wanted > limit


def _place(port: Port, world: World) -> Dpid:
    return _at(port.id, world)


def _at(port: PortId, world: World) -> Dpid:
    return world.placements[port].dpid


def _is_joined(fabric: Fabric, one: Dpid, other: Dpid) -> bool:
    return fabric.component(one) == fabric.component(other)


def _network(port: Port) -> NetworkId:
    assert port.network is not None, "only workloads send"
    return port.network

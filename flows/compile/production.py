"""Production flows of a bridge: layer-2 forwarding inside each network, never across networks."""

from __future__ import annotations

from collections.abc import Iterator

from flows.model import NetworkId, Ofport, Port
from flows.openflow import (
    ARP_SHA,
    ARP_SPA,
    ETH_ARP,
    ETH_DST,
    ETH_IPV4,
    ETH_IPV6,
    ETH_QINQ,
    ETH_SRC,
    ETH_TYPE,
    ETH_VLAN,
    GROUP_BIT,
    ICMPV6_TYPE,
    IN_PORT,
    IP_PROTO,
    IP_SRC,
    IPV6_SRC,
    LEARNED_OBJECT,
    ND_TARGET,
    NOTHING,
    PRODUCTION,
    PROTO_ICMPV6,
    PROTO_UDP,
    UDP_DST,
    UDP_SRC,
    VLAN_PCP,
    VLAN_PRESENT,
    VLAN_VID,
    Action,
    Clone,
    Flow,
    Learn,
    Load,
    Match,
    MoveToVlan,
    Output,
    Pattern,
    PopMpls,
    PopVlan,
    PushMpls,
    PushVlan,
    Resubmit,
    SetVlanPriority,
    Steps,
    make_cookie,
    make_flow,
)
from flows.pipeline import (
    ADMIT,
    ADMIT_ADDRESS,
    ADMIT_NEIGHBOUR,
    BY_LINK,
    CAST,
    EGRESS,
    FLOOD,
    IDENTIFY,
    INGRESS,
    LEARN,
    LEARNED,
    LOOKUP,
    NETWORK,
    OUT,
    OUTPUT,
    OWN_TAG,
    REREAD,
    SENDER,
    START,
    TAG,
    Cast,
    FloodMark,
    Table,
)
from flows.resolve import BridgeView, LocalWorkload


def _go(*tables: Table) -> Steps:
    return Steps.of(*[Resubmit(table.number) for table in tables])


IPV4, IPV6, ARP = ETH_TYPE.eq(ETH_IPV4), ETH_TYPE.eq(ETH_IPV6), ETH_TYPE.eq(ETH_ARP)
ADVERTISEMENT = (IPV6, IP_PROTO.eq(PROTO_ICMPV6), ICMPV6_TYPE.eq(136))
"""An IPv6 neighbour advertisement (RFC 4861)."""
DHCP_REQUEST = (
    *(IPV4, IP_PROTO.eq(PROTO_UDP), IP_SRC.eq(0)),
    *(UDP_SRC.eq(68), UDP_DST.eq(67)),
)
UNSPECIFIED = (IPV6, IP_PROTO.eq(PROTO_ICMPV6), IPV6_SRC.eq(0))
"""What a host sends before it has an IPv6 address (RFC 4862)."""
GROUP_SENDER, GROUP = (field.masked(GROUP_BIT, GROUP_BIT) for field in (ETH_SRC, ETH_DST))
LEARN_IDLE_S = 300
"""Idle timeout of a learned address, in seconds."""
LEARN_LIMIT = 1024
"""How many addresses one bridge learns behind one unprotected port."""

# the patterns of flows that exist once for each port, address or network
TAP_PORT = START.pattern("tap_port", IN_PORT)
WORKLOAD = START.pattern("workload", IN_PORT)
BY_TAG = START.pattern("link", IN_PORT, VLAN_VID)
BY_TAG_FLOODED = START.pattern("flooded", IN_PORT, VLAN_VID, VLAN_PCP.eq(FloodMark.FLOOD))
OWN_MAC = ADMIT.pattern("protected", IN_PORT, ETH_SRC)
OWN_IPV4 = ADMIT_ADDRESS.pattern("address", IN_PORT, IPV4, IP_SRC)
OWN_ARP = ADMIT_ADDRESS.pattern("address", IN_PORT, ARP, ARP_SPA, ARP_SHA)
ASKS_DHCP = ADMIT_ADDRESS.pattern("address", IN_PORT, *DHCP_REQUEST)
OWN_IPV6 = ADMIT_ADDRESS.pattern("address", IN_PORT, IPV6, IPV6_SRC)
NO_IPV6_YET = ADMIT_ADDRESS.pattern("address", IN_PORT, *UNSPECIFIED)
OWN_TARGET = ADMIT_NEIGHBOUR.pattern("address", IN_PORT, *ADVERTISEMENT, ND_TARGET)
LEARNING = LEARN.pattern("sender", SENDER)
ADDRESS = LOOKUP.pattern("address", NETWORK, ETH_DST)
HAIRPIN = OUTPUT.pattern("hairpin", IN_PORT, OUT)
TO_PORT = OUTPUT.pattern("way", OUT, NETWORK)
EVERYBODY = FLOOD.pattern("network", NETWORK, CAST)

# the actions that many of these flows share
SERVE = _go(EGRESS, INGRESS)
ADMITTED, LEARNED_FROM = _go(ADMIT).then(SERVE), _go(LEARN, LOOKUP).then(SERVE)
TO_ADMIT = _go(ADMIT)
TO_LOOKUP, TO_ADDRESS, TO_NEIGHBOUR = _go(LOOKUP), _go(ADMIT_ADDRESS), _go(ADMIT_NEIGHBOUR)
TO_OUTPUT, TO_LEARNED = _go(OUTPUT), _go(LEARNED, OUTPUT)
FLOODED = Steps.of(Load(CAST, Cast.FLOOD)).then(_go(FLOOD))
FLOODED_LATE = Steps.of(Load(CAST, Cast.LATE_FLOOD)).then(_go(FLOOD))
UNICAST = Load(CAST, Cast.UNICAST)


def compile_production(view: BridgeView) -> Iterator[Flow]:
    """Every production flow of one bridge; they do not depend on sessions."""
    yield from start(view)
    yield from admit(view)
    yield from admit_address(view)
    yield from admit_neighbour(view)
    yield from learn(view)
    yield from lookup(view)
    yield from output(view)
    yield from flood(view)
    yield from own_tag(view)


def start(view: BridgeView) -> Iterator[Flow]:
    """Where the packet comes from: a workload of this bridge, a tap port, or another bridge."""
    yield _flow(START.pattern("nothing"), (), NOTHING, "whatever is not declared is dropped")
    for tap in view.tap_ports:
        why = f"tap port {tap.id} is receive-only"
        yield _flow(TAP_PORT, (view.ofport(tap),), NOTHING, why)
    for local_workload in view.local_workloads:
        yield _start_workload(view, local_workload)
    for port, ofport in view.claims:
        yield _start_claim(port, ofport)
    for network in view.members:
        for link in view.links_with(network):
            yield from _start_link(view, network, link)
    for link, port in view.remote_senders():
        if not port.is_protected:
            yield from _start_unprotected(view, port, link)


def admit(view: BridgeView) -> Iterator[Flow]:
    """A protected port may send from its own MAC address only."""
    yield _flow(ADMIT.pattern("nothing"), (), NOTHING, "a protected port used another MAC address")
    for port, ofport, _, mac in view.local_workloads:
        if port.is_protected and mac is not None:
            then = TO_ADDRESS if port.ips else TO_LOOKUP
            yield _flow(OWN_MAC, (ofport, mac), then, f"{port.id} uses its own MAC address")
    for port, ofport in view.claims:
        if port.is_protected and port.mac is not None:
            why = f"counts whether {port.id}, which is elsewhere, is heard here"
            yield _flow(OWN_MAC, (ofport, int(port.mac)), NOTHING, why)


def admit_address(view: BridgeView) -> Iterator[Flow]:
    """A protected port with declared addresses may use these, DHCP and IPv6 autoconfiguration."""
    yield _flow(ADMIT_ADDRESS.pattern("other"), (), TO_LOOKUP, "no address to check")
    for kind, what in ((IPV4, "IPv4"), (IPV6, "IPv6"), (ARP, "ARP")):
        spoofed = ADMIT_ADDRESS.pattern("spoofed", kind)
        yield _flow(spoofed, (), NOTHING, f"{what} sender is not its own")
    for port, ofport, _, mac in view.local_workloads:
        if port.is_protected and port.ips and mac is not None:
            own = f"{port.id} uses its own address"
            for ip in port.ips:
                if ip.version == 4:
                    address = int(ip)
                    yield _flow(OWN_IPV4, (ofport, address), TO_LOOKUP, own)
                    yield _flow(OWN_ARP, (ofport, address, mac), TO_LOOKUP, own)
            yield _flow(OWN_ARP, (ofport, 0, mac), TO_LOOKUP, f"{port.id} probes (RFC 5227)")
            yield _flow(ASKS_DHCP, (ofport,), TO_LOOKUP, f"{port.id} asks for an address")
            for address in ipv6_addresses(port, mac):
                yield _flow(OWN_IPV6, (ofport, address), TO_NEIGHBOUR, own)
            why = f"{port.id} looks for an address (RFC 4862)"
            yield _flow(NO_IPV6_YET, (ofport,), TO_NEIGHBOUR, why)


def admit_neighbour(view: BridgeView) -> Iterator[Flow]:
    """A protected port may advertise its own IPv6 addresses only."""
    yield _flow(ADMIT_NEIGHBOUR.pattern("other"), (), TO_LOOKUP, "not an advertisement")
    spoofed = ADMIT_NEIGHBOUR.pattern("spoofed", *ADVERTISEMENT)
    yield _flow(spoofed, (), NOTHING, "advertises another's address")
    for port, ofport, _, mac in view.local_workloads:
        if port.is_protected and port.ips and mac is not None:
            why = f"{port.id} advertises its own address"
            for address in ipv6_addresses(port, mac):
                yield _flow(OWN_TARGET, (ofport, address), TO_LOOKUP, why)


def learn(view: BridgeView) -> Iterator[Flow]:
    """Learn the addresses behind unprotected ports, which declare none."""
    group = LEARN.pattern("group", GROUP_SENDER)
    yield _flow(group, (), NOTHING, "a group address is no sender address")
    remote = [port for _, port in view.remote_senders()]
    for port in (*view.workloads, *remote):
        if not port.is_protected:
            number = view.number(port.id)
            cookie = make_cookie(LEARNED_OBJECT, number)
            action = Learn(
                LEARNED.number, LEARNED["learned"], LEARN_IDLE_S, LEARN_LIMIT, cookie, NETWORK, OUT
            )
            steps = Steps.of(action)
            yield _flow(LEARNING, (number,), steps, f"{port.id} may use any address")


def lookup(view: BridgeView) -> Iterator[Flow]:
    """The port of a declared address, or of a learned one; otherwise all ports of the network."""
    group = LOOKUP.pattern("group", GROUP)
    yield _flow(group, (), FLOODED, "broadcast and multicast go to every port")
    yield _flow(LOOKUP.pattern("unknown"), (), TO_LEARNED, "the address may have been learned")
    for network, ports in view.members.items():
        number = _number(view, network)
        for port in ports:
            if port.mac is not None:
                steps = Steps.of(Load(OUT, view.ofport(port))).then(TO_OUTPUT)
                why = f"{port.id} has this address"
                yield _flow(ADDRESS, (number, int(port.mac)), steps, why)


def output(view: BridgeView) -> Iterator[Flow]:
    """Deliver a unicast packet, but only to ports of its own network."""
    yield _flow(OUTPUT.pattern("unknown"), (), FLOODED, "the address is not known")
    if view.link_ports:
        late = OUTPUT.pattern("late", BY_LINK.eq(1))
        yield _flow(
            late, (), FLOODED_LATE, "the previous bridge knew the address, this one does not"
        )
    for port, ofport, number, _ in view.local_workloads:
        yield _flow(
            HAIRPIN, (ofport, ofport), NOTHING, f"{port.id} does not receive its own packets"
        )
        steps = Steps.of(UNICAST, Output(ofport))
        yield _flow(TO_PORT, (ofport, number), steps, f"{port.id} is here")
    for network in view.members:
        for link in view.links_with(network):
            steps = Steps.of(_over(link, FloodMark.LOOKUP))
            why = "its network goes on beyond this link"
            yield _flow(TO_PORT, (link, _number(view, network)), steps, why)


def flood(view: BridgeView) -> Iterator[Flow]:
    """Every port of the network; Open vSwitch itself leaves out the port of arrival."""
    yield _flow(FLOOD.pattern("nothing"), (), NOTHING, "the network has no port here")
    casts = ((Cast.FLOOD, FloodMark.FLOOD), (Cast.LATE_FLOOD, FloodMark.LOOKUP))
    for network, ports in view.members.items():
        here = sorted(view.ofport(port) for port in ports if view.is_here(port))
        for cast, mark in casts if view.link_ports else casts[:1]:
            links = [_over(link, mark) for link in view.links_with(network)]
            steps = Steps.of(*map(Output, here), *links)
            name = view.world.network_by_id[network].name
            values = (_number(view, network), cast.value)
            yield _flow(EVERYBODY, values, steps, f"every port of network {name}")


def own_tag(view: BridgeView) -> Iterator[Flow]:
    """Have a switch read what it could not below a link tag: it parses one VLAN tag.

    Production is done with the packet. The sessions that follow see the packet of the workload, as
    on the bridge of its sender.
    """
    if not view.link_ports:
        return
    yield _flow(OWN_TAG.pattern("nothing"), (), _go(INGRESS), "the workload has not tagged it")
    yield _flow(REREAD.pattern("nothing"), (), _go(INGRESS), "its own tag was read")
    for eth_type in (ETH_VLAN, ETH_QINQ):
        steps = Steps.of(PushMpls(), PopMpls(eth_type), Resubmit(REREAD.number))
        why = "its own tag was below the link tag: it is read again"
        yield _flow(OWN_TAG.pattern("tagged", ETH_TYPE.eq(eth_type)), (), steps, why)


def _flow(pattern: Pattern, values: tuple[int, ...], steps: Steps, why: str) -> Flow:
    return make_flow(pattern, values, steps, PRODUCTION, why)


def _over(link: Ofport, mark: FloodMark) -> Clone:
    """Send over a link with our tag; the packet itself is unchanged for the actions that follow."""
    priority = (SetVlanPriority(mark),) if mark else ()
    return Clone((PushVlan(), MoveToVlan(TAG), *priority, Output(link)))


def _start_workload(view: BridgeView, local_workload: LocalWorkload) -> Flow:
    port, ofport, number, _ = local_workload
    tag = view.tag_of_sender(port) if view.link_ports else None
    loads = (
        Load(NETWORK, number),
        Load(SENDER, view.number(port.id)),
        *((Load(TAG, tag),) if tag is not None else ()),
    )
    steps = Steps.of(*loads).then(ADMITTED if port.is_protected else LEARNED_FROM)
    return _flow(WORKLOAD, (ofport,), steps, f"{port.id} sends")


def _start_claim(port: Port, ofport: Ofport) -> Flow:
    """A place that claims a workload which is elsewhere: its frames are counted and dropped."""
    why = f"{port.id} is elsewhere"
    return _flow(WORKLOAD, (ofport,), TO_ADMIT if port.is_protected else NOTHING, why)


def _start_link(view: BridgeView, network: NetworkId, link: Ofport) -> Iterator[Flow]:
    tag = view.world.numbers.tag[f"network:{network}"]
    name = view.world.network_by_id[network].name
    yield from _arrive(
        view, network, link, tag, (), (IDENTIFY,), f"network {name} of another bridge"
    )


def _start_unprotected(view: BridgeView, port: Port, link: Ofport) -> Iterator[Flow]:
    tag = view.tag_of_sender(port)
    if tag is not None:
        assert port.network is not None, "a workload is in a network"
        sender = (Load(SENDER, view.number(port.id)),)
        why = f"{port.id} of another bridge"
        yield from _arrive(view, port.network, link, tag, sender, (LEARN,), why)


def _arrive(
    view: BridgeView,
    network: NetworkId,
    link: Ofport,
    tag: int,
    sender: tuple[Action, ...],
    first: tuple[Table, ...],
    why: str,
) -> Iterator[Flow]:
    values = (link, VLAN_PRESENT | tag)
    arrived = Steps.of(
        PopVlan(),
        Load(NETWORK, _number(view, network)),
        *sender,
        Load(TAG, tag),
        Load(BY_LINK, 1),
    )
    yield _flow(BY_TAG, values, arrived.then(_go(*first, LOOKUP, OWN_TAG)), why)
    flooded = Steps.of(Load(CAST, Cast.FLOOD)).then(_go(*first, FLOOD, OWN_TAG))
    yield _flow(BY_TAG_FLOODED, values, arrived.then(flooded), f"{why}, flooded there")


def counted_by(port: Port, ofport: Ofport) -> tuple[int, Match]:
    """Table and match of the flow that counts what a workload sends from a place.

    That is the same where the workload is, and where it is claimed to be. Of a protected port it
    counts the frames with its own MAC address only.
    """
    if port.is_protected and port.mac is not None:
        flow = _flow(OWN_MAC, (ofport, int(port.mac)), NOTHING, "")
    else:
        flow = _flow(WORKLOAD, (ofport,), NOTHING, "")
    return flow.table, flow.match


def ipv6_addresses(port: Port, mac: int) -> list[int]:
    """The IPv6 addresses of a protected port, with its link-local one, ascending."""
    return sorted({_link_local(mac), *(int(ip) for ip in port.ips if ip.version == 6)})


def _link_local(mac: int) -> int:
    """The link-local address of a host (RFC 4291, appendix A); netaddr takes 8 us for it."""
    return 0xFE80 << 112 | (mac >> 24 ^ 0x020000) << 40 | 0xFFFE << 24 | mac & 0xFFFFFF


def _number(view: BridgeView, network: NetworkId | None) -> int:
    assert network is not None, "a workload is in a network"
    return view.world.numbers.network[network]

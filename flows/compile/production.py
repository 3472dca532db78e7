"""Production on a bridge that we own: layer-2 forwarding inside each network, never across."""

from __future__ import annotations

from collections.abc import Iterator

from flows.resolve.bridge_view import Resident, Site
from flows.openflow.field import (
    ARP_SHA,
    ARP_SPA,
    ETH_ARP,
    ETH_DST,
    ETH_IPV4,
    ETH_IPV6,
    ETH_SRC,
    ETH_TYPE,
    ICMPV6_TYPE,
    IN_PORT,
    IP_PROTO,
    IP_SRC,
    IPV6_SRC,
    ND_TARGET,
    PROTO_ICMPV6,
    PROTO_UDP,
    UDP_DST,
    UDP_SRC,
    VLAN_PCP,
    VLAN_PRESENT,
    VLAN_VID,
)
from flows.openflow.flow import (
    LEARNED_OBJECT,
    NOTHING,
    PRODUCTION,
    Action,
    Clone,
    Flow,
    Learn,
    Load,
    MoveToVlan,
    Output,
    Pattern,
    PopVlan,
    PushVlan,
    Resubmit,
    SetVlanPriority,
    Steps,
    make_cookie,
    make_flow,
)
from flows.model.session import NetworkId, Ofport, Port
from flows.openflow.packet import GROUP_BIT
from flows.pipeline.tables import (
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
    SENDER,
    START,
    TAG,
    Cast,
    FloodMark,
    Table,
)


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
"""Seconds after which an address that nobody uses is forgotten."""
LEARN_LIMIT = 1024
"""Addresses that one unprotected port may occupy on one bridge."""

# what flows ask for, of which there is one for each port, address or network
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
WAY = OUTPUT.pattern("way", OUT, NETWORK)
EVERYBODY = FLOOD.pattern("network", NETWORK, CAST)

# what flows do that is the same for all of these
SERVE = _go(EGRESS, INGRESS)
ADMITTED, LEARNED_FROM = _go(ADMIT).then(SERVE), _go(LEARN, LOOKUP).then(SERVE)
TO_LOOKUP, TO_ADDRESS, TO_NEIGHBOUR = _go(LOOKUP), _go(ADMIT_ADDRESS), _go(ADMIT_NEIGHBOUR)
TO_OUTPUT, TO_LEARNED = _go(OUTPUT), _go(LEARNED, OUTPUT)
FLOODED = Steps.of(Load(CAST, Cast.FLOOD)).then(_go(FLOOD))
FLOODED_LATE = Steps.of(Load(CAST, Cast.LATE_FLOOD)).then(_go(FLOOD))
UNICAST = Load(CAST, Cast.UNICAST)


def compile_production(site: Site) -> Iterator[Flow]:
    """Every production flow of one bridge; which session exists makes no difference to them."""
    yield from start(site)
    yield from admit(site)
    yield from admit_address(site)
    yield from admit_neighbour(site)
    yield from learn(site)
    yield from lookup(site)
    yield from output(site)
    yield from flood(site)


def start(site: Site) -> Iterator[Flow]:
    """Who sent the packet: a workload of this bridge, a tap port, or another bridge."""
    yield _flow(START.pattern("nothing"), (), NOTHING, "whatever is not declared is dropped")
    for tap in site.tap_ports:
        why = f"tap port {tap.id} is receive-only"
        yield _flow(TAP_PORT, (site.ofport(tap),), NOTHING, why)
    for resident in site.residents:
        yield _start_workload(site, resident)
    for network in site.members:
        for link in site.links_with(network):
            yield from _start_link(site, network, link)
    for link, port in site.remote_senders():
        if not port.is_protected:
            yield from _start_unprotected(site, port, link)


def admit(site: Site) -> Iterator[Flow]:
    """A protected port may use its own MAC address only."""
    yield _flow(ADMIT.pattern("nothing"), (), NOTHING, "a protected port used another MAC address")
    for port, place, _, mac in site.residents:
        if port.is_protected and mac is not None:
            then = TO_ADDRESS if port.ips else TO_LOOKUP
            yield _flow(OWN_MAC, (place, mac), then, f"{port.id} uses its own MAC address")


def admit_address(site: Site) -> Iterator[Flow]:
    """A protected port with declared addresses may use these, DHCP and IPv6 autoconfiguration."""
    yield _flow(ADMIT_ADDRESS.pattern("other"), (), TO_LOOKUP, "no address to check")
    for kind, what in ((IPV4, "IPv4"), (IPV6, "IPv6"), (ARP, "ARP")):
        spoofed = ADMIT_ADDRESS.pattern("spoofed", kind)
        yield _flow(spoofed, (), NOTHING, f"{what} sender is not its own")
    for port, place, _, mac in site.residents:
        if port.is_protected and port.ips and mac is not None:
            own = f"{port.id} uses its own address"
            for ip in port.ips:
                if ip.version == 4:
                    address = int(ip)
                    yield _flow(OWN_IPV4, (place, address), TO_LOOKUP, own)
                    yield _flow(OWN_ARP, (place, address, mac), TO_LOOKUP, own)
            yield _flow(OWN_ARP, (place, 0, mac), TO_LOOKUP, f"{port.id} probes (RFC 5227)")
            yield _flow(ASKS_DHCP, (place,), TO_LOOKUP, f"{port.id} asks for an address")
            for address in ipv6_addresses(port, mac):
                yield _flow(OWN_IPV6, (place, address), TO_NEIGHBOUR, own)
            why = f"{port.id} looks for an address (RFC 4862)"
            yield _flow(NO_IPV6_YET, (place,), TO_NEIGHBOUR, why)


def admit_neighbour(site: Site) -> Iterator[Flow]:
    """A protected port may advertise its own IPv6 addresses only."""
    yield _flow(ADMIT_NEIGHBOUR.pattern("other"), (), TO_LOOKUP, "not an advertisement")
    spoofed = ADMIT_NEIGHBOUR.pattern("spoofed", *ADVERTISEMENT)
    yield _flow(spoofed, (), NOTHING, "advertises another's address")
    for port, place, _, mac in site.residents:
        if port.is_protected and port.ips and mac is not None:
            why = f"{port.id} advertises its own address"
            for address in ipv6_addresses(port, mac):
                yield _flow(OWN_TARGET, (place, address), TO_LOOKUP, why)


def learn(site: Site) -> Iterator[Flow]:
    """Remember the addresses behind unprotected ports; they have nothing else to be found by."""
    group = LEARN.pattern("group", GROUP_SENDER)
    yield _flow(group, (), NOTHING, "a group address is nobody's sender address")
    remote = [port for _, port in site.remote_senders()]
    for port in (*site.workloads, *remote):
        if not port.is_protected:
            number = site.number(port.id)
            action = Learn(
                LEARNED.number, LEARNED["learned"], LEARN_IDLE_S, LEARN_LIMIT,
                make_cookie(LEARNED_OBJECT, number), NETWORK, OUT,
            )  # fmt: skip
            steps = Steps.of(action)
            yield _flow(LEARNING, (number,), steps, f"{port.id} may use any address")


def lookup(site: Site) -> Iterator[Flow]:
    """The way to a declared address; else to a learned one; else everybody in the network."""
    group = LOOKUP.pattern("group", GROUP)
    yield _flow(group, (), FLOODED, "broadcast and multicast go to everybody")
    yield _flow(LOOKUP.pattern("unknown"), (), TO_LEARNED, "the address may have been learned")
    for network, ports in site.members.items():
        number = _number(site, network)
        for port in ports:
            if port.mac is not None:
                steps = Steps.of(Load(OUT, site.ofport(port))).then(TO_OUTPUT)
                why = f"{port.id} has this address"
                yield _flow(ADDRESS, (number, int(port.mac)), steps, why)


def output(site: Site) -> Iterator[Flow]:
    """Deliver a unicast packet, but only where its network really is."""
    yield _flow(OUTPUT.pattern("unknown"), (), FLOODED, "nobody knows the address")
    if site.link_ports:
        late = OUTPUT.pattern("late", BY_LINK.eq(1))
        yield _flow(late, (), FLOODED_LATE, "the bridge before knew, we do not")
    for port, place, number, _ in site.residents:
        yield _flow(HAIRPIN, (place, place), NOTHING, f"{port.id} does not hear itself")
        steps = Steps.of(UNICAST, Output(place))
        yield _flow(WAY, (place, number), steps, f"{port.id} is here")
    for network in site.members:
        for link in site.links_with(network):
            steps = Steps.of(_over(link, FloodMark.LOOKUP))
            why = "its network goes on beyond this link"
            yield _flow(WAY, (link, _number(site, network)), steps, why)


def flood(site: Site) -> Iterator[Flow]:
    """Everybody in the network; OVS itself leaves out the port that the packet came from."""
    yield _flow(FLOOD.pattern("nothing"), (), NOTHING, "the network has no port here")
    casts = ((Cast.FLOOD, FloodMark.FLOOD), (Cast.LATE_FLOOD, FloodMark.LOOKUP))
    for network, ports in site.members.items():
        here = sorted(site.ofport(port) for port in ports if site.is_here(port))
        for cast, mark in casts if site.link_ports else casts[:1]:
            links = [_over(link, mark) for link in site.links_with(network)]
            steps = Steps.of(*map(Output, here), *links)
            name = site.world.network_by_id[network].name
            values = (_number(site, network), cast.value)
            yield _flow(EVERYBODY, values, steps, f"every port of network {name}")


def _flow(pattern: Pattern, values: tuple[int, ...], steps: Steps, why: str) -> Flow:
    return make_flow(pattern, values, steps, PRODUCTION, why)


def _over(link: Ofport, mark: FloodMark) -> Clone:
    """Send over a link with our tag, and leave the packet as it was for what follows."""
    priority = (SetVlanPriority(mark),) if mark else ()
    return Clone((PushVlan(), MoveToVlan(TAG), *priority, Output(link)))


def _start_workload(site: Site, resident: Resident) -> Flow:
    port, place, number, _ = resident
    tag = site.tag_of_sender(port) if site.link_ports else None
    loads = (
        Load(NETWORK, number),
        Load(SENDER, site.number(port.id)),
        *((Load(TAG, tag),) if tag is not None else ()),
    )
    steps = Steps.of(*loads).then(ADMITTED if port.is_protected else LEARNED_FROM)
    return _flow(WORKLOAD, (place,), steps, f"{port.id} sends")


def _start_link(site: Site, network: NetworkId, link: Ofport) -> Iterator[Flow]:
    tag = site.world.numbers.tag[f"network:{network}"]
    name = site.world.network_by_id[network].name
    yield from _arrive(
        site, network, link, tag, (), (IDENTIFY,), f"network {name} of another bridge"
    )


def _start_unprotected(site: Site, port: Port, link: Ofport) -> Iterator[Flow]:
    tag = site.tag_of_sender(port)
    if tag is not None:
        assert port.network is not None, "a workload is in a network"
        sender = (Load(SENDER, site.number(port.id)),)
        why = f"{port.id} of another bridge"
        yield from _arrive(site, port.network, link, tag, sender, (LEARN,), why)


def _arrive(
    site: Site, network: NetworkId, link: Ofport, tag: int,
    sender: tuple[Action, ...], first: tuple[Table, ...], why: str,
) -> Iterator[Flow]:  # fmt: skip
    values = (link, VLAN_PRESENT | tag)
    arrived = Steps.of(
        PopVlan(),
        Load(NETWORK, _number(site, network)),
        *sender,
        Load(TAG, tag),
        Load(BY_LINK, 1),
    )
    yield _flow(BY_TAG, values, arrived.then(_go(*first, LOOKUP, INGRESS)), why)
    flooded = Steps.of(Load(CAST, Cast.FLOOD)).then(_go(*first, FLOOD, INGRESS))
    yield _flow(BY_TAG_FLOODED, values, arrived.then(flooded), f"{why}, flooded there")


def ipv6_addresses(port: Port, mac: int) -> list[int]:
    """The IPv6 addresses of a protected port, with the one that it gives itself."""
    return sorted({_link_local(mac), *(int(ip) for ip in port.ips if ip.version == 6)})


def _link_local(mac: int) -> int:
    """The address that a host gives itself (RFC 4291, appendix A); netaddr takes 8 us for it."""
    return 0xFE80 << 112 | (mac >> 24 ^ 0x020000) << 40 | 0xFFFE << 24 | mac & 0xFFFFFF


def _number(site: Site, network: NetworkId | None) -> int:
    assert network is not None, "a workload is in a network"
    return site.world.numbers.network[network]

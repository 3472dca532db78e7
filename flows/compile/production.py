"""Production on a bridge that we own: layer-2 forwarding inside each network, never across."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flows.compile.site import Site
from flows.field import (
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
    Term,
)
from flows.flow import (
    LEARNED_OBJECT,
    PRODUCTION,
    Action,
    Clone,
    Flow,
    Learn,
    Load,
    Match,
    MoveToVlan,
    Output,
    PopVlan,
    PushVlan,
    Resubmit,
    SetVlanPriority,
    make_cookie,
)
from flows.model import NetworkId, Ofport, Port
from flows.packet import GROUP_BIT
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
    PIPELINE,
    SENDER,
    START,
    TAG,
    Cast,
    FloodMark,
    Table,
)

RESUBMIT = {table.number: Resubmit(table.number) for table in PIPELINE}
IPV4, IPV6, ARP = ETH_TYPE.eq(ETH_IPV4), ETH_TYPE.eq(ETH_IPV6), ETH_TYPE.eq(ETH_ARP)
ADVERTISEMENT = (IPV6, IP_PROTO.eq(PROTO_ICMPV6), ICMPV6_TYPE.eq(136))
"""An IPv6 neighbour advertisement (RFC 4861)."""
DHCP_REQUEST = (
    *(IPV4, IP_SRC.eq(0), IP_PROTO.eq(PROTO_UDP)),
    *(UDP_SRC.eq(68), UDP_DST.eq(67)),
)
UNSPECIFIED = (IPV6, IPV6_SRC.eq(0), IP_PROTO.eq(PROTO_ICMPV6))
"""What a host sends before it has an IPv6 address (RFC 4862)."""
LEARN_IDLE_S = 300
"""Seconds after which an address that nobody uses is forgotten."""
LEARN_LIMIT = 1024
"""Addresses that one unprotected port may occupy on one bridge."""


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
    yield _flow(START, "nothing", (), (), "whatever is not declared is dropped")
    for tap in site.tap_ports:
        place = site.ofport(tap)
        yield _flow(
            START, "tap_port", (IN_PORT.eq(place),), (), f"tap port {tap.id} is receive-only"
        )
    for port in site.workloads:
        yield _start_workload(site, port)
    for network in site.members:
        for link in site.links_with(network):
            yield from _start_link(site, network, link)
    for link, port in site.remote_senders():
        if not port.is_protected:
            yield from _start_unprotected(site, port, link)


def admit(site: Site) -> Iterator[Flow]:
    """A protected port may use its own MAC address only."""
    yield _flow(ADMIT, "nothing", (), (), "a protected port used another MAC address")
    for port in site.workloads:
        if port.is_protected:
            then = ADMIT_ADDRESS if port.ips else LOOKUP
            terms = (_here(site, port), ETH_SRC.eq(_mac(port)))
            yield _flow(ADMIT, "protected", terms, _go(then), f"{port.id} uses its own MAC address")


def admit_address(site: Site) -> Iterator[Flow]:
    """A protected port with declared addresses may use these, DHCP and IPv6 autoconfiguration."""
    yield _flow(ADMIT_ADDRESS, "other", (), _go(LOOKUP), "no address to check")
    for kind, what in ((IPV4, "IPv4"), (IPV6, "IPv6"), (ARP, "ARP")):
        yield _flow(ADMIT_ADDRESS, "spoofed", (kind,), (), f"{what} sender is not its own")
    for port in site.workloads:
        if port.is_protected and port.ips:
            yield from _admit_ipv4(site, port)
            yield from _admit_ipv6(site, port)


def admit_neighbour(site: Site) -> Iterator[Flow]:
    """A protected port may advertise its own IPv6 addresses only."""
    yield _flow(ADMIT_NEIGHBOUR, "other", (), _go(LOOKUP), "not an advertisement")
    yield _flow(ADMIT_NEIGHBOUR, "spoofed", ADVERTISEMENT, (), "advertises another's address")
    for port in site.workloads:
        if port.is_protected and port.ips:
            here, why = _here(site, port), f"{port.id} advertises its own address"
            for address in ipv6_addresses(port):
                terms = (here, *ADVERTISEMENT, ND_TARGET.eq(address))
                yield _flow(ADMIT_NEIGHBOUR, "address", terms, _go(LOOKUP), why)


def learn(site: Site) -> Iterator[Flow]:
    """Remember the addresses behind unprotected ports; they have nothing else to be found by."""
    group = (ETH_SRC.masked(GROUP_BIT, GROUP_BIT),)
    yield _flow(LEARN, "group", group, (), "a group address is nobody's sender address")
    remote = [port for _, port in site.remote_senders()]
    for port in (*site.workloads, *remote):
        if not port.is_protected:
            number = site.number(port.id)
            action = Learn(
                LEARNED.number, LEARNED["learned"], LEARN_IDLE_S, LEARN_LIMIT,
                make_cookie(LEARNED_OBJECT, number), NETWORK, OUT,
            )  # fmt: skip
            terms = (SENDER.eq(number),)
            yield _flow(LEARN, "sender", terms, (action,), f"{port.id} may use any address")


def lookup(site: Site) -> Iterator[Flow]:
    """The way to a declared address; else to a learned one; else everybody in the network."""
    group = (ETH_DST.masked(GROUP_BIT, GROUP_BIT),)
    flooded = (Load(CAST, Cast.FLOOD), *_go(FLOOD))
    yield _flow(LOOKUP, "group", group, flooded, "broadcast and multicast go to everybody")
    yield _flow(LOOKUP, "unknown", (), _go(LEARNED, OUTPUT), "the address may have been learned")
    for network, ports in site.members.items():
        for port in ports:
            if port.mac is not None:
                terms = (_network(site, network), ETH_DST.eq(_mac(port)))
                actions = (Load(OUT, site.ofport(port)), *_go(OUTPUT))
                yield _flow(LOOKUP, "address", terms, actions, f"{port.id} has this address")


def output(site: Site) -> Iterator[Flow]:
    """Deliver a unicast packet, but only where its network really is."""
    flooded = (Load(CAST, Cast.FLOOD), *_go(FLOOD))
    yield _flow(OUTPUT, "unknown", (), flooded, "nobody knows the address")
    if site.link_ports:
        late = (Load(CAST, Cast.LATE_FLOOD), *_go(FLOOD))
        yield _flow(OUTPUT, "late", (BY_LINK.eq(1),), late, "the bridge before knew, we do not")
    for port in site.workloads:
        place = site.ofport(port)
        hairpin = (IN_PORT.eq(place), OUT.eq(place))
        yield _flow(OUTPUT, "hairpin", hairpin, (), f"{port.id} does not hear itself")
        terms = (_network(site, port.network), OUT.eq(place))
        actions = (Load(CAST, Cast.UNICAST), Output(place))
        yield _flow(OUTPUT, "way", terms, actions, f"{port.id} is here")
    for network in site.members:
        for link in site.links_with(network):
            terms = (_network(site, network), OUT.eq(link))
            why = "its network goes on beyond this link"
            yield _flow(OUTPUT, "way", terms, (_over(link, FloodMark.LOOKUP),), why)


def flood(site: Site) -> Iterator[Flow]:
    """Everybody in the network; OVS itself leaves out the port that the packet came from."""
    yield _flow(FLOOD, "nothing", (), (), "the network has no port here")
    casts = ((Cast.FLOOD, FloodMark.FLOOD), (Cast.LATE_FLOOD, FloodMark.LOOKUP))
    for network, ports in site.members.items():
        here = sorted(site.ofport(port) for port in ports if site.is_here(port))
        for cast, mark in casts if site.link_ports else casts[:1]:
            links = [_over(link, mark) for link in site.links_with(network)]
            terms = (_network(site, network), CAST.eq(cast))
            actions: list[Action] = [*map(Output, here), *links]
            name = site.world.network_by_id[network].name
            yield _flow(FLOOD, "network", terms, actions, f"every port of network {name}")


def _flow(
    table: Table, priority: str, terms: Iterable[Term], actions: Iterable[Action], why: str
) -> Flow:
    return Flow(table.number, table[priority], Match.of(*terms), tuple(actions), PRODUCTION, why)


def _go(*tables: Table) -> tuple[Action, ...]:
    return tuple([RESUBMIT[table.number] for table in tables])


def _over(link: Ofport, mark: FloodMark) -> Clone:
    """Send over a link with our tag, and leave the packet as it was for what follows."""
    priority = (SetVlanPriority(mark),) if mark else ()
    return Clone((PushVlan(), MoveToVlan(TAG), *priority, Output(link)))


def _start_workload(site: Site, port: Port) -> Flow:
    tag = site.tag_of_sender(port) if site.link_ports else None
    first = (ADMIT,) if port.is_protected else (LEARN, LOOKUP)
    actions: tuple[Action, ...] = (
        Load(NETWORK, site.world.numbers.network[_network_id(port)]),
        Load(SENDER, site.number(port.id)),
        *((Load(TAG, tag),) if tag is not None else ()),
        *_go(*first, EGRESS, INGRESS),
    )
    return _flow(START, "workload", (_here(site, port),), actions, f"{port.id} sends")


def _start_link(site: Site, network: NetworkId, link: Ofport) -> Iterator[Flow]:
    tag = site.world.numbers.tag[f"network:{network}"]
    name = site.world.network_by_id[network].name
    yield from _arrive(
        site, network, link, tag, (), (IDENTIFY,), f"network {name} of another bridge"
    )


def _start_unprotected(site: Site, port: Port, link: Ofport) -> Iterator[Flow]:
    tag = site.tag_of_sender(port)
    if tag is not None:
        sender = (Load(SENDER, site.number(port.id)),)
        why = f"{port.id} of another bridge"
        yield from _arrive(site, _network_id(port), link, tag, sender, (LEARN,), why)


def _arrive(
    site: Site, network: NetworkId, link: Ofport, tag: int,
    sender: tuple[Action, ...], first: tuple[Table, ...], why: str,
) -> Iterator[Flow]:  # fmt: skip
    terms = (IN_PORT.eq(link), VLAN_VID.eq(VLAN_PRESENT | tag))
    arrived = (
        PopVlan(),
        Load(NETWORK, site.world.numbers.network[network]),
        *sender,
        Load(TAG, tag),
        Load(BY_LINK, 1),
    )
    yield _flow(START, "link", terms, (*arrived, *_go(*first, LOOKUP, INGRESS)), why)
    flooded = (*terms, VLAN_PCP.eq(FloodMark.FLOOD))
    actions = (*arrived, Load(CAST, Cast.FLOOD), *_go(*first, FLOOD, INGRESS))
    yield _flow(START, "flooded", flooded, actions, f"{why}, flooded there")


def _admit_ipv4(site: Site, port: Port) -> Iterator[Flow]:
    here, mac, then = _here(site, port), ARP_SHA.eq(_mac(port)), _go(LOOKUP)
    own = f"{port.id} uses its own address"
    for address in (int(ip) for ip in port.ips if ip.version == 4):
        yield _flow(ADMIT_ADDRESS, "address", (here, IPV4, IP_SRC.eq(address)), then, own)
        arp = (here, ARP, ARP_SPA.eq(address), mac)
        yield _flow(ADMIT_ADDRESS, "address", arp, then, own)
    probe = (here, ARP, ARP_SPA.eq(0), mac)
    yield _flow(ADMIT_ADDRESS, "address", probe, then, f"{port.id} probes (RFC 5227)")
    dhcp = (here, *DHCP_REQUEST)
    yield _flow(ADMIT_ADDRESS, "address", dhcp, then, f"{port.id} asks for an address")


def _admit_ipv6(site: Site, port: Port) -> Iterator[Flow]:
    here, then = _here(site, port), _go(ADMIT_NEIGHBOUR)
    own = f"{port.id} uses its own address"
    for address in ipv6_addresses(port):
        terms = (here, IPV6, IPV6_SRC.eq(address))
        yield _flow(ADMIT_ADDRESS, "address", terms, then, own)
    why = f"{port.id} looks for an address (RFC 4862)"
    yield _flow(ADMIT_ADDRESS, "address", (here, *UNSPECIFIED), then, why)


def ipv6_addresses(port: Port) -> list[int]:
    """The IPv6 addresses of a protected port, with the one that it gives itself."""
    declared = {int(ip) for ip in port.ips if ip.version == 6}
    return sorted(declared | {_link_local(_mac(port))})


def _link_local(mac: int) -> int:
    """The address that a host gives itself (RFC 4291, appendix A); netaddr takes 8 us for it."""
    return 0xFE80 << 112 | (mac >> 24 ^ 0x020000) << 40 | 0xFFFE << 24 | mac & 0xFFFFFF


def _here(site: Site, port: Port) -> Term:
    return IN_PORT.eq(site.ofport(port))


def _network(site: Site, network: NetworkId | None) -> Term:
    assert network is not None, "a workload is in a network"
    return NETWORK.eq(site.world.numbers.network[network])


def _network_id(port: Port) -> NetworkId:
    assert port.network is not None, "a workload is in a network"
    return port.network


def _mac(port: Port) -> int:
    assert port.mac is not None, "a protected port has a MAC address"
    return int(port.mac)

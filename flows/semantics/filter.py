"""Whether the rules of a filter accept a packet: their meaning, independent of flow tables."""

from __future__ import annotations

from collections.abc import Sequence

from netaddr import IPNetwork

from flows.model import MacPattern, PortRange, Rule, RuleMatch, Tagged, Verdict
from flows.openflow import (
    ARP_OP,
    ETH_DST,
    ETH_IPV4,
    ETH_SRC,
    ETH_TYPE,
    ICMP_CODE,
    ICMP_TYPE,
    ICMPV6_CODE,
    ICMPV6_TYPE,
    IP_DST,
    IP_FRAG,
    IP_PROTO,
    IP_SRC,
    IPV6_DST,
    IPV6_SRC,
    LATER_FRAGMENT,
    PORT_FIELDS,
    PROTO_ICMP,
    TCP_FLAGS,
    VLAN_PRESENT,
    VLAN_VID,
    Field,
    Fields,
)


def first_match(rules: Sequence[Rule], fields: Fields) -> Rule | None:
    """The rule that decides about a packet: the first that matches; None when none does."""
    return next((rule for rule in rules if is_match(rule.match, fields)), None)


def is_accepted(rules: Sequence[Rule], fields: Fields) -> bool:
    """Whether the first matching rule accepts; a packet that no rule matches is rejected."""
    rule = first_match(rules, fields)
    return rule is not None and rule.verdict is Verdict.ACCEPT


def is_match(match: RuleMatch, fields: Fields) -> bool:
    """Whether a packet meets every condition of a rule."""
    return (
        _is_eth_type(match, fields)
        and _is_vlan(match.vlan, fields)
        and _is_mac(match.source_mac, fields[ETH_SRC])
        and _is_mac(match.destination_mac, fields[ETH_DST])
        and _is_in_prefix(match.source, fields, IP_SRC, IPV6_SRC)
        and _is_in_prefix(match.destination, fields, IP_DST, IPV6_DST)
        and (
            _is_in_prefix(match.address, fields, IP_SRC, IPV6_SRC)
            or _is_in_prefix(match.address, fields, IP_DST, IPV6_DST)
        )
        and (match.protocol is None or fields.get(IP_PROTO) == match.protocol)
        and not (match.asks_for_transport and _is_later_fragment(fields))
        and _are_ports(match, fields)
        and _is_icmp(match, fields)
        and _are_flags(match, fields)
        and (match.arp_operation is None or fields.get(ARP_OP) == match.arp_operation)
    )


def _is_eth_type(match: RuleMatch, fields: Fields) -> bool:
    wanted = match.eth_types
    return wanted == (None,) or fields[ETH_TYPE] in wanted


def _is_vlan(vlan: int | Tagged | None, fields: Fields) -> bool:
    match vlan:
        case None:
            return True
        case Tagged.NONE:
            return fields[VLAN_VID] == 0
        case Tagged.ANY:
            return fields[VLAN_VID] != 0
        case number:
            return fields[VLAN_VID] == VLAN_PRESENT | number


def _is_mac(pattern: MacPattern | None, mac: int) -> bool:
    return pattern is None or mac & int(pattern.mask) == int(pattern.value)


def _is_in_prefix(network: IPNetwork | None, fields: Fields, ipv4: Field, ipv6: Field) -> bool:
    if network is None:
        return True
    address = fields.get(ipv4 if fields[ETH_TYPE] == ETH_IPV4 else ipv6)
    return address is not None and network.first <= address <= network.last


def _are_ports(match: RuleMatch, fields: Fields) -> bool:
    if not (match.source_port or match.destination_port or match.port):
        return True
    assert match.protocol is not None, "ports come with a protocol"
    source, destination = PORT_FIELDS[match.protocol]
    ports = fields.get(source), fields.get(destination)
    return (
        _is_in_ranges(match.source_port, ports[0])
        and _is_in_ranges(match.destination_port, ports[1])
        and any(_is_in_ranges(match.port, port) for port in ports)
    )


def _is_in_ranges(ranges: tuple[PortRange, ...], port: int | None) -> bool:
    return not ranges or (port is not None and any(r.first <= port <= r.last for r in ranges))


def _is_later_fragment(fields: Fields) -> bool:
    return bool(fields.get(IP_FRAG, 0) & LATER_FRAGMENT)


def _is_icmp(match: RuleMatch, fields: Fields) -> bool:
    is_ipv4 = match.protocol == PROTO_ICMP
    kind, code = (ICMP_TYPE, ICMP_CODE) if is_ipv4 else (ICMPV6_TYPE, ICMPV6_CODE)
    return (match.icmp_type is None or fields.get(kind) == match.icmp_type) and (
        match.icmp_code is None or fields.get(code) == match.icmp_code
    )


def _are_flags(match: RuleMatch, fields: Fields) -> bool:
    flags = match.tcp_flags
    return flags is None or fields.get(TCP_FLAGS, -1) & flags.mask == flags.value

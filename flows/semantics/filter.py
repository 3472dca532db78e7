"""What a filter says about a packet: the meaning of rules, without tables."""

from __future__ import annotations

from collections.abc import Sequence

from netaddr import IPNetwork

from flows.openflow.field import (
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
    IP_PROTO,
    IP_SRC,
    IPV6_DST,
    IPV6_SRC,
    PROTO_ICMP,
    PROTO_SCTP,
    PROTO_TCP,
    PROTO_UDP,
    SCTP_DST,
    SCTP_SRC,
    TCP_DST,
    TCP_FLAGS,
    TCP_SRC,
    UDP_DST,
    UDP_SRC,
    VLAN_VID,
    Field,
)
from flows.model.filter import MacPattern, PortRange, Rule, RuleMatch, Tagged, Verdict
from flows.openflow.packet import Fields

PORT_FIELDS = {
    PROTO_TCP: (TCP_SRC, TCP_DST),
    PROTO_UDP: (UDP_SRC, UDP_DST),
    PROTO_SCTP: (SCTP_SRC, SCTP_DST),
}
"""The source and destination port field of each protocol that has ports."""


def first_match(rules: Sequence[Rule], fields: Fields) -> Rule | None:
    """The rule that decides about a packet: the first that matches, or None."""
    return next((rule for rule in rules if is_matched(rule.match, fields)), None)


def is_accepted(rules: Sequence[Rule], fields: Fields) -> bool:
    """Whether the first matching rule accepts; a packet that no rule matches is rejected."""
    rule = first_match(rules, fields)
    return rule is not None and rule.verdict is Verdict.ACCEPT


def is_matched(match: RuleMatch, fields: Fields) -> bool:
    """Whether every condition of a rule is met."""
    return (
        _is_kind(match, fields)
        and _is_tagged(match.vlan, fields)
        and _is_mac(match.source_mac, fields[ETH_SRC])
        and _is_mac(match.destination_mac, fields[ETH_DST])
        and _is_inside(match.source, fields, IP_SRC, IPV6_SRC)
        and _is_inside(match.destination, fields, IP_DST, IPV6_DST)
        and (match.protocol is None or fields.get(IP_PROTO) == match.protocol)
        and _are_ports(match, fields)
        and _is_icmp(match, fields)
        and _are_flags(match, fields)
        and (match.arp_operation is None or fields.get(ARP_OP) == match.arp_operation)
    )


def _is_kind(match: RuleMatch, fields: Fields) -> bool:
    wanted = match.eth_types
    return wanted == (None,) or fields[ETH_TYPE] in wanted


def _is_tagged(vlan: int | Tagged | None, fields: Fields) -> bool:
    match vlan:
        case None:
            return True
        case Tagged.NONE:
            return fields[VLAN_VID] == 0
        case Tagged.ANY:
            return fields[VLAN_VID] != 0
        case number:
            return fields[VLAN_VID] == 0x1000 | number


def _is_mac(pattern: MacPattern | None, mac: int) -> bool:
    return pattern is None or mac & int(pattern.mask) == int(pattern.value)


def _is_inside(network: IPNetwork | None, fields: Fields, four: Field, six: Field) -> bool:
    if network is None:
        return True
    address = fields.get(four if fields[ETH_TYPE] == ETH_IPV4 else six)
    return address is not None and network.first <= address <= network.last


def _are_ports(match: RuleMatch, fields: Fields) -> bool:
    if not match.source_port and not match.destination_port:
        return True
    assert match.protocol is not None, "ports come with a protocol"
    source, destination = PORT_FIELDS[match.protocol]
    return _is_in(match.source_port, fields.get(source)) and _is_in(
        match.destination_port, fields.get(destination)
    )


def _is_in(ranges: tuple[PortRange, ...], port: int | None) -> bool:
    return not ranges or (port is not None and any(r.first <= port <= r.last for r in ranges))


def _is_icmp(match: RuleMatch, fields: Fields) -> bool:
    is_four = match.protocol == PROTO_ICMP
    kind, code = (ICMP_TYPE, ICMP_CODE) if is_four else (ICMPV6_TYPE, ICMPV6_CODE)
    return (match.icmp_type is None or fields.get(kind) == match.icmp_type) and (
        match.icmp_code is None or fields.get(code) == match.icmp_code
    )


def _are_flags(match: RuleMatch, fields: Fields) -> bool:
    flags = match.tcp_flags
    return flags is None or fields.get(TCP_FLAGS, -1) & flags.mask == flags.value

"""Filters as flows: one shared table, keyed by filter and direction, that only says yes or no.

Keyed by a number that no packet holds, the rules of one filter never widen the packet paths that
Open vSwitch caches for the packets of another (staged lookup: registers are looked at first).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

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
    TCP_FLAGS,
    VLAN_PRESENT,
    VLAN_VID,
    Field,
    Term,
)
from flows.model.filter import Filter, PortRange, Rule, RuleMatch, Tagged, Verdict
from flows.openflow.flow import PRODUCTION, Flow, Load, Match
from flows.semantics.filter import PORT_FIELDS
from flows.pipeline.tables import FILTER, FILTER_ID, RULE_PRIORITIES, RULES, VERDICT, Rules


def filter_frame() -> Flow:
    """What is there whatever filters there are: what no rule matches stays rejected."""
    why = "no rule matches: rejected"
    return Flow(FILTER.number, FILTER["nothing"], Match(), (), PRODUCTION, why)


def filter_rules(number: int, wanted: Filter) -> Iterator[Flow]:
    """The rules of one filter with its number."""
    for direction, rules in ((Rules.EGRESS, wanted.egress), (Rules.INGRESS, wanted.ingress)):
        key = (FILTER_ID.eq(number), RULES.eq(direction))
        for rule in rules:
            yield from _rule(wanted, direction, key, rule)


def _rule(wanted: Filter, direction: Rules, key: tuple[Term, ...], rule: Rule) -> Iterator[Flow]:
    accepts = rule.verdict is Verdict.ACCEPT
    actions = (Load(VERDICT, 1),) if accepts else ()
    why = (
        f"{direction.name.lower()} rule {rule.number} of filter {wanted.name}: {rule.verdict.value}"
    )
    for terms in alternatives(rule.match):
        yield Flow(
            FILTER.number, RULE_PRIORITIES.stop - rule.number, Match.of(*key, *terms), actions,
            PRODUCTION, why,
        )  # fmt: skip


def alternatives(match: RuleMatch) -> Iterator[tuple[Term, ...]]:
    """The matches that together mean one rule; no packet satisfies two of them."""
    link_layer = tuple(_link_layer(match))
    for eth_type in match.eth_types:
        kind = () if eth_type is None else (ETH_TYPE.eq(eth_type),)
        addresses = tuple(_addresses(match, eth_type))
        if match.protocol is None:
            yield (*link_layer, *kind, *addresses)
            continue
        transport = (IP_PROTO.eq(match.protocol), *_icmp(match), *_flags(match))
        for ports in _ports(match):
            yield (*link_layer, *kind, *addresses, *transport, *ports)


def masks(wanted: PortRange) -> list[tuple[int, int]]:
    """The fewest (value, mask) pairs of 16 bits that cover a range of ports exactly."""
    found: list[tuple[int, int]] = []
    first = wanted.first
    while first <= wanted.last:
        size = first & -first or 1 << 16
        while first + size - 1 > wanted.last:
            size >>= 1
        found.append((first, 0xFFFF & ~(size - 1)))
        first += size
    return found


def _link_layer(match: RuleMatch) -> Iterator[Term]:
    for field, pattern in ((ETH_SRC, match.source_mac), (ETH_DST, match.destination_mac)):
        if pattern is not None:
            yield field.masked(int(pattern.value), int(pattern.mask))
    match match.vlan:
        case None:
            pass
        case Tagged.NONE:
            yield VLAN_VID.eq(0)
        case Tagged.ANY:
            yield VLAN_VID.masked(VLAN_PRESENT, VLAN_PRESENT)
        case number:
            yield VLAN_VID.eq(VLAN_PRESENT | number)
    if match.arp_operation is not None:
        yield ARP_OP.eq(match.arp_operation)


def _addresses(match: RuleMatch, eth_type: int | None) -> Iterator[Term]:
    source, destination = (IP_SRC, IP_DST) if eth_type == ETH_IPV4 else (IPV6_SRC, IPV6_DST)
    yield from _prefix(source, match.source)
    yield from _prefix(destination, match.destination)


def _prefix(field: Field, network: IPNetwork | None) -> Iterator[Term]:
    if network is not None and network.prefixlen:
        yield field.masked(int(network.network), int(network.netmask))


def _icmp(match: RuleMatch) -> Iterator[Term]:
    is_four = match.protocol == PROTO_ICMP
    if match.icmp_type is not None:
        yield (ICMP_TYPE if is_four else ICMPV6_TYPE).eq(match.icmp_type)
    if match.icmp_code is not None:
        yield (ICMP_CODE if is_four else ICMPV6_CODE).eq(match.icmp_code)


def _flags(match: RuleMatch) -> Iterator[Term]:
    if match.tcp_flags is not None:
        yield TCP_FLAGS.masked(match.tcp_flags.value, match.tcp_flags.mask)


def _ports(match: RuleMatch) -> Iterator[tuple[Term, ...]]:
    if match.protocol not in PORT_FIELDS:
        yield ()
        return
    source, destination = PORT_FIELDS[match.protocol]
    for pair in product(
        _range(source, match.source_port), _range(destination, match.destination_port)
    ):
        yield tuple(term for terms in pair for term in terms)


def _range(field: Field, ranges: tuple[PortRange, ...]) -> list[tuple[Term, ...]]:
    """Each alternative as no term (any port) or one term; overlapping ranges are merged first."""
    if not ranges:
        return [()]
    merged: list[PortRange] = []
    for wanted in sorted(ranges):
        if merged and wanted.first <= merged[-1].last + 1:
            merged[-1] = PortRange(merged[-1].first, max(merged[-1].last, wanted.last))
        else:
            merged.append(wanted)
    pairs = [pair for wanted in merged for pair in masks(wanted)]
    return [(field.masked(value, mask),) if mask else () for value, mask in pairs]

"""Filters as flows: one table for all of them, keyed by filter and direction, with a verdict each.

The key is in a register, so the rules of one filter add no fields to the megaflows for packets of
another (Open vSwitch's staged lookup compares metadata registers first).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from netaddr import IPNetwork

from flows.model import NUMBER_RANGES, Filter, PortRange, Rule, RuleMatch, Tagged, Verdict, masks
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
    PRODUCTION,
    PROTO_ICMP,
    TCP_FLAGS,
    VLAN_PRESENT,
    VLAN_VID,
    Field,
    Flow,
    Load,
    Match,
    Term,
)
from flows.pipeline import FILTER, FILTER_ID, RULE_PRIORITIES, RULES, VERDICT, Rules
from flows.plan import InstalledFlow

EDITION_SHIFT = (NUMBER_RANGES["filter"].stop - 1).bit_length()
"""The bits of FILTER_ID below the edition hold the number."""


def filter_table_miss() -> Flow:
    """The table-miss flow of the filter table: what no rule matches is rejected."""
    why = "no rule matches: rejected"
    return Flow(FILTER.number, FILTER["nothing"], Match(), (), PRODUCTION, why)


def filter_key(number: int, wanted: Filter) -> int:
    """What stands for a filter in FILTER_ID: its number, and which edition it is."""
    return wanted.edition << EDITION_SHIFT | number


def filter_key_of(flow: Flow | InstalledFlow) -> int | None:
    """The number and edition of the filter that a rule belongs to, as in FILTER_ID."""
    match = flow.match
    if match is None or FILTER_ID.field not in match.fields:
        return None
    return match.values[match.fields.index(FILTER_ID.field)] >> FILTER_ID.low


def filter_rules(number: int, wanted: Filter) -> Iterator[Flow]:
    """The rules of one filter with its number."""
    for direction, rules in ((Rules.EGRESS, wanted.egress), (Rules.INGRESS, wanted.ingress)):
        key = (FILTER_ID.eq(filter_key(number, wanted)), RULES.eq(direction))
        for rule in rules:
            yield from _rule(wanted, direction, key, rule)


def _rule(wanted: Filter, direction: Rules, key: tuple[Term, ...], rule: Rule) -> Iterator[Flow]:
    accepts = rule.verdict is Verdict.ACCEPT
    actions = (Load(VERDICT, 1),) if accepts else ()
    why = (
        f"{direction.name.lower()} rule {rule.number} of filter {wanted.name}: {rule.verdict.value}"
    )
    for terms in alternatives(rule.match):
        priority = RULE_PRIORITIES.stop - rule.number
        yield Flow(FILTER.number, priority, Match.of(*key, *terms), actions, PRODUCTION, why)


def alternatives(match: RuleMatch) -> Iterator[tuple[Term, ...]]:
    """The matches that together are equivalent to one rule.

    A packet can match two of them only if both of its ends meet a condition on either end; the
    flows have the same priority and actions, so it does not matter which one a switch takes.
    """
    link_layer = tuple(_link_layer(match))
    for eth_type in match.eth_types:
        kind = () if eth_type is None else (ETH_TYPE.eq(eth_type),)
        for addresses in _addresses(match, eth_type):
            if match.protocol is None:
                yield (*link_layer, *kind, *addresses)
                continue
            header = (*_icmp(match), *_flags(match))
            for ports in _ports(match):
                transport = (*header, *ports)
                yield (
                    *(*link_layer, *kind, *addresses, IP_PROTO.eq(match.protocol)),
                    *(*transport, *_not_later(match, transport)),
                )


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


def _addresses(match: RuleMatch, eth_type: int | None) -> list[tuple[Term, ...]]:
    source, destination = (IP_SRC, IP_DST) if eth_type == ETH_IPV4 else (IPV6_SRC, IPV6_DST)
    if match.address is not None and match.address.prefixlen:
        return [_prefix(field, match.address) for field in (source, destination)]
    return [(*_prefix(source, match.source), *_prefix(destination, match.destination))]


def _prefix(field: Field, network: IPNetwork | None) -> tuple[Term, ...]:
    if network is None or not network.prefixlen:
        return ()
    # netaddr makes an object for each property: this is several times faster
    return (field.masked(network.first, field.full & ~(field.full >> network.prefixlen)),)


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
    if match.port:
        yield from dict.fromkeys((*_range(source, match.port), *_range(destination, match.port)))
        return
    for pair in product(
        _range(source, match.source_port), _range(destination, match.destination_port)
    ):
        yield tuple(term for terms in pair for term in terms)


def _not_later(match: RuleMatch, transport: tuple[Term, ...]) -> tuple[Term, ...]:
    """The condition that keeps out later fragments: a switch reads 0 for all that they lack."""
    if not match.asks_for_transport or any(term.value for term in transport):
        return ()
    return (IP_FRAG.masked(0, LATER_FRAGMENT),)


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

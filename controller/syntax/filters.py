"""Filter rules in JSON and YAML: parsed into values of flows/model, and formatted again.

A rule is `{"number": 10, "action": "accept", "match": {...}}`. A formatted rule parses to the same
value; an error names direction, number of the rule, and key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from netaddr import EUI, AddrFormatError, IPNetwork, mac_unix_expanded

from controller.process import Yielder, did_you_mean
from controller.syntax.digits import is_number
from flows.errors import InvalidValue
from flows.model import (
    EVERY_BIT,
    MacPattern,
    PortRange,
    Rule,
    RuleMatch,
    Tagged,
    TcpFlags,
    Verdict,
    masks,
    parse_mac,
)
from flows.openflow import (
    ETH_ARP,
    ETH_IPV4,
    ETH_IPV6,
    PROTO_GRE,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_SCTP,
    PROTO_TCP,
    PROTO_UDP,
    VLAN_ID_MASK,
)

ETH_TYPES: Mapping[str, int] = {
    "ipv4": ETH_IPV4,
    "arp": ETH_ARP,
    "rarp": 0x8035,
    "ipv6": ETH_IPV6,
    "mpls": 0x8847,
    "eapol": 0x888E,
    "lldp": 0x88CC,
    "ptp": 0x88F7,
}
"""EtherTypes with a name (IEEE 802 numbers of IANA)."""

PROTOCOLS: Mapping[str, int] = {
    "icmp": PROTO_ICMP,
    "igmp": 2,
    "tcp": PROTO_TCP,
    "udp": PROTO_UDP,
    "gre": PROTO_GRE,
    "esp": 50,
    "ah": 51,
    "icmpv6": PROTO_ICMPV6,
    "ospf": 89,
    "vrrp": 112,
    "sctp": PROTO_SCTP,
}
"""IP protocols with a name (protocol numbers of IANA)."""

ARP_OPERATIONS: Mapping[str, int] = {"request": 1, "reply": 2}

TCP_FLAG_NAMES = (
    *("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"),
    *("bit9", "bit10", "bit11"),
)
"""TCP flags from the lowest bit on (RFC 9293; the last three are reserved)."""

RANGES_MAX = 64
"""Most ranges in one list of transport ports."""

RULE_FLOWS_MAX = 1024
"""Most flows that one rule may compile to."""

DIRECTION_FLOWS_MAX = 100_000
"""Most flows that the rules of one direction of a filter may compile to."""

_NUMBER = re.compile(r"[0-9]{1,9}|0[xX][0-9A-Fa-f]{1,8}")
_PORT_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_RULE_KEYS = ("number", "action", "match")


class BadRule(InvalidValue):
    """A rule is not valid; ``where`` is the field of the request, like ``ingress.0.match``."""

    def __init__(self, sentence: str, where: str) -> None:
        super().__init__(sentence)
        self.where = where


def read_rules(direction: str, given: object) -> tuple[Rule, ...]:
    """Parse the rules of one direction, given in any order; sorted by number.

    Thousands of rules take seconds: other threads run now and then.

    Raises:
        BadRule: for the first error, with direction, number and key.
    """
    if not isinstance(given, list):
        raise BadRule(f"`{direction}` is written as a list of rules", direction)
    rules: dict[int, Rule] = {}
    yielder, flows = Yielder(), 0
    for index, one in enumerate(given):
        yielder.pause()
        where = f"{direction}.{index}"
        rule = _rule(direction, one, where)
        if rule.number in rules:
            raise BadRule(
                f"{direction} rule {rule.number}: number {rule.number} is used twice: "
                "give each rule a number of its own",
                f"{where}.number",
            )
        rules[rule.number] = rule
        flows += flow_count(rule.match)
        if flows > DIRECTION_FLOWS_MAX:
            raise BadRule(
                f"a switch needs more than {DIRECTION_FLOWS_MAX} flows for the {len(given)} "
                f"{direction} rules: use fewer rules, or rounder port ranges",
                direction,
            )
    return tuple(rules[number] for number in sorted(rules))


def check_readable(direction: str, rules: Sequence[Rule]) -> None:
    """Refuse rules that no packet can match because a switch does not read what they ask for.

    Not for rules that are stored already: those stay as they are.

    Raises:
        BadRule: for the first one.
    """
    for rule in rules:
        if rule.match.is_of_extension_header:
            raise BadRule(
                f"{direction} rule {rule.number}: protocol: in IPv6, {rule.match.protocol} is an "
                "extension header, and a switch reads the protocol behind it: the rule would match "
                "no packet; use that protocol, or addresses alone",
                direction,
            )


def show_rules(rules: Sequence[Rule]) -> list[dict[str, Any]]:
    """Rules as JSON values, which ``read_rules`` parses to the same rules."""
    yielder, shown = Yielder(), []
    for rule in rules:
        yielder.pause()
        shown.append(
            {"number": rule.number, "action": rule.verdict.value, "match": show_match(rule.match)}
        )
    return shown


def show_match(match: RuleMatch) -> dict[str, Any]:
    """The match of a rule as JSON values, in the order of the documentation."""
    return {
        key: show(getattr(match, key))
        for key, (_, show) in _KEYS.items()
        if getattr(match, key) not in (None, ())
    }


def flow_count(match: RuleMatch) -> int:
    """How many flows one rule compiles to: each range of ports becomes several masks."""
    count = len(match.eth_types)
    for ranges, ends in ((match.source_port, 1), (match.destination_port, 1), (match.port, 2)):
        count *= ends * sum(len(masks(one)) for one in ranges) or 1
    return count if match.address is None else 2 * count


def _rule(direction: str, given: object, where: str) -> Rule:
    what = f"{direction} rule at place {int(where.rpartition('.')[2]) + 1}"
    if not isinstance(given, Mapping):
        raise BadRule(f"{what}: a rule is written with {_listed(_RULE_KEYS)}", where)
    number = given.get("number")
    if not isinstance(number, int) or isinstance(number, bool):
        raise BadRule(f"{what}: `number` is needed, a whole number", f"{where}.number")
    what = f"{direction} rule {number}"
    for key in given:
        if key not in _RULE_KEYS:
            raise BadRule(
                f"{what}: {key!r} is not known here; a rule has {_listed(_RULE_KEYS)}",
                f"{where}.{key}",
            )
    match = _match(what, given.get("match", {}), f"{where}.match")
    try:
        verdict = Verdict(given.get("action"))
    except ValueError:
        raise BadRule(
            f"{what}: action {given.get('action')!r} is neither 'accept' nor 'reject'",
            f"{where}.action",
        ) from None
    try:
        return Rule(number, verdict, match)
    except InvalidValue as error:
        raise BadRule(f"{what}: {error}", f"{where}.number") from error


def _match(what: str, given: object, where: str) -> RuleMatch:
    if not isinstance(given, Mapping):
        raise BadRule(f"{what}: `match` is written as keys and values", where)
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in _KEYS:
            hint = did_you_mean(str(key), _KEYS) or f"; keys: {', '.join(_KEYS)}"
            raise BadRule(f"{what}: {key!r} is no key of a match{hint}", f"{where}.{key}")
        try:
            values[key] = _KEYS[key][0](value)
        except InvalidValue as error:
            raise BadRule(f"{what}: {key}: {error}", f"{where}.{key}") from error
    try:
        match = RuleMatch(**values)
    except InvalidValue as error:
        keys = f" ({', '.join(values)})" if values else ""
        raise BadRule(f"{what}: match{keys}: {error}", where) from error
    if (flows := flow_count(match)) > RULE_FLOWS_MAX:
        raise BadRule(
            f"{what}: match (ports): a switch needs {flows} flows for it, "
            f"and {RULE_FLOWS_MAX} are possible for one rule: use fewer or rounder port ranges",
            where,
        )
    return match


def _number(value: object, names: Mapping[str, int], most: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and value.lower() in names:
        number = names[value.lower()]
    elif isinstance(value, str) and _NUMBER.fullmatch(value):
        number = int(value, 16 if value[:2].lower() == "0x" else 10)
    else:
        hint = f", or one of {', '.join(names)}" if names else ""
        hint += did_you_mean(str(value), names)
        raise InvalidValue(f"{value!r} is not a number from 0 to {most}{hint}")
    if not 0 <= number <= most:
        raise InvalidValue(f"{value!r} is outside 0..{most}")
    return number


def _read_vlan(value: object) -> int | Tagged:
    tagged_by_word = {tagged.value: tagged for tagged in Tagged}
    if isinstance(value, str) and value in tagged_by_word:
        return tagged_by_word[value]
    try:
        return _number(value, {}, VLAN_ID_MASK)
    except InvalidValue as error:
        raise InvalidValue(f"{error}, 'any' or 'none'") from error


def _show_vlan(vlan: int | Tagged) -> int | str:
    return vlan.value if isinstance(vlan, Tagged) else vlan


def _read_mac(value: object) -> MacPattern:
    parts = value.split("/") if isinstance(value, str) else []
    macs = [mac for part in parts if (mac := parse_mac(part)) is not None]
    if not 1 <= len(parts) <= 2 or len(macs) < len(parts):
        raise InvalidValue(
            f"{value!r} is not a MAC address: write '02:00:00:00:00:01', or with a mask "
            "'02:00:00:00:00:00/ff:ff:00:00:00:00'"
        )
    return MacPattern(macs[0], macs[1] if len(macs) == 2 else EVERY_BIT)


def _show_mac(pattern: MacPattern) -> str:
    value, mask = (
        str(EUI(int(each), version=48, dialect=mac_unix_expanded))
        for each in (pattern.value, pattern.mask)
    )
    return value if pattern.mask == EVERY_BIT else f"{value}/{mask}"


def _read_prefix(value: object) -> IPNetwork:
    try:
        if not isinstance(value, str):
            raise ValueError
        address, _, length = value.partition("/")
        if "." in address and address.count(".") != 3:  # netaddr would read 10.1 as 10.0.0.1
            raise ValueError
        if not address or not ("." in address or ":" in address):
            raise ValueError
        if "/" in value and not is_number(length):
            raise ValueError
        prefix = IPNetwork(value)
    except (AddrFormatError, ValueError, TypeError):
        raise InvalidValue(
            f"{value!r} is not an IP prefix: write '10.0.0.2', '10.0.0.0/24' or '2001:db8::/32'"
        ) from None
    if prefix.ip != prefix.network:
        raise InvalidValue(
            f"{value!r} has bits behind its prefix length: write '{prefix.cidr}' for the network, "
            f"or '{prefix.ip}' for the one address"
        )
    return prefix


def _show_prefix(prefix: IPNetwork) -> str:
    is_one = prefix.prefixlen == (32 if prefix.version == 4 else 128)
    return str(prefix.ip) if is_one else str(prefix)


def _read_ports(value: object) -> tuple[PortRange, ...]:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    parts = [part.strip() for part in text.split(",")] if isinstance(text, str) else []
    found = [_PORT_RANGE.fullmatch(part) for part in parts]
    if not found or not all(found):
        raise InvalidValue(f"{value!r} is no list of ports: write '80', '80-443' or '53,80-443'")
    if len(found) > RANGES_MAX:
        raise InvalidValue(f"{len(found)} alternatives are more than {RANGES_MAX}: use two rules")
    ranges = [PortRange(int(one[1]), int(one[2] or one[1])) for one in found if one is not None]
    return _merged(sorted(ranges))


def _merged(ranges: Sequence[PortRange]) -> tuple[PortRange, ...]:
    """The same ports as disjoint ranges: no packet matches two."""
    merged: list[PortRange] = []
    for one in ranges:
        if merged and one.first <= merged[-1].last + 1:
            merged[-1] = PortRange(merged[-1].first, max(merged[-1].last, one.last))
        else:
            merged.append(one)
    return tuple(merged)


def _show_ports(ranges: tuple[PortRange, ...]) -> str:
    return ",".join(str(one) for one in ranges)


def _read_flags(value: object) -> TcpFlags:
    bits = mask = 0
    for part in value.split(",") if isinstance(value, str) else [""]:
        name = part.strip().lower()
        is_clear = name.startswith("!")
        name = name.removeprefix("!")
        if name not in TCP_FLAG_NAMES:
            raise InvalidValue(
                f"{value!r} is no list of TCP flags: write 'syn,!ack' for SYN set and ACK clear; "
                f"flags: {', '.join(TCP_FLAG_NAMES)}"
            )
        bit = 1 << TCP_FLAG_NAMES.index(name)
        if mask & bit:
            raise InvalidValue(f"{value!r} names {name} twice")
        mask |= bit
        bits |= 0 if is_clear else bit
    return TcpFlags(bits, mask)


def _show_flags(flags: TcpFlags) -> str:
    bits = [(name, 1 << place) for place, name in enumerate(TCP_FLAG_NAMES)]
    return ",".join(
        name if flags.value & bit else f"!{name}" for name, bit in bits if flags.mask & bit
    )


def _named(names: Mapping[str, int], most: int) -> tuple[_Read, _Show]:
    name_by_number = {number: name for name, number in names.items()}
    return (
        lambda value: _number(value, names, most),
        lambda number: name_by_number.get(number, number),
    )


def _show_eth_type(number: int) -> str:
    name_by_number = {value: name for name, value in ETH_TYPES.items()}
    return name_by_number.get(number, f"{number:#06x}")


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)


_Read = Callable[[object], Any]
_Show = Callable[[Any], Any]

_KEYS: Mapping[str, tuple[_Read, _Show]] = {
    "eth_type": (lambda value: _number(value, ETH_TYPES, 0xFFFF), _show_eth_type),
    "vlan": (_read_vlan, _show_vlan),
    "source_mac": (_read_mac, _show_mac),
    "destination_mac": (_read_mac, _show_mac),
    "source": (_read_prefix, _show_prefix),
    "destination": (_read_prefix, _show_prefix),
    "address": (_read_prefix, _show_prefix),
    "protocol": _named(PROTOCOLS, 255),
    "source_port": (_read_ports, _show_ports),
    "destination_port": (_read_ports, _show_ports),
    "port": (_read_ports, _show_ports),
    "icmp_type": _named({}, 255),
    "icmp_code": _named({}, 255),
    "tcp_flags": (_read_flags, _show_flags),
    "arp_operation": _named(ARP_OPERATIONS, 255),
}
"""For each key of a match, its parser and its formatter."""

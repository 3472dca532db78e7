"""Filters as people write them in JSON and YAML, read into flows.filter values and shown again.

A rule is `{"number": 10, "action": "accept", "match": {...}}`. What is shown reads back to the same
value; what is refused names direction, number of the rule, and key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from netaddr import EUI, AddrFormatError, IPNetwork, mac_unix_expanded

from flows.compile.filter import masks
from flows.errors import InvalidValue
from flows.model.filter import (
    EVERY_BIT,
    MacPattern,
    PortRange,
    Rule,
    RuleMatch,
    Tagged,
    TcpFlags,
    Verdict,
)

ETH_TYPES: Mapping[str, int] = {
    "ipv4": 0x0800,
    "arp": 0x0806,
    "rarp": 0x8035,
    "ipv6": 0x86DD,
    "mpls": 0x8847,
    "eapol": 0x888E,
    "lldp": 0x88CC,
    "ptp": 0x88F7,
}
"""EtherTypes with a name (IEEE 802 numbers of IANA)."""

PROTOCOLS: Mapping[str, int] = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmpv6": 58,
    "ospf": 89,
    "vrrp": 112,
    "sctp": 132,
}
"""IP protocols with a name (protocol numbers of IANA)."""

ARP_OPERATIONS: Mapping[str, int] = {"request": 1, "reply": 2}

TCP_FLAGS = (
    *("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"),
    *("bit9", "bit10", "bit11"),
)
"""TCP flags from the lowest bit on (RFC 9293; the last three are reserved)."""

RANGES_MAX = 64
"""Alternatives in one list of transport ports."""

FLOWS_MAX = 1024
"""Flows that one rule may become on a switch."""

_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_NUMBER = re.compile(r"[0-9]{1,9}|0[xX][0-9A-Fa-f]{1,8}")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_RULE_KEYS = ("number", "action", "match")


class BadRule(InvalidValue):
    """A rule that cannot be; ``where`` is its place in the request, like ``ingress.0.match``."""

    def __init__(self, sentence: str, where: str) -> None:
        super().__init__(sentence)
        self.where = where


def read_rules(direction: str, given: object) -> tuple[Rule, ...]:
    """The rules of one direction, in the order of their numbers, however they were written.

    Raises:
        BadRule: the first rule that is wrong, by direction, number and key.
    """
    if not isinstance(given, list):
        raise BadRule(f"`{direction}` is written as a list of rules", direction)
    rules: dict[int, Rule] = {}
    for index, one in enumerate(given):
        where = f"{direction}.{index}"
        rule = _rule(direction, one, where)
        if rule.number in rules:
            raise BadRule(
                f"{direction} rule {rule.number}: number {rule.number} is used twice: "
                "give each rule a number of its own",
                f"{where}.number",
            )
        rules[rule.number] = rule
    return tuple(rules[number] for number in sorted(rules))


def show_rules(rules: Sequence[Rule]) -> list[dict[str, Any]]:
    """Rules as JSON values; ``read_rules`` reads the same rules from them."""
    return [
        {"number": rule.number, "action": rule.verdict.value, "match": show_match(rule.match)}
        for rule in rules
    ]


def show_match(match: RuleMatch) -> dict[str, Any]:
    """The conditions of a rule as JSON values, in the order of the documentation."""
    return {
        key: show(getattr(match, key))
        for key, (_, show) in _KEYS.items()
        if getattr(match, key) not in (None, ())
    }


def flow_count(match: RuleMatch) -> int:
    """How many flows a switch needs for one rule: ranges of ports become masks."""
    count = len(match.eth_types)
    for ranges in (match.source_port, match.destination_port):
        count *= sum(len(masks(one)) for one in ranges) or 1
    return count


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
            raise BadRule(
                f"{what}: {key!r} is no key of a match; keys: {', '.join(_KEYS)}", f"{where}.{key}"
            )
        try:
            values[key] = _KEYS[key][0](value)
        except InvalidValue as error:
            raise BadRule(f"{what}: {key}: {error}", f"{where}.{key}") from error
    try:
        match = RuleMatch(**values)
    except InvalidValue as error:
        keys = f" ({', '.join(values)})" if values else ""
        raise BadRule(f"{what}: match{keys}: {error}", where) from error
    if (flows := flow_count(match)) > FLOWS_MAX:
        raise BadRule(
            f"{what}: match (source_port, destination_port): a switch needs {flows} flows for it, "
            f"and {FLOWS_MAX} are possible for one rule: use fewer or rounder port ranges",
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
        words = f", or one of {', '.join(names)}" if names else ""
        raise InvalidValue(f"{value!r} is not a number from 0 to {most}{words}")
    if not 0 <= number <= most:
        raise InvalidValue(f"{value!r} is outside 0..{most}")
    return number


def _read_vlan(value: object) -> int | Tagged:
    words = {tagged.value: tagged for tagged in Tagged}
    if isinstance(value, str) and value in words:
        return words[value]
    try:
        return _number(value, {}, 4095)
    except InvalidValue as error:
        raise InvalidValue(f"{error}, 'any' or 'none'") from error


def _show_vlan(vlan: int | Tagged) -> int | str:
    return vlan.value if isinstance(vlan, Tagged) else vlan


def _read_mac(value: object) -> MacPattern:
    parts = value.split("/") if isinstance(value, str) else []
    if not 1 <= len(parts) <= 2 or not all(_MAC.fullmatch(part) for part in parts):
        raise InvalidValue(
            f"{value!r} is not a MAC address: write '02:00:00:00:00:01', or with a mask "
            "'02:00:00:00:00:00/ff:ff:00:00:00:00'"
        )
    macs = [EUI(part, dialect=mac_unix_expanded) for part in parts]
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
        if not address or not ("." in address or ":" in address) or "." in length:
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
    found = [_PORTS.fullmatch(part) for part in parts]
    if not found or not all(found):
        raise InvalidValue(f"{value!r} is no list of ports: write '80', '80-443' or '53,80-443'")
    if len(found) > RANGES_MAX:
        raise InvalidValue(f"{len(found)} alternatives are more than {RANGES_MAX}: use two rules")
    ranges = [PortRange(int(one[1]), int(one[2] or one[1])) for one in found if one is not None]
    return _merged(sorted(ranges))


def _merged(ranges: Sequence[PortRange]) -> tuple[PortRange, ...]:
    """The same ports, without overlaps: no packet meets two alternatives."""
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
    given = mask = 0
    for part in value.split(",") if isinstance(value, str) else [""]:
        name = part.strip().lower()
        is_clear = name.startswith("!")
        name = name.removeprefix("!")
        if name not in TCP_FLAGS:
            raise InvalidValue(
                f"{value!r} is no list of TCP flags: write 'syn,!ack' for SYN set and ACK clear; "
                f"flags: {', '.join(TCP_FLAGS)}"
            )
        bit = 1 << TCP_FLAGS.index(name)
        if mask & bit:
            raise InvalidValue(f"{value!r} names {name} twice")
        mask |= bit
        given |= 0 if is_clear else bit
    return TcpFlags(given, mask)


def _show_flags(flags: TcpFlags) -> str:
    bits = [(name, 1 << place) for place, name in enumerate(TCP_FLAGS)]
    return ",".join(
        name if flags.value & bit else f"!{name}" for name, bit in bits if flags.mask & bit
    )


def _named(names: Mapping[str, int], most: int) -> tuple[_Read, _Show]:
    word_by_number = {number: name for name, number in names.items()}
    return (
        lambda value: _number(value, names, most),
        lambda number: word_by_number.get(number, number),
    )


def _show_eth_type(number: int) -> str:
    words = {value: name for name, value in ETH_TYPES.items()}
    return words.get(number, f"{number:#06x}")


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
    "protocol": _named(PROTOCOLS, 255),
    "source_port": (_read_ports, _show_ports),
    "destination_port": (_read_ports, _show_ports),
    "icmp_type": _named({}, 255),
    "icmp_code": _named({}, 255),
    "tcp_flags": (_read_flags, _show_flags),
    "arp_operation": _named(ARP_OPERATIONS, 255),
}
"""Each key of a match: how it is read, and how it is shown."""

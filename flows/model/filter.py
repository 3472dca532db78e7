"""Filters: ordered accept and reject rules for what a workload sends and receives."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from netaddr import EUI, IPNetwork

from flows.errors import InvalidValue
from flows.openflow.field import (
    ETH_ARP,
    ETH_IPV4,
    ETH_IPV6,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_SCTP,
    PROTO_TCP,
    PROTO_UDP,
)
from flows.model.session import FilterId, TenantName, check_name

RULE_NUMBERS = range(1, 60001)
"""Numbers a rule may have; the lowest is asked first."""
RULES_MAX = 20_000
"""Rules of one direction of one filter."""
PORTS_MAX = 0xFFFF
EVERY_BIT = EUI("ff:ff:ff:ff:ff:ff")
WITH_PORTS = (PROTO_TCP, PROTO_UDP, PROTO_SCTP)


class Verdict(Enum):
    """What a rule says about the packets that it matches."""

    ACCEPT = "accept"
    """Copy it."""
    REJECT = "reject"
    """Do not copy it."""


class Tagged(Enum):
    """Which VLAN tags of the workload's own a rule matches, when it names no id."""

    ANY = "any"
    """Some tag."""
    NONE = "none"
    """No tag."""


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """Transport ports ``first`` to ``last``, both included."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last <= PORTS_MAX:
            raise InvalidValue(f"ports {self.first}-{self.last} are no range inside 0-{PORTS_MAX}")

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class MacPattern:
    """MAC addresses that agree with ``value`` in the bits of ``mask``."""

    value: EUI
    mask: EUI = EVERY_BIT

    def __post_init__(self) -> None:
        if not int(self.mask) or int(self.value) & ~int(self.mask):
            raise InvalidValue(f"MAC {self.value} has bits outside its mask {self.mask}")


@dataclass(frozen=True, slots=True)
class TcpFlags:
    """TCP flags that are set or clear as ``value`` says, in the bits of ``mask`` (12 bits)."""

    value: int
    mask: int

    def __post_init__(self) -> None:
        if not 0 < self.mask <= 0xFFF or self.value & ~self.mask:
            raise InvalidValue(f"TCP flags {self.value:#x}/{self.mask:#x} do not fit 12 bits")


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """Which packets a rule is about; what is None or empty is not asked.

    Conditions on IP need no EtherType of their own: they imply it. Port lists hold alternatives.

    Raises:
        InvalidValue: conditions that no packet can meet together, or that lack what they need.
    """

    eth_type: int | None = None
    vlan: int | Tagged | None = None
    source_mac: MacPattern | None = None
    destination_mac: MacPattern | None = None
    source: IPNetwork | None = None
    destination: IPNetwork | None = None
    protocol: int | None = None
    source_port: tuple[PortRange, ...] = ()
    destination_port: tuple[PortRange, ...] = ()
    icmp_type: int | None = None
    icmp_code: int | None = None
    tcp_flags: TcpFlags | None = None
    arp_operation: int | None = None

    def __post_init__(self) -> None:
        _check_number("EtherType", self.eth_type, 0xFFFF, least=0x0600)
        if isinstance(self.vlan, int):
            _check_number("VLAN id", self.vlan, 4095)
        _check_number("protocol", self.protocol, 255)
        _check_number("ICMP type", self.icmp_type, 255)
        _check_number("ICMP code", self.icmp_code, 255)
        _check_number("ARP operation", self.arp_operation, 255)
        if (self.source_port or self.destination_port) and self.protocol not in WITH_PORTS:
            raise InvalidValue("ports need `protocol`: tcp, udp or sctp")
        if self.tcp_flags is not None and self.protocol != PROTO_TCP:
            raise InvalidValue("TCP flags need `protocol: tcp`")
        if self.icmp_code is not None and self.icmp_type is None:
            raise InvalidValue("an ICMP code needs an ICMP type")
        if self.icmp_type is not None and self.protocol not in (PROTO_ICMP, PROTO_ICMPV6):
            raise InvalidValue("an ICMP type needs `protocol`: icmp or icmpv6")
        self.eth_types  # noqa: B018  # refuses contradictions

    @property
    def eth_types(self) -> tuple[int | None, ...]:
        """The EtherTypes of the packets meant, alternatives; (None,) when it is not asked.

        Raises:
            InvalidValue: the conditions contradict each other.
        """
        versions = {ip.version for ip in (self.source, self.destination) if ip is not None}
        wanted: set[int] | None = None
        if self.arp_operation is not None:
            wanted = {ETH_ARP}
        elif self.protocol == PROTO_ICMP:
            wanted = {ETH_IPV4}
        elif self.protocol == PROTO_ICMPV6:
            wanted = {ETH_IPV6}
        elif self.protocol is not None:
            wanted = {ETH_IPV4, ETH_IPV6}
        for version in versions:
            also = {ETH_IPV4} if version == 4 else {ETH_IPV6}
            wanted = also if wanted is None else wanted & also
        if self.eth_type is not None:
            wanted = {self.eth_type} if wanted is None else wanted & {self.eth_type}
        if wanted is None:
            return (None,)
        if not wanted:
            raise InvalidValue(
                "its conditions contradict each other: EtherType, addresses, protocol and ARP "
                "operation belong to different kinds of packets"
            )
        return tuple(sorted(wanted))


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: its place in the order, what it says, and about which packets."""

    number: int
    verdict: Verdict
    match: RuleMatch = field(default_factory=RuleMatch)

    def __post_init__(self) -> None:
        if self.number not in RULE_NUMBERS:
            raise InvalidValue(
                f"rule number {self.number} is outside "
                f"{RULE_NUMBERS.start}..{RULE_NUMBERS.stop - 1}"
            )


@dataclass(frozen=True, slots=True)
class Filter:
    """Two ordered lists of rules; a packet that no rule matches is not copied.

    ``ingress`` is asked for packets that a watched workload receives, ``egress`` for those it
    sends.
    """

    id: FilterId
    name: str
    tenant: TenantName
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        check_name("filter", self.name)
        for direction, rules in (("ingress", self.ingress), ("egress", self.egress)):
            numbers = [rule.number for rule in rules]
            if len(numbers) > RULES_MAX:
                raise InvalidValue(
                    f"filter {self.name!r} has {len(numbers)} {direction} rules: "
                    f"at most {RULES_MAX} are possible"
                )
            if numbers != sorted(set(numbers)):
                raise InvalidValue(
                    f"filter {self.name!r}: its {direction} rules are not in order of their "
                    "numbers, or a number is used twice"
                )


def _check_number(what: str, value: int | None, most: int, least: int = 0) -> None:
    if value is not None and not least <= value <= most:
        raise InvalidValue(f"{what} {value} is outside {least}..{most}")

"""Filters: ordered accept and reject rules for what a workload sends and receives."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from netaddr import EUI, IPNetwork

from flows.errors import InvalidValue
from flows.model.names import FilterId, TenantName, check_name
from flows.openflow import (
    ETH_ARP,
    ETH_IPV4,
    ETH_IPV6,
    ETH_TYPE_MIN,
    PORT_FIELDS,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_TCP,
    VLAN_ID_MASK,
)

RULE_NUMBERS = range(1, 60001)
"""Numbers of rules; the lowest is evaluated first."""
EDITIONS = 16
"""How many editions of a filter are told apart; then the first one comes again."""
RULES_MAX = 20_000
"""Most rules of one direction of one filter."""
TRANSPORT_PORT_MAX = 0xFFFF
EVERY_BIT = EUI("ff:ff:ff:ff:ff:ff")
"""The mask that compares whole MAC addresses."""
READ_THROUGH = frozenset({43, 51, 60})
"""IPv6 extension headers behind which a switch finds the protocol: routing, AH and destination
options."""


class Verdict(Enum):
    """What a rule decides about the packets that it matches."""

    ACCEPT = "accept"
    """Copy it."""
    REJECT = "reject"
    """Do not copy it."""


class Tagged(Enum):
    """Which of the workload's own VLAN tags a rule matches, when it names no id."""

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
        if not 0 <= self.first <= self.last <= TRANSPORT_PORT_MAX:
            raise InvalidValue(
                f"ports {self.first}-{self.last} are no range inside 0-{TRANSPORT_PORT_MAX}"
            )

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
    """TCP flags that equal ``value`` in the bits of ``mask`` (12 bits)."""

    value: int
    mask: int

    def __post_init__(self) -> None:
        if not 0 < self.mask <= 0xFFF or self.value & ~self.mask:
            raise InvalidValue(f"TCP flags {self.value:#x}/{self.mask:#x} do not fit 12 bits")


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """The conditions of a rule; None or empty matches every packet.

    Conditions on IP imply the EtherType. Port lists hold alternatives. ``address`` and ``port``
    hold for either end: the source has it, or the destination, or both.

    Raises:
        InvalidValue: conditions that no packet can meet together, or that lack what they need.
    """

    eth_type: int | None = None
    vlan: int | Tagged | None = None
    source_mac: MacPattern | None = None
    destination_mac: MacPattern | None = None
    source: IPNetwork | None = None
    destination: IPNetwork | None = None
    address: IPNetwork | None = None
    protocol: int | None = None
    source_port: tuple[PortRange, ...] = ()
    destination_port: tuple[PortRange, ...] = ()
    port: tuple[PortRange, ...] = ()
    icmp_type: int | None = None
    icmp_code: int | None = None
    tcp_flags: TcpFlags | None = None
    arp_operation: int | None = None

    def __post_init__(self) -> None:
        _check_number("EtherType", self.eth_type, 0xFFFF, least=ETH_TYPE_MIN)
        if isinstance(self.vlan, int):
            _check_number("VLAN id", self.vlan, VLAN_ID_MASK)
        _check_number("protocol", self.protocol, 255)
        _check_number("ICMP type", self.icmp_type, 255)
        _check_number("ICMP code", self.icmp_code, 255)
        _check_number("ARP operation", self.arp_operation, 255)
        named_ports = self.source_port or self.destination_port
        if (named_ports or self.port) and self.protocol not in PORT_FIELDS:
            raise InvalidValue("ports need `protocol`: tcp, udp or sctp")
        if named_ports and self.port:
            raise InvalidValue(
                "`port` means either end: leave `source_port` and `destination_port` out"
            )
        if self.address is not None and (self.source is not None or self.destination is not None):
            raise InvalidValue("`address` means either end: leave `source` and `destination` out")
        if self.tcp_flags is not None and self.protocol != PROTO_TCP:
            raise InvalidValue("TCP flags need `protocol: tcp`")
        if self.icmp_code is not None and self.icmp_type is None:
            raise InvalidValue("an ICMP code needs an ICMP type")
        if self.icmp_type is not None and self.protocol not in (PROTO_ICMP, PROTO_ICMPV6):
            raise InvalidValue("an ICMP type needs `protocol`: icmp or icmpv6")
        self.eth_types  # noqa: B018  # raises on contradictions

    @property
    def asks_for_transport(self) -> bool:
        """Whether it asks for something that only the first fragment of a packet has."""
        ports = self.source_port or self.destination_port or self.port
        return bool(ports) or self.icmp_type is not None or self.tcp_flags is not None

    @property
    def is_of_extension_header(self) -> bool:
        """Whether it asks for an IPv6 extension header as the protocol: a switch reads through it,
        so no packet matches. (Malformed packets have protocol 0, which hop-by-hop options have.)
        """
        return self.eth_types == (ETH_IPV6,) and self.protocol in READ_THROUGH

    @property
    def eth_types(self) -> tuple[int | None, ...]:
        """The EtherTypes that can match, as alternatives; (None,) when every EtherType can.

        Raises:
            InvalidValue: the conditions contradict each other.
        """
        addresses = (self.source, self.destination, self.address)
        versions = {ip.version for ip in addresses if ip is not None}
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
    """One rule: its number in the order, its verdict, and the packets that it matches."""

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

    ``ingress`` applies to packets that a watched workload receives, ``egress`` to those it sends.
    The rules of one ``edition`` are replaced where they are. Those of the next one come beside
    them, and go into effect together: so many rules can change while a switch goes on forwarding.
    """

    id: FilterId
    name: str
    tenant: TenantName
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()
    edition: int = 0

    def __post_init__(self) -> None:
        check_name("filter", self.name)
        if self.edition not in range(EDITIONS):
            raise InvalidValue(f"edition {self.edition} is outside 0..{EDITIONS - 1}")
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


def masks(wanted: PortRange) -> list[tuple[int, int]]:
    """The fewest (value, mask) pairs of 16 bits that together match exactly a range of ports."""
    found: list[tuple[int, int]] = []
    first = wanted.first
    while first <= wanted.last:
        size = first & -first or 1 << 16
        while first + size - 1 > wanted.last:
            size >>= 1
        found.append((first, 0xFFFF & ~(size - 1)))
        first += size
    return found


def _check_number(what: str, value: int | None, most: int, least: int = 0) -> None:
    if value is not None and not least <= value <= most:
        raise InvalidValue(f"{what} {value} is outside {least}..{most}")

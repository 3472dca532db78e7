"""The packet and register fields that our flows match and set, with their wire and text names.

Numbers: OpenFlow Switch Specification 1.3.5, section 7.2.3.7 (class 0x8000), and the Nicira
extended match of Open vSwitch (nicira-ext.h, class 0x0001) for registers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from netaddr import EUI, IPAddress, mac_unix_expanded

from flows.errors import InvalidFlow

REGISTER_CLASS, REGISTER_COUNT = 0x0001, 16

FRAGMENT_NAMES = {
    (0, 3): "no", (1, 1): "yes", (1, 3): "first", (3, 3): "later", (0, 2): "not_later",
}  # fmt: skip
"""How ovs-ofctl writes value and mask of ``ip_frag``."""

_sound_term = tuple.__new__
"""Makes a term without checks, in half of the time that the constructor takes."""


class Notation(Enum):
    """How ovs-ofctl writes the value of a field."""

    NUMBER = "decimal"
    HEX = "hexadecimal"
    MAC = "six bytes with colons"
    IPV4 = "dotted quad"
    IPV6 = "IPv6 address"
    FRAGMENT = "fragments by name"


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One field of a packet or one register: its ovs-ofctl name, OXM class and number, and bits.

    ``order`` sorts the terms of a match so that prerequisites come first, as OVS demands; it is
    unique. There is one object for each field, so fields are compared by identity: comparing values
    would take a fifth of the time of a compilation.
    """

    name: str
    order: int
    oxm_class: int
    oxm_field: int
    bits: int
    notation: Notation
    size: int = field(init=False)
    """Bytes of the value in an OXM."""
    full: int = field(init=False)
    """The mask of an exact match."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", (self.bits + 7) // 8)
        object.__setattr__(self, "full", (1 << self.bits) - 1)

    @property
    def is_register(self) -> bool:
        """Whether it is a register, not a field of the packet."""
        return self.oxm_class == REGISTER_CLASS and self.oxm_field < REGISTER_COUNT

    def eq(self, value: int) -> Term:
        """The term "this field is exactly ``value``"."""
        if 0 <= value <= self.full:
            return _sound_term(Term, (self, value, self.full))
        return Term(self, value, self.full)  # raises

    def masked(self, value: int, mask: int) -> Term:
        """The term "this field is ``value`` in the bits of ``mask``"."""
        return Term(self, value, mask)

    def show(self, value: int) -> str:
        """``value`` as ovs-ofctl writes it."""
        match self.notation:
            case Notation.MAC:
                return str(EUI(value, version=48, dialect=mac_unix_expanded))
            case Notation.IPV4:
                return str(IPAddress(value, 4))
            case Notation.IPV6:
                return str(IPAddress(value, 6))
            case Notation.HEX:
                return f"{value:#x}"
            case Notation.NUMBER | Notation.FRAGMENT:
                return str(value)

    def read(self, text: str) -> int:
        """The value that ``show`` wrote."""
        match self.notation:
            case Notation.MAC:
                return int(EUI(text, version=48))
            case Notation.IPV4 | Notation.IPV6:
                return int(IPAddress(text))
            case _:
                return int(text, 0)


class _Condition(NamedTuple):
    field: Field
    value: int
    mask: int


class Term(_Condition):
    """One condition of a match: a field, a value and a mask.

    A tuple, because a compilation makes and compares some hundred thousand of them.

    Raises:
        InvalidFlow: value or mask do not fit the field, or the value has bits outside the mask.
    """

    __slots__ = ()

    def __new__(cls, field: Field, value: int, mask: int) -> Term:
        """Check value and mask."""
        if not 0 <= value <= field.full or not 0 < mask <= field.full:
            raise InvalidFlow(f"{field.name}={value:#x}/{mask:#x} does not fit")
        if value & ~mask:
            raise InvalidFlow(f"{field.name}: value {value:#x} has bits outside its mask")
        return _sound_term(cls, (field, value, mask))

    @property
    def is_exact(self) -> bool:
        """Whether the mask has every bit of the field."""
        return self.mask == self.field.full

    def __str__(self) -> str:
        if self.field.notation is Notation.FRAGMENT and (self.value, self.mask) in FRAGMENT_NAMES:
            return f"{self.field.name}={FRAGMENT_NAMES[self.value, self.mask]}"
        shown = f"{self.field.name}={self.field.show(self.value)}"
        return shown if self.is_exact else f"{shown}/{self.field.show(self.mask)}"


@dataclass(frozen=True, slots=True)
class RegField:
    """A named range of bits in one register: metadata of a packet inside the pipeline.

    ``low`` and ``high`` are bit numbers, both included.
    """

    name: str = field(compare=False)
    reg: int
    low: int
    high: int
    bits: int = field(init=False, compare=False, repr=False)
    """Its width in bits."""
    mask: int = field(init=False, compare=False, repr=False)
    """Its bits inside the register."""
    setting: str = field(init=False, compare=False, repr=False)
    """The load action in ovs-ofctl syntax as a printf-style format for the value."""

    def __post_init__(self) -> None:
        if not (0 <= self.reg <= 15 and 0 <= self.low <= self.high <= 31):
            raise InvalidFlow(f"register field {self.name!r} is outside reg0..reg15, bits 0..31")
        bits = self.high - self.low + 1
        object.__setattr__(self, "bits", bits)
        object.__setattr__(self, "mask", ((1 << bits) - 1) << self.low)
        object.__setattr__(self, "setting", f"load:%#x->{self}")

    @property
    def field(self) -> Field:
        """The register that contains it."""
        return REGISTERS[self.reg]

    def eq(self, value: int) -> Term:
        """The term "this part of the register is ``value``"."""
        if not 0 <= value < 1 << self.bits:
            raise InvalidFlow(f"{value} does not fit the {self.bits} bits of {self.name!r}")
        return _sound_term(Term, (REGISTERS[self.reg], value << self.low, self.mask))

    def __str__(self) -> str:
        return f"NXM_NX_REG{self.reg}[{self.low}..{self.high}]"


def _basic(order: int, name: str, number: int, bits: int, notation: Notation) -> Field:
    return Field(name, order, 0x8000, number, bits, notation)


IN_PORT = _basic(0, "in_port", 0, 32, Notation.NUMBER)
REGISTERS = tuple(
    Field(f"reg{n}", 1 + n, REGISTER_CLASS, n, 32, Notation.HEX) for n in range(REGISTER_COUNT)
)
PKT_MARK = Field("pkt_mark", 18, REGISTER_CLASS, 33, 32, Notation.HEX)
"""A mark beside the packet that Open vSwitch keeps in its datapath (NXM_NX_PKT_MARK): 0 here."""
ETH_DST = _basic(20, "eth_dst", 3, 48, Notation.MAC)
ETH_SRC = _basic(21, "eth_src", 4, 48, Notation.MAC)
VLAN_VID = _basic(22, "vlan_vid", 6, 13, Notation.HEX)
"""802.1Q id with the bit VLAN_PRESENT; 0 matches frames without a tag."""
VLAN_PRESENT = 0x1000
"""The bit of ``vlan_vid`` that is set when a frame has a tag (OFPVID_PRESENT)."""
VLAN_PCP = _basic(23, "vlan_pcp", 7, 3, Notation.NUMBER)
ETH_TYPE = _basic(24, "eth_type", 5, 16, Notation.HEX)
IP_PROTO = _basic(25, "ip_proto", 10, 8, Notation.NUMBER)
IP_SRC = _basic(26, "ip_src", 11, 32, Notation.IPV4)
IP_DST = _basic(27, "ip_dst", 12, 32, Notation.IPV4)
IPV6_SRC = _basic(28, "ipv6_src", 26, 128, Notation.IPV6)
IPV6_DST = _basic(29, "ipv6_dst", 27, 128, Notation.IPV6)
TCP_SRC = _basic(30, "tcp_src", 13, 16, Notation.NUMBER)
TCP_DST = _basic(31, "tcp_dst", 14, 16, Notation.NUMBER)
UDP_SRC = _basic(32, "udp_src", 15, 16, Notation.NUMBER)
UDP_DST = _basic(33, "udp_dst", 16, 16, Notation.NUMBER)
SCTP_SRC = _basic(34, "sctp_src", 17, 16, Notation.NUMBER)
SCTP_DST = _basic(35, "sctp_dst", 18, 16, Notation.NUMBER)
TCP_FLAGS = Field("tcp_flags", 36, 0x0001, 34, 12, Notation.HEX)
"""The twelve flag bits of a TCP header (NXM_NX_TCP_FLAGS)."""
ICMP_TYPE = _basic(37, "icmp_type", 19, 8, Notation.NUMBER)
ICMP_CODE = _basic(38, "icmp_code", 20, 8, Notation.NUMBER)
IP_FRAG = Field("ip_frag", 39, REGISTER_CLASS, 26, 2, Notation.FRAGMENT)
"""Whether an IP packet is a fragment (NXM_NX_IP_FRAG): the bits FRAGMENT and LATER_FRAGMENT."""
FRAGMENT, LATER_FRAGMENT = 1, 2
"""Bits of ``ip_frag``: set in every fragment; set in all fragments but the first of a packet."""
ARP_OP = _basic(40, "arp_op", 21, 16, Notation.NUMBER)
ARP_SPA = _basic(41, "arp_spa", 22, 32, Notation.IPV4)
ARP_TPA = _basic(42, "arp_tpa", 23, 32, Notation.IPV4)
ARP_SHA = _basic(43, "arp_sha", 24, 48, Notation.MAC)
ARP_THA = _basic(44, "arp_tha", 25, 48, Notation.MAC)
ICMPV6_TYPE = _basic(50, "icmpv6_type", 29, 8, Notation.NUMBER)
ICMPV6_CODE = _basic(52, "icmpv6_code", 30, 8, Notation.NUMBER)
ND_TARGET = _basic(51, "nd_target", 31, 128, Notation.IPV6)

FIELDS: tuple[Field, ...] = (
    IN_PORT,
    *REGISTERS,
    PKT_MARK,
    *(ETH_DST, ETH_SRC, VLAN_VID, VLAN_PCP, ETH_TYPE),
    *(IP_PROTO, IP_SRC, IP_DST, IPV6_SRC, IPV6_DST, TCP_SRC, TCP_DST, UDP_SRC, UDP_DST),
    *(SCTP_SRC, SCTP_DST, TCP_FLAGS, ICMP_TYPE, ICMP_CODE, IP_FRAG),
    *(ARP_OP, ARP_SPA, ARP_TPA, ARP_SHA, ARP_THA, ICMPV6_TYPE, ICMPV6_CODE, ND_TARGET),
)
FIELD_BY_NAME = {field.name: field for field in FIELDS}
FIELD_BY_OXM = {(field.oxm_class, field.oxm_field): field for field in FIELDS}

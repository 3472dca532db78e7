"""Match, actions and Flow as values with one canonical text, the syntax of ovs-ofctl.

flows/text.py reads the text back; controller/southbound/wire.py turns values into bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from hashlib import blake2b
from typing import NamedTuple, NewType

from netaddr import IPAddress

from flows.errors import InvalidFlow
from flows.field import Field, RegField, Term

Cookie = NewType("Cookie", int)

OWNER = 0xC7A
"""The top 12 bits of every cookie of ours: no flow without them is ever touched."""
OWNER_SHIFT, OBJECT_SHIFT = 52, 32
OWNER_MASK = 0xFFF << OWNER_SHIFT
OBJECT_MASK = 0xFFFFF << OBJECT_SHIFT
OBJECT_MAX = 0xFFFFF
PRODUCTION = 0
"""Object of flows that no session owns."""
TABLE_MAX, PRIORITY_MAX = 254, 0xFFFF
LEARNED_OBJECT = OBJECT_MAX
"""Object of flows that the switch itself learns; they are ours, but in no plan."""


@dataclass(frozen=True, slots=True)
class Match:
    """The conditions of a flow, one term for each field, in canonical order."""

    terms: tuple[Term, ...] = ()

    @staticmethod
    def of(*terms: Term) -> Match:
        """Sort and merge ``terms``; parts of one register become one term.

        Raises:
            InvalidFlow: two terms ask the same bits of a field.
        """
        if len({term.field for term in terms}) == len(terms):
            return Match(tuple(sorted(terms, key=_by_order)))
        merged: dict[Field, Term] = {}
        for term in terms:
            other = merged.get(term.field)
            if other is not None:
                if other.mask & term.mask:
                    raise InvalidFlow(f"two conditions on the same bits of {term.field.name}")
                term = Term(term.field, other.value | term.value, other.mask | term.mask)
            merged[term.field] = term
        return Match(tuple(sorted(merged.values(), key=_by_order)))

    @property
    def identity(self) -> str:
        """A short text that no other match has, five times faster made than that for people."""
        return ",".join([f"{t.field.order}={t.value:x}/{t.mask:x}" for t in self.terms])

    def __str__(self) -> str:
        return ",".join(map(str, self.terms))


@dataclass(frozen=True, slots=True)
class Load:
    """Set a part of a register to a value."""

    target: RegField
    value: int

    def __post_init__(self) -> None:
        if not 0 <= self.value < 1 << self.target.bits:
            raise InvalidFlow(f"{self.value} does not fit {self.target.name!r}")

    def __str__(self) -> str:
        return f"load:{self.value:#x}->{self.target}"


@dataclass(frozen=True, slots=True)
class MoveToVlan:
    """Copy 12 bits of a register into the VLAN id of the outer tag, which must exist."""

    source: RegField

    def __post_init__(self) -> None:
        if self.source.bits != 12:
            raise InvalidFlow(f"a VLAN id has 12 bits, {self.source.name!r} has not")

    def __str__(self) -> str:
        return f"move:{self.source}->NXM_OF_VLAN_TCI[0..11]"


@dataclass(frozen=True, slots=True)
class SetVlan:
    """Set the VLAN id of the outer tag (0..4095)."""

    vid: int

    def __post_init__(self) -> None:
        if not 0 <= self.vid <= 0xFFF:
            raise InvalidFlow(f"{self.vid} is no VLAN id")

    def __str__(self) -> str:
        return f"set_field:{0x1000 | self.vid}->vlan_vid"


@dataclass(frozen=True, slots=True)
class SetVlanPriority:
    """Set the priority bits of the outer tag (0..7)."""

    pcp: int

    def __post_init__(self) -> None:
        if not 0 <= self.pcp <= 7:
            raise InvalidFlow(f"{self.pcp} is no VLAN priority")

    def __str__(self) -> str:
        return f"set_field:{self.pcp}->vlan_pcp"


@dataclass(frozen=True, slots=True)
class PushVlan:
    """Add an outer 802.1Q tag with id 0."""

    def __str__(self) -> str:
        return "push_vlan:0x8100"


@dataclass(frozen=True, slots=True)
class PopVlan:
    """Remove the outer tag; the flow must match on its presence."""

    def __str__(self) -> str:
        return "pop_vlan"


@dataclass(frozen=True, slots=True)
class ForgetInPort:
    """Forget where the packet came from, so that it may leave by the same port again."""

    def __str__(self) -> str:
        return "load:0xffff->NXM_OF_IN_PORT[]"


@dataclass(frozen=True, slots=True)
class Output:
    """Send the packet to a port; OVS sends nothing when that is the port it came from.

    ``max_len`` cuts what is sent to so many bytes (at least 14), not counting tags that were pushed
    in the same clone: Open vSwitch 3.1 cuts first and pushes then. 0 cuts nothing.
    """

    ofport: int
    max_len: int = 0

    def __str__(self) -> str:
        if self.max_len:
            return f"output(port={self.ofport},max_len={self.max_len})"
        return f"output:{self.ofport}"


@dataclass(frozen=True, slots=True)
class Resubmit:
    """Look the packet up in another table, then go on with the next action."""

    table: int

    def __str__(self) -> str:
        return f"resubmit(,{self.table})"


@dataclass(frozen=True, slots=True)
class Clone:
    """Do actions on a duplicate: packet and registers are as before afterwards."""

    actions: tuple[Action, ...]

    def __str__(self) -> str:
        return f"clone({show_actions(self.actions)})"


@dataclass(frozen=True, slots=True)
class SetTunnelKey:
    """Set the key of the tunnel that an output to a tunnel port uses (VNI, GRE key, session id)."""

    key: int

    def __post_init__(self) -> None:
        if not 0 <= self.key < 1 << 32:
            raise InvalidFlow(f"{self.key} is no tunnel key")

    def __str__(self) -> str:
        return f"set_field:{self.key:#x}->tun_id"


@dataclass(frozen=True, slots=True)
class SetTunnelRemote:
    """Set the address to which an output to a tunnel port sends."""

    address: IPAddress

    def __str__(self) -> str:
        name = "tun_dst" if self.address.version == 4 else "tun_ipv6_dst"
        return f"set_field:{self.address}->{name}"


class HashOf(Enum):
    """Which fields decide in which bucket a packet falls; each is the same in both directions."""

    CONNECTION = "symmetric_l3l4+udp"
    """Addresses, protocol, and the ports of TCP, UDP and SCTP."""
    HOSTS = "symmetric_l3"
    """Addresses alone: fragments, which have no ports, fall where their packet does."""


@dataclass(frozen=True, slots=True)
class Multipath:
    """Set a part of a register to a bucket 0..``buckets``-1 that the packet's flow decides."""

    hash: HashOf
    buckets: int
    target: RegField

    def __post_init__(self) -> None:
        if not 1 <= self.buckets <= 1 << self.target.bits:
            raise InvalidFlow(f"{self.buckets} buckets do not fit {self.target.name!r}")

    def __str__(self) -> str:
        return f"multipath({self.hash.value},0,modulo_n,{self.buckets},0,{self.target})"


@dataclass(frozen=True, slots=True)
class CheckLarger:
    """Set a bit of a register to whether the packet is longer than ``length`` bytes.

    What follows in the same action list is done in either case, each with its own bit.
    """

    length: int
    target: RegField

    def __post_init__(self) -> None:
        if self.target.bits != 1 or not 0 < self.length <= 0xFFFF:
            raise InvalidFlow(f"{self.length} bytes cannot be told by {self.target.name!r}")

    def __str__(self) -> str:
        bit = f"NXM_NX_REG{self.target.reg}[{self.target.low}]"
        return f"check_pkt_larger({self.length})->{bit}"


@dataclass(frozen=True, slots=True)
class Metered:
    """Let the packet pass a meter, which may drop it; the first action of a flow, or none."""

    meter: int

    def __str__(self) -> str:
        return f"meter:{self.meter}"


@dataclass(frozen=True, slots=True)
class Learn:
    """Let the switch remember behind which port the sender's address is.

    Adds to ``table`` a flow "network of this packet, destination = this source -> its port",
    at most ``limit`` with this cookie; they go when the flow that holds this action goes.
    ``idle_s`` is in seconds.
    """

    table: int
    priority: int
    idle_s: int
    limit: int
    cookie: Cookie
    network: RegField
    out: RegField

    def __str__(self) -> str:
        return (
            f"learn(table={self.table},idle_timeout={self.idle_s},priority={self.priority},"
            f"delete_learned,cookie={self.cookie:#x},limit={self.limit},{self.network},"
            f"NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_OF_IN_PORT[]->{self.out})"
        )


Action = (
    Load | MoveToVlan | SetVlan | SetVlanPriority | PushVlan | PopVlan
    | ForgetInPort | Output | Resubmit | Clone | Learn
    | SetTunnelKey | SetTunnelRemote | Multipath | CheckLarger | Metered
)  # fmt: skip


def show_actions(actions: tuple[Action, ...]) -> str:
    """An action list as ovs-ofctl writes it; the empty list is ``drop``."""
    return ",".join(map(str, actions)) or "drop"


class FlowKey(NamedTuple):
    """What makes two flows the same flow for a switch: table, priority and match.

    ``match`` is the match's ``identity``.
    """

    table: int
    priority: int
    match: str


@dataclass(frozen=True)
class Flow:
    """One flow that a bridge should have; ``why`` is one clause for people.

    ``owner`` is the object in its cookie: a session number, or PRODUCTION.
    """

    table: int
    priority: int
    match: Match
    actions: tuple[Action, ...]
    owner: int
    why: str

    def __post_init__(self) -> None:
        if not 0 <= self.owner <= OBJECT_MAX:
            raise InvalidFlow(f"owner {self.owner} does not fit the 20 bits of a cookie")
        if not (0 <= self.table <= TABLE_MAX and 0 <= self.priority <= PRIORITY_MAX):
            raise InvalidFlow(f"no table {self.table} with priority {self.priority} in OpenFlow")
        if any(isinstance(action, Metered) for action in self.actions[1:]):
            raise InvalidFlow("a meter comes before everything else that a flow does")

    @cached_property
    def key(self) -> FlowKey:
        """What a switch identifies this flow by."""
        return FlowKey(self.table, self.priority, self.match.identity)

    @cached_property
    def cookie(self) -> Cookie:
        """Owner, object and a digest of everything that the flow does."""
        does = f"{self.match.identity},{show_actions(self.actions)}"
        whole = f"{self.table},{self.priority},{does}"
        digest = int.from_bytes(blake2b(whole.encode(), digest_size=4).digest(), "big")
        return make_cookie(self.owner, digest)

    def __str__(self) -> str:
        match = f",{self.match}" if self.match.terms else ""
        return (
            f"cookie={self.cookie:#x},table={self.table},priority={self.priority}{match},"
            f"actions={show_actions(self.actions)}"
        )


def _by_order(term: Term) -> int:
    return term.field.order


def make_cookie(owner: int, digest: int) -> Cookie:
    """Put our mark, an object number (20 bits) and a digest (32 bits) into one cookie."""
    return Cookie(OWNER << OWNER_SHIFT | owner << OBJECT_SHIFT | digest)


def is_ours(cookie: int) -> bool:
    """Whether a flow with this cookie was made by us (or learned by one of our flows)."""
    return cookie >> OWNER_SHIFT == OWNER


def object_of(cookie: int) -> int:
    """The object number inside a cookie of ours."""
    return (cookie & OBJECT_MASK) >> OBJECT_SHIFT

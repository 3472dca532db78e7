"""What a flow does with a packet: actions as values, each with its text in ovs-ofctl syntax."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from netaddr import IPAddress

from flows.openflow.cookie import Cookie
from flows.errors import InvalidFlow
from flows.openflow.field import RegField


class _Said:
    """What all actions have: a text, which is their form with their numbers in its places.

    Actions of one form do the same but for ``numbers``. An action without numbers of its own has
    its whole text as its form.
    """

    __slots__ = ()

    @property
    def form(self) -> str:
        """Its text in the syntax of ovs-ofctl, with places for its numbers (see ``%``)."""
        raise NotImplementedError

    @property
    def numbers(self) -> tuple[int, ...]:
        """What goes into the places of ``form``."""
        return ()

    def __str__(self) -> str:
        return self.form % self.numbers


@dataclass(frozen=True, slots=True)
class Load(_Said):
    """Set a part of a register to a value."""

    target: RegField
    value: int

    def __post_init__(self) -> None:
        if not 0 <= self.value < 1 << self.target.bits:
            raise InvalidFlow(f"{self.value} does not fit {self.target.name!r}")

    @property
    def form(self) -> str:
        return self.target.setting

    @property
    def numbers(self) -> tuple[int, ...]:
        return (self.value,)


@dataclass(frozen=True, slots=True)
class MoveToVlan(_Said):
    """Copy 12 bits of a register into the VLAN id of the outer tag, which must exist."""

    source: RegField

    def __post_init__(self) -> None:
        if self.source.bits != 12:
            raise InvalidFlow(f"a VLAN id has 12 bits, {self.source.name!r} has not")

    @property
    def form(self) -> str:
        return f"move:{self.source}->NXM_OF_VLAN_TCI[0..11]"


@dataclass(frozen=True, slots=True)
class SetVlan(_Said):
    """Set the VLAN id of the outer tag (0..4095)."""

    vid: int

    form = "set_field:%d->vlan_vid"

    def __post_init__(self) -> None:
        if not 0 <= self.vid <= 0xFFF:
            raise InvalidFlow(f"{self.vid} is no VLAN id")

    @property
    def numbers(self) -> tuple[int, ...]:
        return (0x1000 | self.vid,)


@dataclass(frozen=True, slots=True)
class SetVlanPriority(_Said):
    """Set the priority bits of the outer tag (0..7)."""

    pcp: int

    def __post_init__(self) -> None:
        if not 0 <= self.pcp <= 7:
            raise InvalidFlow(f"{self.pcp} is no VLAN priority")

    @property
    def form(self) -> str:
        return f"set_field:{self.pcp}->vlan_pcp"


@dataclass(frozen=True, slots=True)
class PushVlan(_Said):
    """Add an outer 802.1Q tag with id 0."""

    form = "push_vlan:0x8100"


@dataclass(frozen=True, slots=True)
class PopVlan(_Said):
    """Remove the outer tag; the flow must match on its presence."""

    form = "pop_vlan"


@dataclass(frozen=True, slots=True)
class ForgetInPort(_Said):
    """Forget where the packet came from, so that it may leave by the same port again."""

    form = "load:0xffff->NXM_OF_IN_PORT[]"


@dataclass(frozen=True, slots=True)
class Output(_Said):
    """Send the packet to a port; OVS sends nothing when that is the port it came from.

    ``max_len`` cuts what is sent to so many bytes (at least 14), not counting tags that were pushed
    in the same clone: Open vSwitch 3.1 cuts first and pushes then. 0 cuts nothing.
    """

    ofport: int
    max_len: int = 0

    @property
    def form(self) -> str:
        return "output(port=%d,max_len=%d)" if self.max_len else "output:%d"

    @property
    def numbers(self) -> tuple[int, ...]:
        return (self.ofport, self.max_len) if self.max_len else (self.ofport,)


@dataclass(frozen=True, slots=True)
class Resubmit(_Said):
    """Look the packet up in another table, then go on with the next action."""

    table: int

    @property
    def form(self) -> str:
        return f"resubmit(,{self.table})"


@dataclass(frozen=True, slots=True)
class Clone(_Said):
    """Do actions on a duplicate: packet and registers are as before afterwards."""

    actions: tuple[Action, ...]

    @property
    def form(self) -> str:
        return f"clone({','.join([action.form for action in self.actions]) or 'drop'})"

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple([number for action in self.actions for number in action.numbers])


@dataclass(frozen=True, slots=True)
class SetTunnelKey(_Said):
    """Set the key of the tunnel that an output to a tunnel port uses (VNI, GRE key, session id)."""

    key: int

    form = "set_field:%#x->tun_id"

    def __post_init__(self) -> None:
        if not 0 <= self.key < 1 << 32:
            raise InvalidFlow(f"{self.key} is no tunnel key")

    @property
    def numbers(self) -> tuple[int, ...]:
        return (self.key,)


@dataclass(frozen=True, slots=True)
class SetTunnelRemote(_Said):
    """Set the address to which an output to a tunnel port sends."""

    address: IPAddress

    @property
    def form(self) -> str:
        name = "tun_dst" if self.address.version == 4 else "tun_ipv6_dst"
        return f"set_field:{self.address}->{name}"


class HashOf(Enum):
    """Which fields decide in which bucket a packet falls; each is the same in both directions."""

    CONNECTION = "symmetric_l3l4+udp"
    """Addresses, protocol, and the ports of TCP, UDP and SCTP."""
    HOSTS = "symmetric_l3"
    """Addresses alone: fragments, which have no ports, fall where their packet does."""


@dataclass(frozen=True, slots=True)
class Multipath(_Said):
    """Set a part of a register to a bucket 0..``buckets``-1 that the packet's flow decides."""

    hash: HashOf
    buckets: int
    target: RegField

    def __post_init__(self) -> None:
        if not 1 <= self.buckets <= 1 << self.target.bits:
            raise InvalidFlow(f"{self.buckets} buckets do not fit {self.target.name!r}")

    @property
    def form(self) -> str:
        return f"multipath({self.hash.value},0,modulo_n,{self.buckets},0,{self.target})"


@dataclass(frozen=True, slots=True)
class CheckLarger(_Said):
    """Set a bit of a register to whether the packet is longer than ``length`` bytes.

    Open vSwitch 3.1 does not count padding behind an IP packet.

    What follows in the same action list is done in either case, each with its own bit.
    """

    length: int
    target: RegField

    def __post_init__(self) -> None:
        if self.target.bits != 1 or not 0 < self.length <= 0xFFFF:
            raise InvalidFlow(f"{self.length} bytes cannot be told by {self.target.name!r}")

    @property
    def form(self) -> str:
        bit = f"NXM_NX_REG{self.target.reg}[{self.target.low}]"
        return f"check_pkt_larger({self.length})->{bit}"


@dataclass(frozen=True, slots=True)
class Metered(_Said):
    """Let the packet pass a meter, which may drop it; the first action of a flow, or none."""

    meter: int

    form = "meter:%d"

    @property
    def numbers(self) -> tuple[int, ...]:
        return (self.meter,)


@dataclass(frozen=True, slots=True)
class Learn(_Said):
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

    @property
    def form(self) -> str:
        return (
            f"learn(table={self.table},idle_timeout={self.idle_s},priority={self.priority},"
            f"delete_learned,cookie=%#x,limit={self.limit},{self.network},"
            f"NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_OF_IN_PORT[]->{self.out})"
        )

    @property
    def numbers(self) -> tuple[int, ...]:
        return (self.cookie,)


Action = (
    Load | MoveToVlan | SetVlan | SetVlanPriority | PushVlan | PopVlan
    | ForgetInPort | Output | Resubmit | Clone | Learn
    | SetTunnelKey | SetTunnelRemote | Multipath | CheckLarger | Metered
)  # fmt: skip


def show_actions(actions: tuple[Action, ...]) -> str:
    """An action list as ovs-ofctl writes it; the empty list is ``drop``."""
    return ",".join(map(str, actions)) or "drop"

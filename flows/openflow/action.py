"""Actions of flows as values, each with its text in ovs-ofctl syntax."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from netaddr import IPAddress

from flows.errors import InvalidFlow
from flows.openflow.cookie import Cookie
from flows.openflow.field import VLAN_PRESENT, RegField
from flows.openflow.protocol import ETH_MPLS, ETH_VLAN, VLAN_ID_MASK

CHECKED_LENGTHS = range(1, 1 << 16)
"""The lengths of packets, in bytes, that check_pkt_larger can compare with."""


class _FormattedAction:
    """The text of an action: a format string, ``form``, and the ``numbers`` that fill it.

    Actions with the same form differ in their numbers only. An action that shares its form with no
    other has its whole text as form, and no numbers.
    """

    __slots__ = ()

    @property
    def form(self) -> str:
        """Its text in ovs-ofctl syntax as a printf-style format for ``numbers``."""
        raise NotImplementedError

    @property
    def numbers(self) -> tuple[int, ...]:
        """The values for the conversions of ``form``, in order."""
        return ()

    def __str__(self) -> str:
        return self.form % self.numbers


@dataclass(frozen=True, slots=True)
class Load(_FormattedAction):
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
class MoveToVlan(_FormattedAction):
    """Copy 12 bits of a register into the VLAN id of the outer tag, which must exist."""

    source: RegField

    def __post_init__(self) -> None:
        if self.source.bits != 12:
            raise InvalidFlow(f"a VLAN id has 12 bits, {self.source.name!r} has not")

    @property
    def form(self) -> str:
        return f"move:{self.source}->NXM_OF_VLAN_TCI[0..11]"


@dataclass(frozen=True, slots=True)
class SetVlan(_FormattedAction):
    """Set the VLAN id of the outer tag (0..4095)."""

    vid: int

    form = "set_field:%d->vlan_vid"

    def __post_init__(self) -> None:
        if not 0 <= self.vid <= VLAN_ID_MASK:
            raise InvalidFlow(f"{self.vid} is no VLAN id")

    @property
    def numbers(self) -> tuple[int, ...]:
        return (VLAN_PRESENT | self.vid,)


@dataclass(frozen=True, slots=True)
class SetVlanPriority(_FormattedAction):
    """Set the priority bits of the outer tag (0..7)."""

    pcp: int

    def __post_init__(self) -> None:
        if not 0 <= self.pcp <= 7:
            raise InvalidFlow(f"{self.pcp} is no VLAN priority")

    @property
    def form(self) -> str:
        return f"set_field:{self.pcp}->vlan_pcp"


@dataclass(frozen=True, slots=True)
class PushVlan(_FormattedAction):
    """Add an outer 802.1Q tag with id 0."""

    form = f"push_vlan:{ETH_VLAN:#x}"


@dataclass(frozen=True, slots=True)
class PopVlan(_FormattedAction):
    """Remove the outer tag; the flow must match on its presence."""

    form = "pop_vlan"


@dataclass(frozen=True, slots=True)
class PushMpls(_FormattedAction):
    """Add an MPLS label; only PopMpls follows it here."""

    form = f"push_mpls:{ETH_MPLS:#x}"


@dataclass(frozen=True, slots=True)
class PopMpls(_FormattedAction):
    """Remove an MPLS label that was added by the same flow, before a frame of this EtherType.

    The frame is as before, and nothing is done to it in the datapath. But Open vSwitch does not
    know what is behind a label, so it has the packet read again from its first byte (recirculation)
    before the next table: so a VLAN tag gets read that was below another.
    """

    eth_type: int

    form = "pop_mpls:%#x"

    @property
    def numbers(self) -> tuple[int, ...]:
        return (self.eth_type,)


@dataclass(frozen=True, slots=True)
class ForgetInPort(_FormattedAction):
    """Clear the ingress port, so that the packet may be output to the port it came from."""

    form = "load:0xffff->NXM_OF_IN_PORT[]"


@dataclass(frozen=True, slots=True)
class SetMark(_FormattedAction):
    """Set the mark beside the packet (``skb->mark``), which a veth device of Linux carries over."""

    mark: int

    form = "set_field:%#x->pkt_mark"

    def __post_init__(self) -> None:
        if not 0 <= self.mark < 1 << 32:
            raise InvalidFlow(f"{self.mark} is no mark of a packet")

    @property
    def numbers(self) -> tuple[int, ...]:
        return (self.mark,)


@dataclass(frozen=True, slots=True)
class Output(_FormattedAction):
    """Send the packet to a port; Open vSwitch sends nothing to the ingress port.

    ``max_len`` truncates the packet to so many bytes (at least 14), without the tags pushed in the
    same clone: Open vSwitch 3.1 truncates before it pushes. 0 truncates nothing.
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
class Resubmit(_FormattedAction):
    """Look the packet up in another table, then continue with the next action."""

    table: int

    @property
    def form(self) -> str:
        return f"resubmit(,{self.table})"


@dataclass(frozen=True, slots=True)
class Clone(_FormattedAction):
    """Execute actions on a copy of the packet; packet and registers are unchanged afterwards."""

    actions: tuple[Action, ...]

    @property
    def form(self) -> str:
        return f"clone({','.join([action.form for action in self.actions]) or 'drop'})"

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple([number for action in self.actions for number in action.numbers])


@dataclass(frozen=True, slots=True)
class SetTunnelKey(_FormattedAction):
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
class SetTunnelRemote(_FormattedAction):
    """Set the address to which an output to a tunnel port sends."""

    address: IPAddress

    @property
    def form(self) -> str:
        name = "tun_dst" if self.address.version == 4 else "tun_ipv6_dst"
        return f"set_field:{self.address}->{name}"


class HashOf(Enum):
    """The fields that select the bucket of a packet; both directions select the same bucket."""

    CONNECTION = "symmetric_l3l4+udp"
    """Addresses, protocol, and the ports of TCP, UDP and SCTP."""
    HOSTS = "symmetric_l3"
    """Addresses alone: fragments, which have no ports, get the bucket of their packet."""


@dataclass(frozen=True, slots=True)
class Multipath(_FormattedAction):
    """Set a part of a register to a bucket 0..``buckets``-1, selected by a hash of the packet."""

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
class CheckLarger(_FormattedAction):
    """Set a bit of a register to whether the packet is longer than ``length`` bytes.

    Open vSwitch 3.1 does not count padding after an IP packet. The actions after it are executed in
    both cases, each with its value of the bit.
    """

    length: int
    target: RegField

    def __post_init__(self) -> None:
        if self.target.bits != 1 or self.length not in CHECKED_LENGTHS:
            raise InvalidFlow(f"{self.length} bytes cannot be noted in {self.target.name!r}")

    @property
    def form(self) -> str:
        bit = f"NXM_NX_REG{self.target.reg}[{self.target.low}]"
        return f"check_pkt_larger({self.length})->{bit}"


@dataclass(frozen=True, slots=True)
class Metered(_FormattedAction):
    """Pass the packet through a meter, which may drop it; must be the first action of a flow."""

    meter: int

    form = "meter:%d"

    @property
    def numbers(self) -> tuple[int, ...]:
        return (self.meter,)


@dataclass(frozen=True, slots=True)
class Learn(_FormattedAction):
    """Learn the port of the packet's source MAC address: the switch adds a flow to ``table``.

    That flow matches the network of the packet and its source as destination, and loads the ingress
    port into ``out``. The switch keeps at most ``limit`` such flows with this cookie, and removes
    them with the flow that has this action. ``idle_s`` is the idle timeout in seconds.
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
    | PushMpls | PopMpls | ForgetInPort | SetMark | Output | Resubmit | Clone | Learn
    | SetTunnelKey | SetTunnelRemote | Multipath | CheckLarger | Metered
)  # fmt: skip


def show_actions(actions: tuple[Action, ...]) -> str:
    """An action list as ovs-ofctl writes it; the empty list is ``drop``."""
    return ",".join(map(str, actions)) or "drop"

"""The datapath of a bridge: what forwards its packets, and so what a packet is there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from flows.errors import InvalidValue
from flows.model.names import Ofport


class Datapath(Enum):
    """The datapath of a bridge (``datapath_type`` of its row), which decides how it truncates.

    Measured on Open vSwitch 3.1 and 3.5 with Linux 6.1 and 6.12.
    """

    USERSPACE = "netdev"
    """ovs-vswitchd itself: each packet is a frame. The length check leaves out padding after an IP
    packet; truncation counts every byte."""
    KERNEL = "system"
    """The openvswitch module of Linux: a packet may be a super-frame of up to 64 kB (TSO, GRO).
    The length check looks at each segment that it stands for; truncation cuts it as a whole, and
    loses the rest. Neither counts the outermost 802.1Q tag, and the check counts padding."""


def datapath_of(datapath_type: str) -> Datapath | None:
    """The datapath of a bridge by its ``datapath_type``, where empty means the kernel's.

    None for types that are neither.
    """
    if not datapath_type:
        return Datapath.KERNEL
    return next((each for each in Datapath if each.value == datapath_type), None)


class PairState(Enum):
    """What is known of the devices of a segmenting pair.

    Super-frames pass a device with offloads, a device whose peer is another one sends them
    elsewhere, and a device drops frames that exceed its MTU: what is truncated there is lost.
    """

    SOUND = "sound"
    """They make frames of super-frames, and what goes out at one end comes back at the other."""
    FAR = "far"
    """They are on another host, and nobody has recorded what they do."""
    OUTDATED = "outdated"
    """What was recorded is of devices that the ports had before."""
    UNSEEN = "unseen"
    """They should be on this host, and cannot be seen there."""
    OFFLOADED = "offloaded"
    """One of them hands on super-frames."""
    SHORT = "short"
    """The MTU of one is less than that of the devices which `cloudtap bridge prepare` makes."""
    DOWN = "down"
    """One of them is down."""
    APART = "apart"
    """They are not the ends of one veth device."""

    @property
    def is_known(self) -> bool:
        """Whether somebody has seen, or recorded, what they do."""
        return self not in (PairState.FAR, PairState.OUTDATED, PairState.UNSEEN)

    @property
    def is_usable(self) -> bool:
        """Whether copies are sent there: not where it is known that they would be lost."""
        return self is PairState.SOUND or not self.is_known


@dataclass(frozen=True, slots=True)
class Segmenter:
    """Two ports of a bridge that are the ends of one veth device without offloads.

    Linux segments a super-frame, and finishes its checksums, before such a device sends it: what
    goes out at ``out`` comes back at ``back`` as the frames that the super-frame stands for, which
    can be truncated. The mark of a packet (``skb->mark``) stays with each of them. ``state`` is
    what is known of its devices.

    Raises:
        InvalidValue: both are the same port.
    """

    out: Ofport
    back: Ofport
    state: PairState = PairState.SOUND

    def __post_init__(self) -> None:
        if self.out == self.back:
            raise InvalidValue(f"port {self.out} cannot be both ends of a segmenting pair")

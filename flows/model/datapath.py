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


@dataclass(frozen=True, slots=True)
class Segmenter:
    """Two ports of a bridge that are the ends of one veth device without offloads.

    Linux segments a super-frame, and finishes its checksums, before such a device sends it: what
    goes out at ``out`` comes back at ``back`` as the frames that the super-frame stands for, which
    can be truncated. The mark of a packet (``skb->mark``) stays with each of them.

    Raises:
        InvalidValue: both are the same port.
    """

    out: Ofport
    back: Ofport

    def __post_init__(self) -> None:
        if self.out == self.back:
            raise InvalidValue(f"port {self.out} cannot be both ends of a segmenting pair")

"""Hops of copies: what is known of a port that they pass, and of a route to a remote sensor."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from flows.openflow import CHECKED_LENGTHS, ETH_HEADER, VLAN_HEADER


class Setting(Enum):
    """A setting of a port, or of its switch, with which packets do not pass."""

    NO_FORWARD = "no-forward"
    """OFPPC_NO_FWD: the switch sends nothing to the port."""
    NO_RECEIVE = "no-receive"
    """OFPPC_NO_RECV: the switch drops what arrives at the port."""
    PROTECTED = "protected"
    """Column ``protected`` of Port: protected ports of a bridge send each other nothing."""
    NOT_FORWARDING = "not-forwarding"
    """A spanning tree protocol of the bridge has blocked the port."""
    RESTORING = "flow-restore-wait"
    """ovs-vswitchd waits for a restore of flows: it handles no packet without a megaflow."""


class Offloads(Enum):
    """Who segments and finishes the checksums of what the kernel datapath sends to a tap port.

    The kernel datapath sends on what a workload's device or GRO has made: super-frames of up to
    64 kB whose checksums are left to the last device. A network card finishes them on the wire; a
    virtual device with checksum offload hands them to the sensor as they are.
    """

    FINISHED = "finished"
    """They are finished before the sensor gets them, or never made (userspace datapath)."""
    LEFT = "left"
    """The device hands them on; `ethtool -K DEVICE tx off` ends that."""
    ALWAYS_LEFT = "always-left"
    """The device hands them on, and cannot be told otherwise."""
    FAR = "far"
    """The device is on another host, and nobody has recorded what it does."""
    OUTDATED = "outdated"
    """What was recorded is of a device that the port had before."""
    UNSEEN = "unseen"
    """The device should be on this host, and cannot be seen there."""


STOPS_COPIES = frozenset((Setting.NO_FORWARD, Setting.NOT_FORWARDING))
"""The settings with which a switch sends nothing out of a port: a tap port receives nothing."""
STOPS_ARRIVALS = frozenset((Setting.NO_RECEIVE, Setting.NOT_FORWARDING))
"""The settings with which a switch takes nothing that arrives at a port."""


@dataclass(frozen=True, slots=True)
class Hop:
    """What is known of one OpenFlow port; None: it is not known.

    ``bridge`` and ``interface`` are its names. ``mtu`` is that of its device: bytes of the longest
    IP packet that it sends. ``longest`` is that of the packets which its device hands to the
    switch; devices that hand over any length have none. ``rate_kbps`` is what copies may use of
    what it sends in a second, in kilobits, where this is known to be little. ``is_reported``: a
    database reports its bridge. ``truncates``: the switch can truncate packets that it sends there;
    Open vSwitch drops them instead at patch ports (ofproto-dpif-xlate.c, output_trunc).
    ``offloads`` counts for tap ports.
    """

    bridge: str = ""
    interface: str = ""
    mtu: int | None = None
    longest: int | None = None
    rate_kbps: int | None = None
    settings: frozenset[Setting] = frozenset()
    is_reported: bool = True
    truncates: bool = True
    offloads: Offloads = Offloads.FINISHED


NOTHING_KNOWN = Hop()
"""A port of which nothing was reported."""


class RouteState(Enum):
    """What a switch does with packets of a tunnel to one address."""

    FOUND = "found"
    """They leave by a device that has a route to the address."""
    MISSING = "missing"
    """There is no route: the switch drops them."""
    OFF_BRIDGE = "off-bridge"
    """The route leaves by a device that is on no bridge: the userspace datapath drops them."""
    UPLINK_DOWN = "uplink-down"
    """The route leaves by a bridge whose every port is down: nothing leaves it."""
    UNKNOWN = "unknown"
    """The switch could not be asked."""


@dataclass(frozen=True, slots=True)
class Route:
    """The route of a bridge's tunnels to one address; ``why`` explains one that is not known,
    or names the ports that are down.

    ``device`` is where packets leave, ``mtu`` its MTU in bytes; both may be unknown. ``unresolved``
    is the next hop whose MAC address is not known yet; empty if it is, or if that is not known.
    ``rate_kbps`` is what may be used of what the device sends, as in Hop.
    """

    state: RouteState = RouteState.UNKNOWN
    device: str = ""
    mtu: int | None = None
    unresolved: str = ""
    why: str = ""
    rate_kbps: int | None = None

    @property
    def is_broken(self) -> bool:
        """Whether no packet can leave."""
        return self.state in (RouteState.MISSING, RouteState.OFF_BRIDGE, RouteState.UPLINK_DOWN)


def tap_limit(hop: Hop | None, longest: int | None, *, is_tagged: bool) -> int | None:
    """Bytes of the longest original frame whose copy a tap port can send; None if all can be sent.

    ``longest`` is the MTU of the workloads (None: frames may have any length). Linux sends a frame
    with an 802.1Q tag even if it exceeds the MTU by this tag, so the workload's own tag fits, and a
    second one does not.
    """
    if hop is None or hop.mtu is None:
        return None
    if longest is not None and longest + VLAN_HEADER * is_tagged <= hop.mtu:
        return None
    return frame_limit(ETH_HEADER + hop.mtu)


def frame_limit(length: int) -> int | None:
    """A limit of frames in bytes; None for one that is beyond what a switch can check.

    No packet is longer than that: the length of an IP packet has 16 bits.
    """
    return length if length < CHECKED_LENGTHS.stop else None


def restoring_sentence(bridge: str) -> str:
    """What a bridge does not do while its ovs-vswitchd waits for a restore of flows."""
    return (
        f"bridge {bridge!r} handles no new connection and copies none, because ovs-vswitchd waits "
        "for a restore of flows: run `ovs-vsctl remove Open_vSwitch . other_config "
        "flow-restore-wait`"
    )

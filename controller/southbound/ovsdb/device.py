"""The device of an interface, as its database reports it: MTU, speed, QoS, and what stops packets.

Columns are those of ovs-vswitchd.conf.db(5). Kernel and ovs-vswitchd fill in the ephemeral ones
(``mtu``, ``link_speed``, ``status``).
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.databases import Record
from controller.devices import RECORDED_OFF, is_virtual, record_of
from flows.model import RATES, Offloads

SHAPED_BY_RATE = ("linux-htb", "linux-hfsc")
"""Types of QoS with a ``max-rate`` in bit/s for the port, and for each queue."""
POLICED = ("egress-policer", "trtcm-policer")
"""Types of QoS of DPDK ports with a ``cir`` in byte/s."""
UNSTATED_BPS = 100_000_000
"""The rate of a shaped port without ``max-rate`` whose link speed is not known."""
QOS_PERCENT = 90
"""How much of a QoS rate copies may use: 802.1Q tags add 4 bytes to frames of 60 and more."""
LINK_PERCENT = 70
"""How much of a link speed copies may use: Ethernet adds 24 bytes to frames of 60 and more."""
SLOW_LINK_BPS = 1_000_000_000
"""Links that are faster are not guarded: the userspace datapath sends less on one processor."""
VIRTUAL_SPEEDS = {
    "veth": (10_000_000_000,),
    "tun": (10_000_000, 10_000_000_000),
    "openvswitch": (),
    "bridge": (),
    "dummy": (),
}
"""The speeds that drivers of virtual devices report unless somebody sets another one: they say
nothing. Drivers with an empty list report none of their own."""
PATCH = "patch"
"""The type of interfaces that lead to another bridge of the same Open vSwitch."""
SYSTEM = ("", "system", "tap")
"""The types of interfaces that are network devices of the host, which others have made or, for
``tap``, ovs-vswitchd."""
INTERNAL = "internal"
"""The type of interfaces that are network devices of Open vSwitch itself."""
FORWARDING = ("forwarding", "Forwarding", "disabled", "Disabled")
"""States of STP and RSTP in which a port sends; ``disabled``: the protocol is off there."""


@dataclass(frozen=True, slots=True)
class Device:
    """The device of an interface, and the settings of its port; None: it is not known.

    ``mtu`` is in bytes. ``takes_any_length``: it may hand longer frames to the switch than it
    sends. ``rate_kbps`` is what copies may use of its speed or QoS, if that is little.
    ``is_protected`` and ``is_blocked`` (by a spanning tree protocol) are settings of its port.
    ``is_patch``: it leads to another bridge of the same Open vSwitch. ``ifindex`` is its number on
    its host. ``offloads`` is what the database alone tells of them, for a bridge with the kernel
    datapath. ``is_virtual``: it is a device of the host that may hand on packets as it gets them.
    ``is_veth``: it is a veth device, or the database does not say what it is.
    """

    mtu: int | None = None
    takes_any_length: bool = True
    rate_kbps: int | None = None
    is_protected: bool = False
    is_blocked: bool = False
    is_patch: bool = False
    ifindex: int | None = None
    offloads: Offloads = Offloads.FAR
    is_virtual: bool = False
    is_veth: bool = True


UNKNOWN_DEVICE = Device()


def read_device(record: Record) -> Device:
    """The device of an interface from its record (see controller/databases)."""
    is_system = record.get("type", "") in ("", "system")
    driver: str = record.get("driver", "")
    return Device(
        mtu=record.get("mtu"),
        takes_any_length=not is_system or driver in ("", "tun"),
        rate_kbps=_rate_kbps(record, driver, record.get("speed")),
        is_protected=bool(record.get("protected")),
        is_blocked=any(state not in FORWARDING for state in record.get("tree_states", ())),
        is_patch=record.get("type") == PATCH,
        ifindex=record.get("ifindex"),
        offloads=_offloads(record, driver),
        is_virtual=record.get("type", "") in SYSTEM and is_virtual(driver),
        is_veth=record.get("type", "") in ("", "system") and driver in ("", "veth"),
    )


def _offloads(record: Record, driver: str) -> Offloads:
    """What a database tells of the offloads of a device (see Offloads).

    An internal port gets what the kernel datapath sends past the queues where others are segmented
    (measured on Linux 6.1: `ethtool -K DEVICE tx off` changes nothing), so no record counts.
    """
    kind, ifindex = record.get("type", ""), record.get("ifindex")
    recorded: str = record.get("offloads", "")
    if kind == INTERNAL:
        return Offloads.ALWAYS_LEFT
    if kind in SYSTEM and not is_virtual(driver):
        return Offloads.FINISHED
    if recorded == RECORDED_OFF or (ifindex is not None and recorded == record_of(ifindex)):
        return Offloads.FINISHED
    if kind not in SYSTEM:
        return Offloads.UNSEEN
    return Offloads.OUTDATED if recorded.startswith(RECORDED_OFF) else Offloads.FAR


def _rate_kbps(record: Record, driver: str, speed_bps: int | None) -> int | None:
    """What copies may use of a port in kilobits a second; None when no low limit is known.

    A limit that no meter can express is none.
    """
    limits = []
    qos_bps = _qos_bps(record.get("qos", {}), speed_bps)
    if qos_bps is not None:
        limits.append(qos_bps * QOS_PERCENT)
    if _is_real_speed(driver, speed_bps) and speed_bps is not None and speed_bps <= SLOW_LINK_BPS:
        limits.append(speed_bps * LINK_PERCENT)
    if not limits:
        return None
    kbps = max(1, min(limits) // 100_000)
    return kbps if kbps in RATES else None


def _qos_bps(qos: Record, speed_bps: int | None) -> int | None:
    """The rate of a QoS row in bit/s, with that of its queue 0, which copies use."""
    kind = qos.get("type", "")
    if kind in POLICED:
        octets = _number(qos.get("cir"))
        return None if octets is None else 8 * octets
    if kind not in SHAPED_BY_RATE:
        return None
    whole = _number(qos.get("max-rate")) or speed_bps or UNSTATED_BPS
    return min(whole, _number(qos.get("queue")) or whole)


def _is_real_speed(driver: str, speed_bps: int | None) -> bool:
    """Whether a link speed is not one that the driver reports of every device."""
    speeds = VIRTUAL_SPEEDS.get(driver)
    return bool(speed_bps and driver) and speeds != () and speed_bps not in (speeds or ())


def _number(text: str | None) -> int | None:
    """A positive number as Open vSwitch reads it; None for anything else."""
    is_number = text is not None and text.isascii() and text.isdigit() and len(text) < 20
    return (int(text) or None) if text is not None and is_number else None

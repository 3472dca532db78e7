"""Transmit checksum offload of network devices, read and switched off by SIOCETHTOOL ioctls.

Of all features of a device the checksum offloads alone decide (measured on Linux 6.1): without
them the kernel segments super-frames too, whatever the segmentation features say, because a segment
needs a checksum (netif_skb_features in net/core/dev.c). ETHTOOL_GTXCSUM tells whether one of them
is on, ETHTOOL_STXCSUM switches all of them off, as `ethtool -K DEVICE tx off` does.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from controller.devices.ioctl import DeviceName, ask, present_devices

ETHTOOL_GDRVINFO, ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM = 0x03, 0x16, 0x17
"""linux/ethtool.h."""
DRVINFO = struct.Struct("=I32s32s32s32s32s12sIIIII")
"""struct ethtool_drvinfo: command, driver, version and others."""
VALUE = struct.Struct("=II")
"""struct ethtool_value: command, value."""


@dataclass(frozen=True, slots=True)
class TransmitOffload:
    """Whether a device takes packets whose checksums are not finished, and its driver."""

    driver: str
    is_on: bool


def read_offloads(devices: Iterable[DeviceName]) -> Mapping[DeviceName, TransmitOffload]:
    """What some devices do; those that cannot be seen are left out.

    Devices are looked for in the network namespace of this process, then in that of ovs-vswitchd.
    """
    found: dict[DeviceName, TransmitOffload] = {}
    for inside, here in present_devices(devices):
        for device in here:
            with suppress(OSError):  # it has gone
                found[device] = TransmitOffload(
                    driver_of(inside, device), has_offload(inside, device)
                )
    return found


def switch_off_offloads(devices: Iterable[DeviceName]) -> Mapping[DeviceName, str]:
    """Have the kernel segment and finish checksums of what some devices send (ethtool -K tx off).

    Returns why this was not done, for each device of which it was not; empty: the device has no
    such setting.
    """
    wanted = tuple(devices)
    refused = dict.fromkeys(wanted, "it cannot be seen")
    for inside, here in present_devices(wanted):
        for device in here:
            try:
                ask(inside, device, VALUE.pack(ETHTOOL_STXCSUM, 0))
                is_on = has_offload(inside, device)
            except OSError as problem:
                fixed = problem.errno == errno.EOPNOTSUPP
                refused[device] = "" if fixed else (problem.strerror or str(problem))
                continue
            if is_on:
                refused[device] = ""
            else:
                del refused[device]
    return refused


def driver_of(inside: socket.socket, device: DeviceName) -> str:
    """The driver of a device; empty if it has no name.

    Raises:
        OSError: the device has gone.
    """
    try:
        answer = ask(inside, device, DRVINFO.pack(ETHTOOL_GDRVINFO, *[b""] * 6, *[0] * 5))
    except OSError as problem:
        if problem.errno == errno.EOPNOTSUPP:
            return ""
        raise
    return bytes(DRVINFO.unpack(answer)[1]).rstrip(b"\0").decode(errors="replace")


def has_offload(inside: socket.socket, device: DeviceName) -> bool:
    """Whether a device takes packets whose checksums are not finished.

    Raises:
        OSError: the device has gone, or has no such setting.
    """
    return bool(VALUE.unpack(ask(inside, device, VALUE.pack(ETHTOOL_GTXCSUM, 0)))[1])

"""Transmit checksum offload of network devices, read and switched off by SIOCETHTOOL ioctls.

Of all features of a device the checksum offloads alone decide (measured on Linux 6.1): without
them the kernel segments super-frames too, whatever the segmentation features say, because a segment
needs a checksum (netif_skb_features in net/core/dev.c). ETHTOOL_GTXCSUM tells whether one of them
is on, ETHTOOL_STXCSUM switches all of them off, as `ethtool -K DEVICE tx off` does.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from controller.devices.namespaces import enter_namespace
from controller.process import PID_BYTES_MAX, UnusableFile, read_file

SIOCGIFINDEX, SIOCETHTOOL = 0x8933, 0x8946
"""linux/sockios.h."""
ETHTOOL_GDRVINFO, ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM = 0x03, 0x16, 0x17
"""linux/ethtool.h."""
DRVINFO = struct.Struct("=I32s32s32s32s32s12sIIIII")
"""struct ethtool_drvinfo: command, driver, version and others."""
VALUE = struct.Struct("=II")
"""struct ethtool_value: command, value."""
IFNAME_MAX = 15
"""The longest name of a device, in bytes (IFNAMSIZ)."""
OWN_NAMESPACE = Path("/proc/self/ns/net")
VSWITCHD_PID = Path("/run/openvswitch/ovs-vswitchd.pid")


class DeviceName(NamedTuple):
    """A device by its name, and by its index: a device that is made anew has another one."""

    name: str
    ifindex: int


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
    for inside, here in _present(devices):
        for device in here:
            with suppress(OSError):  # it has gone
                found[device] = TransmitOffload(
                    _driver(inside, device), _has_offload(inside, device)
                )
    return found


def switch_off_offloads(devices: Iterable[DeviceName]) -> Mapping[DeviceName, str]:
    """Have the kernel segment and finish checksums of what some devices send (ethtool -K tx off).

    Returns why this was not done, for each device of which it was not; empty: the device has no
    such setting.
    """
    wanted = tuple(devices)
    refused = dict.fromkeys(wanted, "it cannot be seen")
    for inside, here in _present(wanted):
        for device in here:
            try:
                _ask(inside, device, VALUE.pack(ETHTOOL_STXCSUM, 0))
                is_on = _has_offload(inside, device)
            except OSError as problem:
                fixed = problem.errno == errno.EOPNOTSUPP
                refused[device] = "" if fixed else (problem.strerror or str(problem))
                continue
            if is_on:
                refused[device] = ""
            else:
                del refused[device]
    return refused


def _present(
    devices: Iterable[DeviceName],
) -> Iterator[tuple[socket.socket, tuple[DeviceName, ...]]]:
    """Sockets in the network namespaces that may have the devices, each with those that it has."""
    missing = set(devices)
    for find in (lambda: OWN_NAMESPACE, _namespace_of_switch):
        namespace = find() if missing else None
        if namespace is None:
            return
        try:
            inside = _socket_in(namespace)
        except OSError:  # it may not be entered
            continue
        with inside:
            here = tuple(device for device in missing if _index(inside, device) == device.ifindex)
            missing.difference_update(here)
            yield inside, here


def _namespace_of_switch() -> Path | None:
    """The network namespace of the ovs-vswitchd of this machine; None if it is not another one."""
    try:
        path = Path("/proc", str(int(read_file(VSWITCHD_PID, PID_BYTES_MAX))), "ns", "net")
        return None if os.path.samefile(path, OWN_NAMESPACE) else path
    except (OSError, ValueError, UnusableFile):
        return None


def _socket_in(namespace: Path) -> socket.socket:
    """A socket in a network namespace, which it stays in.

    This thread enters the namespace, and leaves it again before anything else runs in it.

    Raises:
        OSError: it may not be entered.
    """
    if namespace == OWN_NAMESPACE:
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with _open(namespace) as target, _open(Path("/proc/thread-self/ns/net")) as own:
        enter_namespace(target)
        try:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        finally:
            enter_namespace(own)


@contextmanager
def _open(namespace: Path) -> Iterator[int]:
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _index(inside: socket.socket, device: DeviceName) -> int | None:
    """The index of the device that has this name; None if there is none."""
    name = os.fsencode(device.name)
    if len(name) > IFNAME_MAX:
        return None
    try:
        answer = fcntl.ioctl(inside, SIOCGIFINDEX, struct.pack("=16sI20x", name, 0))
    except OSError:
        return None
    return int(struct.unpack_from("=I", answer, 16)[0])


def _driver(inside: socket.socket, device: DeviceName) -> str:
    answer = _ask(inside, device, DRVINFO.pack(ETHTOOL_GDRVINFO, *[b""] * 6, *[0] * 5))
    return bytes(DRVINFO.unpack(answer)[1]).rstrip(b"\0").decode(errors="replace")


def _has_offload(inside: socket.socket, device: DeviceName) -> bool:
    return bool(VALUE.unpack(_ask(inside, device, VALUE.pack(ETHTOOL_GTXCSUM, 0)))[1])


def _ask(inside: socket.socket, device: DeviceName, command: bytes) -> bytes:
    """Send an ethtool command, which the kernel answers in place.

    Raises:
        OSError: the device has gone, has no such setting (EOPNOTSUPP), or this process may not.
    """
    data = array.array("B", command)
    address, _ = data.buffer_info()
    fcntl.ioctl(inside, SIOCETHTOOL, struct.pack("=16sQ16x", os.fsencode(device.name), address))
    return data.tobytes()

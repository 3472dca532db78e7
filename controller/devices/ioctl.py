"""Network devices of this machine as ioctls reach them: in which network namespace each is."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from controller.devices.namespaces import enter_namespace
from controller.process import PID_BYTES_MAX, UnusableFile, read_file

SIOCGIFINDEX, SIOCETHTOOL = 0x8933, 0x8946
"""linux/sockios.h."""
NETLINK_ROUTE = 0
"""linux/netlink.h."""
KERNEL_ANSWERED_S = 5.0
"""How long the kernel may take to answer."""
IFNAME_MAX = 15
"""The longest name of a device, in bytes (IFNAMSIZ)."""
OWN_NAMESPACE = Path("/proc/self/ns/net")
VSWITCHD_PID = Path("/run/openvswitch/ovs-vswitchd.pid")


class DeviceName(NamedTuple):
    """A device by its name, and by its index: a device that is made anew has another one."""

    name: str
    ifindex: int


def present_devices(
    devices: Iterable[DeviceName],
) -> Iterator[tuple[socket.socket, tuple[DeviceName, ...]]]:
    """Sockets in the network namespaces that may have the devices, each with those that it has.

    Each is one of rtnetlink, on which ioctls of devices work, too (netlink(7), sock_do_ioctl).
    """
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


def ask(inside: socket.socket, device: DeviceName, command: bytes) -> bytes:
    """Send an ethtool command, which the kernel answers in place.

    Raises:
        OSError: the device has gone, has no such setting (EOPNOTSUPP), or this process may not.
    """
    data = array.array("B", command)
    address, _ = data.buffer_info()
    fcntl.ioctl(inside, SIOCETHTOOL, struct.pack("=16sQ16x", os.fsencode(device.name), address))
    return data.tobytes()


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
        return _rtnetlink()
    with _open(namespace) as target, _open(Path("/proc/thread-self/ns/net")) as own:
        enter_namespace(target)
        try:
            return _rtnetlink()
        finally:
            enter_namespace(own)


def _rtnetlink() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
    made.settimeout(KERNEL_ANSWERED_S)
    return made


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

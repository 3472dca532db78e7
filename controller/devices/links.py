"""Settings of one network device that rtnetlink(7) has: kind, peer, MTU, and whether it is up."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from controller.devices.ioctl import DeviceName

NETLINK_HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port id."""
LINK = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type of device, index, flags, which flags to change."""
ATTRIBUTE, UNSIGNED, ERROR_NUMBER = struct.Struct("=HH"), struct.Struct("=I"), struct.Struct("=i")
"""struct nlattr: length and type; a value; struct nlmsgerr begins with an error number."""
NLMSG_ERROR, RTM_NEWLINK, RTM_GETLINK, RTM_SETLINK = 2, 16, 18, 19
NLM_F_REQUEST, NLM_F_ACK = 1, 4
IFLA_MTU, IFLA_LINK, IFLA_LINKINFO, IFLA_LINK_NETNSID = 4, 5, 18, 37
IFLA_INFO_KIND = 1
IFF_UP = 1
"""linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if.h."""
TYPE_MASK = 0x3FFF
"""NLA_TYPE_MASK: two bits of the type of an attribute are flags."""
LINK_BYTES_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class DeviceLink:
    """A network device; ``peer`` is the index of the device at its other end, in the same network
    namespace, None if it has none there.
    """

    kind: str
    mtu: int
    is_up: bool
    peer: int | None


def read_link(inside: socket.socket, device: DeviceName) -> DeviceLink:
    """What a device is now; ``inside`` is a socket of rtnetlink.

    Raises:
        OSError: the device has gone, or the kernel does not answer.
    """
    answer = _exchange(inside, RTM_GETLINK, 0, LINK.pack(0, 0, device.ifindex, 0, 0))
    _, _, index, flags, _ = LINK.unpack_from(answer, NETLINK_HEADER.size)
    values = dict(_attributes(answer[NETLINK_HEADER.size + LINK.size :]))
    peer = _number(values, IFLA_LINK) if IFLA_LINK_NETNSID not in values else None
    kind = dict(_attributes(values.get(IFLA_LINKINFO, b""))).get(IFLA_INFO_KIND, b"")
    if index != device.ifindex:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    name = kind.rstrip(b"\0").decode(errors="replace")
    return DeviceLink(name, _number(values, IFLA_MTU) or 0, bool(flags & IFF_UP), peer)


def set_link_up(inside: socket.socket, device: DeviceName, mtu: int) -> None:
    """Set a device up, with this MTU.

    Raises:
        OSError: the device has gone, or this process may not.
    """
    value = ATTRIBUTE.pack(ATTRIBUTE.size + UNSIGNED.size, IFLA_MTU) + UNSIGNED.pack(mtu)
    body = LINK.pack(0, 0, device.ifindex, IFF_UP, IFF_UP) + value
    _exchange(inside, RTM_SETLINK, NLM_F_ACK, body)


def _exchange(inside: socket.socket, kind: int, flags: int, body: bytes) -> bytes:
    """Send a request, and return the answer.

    Raises:
        OSError: the kernel has refused it.
    """
    size = NETLINK_HEADER.size + len(body)
    inside.send(NETLINK_HEADER.pack(size, kind, NLM_F_REQUEST | flags, 1, 0) + body)
    answer = inside.recv(LINK_BYTES_MAX)
    _, answered, *_ = NETLINK_HEADER.unpack_from(answer)
    if answered == NLMSG_ERROR:
        [number] = ERROR_NUMBER.unpack_from(answer, NETLINK_HEADER.size)
        if number:
            raise OSError(-number, os.strerror(-number))
    elif answered != RTM_NEWLINK:
        raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
    return answer


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes in a part of a message, by type."""
    at = 0
    while at + ATTRIBUTE.size <= len(data):
        size, kind = ATTRIBUTE.unpack_from(data, at)
        if size < ATTRIBUTE.size:
            return
        yield kind & TYPE_MASK, data[at + ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3


def _number(values: dict[int, bytes], kind: int) -> int | None:
    value = values.get(kind, b"")
    return UNSIGNED.unpack_from(value)[0] if len(value) >= UNSIGNED.size else None

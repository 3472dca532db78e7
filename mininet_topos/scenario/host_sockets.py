"""Packet sockets in the network namespaces of hosts: they send and capture raw frames."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeVar

from scenario.model import ScenarioError

Seen = Counter[tuple[str, bytes]]
"""How often each host sent, or received, exactly these bytes."""

_ALL = socket.htons(0x0003)  # ETH_P_ALL of linux/if_ether.h
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_PACKET_STATISTICS = 6
_TP_STATUS_VLAN_VALID = 1 << 4
_TP_STATUS_VLAN_TPID_VALID = 1 << 6
_SO_RCVBUFFORCE = 33
_CLONE_NEWNET = 0x40000000
_BUFFER = 64 << 20

_T = TypeVar("_T")


def within(pid: int, make: Callable[[], _T]) -> _T:
    """Call ``make`` in the network namespace of a process; a socket made there stays there."""
    here, there = (os.open(f"/proc/{who}/ns/net", os.O_RDONLY) for who in ("thread-self", pid))
    try:
        _enter(there)
        try:
            return make()
        finally:
            _enter(here)
    finally:
        os.close(here)
        os.close(there)


class HostSockets:
    """Two packet sockets for each host; frames stay in the kernel until ``drain`` counts them."""

    def __init__(self, hosts: Mapping[str, tuple[int, str]]) -> None:
        """``hosts``: the process and the interface of each host, by name."""
        self.sent: Seen = Counter()
        self.received: Seen = Counter()
        self._receivers: dict[str, socket.socket] = {}
        self._senders: dict[str, socket.socket] = {}
        for host, (pid, interface) in hosts.items():
            # a packet socket does not capture what it sent itself: one sends, another captures
            self._senders[host] = within(pid, lambda interface=interface: _open(interface, 0))
            self._receivers[host] = within(pid, lambda interface=interface: _open(interface, _ALL))

    def send(self, host: str, frame: bytes) -> None:
        """Send a frame, unchanged, from a host."""
        self._senders[host].send(frame)

    def drain(self) -> None:
        """Count what was captured since the last call.

        Raises:
            ScenarioError: the kernel dropped frames before they could be counted.
        """
        for host, receiver in self._receivers.items():
            while True:
                try:
                    data, ancillary, _, address = receiver.recvmsg(1 << 16, 256)
                except BlockingIOError:
                    break
                is_sent = address[2] == socket.PACKET_OUTGOING
                (self.sent if is_sent else self.received)[host, _whole(data, ancillary)] += 1
            _, drops = struct.unpack("II", receiver.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
            if drops:
                raise ScenarioError(
                    f"the socket at {host} lost {drops} frames: the check would prove nothing"
                )

    def close(self) -> None:
        """Close all sockets."""
        for one in (*self._receivers.values(), *self._senders.values()):
            one.close()


def _open(interface: str, protocol: int) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    if protocol:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        opened.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        opened.setblocking(False)
    opened.bind((interface, socket.ntohs(protocol)))
    return opened


def _whole(data: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """The frame with the VLAN tag that the kernel strips and reports as ancillary data."""
    for level, kind, value in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
            status, _, _, _, _, tag, protocol = struct.unpack_from("IIIHHHH", value)
            if status & _TP_STATUS_VLAN_VALID:
                known = status & _TP_STATUS_VLAN_TPID_VALID
                word = struct.pack("!HH", protocol if known else 0x8100, tag)
                return data[:12] + word + data[12:]
    return data


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, f"cannot enter a network namespace: {os.strerror(error)}")

"""The AF_PACKET sockets of this network namespace: what waits in them, and what they have dropped.

The userspace datapath reads each port from such a socket, which holds 250 short frames or 90 long
ones. If ovs-vswitchd does not run for some tens of milliseconds, as happens on a busy machine, the
kernel drops frames there before a bridge gets them: nothing else tells of these.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Container
from dataclasses import dataclass

SOCKET = re.compile(
    r"^p_raw\s.*\s\*:(?P<interface>\S+)\s.*\bino:(?P<inode>\d+)\s.*\n"
    r".*\bskmem:\(r(?P<waiting>\d+),.*,d(?P<dropped>\d+)\)",
    re.MULTILINE,
)
"""Two lines of `ss --packet --extended --memory`."""


@dataclass(frozen=True)
class PacketSocket:
    """A socket that receives the frames of one interface; ``waiting`` is in bytes."""

    interface: str
    inode: int
    waiting: int
    dropped: int


def packet_sockets() -> list[PacketSocket]:
    """All of them, those of this process too."""
    command = ["ss", "--no-header", "--numeric", "--packet", "--extended", "--memory"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [
        PacketSocket(
            found["interface"], int(found["inode"]), int(found["waiting"]), int(found["dropped"])
        )
        for found in SOCKET.finditer(shown)
    ]


def own_inodes() -> set[int]:
    """The inodes of the open files of this process."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(os.fstat(int(name)).st_ino)
        except OSError:  # closed meanwhile
            continue
    return found


def is_anything_waiting(without: Container[int]) -> bool:
    """Whether frames wait in a socket whose inode is not among ``without``."""
    return any(one.waiting and one.inode not in without for one in packet_sockets())


def dropped_by_bridges() -> int:
    """How many frames the kernel has dropped because ovs-vswitchd was too slow."""
    own = own_inodes()
    return sum(one.dropped for one in packet_sockets() if one.inode not in own)


def dropped_before(interface: str) -> int:
    """How many frames of one interface the kernel has dropped before its bridge got them."""
    return sum(one.dropped for one in packet_sockets() if one.interface == interface)

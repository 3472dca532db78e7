"""A bridge with the kernel datapath, and two workloads whose TCP leaves segmentation to others.

The workloads are network namespaces with the kernel's own TCP and all offloads on, as every virtual
machine has them: what they send to each other are super-frames with unfinished checksums.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.ovs.controller_process import TARGET
from tests.ovs.endpoint import (
    AUXDATA,
    ETH_P_ALL,
    FRAME_MAX,
    PACKET_AUXDATA,
    PACKET_IGNORE_OUTGOING,
    RECEIVE_BUFFER,
    SO_RCVBUFFORCE,
    SOL_PACKET,
)
from tests.ovs.lab import vsctl
from tests.ovs.waiting import wait_for

WEB, DB = "02:00:00:00:00:01", "02:00:00:00:00:02"
INVENTORY = f"""\
tenants: [red]
networks:
  - {{name: lan, tenant: red}}
ports:
  - {{id: red-web, name: web, tenant: red, network: lan, mac: "{WEB}"}}
  - {{id: red-db, name: db, tenant: red, network: lan, mac: "{DB}"}}
  - {{id: red-ids, name: ids, tenant: red, kind: tap}}
"""
TAP = "ids-eth0"
"""The device of the tap port, on the switch's side."""
TP_STATUS_CSUMNOTREADY = 0x08
"""linux/if_packet.h: the checksum of a received packet is not finished."""
FULL_FRAME = 1514
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6 = 1, 2, 4
"""linux/if_tun.h."""
VNET_HDR = 10
VIRTIO_NET_HDR_F_NEEDS_CSUM = 1
"""linux/virtio_net.h."""

SERVER = """
import socket
listening = socket.create_server(("10.0.0.2", 5001))
print("up", flush=True)
accepted, _ = listening.accept()
count = 0
while data := accepted.recv(1 << 20):
    count += len(data)
print(count, flush=True)
"""
CLIENT = """
import socket, sys
with socket.create_connection(("10.0.0.2", 5001), timeout=20) as connection:
    connection.sendall(bytes(int(sys.argv[1])))
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)
"""


@dataclass(frozen=True)
class Received:
    """A frame at the sensor, and whether its checksum was left to it."""

    frame: bytes
    is_unfinished: bool


class Veth:
    """A sensor at the far end of a veth pair; the near end is the device of the tap port."""

    def __init__(self, near: str = TAP, far: str = "ids-far") -> None:
        self.near, self.far = near, far
        run(f"ip link add {near} type veth peer name {far}")
        run(f"ip link set {near} up")
        run(f"ip link set {far} up")
        self._socket = packet_socket(far)

    def received(self) -> Iterator[Received]:
        """What has arrived since the last call."""
        yield from frames_in(self._socket)

    def close(self) -> None:
        """Remove both ends."""
        self._socket.close()
        run(f"ip link del {self.near}")


class TapDevice:
    """A sensor in a virtual machine: it reads a tun device as QEMU does for virtio-net."""

    def __init__(self, near: str = TAP) -> None:
        self.near = near
        self._file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
        fcntl.ioctl(self._file, TUNSETIFF, struct.pack("16sH22x", near.encode(), flags))
        self.start_driver()
        run(f"ip link set {near} up")

    def start_driver(self) -> None:
        """The driver in the virtual machine starts: it takes super-frames and checksums."""
        fcntl.ioctl(self._file, TUNSETOFFLOAD, 0)
        fcntl.ioctl(self._file, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)

    def received(self) -> Iterator[Received]:
        """What has arrived since the last call."""
        while True:
            try:
                data = os.read(self._file, FRAME_MAX + VNET_HDR)
            except BlockingIOError:
                return
            yield Received(data[VNET_HDR:], bool(data[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM))

    def close(self) -> None:
        """Remove the device."""
        os.close(self._file)


class Internal:
    """A sensor that listens at an internal port of the bridge."""

    def __init__(self, near: str = TAP) -> None:
        self.near = near
        self._socket: socket.socket | None = None

    def received(self) -> Iterator[Received]:
        """What has arrived since the last call; the first one begins to listen."""
        if self._socket is None:
            self._socket = packet_socket(self.near)
        yield from frames_in(self._socket)

    def close(self) -> None:
        """Listen no more."""
        if self._socket is not None:
            self._socket.close()


Sensor = Veth | TapDevice | Internal


class TcpCloud:
    """Bridge ``s1`` with the workloads web and db of tenant red, and a tap port ``ids``."""

    def __init__(self) -> None:
        for scope in ("all", "default"):  # or the kernel sends frames of its own
            Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")
        vsctl("add-br", "s1", "--", "set", "Bridge", "s1", "datapath_type=system",
              "fail_mode=secure", "protocols=OpenFlow13", f"other_config:datapath-id={0x51:016x}",
              "--", "set-controller", "s1", TARGET)  # fmt: skip
        self.sensor: Sensor | None = None
        for number, (name, mac) in enumerate((("web", WEB), ("db", DB)), 1):
            run(f"ip netns add {name}")
            run(f"ip link add {name}-eth0 type veth peer name {name}-far")
            run(f"ip link set {name}-eth0 up")
            run(f"ip link set {name}-far netns {name}")
            inside = f"ip netns exec {name}"
            run(f"{inside} ip link set lo up")
            run(f"{inside} ip link set {name}-far address {mac} up")
            run(f"{inside} ip address add 10.0.0.{number}/24 dev {name}-far")
            self.attach(f"{name}-eth0", number, f"red-{name}")

    def attach(self, interface: str, ofport: int, iface_id: str, kind: str = "system") -> None:
        """Add a port to the bridge."""
        vsctl("add-port", "s1", interface, "--", "set", "Interface", interface, f"type={kind}",
              f"ofport_request={ofport}", f"external_ids:iface-id={iface_id}")  # fmt: skip

    def tap(self, sensor: Sensor) -> Sensor:
        """Attach a sensor by the tap port."""
        self.sensor = sensor
        is_internal = isinstance(sensor, Internal)
        self.attach(sensor.near, 9, "red-ids", "internal" if is_internal else "system")
        if is_internal:
            run(f"ip link set {sensor.near} up")
        return sensor

    def transfer(self, size: int = 200_000) -> list[Received]:
        """Send so many bytes from web to db; what the sensor has got of it, once it has all."""
        assert self.sensor is not None
        list(self.sensor.received())
        command = ["ip", "netns", "exec", "db", sys.executable, "-c", SERVER]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "up\n"
            run(f"ip netns exec web {sys.executable} -c '{CLIENT}' {size}")
            assert int(server.stdout.readline()) == size, "production comes first"
        got: list[Received] = []

        def look() -> int:
            assert self.sensor is not None
            got.extend(self.sensor.received())
            return announced(got)

        assert wait_for(look, lambda seen: seen >= size, 20.0) == size
        return [each for each in got if payload_of(each.frame) is not None]

    def close(self) -> None:
        """Remove everything."""
        vsctl("--if-exists", "del-br", "s1")
        if self.sensor is not None:
            self.sensor.close()
        for name in ("web", "db"):
            run(f"ip link del {name}-eth0")
            run(f"ip netns del {name}")


def packet_socket(interface: str) -> socket.socket:
    """A socket that gets all that an interface receives."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    opened.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    opened.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    opened.bind((interface, ETH_P_ALL))
    opened.setblocking(False)
    return opened


def frames_in(source: socket.socket) -> Iterator[Received]:
    """The frames that wait in a packet socket."""
    while True:
        try:
            frame, notes, _, _ = source.recvmsg(FRAME_MAX, 64)
        except BlockingIOError:
            return
        status = next(
            AUXDATA.unpack_from(data)[0]
            for level, kind, data in notes
            if (level, kind) == (SOL_PACKET, PACKET_AUXDATA)
        )
        yield Received(frame, bool(status & TP_STATUS_CSUMNOTREADY))


def payload_of(frame: bytes) -> tuple[int, int] | None:
    """Sequence number and payload in bytes of a TCP segment of web; None for other frames."""
    if frame[6:12] != bytes.fromhex(WEB.replace(":", "")) or frame[12:14] != b"\x08\0":
        return None
    packet = frame[14:]
    if packet[9] != socket.IPPROTO_TCP:
        return None
    header = (packet[0] & 15) * 4
    length = int.from_bytes(packet[2:4], "big") - header - (packet[header + 12] >> 4) * 4
    return int.from_bytes(packet[header + 4 : header + 8], "big"), length


def announced(received: Sequence[Received]) -> int:
    """How many bytes of payload are in some frames, retransmissions left out."""
    found = {payload_of(each.frame) for each in received}
    return sum(one[1] for one in found if one is not None)


def has_right_checksum(frame: bytes) -> bool:
    """Whether the TCP checksum of an IPv4 frame is right (RFC 9293, section 3.1)."""
    packet = frame[14:]
    header, total = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
    segment = packet[header:total]
    words = packet[12:20] + bytes([0, packet[9]]) + len(segment).to_bytes(2, "big") + segment
    words += b"\0" * (len(words) % 2)
    found = sum(struct.unpack(f"!{len(words) // 2}H", words))
    while found >> 16:
        found = (found & 0xFFFF) + (found >> 16)
    return found == 0xFFFF


def is_offloaded(device: str, namespace: str | None = None) -> bool:
    """Whether a device takes packets whose checksums are not finished, as ethtool says."""
    inside = "" if namespace is None else f"ip netns exec {namespace} "
    found = re.search(
        r"^tx-checksumming: (on|off)", run(f"{inside}ethtool -k {device}"), re.MULTILINE
    )
    assert found is not None
    return found[1] == "on"


def run(command: str) -> str:
    """Run a command; returns what it printed."""
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert not done.returncode, f"{command}: {done.stderr}"
    return done.stdout

"""Two workloads in network namespaces, as VMs: they leave segmentation and checksums to others."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.ovs.endpoint import Endpoint
from tests.ovs.waiting import wait_for

WEB, DB = 0x020000000001, 0x020000000002
ADDRESSES = {"web": "10.0.0.1", "db": "10.0.0.2"}
MACS = {"web": WEB, "db": DB}
STREAM_PORT, END_PORT = 5001, 5002
CLONE_NEWNET = 0x40000000
"""linux/sched.h."""
ALIKE = 20
"""So many end datagrams have arrived at db: then one of them was copied, or none is."""
PATIENCE_S = 60.0
END = b"the end"


class Workload:
    """The far end of a port in a network namespace of its own, with an address."""

    def __init__(self, name: str, port: str) -> None:
        """``port`` is the far end of the veth pair of a port of a bridge."""
        self.name, self.address, self._port = name, ADDRESSES[name], port
        mac = ":".join(f"{byte:02x}" for byte in MACS[name].to_bytes(6, "big"))
        run(f"ip netns add {name}")
        run(f"ip link set {port} netns {name}")
        for command in (
            "ip link set lo up",
            f"ip link set {port} address {mac} up",
            f"ip address add {self.address}/24 dev {port}",
        ):
            self.run(command)
        self.set_offloads("on")

    def run(self, command: str) -> None:
        """Run a command in its namespace."""
        run(f"ip netns exec {self.name} {command}")

    def set_offloads(self, state: str) -> None:
        """Whether segmentation (TSO) and checksums of what it sends are left to others."""
        self.run(f"ethtool -K {self._port} tx {state} tso {state} gso {state}")

    @contextmanager
    def network(self) -> Iterator[None]:
        """Sockets that this thread creates inside are those of the workload."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        other = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _enter(other)
            yield
        finally:
            _enter(own)
            os.close(own)
            os.close(other)

    def capture(self) -> Endpoint:
        """All that it receives, as it comes from the wire."""
        with self.network():
            return Endpoint(self.name, 0, self._port, self._port)

    def close(self) -> None:
        """Give the port back."""
        self.run(f"ip link set {self._port} netns 1")
        run(f"ip netns del {self.name}")


def transfer(web: Workload, db: Workload, size: int) -> None:
    """Send ``size`` bytes by TCP from web to db; returns when db has got them all.

    Raises:
        AssertionError: production has not delivered the bytes, or has delivered others.
    """
    sent = os.urandom(size)
    with db.network():
        server = socket.create_server((db.address, STREAM_PORT))
    with web.network():
        client = socket.socket()
    received = bytearray()

    def receive() -> None:
        connection, _ = server.accept()
        with connection:
            while data := connection.recv(1 << 20):
                received.extend(data)

    with server, client:
        server.settimeout(PATIENCE_S)
        client.settimeout(PATIENCE_S)
        receiver = threading.Thread(target=receive, daemon=True)
        receiver.start()
        client.connect((db.address, STREAM_PORT))
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        receiver.join(PATIENCE_S)
    assert bytes(received) == sent, f"production delivered {len(received)} of {size} bytes"


def wait_until_copied(
    web: Workload, db: Workload, collect: Callable[[], list[bytes]]
) -> list[bytes]:
    """Send small datagrams from web to db until the copy of one has come, or none will; returns
    all that ``collect`` has given, which is what the sensor got.

    What was sent before the datagrams has been copied by then: one processor keeps the order.
    """
    with db.network():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind((db.address, END_PORT))
    with web.network():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    copies: list[bytes] = []
    arrived = 0

    def look() -> bool:
        nonlocal arrived
        sender.sendto(END, (db.address, END_PORT))
        while True:
            try:
                receiver.recv(100, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            arrived += 1
        copies.extend(collect())
        return arrived >= ALIKE or any(END in frame for frame in copies)

    with receiver, sender:
        wait_for(look, bool)
    copies.extend(collect())
    return copies


def set_offloads(interface: str, **states: str) -> None:
    """``ethtool -K``: whether the other end of a cable gets super-frames and open checksums."""
    run(" ".join(("ethtool -K", interface, *(f"{k} {v}" for k, v in states.items()))))


def has_segments_merged(interface: str) -> bool:
    """Whether a network device merges received segments to super-frames (GRO)."""
    done = subprocess.run(["ethtool", "-k", interface], capture_output=True, text=True, check=True)
    return "generic-receive-offload: on" in done.stdout


def run(command: str) -> None:
    """Run a command, which must succeed."""
    done = subprocess.run(command.split(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stderr.strip()}"


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")

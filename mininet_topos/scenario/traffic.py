"""The traffic of a story: real programs, then raw frames of every kind from every host."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from scenario import frames
from scenario.host_sockets import HostSockets, within
from scenario.model import Scenario, ScenarioError, Workload

NOBODY = "02:00:00:00:0f:0f"
MULTICAST = "01:00:5e:00:00:fb"
_WEB_PORT = 80
_PAGE_BYTES = 20_000
"""Small, and fetched by one host at a time: the userspace datapath has short queues, and
throughput is not tested."""


class Host(Protocol):
    """What is used of a Mininet host."""

    pid: int

    def popen(self, *arguments: str, **options: object) -> subprocess.Popen[str]:
        """Start a program in the host."""
        ...


class Traffic:
    """Sends all traffic once, and remembers the kind of each raw frame."""

    def __init__(self, scenario: Scenario, hosts: Mapping[str, Host], sockets: HostSockets) -> None:
        self._scenario, self._hosts, self._sockets = scenario, hosts, sockets
        self._kind: dict[bytes, str] = {}

    def kind_of(self, frame: bytes) -> str:
        """The kind of a frame, as the table names it."""
        return self._kind.get(frame) or frames.kind_of(frame)

    def send_all(self) -> None:
        """Send pings, a web page, UDP and raw frames; returns when the programs have finished.

        Raises:
            ScenarioError: a program did not get its answer.
        """
        self._ping()
        self._fetch_page()
        self._send_datagrams()
        for member in self._scenario.members:
            for kind, frame in self._raw_frames(member):
                self._send(member.host, kind, frame)

    def send_markers(self, number: int) -> list[tuple[str, bytes]]:
        """Send one broadcast from every workload; returns where each of them must arrive."""
        arrivals = []
        for sender in self._scenario.workloads:
            text = f"story: marker {number} of {sender.host}".encode()
            frame = frames.ethernet(frames.BROADCAST, sender.mac, frames.EXPERIMENT, text)
            self._send(sender.host, "broadcast", frame)
            arrivals += [(other.host, frame) for other in self._others(sender)]
        return arrivals

    def _send(self, host: str, kind: str, frame: bytes) -> None:
        self._kind[frame] = kind
        self._sockets.send(host, frame)

    def _others(self, one: Workload) -> list[Workload]:
        return [w for w in self._scenario.workloads if w.tenant == one.tenant and w is not one]

    def _pairs(self) -> Iterator[tuple[Workload, Workload]]:
        for one in self._scenario.workloads:
            for other in self._others(one):
                yield one, other

    def _ping(self) -> None:
        started = [
            self._start(one, f"ping -q -c 2 -i 0.1 -W 2 {other.ip}")
            for one, other in self._pairs()
            if one.ip < other.ip
        ]
        for process in started:
            _finish(process)

    def _fetch_page(self) -> None:
        """Every host asks the database host of its tenant for a page."""
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "page").write_bytes(b"scenario " * (_PAGE_BYTES // 6))
            command = f"{sys.executable} -m http.server --directory {folder} {_WEB_PORT}"
            servers = [w for w in self._scenario.workloads if w.name == "db-1"]
            running = [self._start(server, command) for server in servers]
            try:
                for server in servers:
                    _wait_until(
                        lambda pid=self._hosts[server.host].pid: _is_listening(pid), command
                    )
                    for one in self._others(server):
                        fetch = f"curl -sS -m 5 -o /dev/null http://{server.ip}/page"
                        _finish(self._start(one, fetch))
            finally:
                for process in running:
                    process.kill()
                    process.communicate()

    def _send_datagrams(self) -> None:
        for one, other in self._pairs():
            listener, sender = (
                within(self._hosts[w.host].pid, lambda: socket.socket(type=socket.SOCK_DGRAM))
                for w in (other, one)
            )
            with listener, sender:
                listener.bind((other.ip, 5140))
                listener.settimeout(2)
                # both tenants send the same bytes: isolation must keep them apart
                sender.bind((one.ip, 5140))
                sender.sendto(f"story: hello {other.name}".encode(), (other.ip, 5140))
                try:
                    listener.recv(100)
                except TimeoutError:
                    route = f"from {one.host} to {other.host}"
                    raise ScenarioError(f"a UDP datagram {route} was not delivered") from None

    def _raw_frames(self, member: object) -> Iterator[tuple[str, bytes]]:
        if isinstance(member, Workload):
            yield from _group_frames(member)
            for other in self._others(member):
                yield from _frames_between(member, other)
        else:
            text = b"story: from the tap port"
            frame = frames.ethernet(frames.BROADCAST, "02:00:00:00:00:aa", frames.EXPERIMENT, text)
            yield "sent by a tap port", frame

    def _start(self, where: Workload, command: str) -> subprocess.Popen[str]:
        return self._hosts[where.host].popen(
            *shlex.split(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _group_frames(one: Workload) -> Iterator[tuple[str, bytes]]:
    """Broadcast, multicast and flooded frames: each host of the network must receive them."""

    def text(what: str) -> bytes:
        return f"story: {what} of {one.host}".encode()

    everybody, experiment = frames.BROADCAST, frames.EXPERIMENT
    asked = frames.arp_request(one.mac, one.ip, "10.0.0.99", text("question"))
    yield "ARP", frames.ethernet(everybody, one.mac, frames.ARP, asked)
    called = frames.udp(one.ip, "255.255.255.255", text("call"))
    yield "broadcast", frames.ethernet(everybody, one.mac, frames.IPV4, called)
    sung = frames.udp(one.ip, "224.0.0.251", text("song"))
    yield "multicast", frames.ethernet(MULTICAST, one.mac, frames.IPV4, sung)
    inside = frames.tagged(7, experiment, text("tagged broadcast"))
    yield "VLAN-tagged", frames.ethernet(everybody, one.mac, frames.VLAN, inside)
    lost = frames.ethernet(NOBODY, one.mac, experiment, text("letter to nobody"))
    yield "unknown destination", lost


def _frames_between(one: Workload, other: Workload) -> Iterator[tuple[str, bytes]]:
    """Unicast frames: no other host may receive them."""

    def text(what: str) -> bytes:
        return f"story: {what} from {one.host} to {other.host}".encode()

    experiment = frames.EXPERIMENT
    inside = frames.tagged(42, frames.IPV4, frames.udp(one.ip, other.ip, text("tagged datagram")))
    yield "VLAN-tagged", frames.ethernet(other.mac, one.mac, frames.VLAN, inside)
    outer = frames.tagged(100, frames.VLAN, frames.tagged(42, experiment, text("two tags")))
    yield "two VLAN tags", frames.ethernet(other.mac, one.mac, frames.PROVIDER_VLAN, outer)
    yield "odd EtherType", frames.ethernet(other.mac, one.mac, experiment, text("letter"))
    long = text("long letter").ljust(frames.FULL_FRAME - 14, b".")
    yield "odd EtherType", frames.ethernet(other.mac, one.mac, experiment, long)
    if not one.is_learned:
        forged = frames.ethernet(other.mac, NOBODY, experiment, text("forged sender"))
        yield "forged sender", forged


def _finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=10)
    if process.returncode:
        last = (output.strip().splitlines() or ["it printed nothing"])[-1]
        command = shlex.join(word for word in process.args if isinstance(word, str))
        raise ScenarioError(f"'{command}' failed: {last}")


def _is_listening(pid: int) -> bool:
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    # fields of proc(5): local address and port in hex, remote address, state (0A: listening)
    return any(
        line.split()[1].endswith(f":{_WEB_PORT:04X}") and line.split()[3] == "0A" for line in lines
    )


def _wait_until(is_true: Callable[[], bool], what: str, deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while not is_true():
        if time.monotonic() > end:
            raise ScenarioError(f"not ready after {deadline_s:.0f} s: {what}")
        time.sleep(0.01)

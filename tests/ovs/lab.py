"""Real bridges with cables for tests: frames go in, and exactly what comes out is collected.

``Lab.exchange`` knows when everything has been delivered without waiting for time to pass. After
the frames, every endpoint sends a marker that test-only flows carry to all other endpoints.
Cables and the data path keep the order of what enters by one port, so once the markers are
everywhere, so is all that was sent before them, and a frame too many cannot hide.

Several rounds of markers are needed. Inside one burst Open vSwitch sends packets of new flows
before those of known ones, so a first marker may overtake; and a copy that travels back over a
link is only fenced by a marker that starts where it turned round.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType

from tests.ovs.endpoint import Endpoint

MARKER = 0x88B5
"""EtherType for local experiments (IEEE 802): no test may send it."""
FENCE_COOKIE = 0xFE9CE
"""Cookie of the flows that carry markers: foreign to the product, which must leave them alone."""
FENCE_PRIORITY = 65535
MARKER_MAC = bytes.fromhex("02fece0000")
BURST = 32
"""Frames sent before a fence: what the receive buffers of the data path hold with certainty."""
LINK_MTU = 1600
DEADLINE_S = 10.0
WARM_UP_S = 0.1
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17
"""linux/sockios.h and linux/ethtool.h."""


class LabError(RuntimeError):
    """The lab cannot be built here, or did not deliver in time; the message says what was seen."""


class Lab:
    """Bridges of the userspace data path, endpoints at their ports, and links between bridges.

    Everything is removed by ``close`` (or at the end of a ``with`` block).
    """

    def __init__(self) -> None:
        if os.environ.get("CLOUDTAP_ISOLATED") != "yes":
            raise LabError(
                "tests on Open vSwitch need a private one: run them with `tools/isolate COMMAND`"
            )
        for scope in ("all", "default"):  # or the kernel itself would send on every cable
            Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")
        self.bridges: list[str] = []
        self.endpoints: list[Endpoint] = []
        self.links: list[tuple[str, int, str, int]] = []
        self._cables: list[str] = []
        self._is_armed = False
        self._round = 0
        self._closing: list[Callable[[], None]] = []
        self.criers: list[Endpoint] = []
        """The endpoints that send markers, one on each bridge; none named: all."""

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        what: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def add_bridge(self, name: str, dpid: int | None = None, controller: str | None = None) -> str:
        """Create a bridge that forwards nothing until it is told to; returns its name.

        ``controller`` is a target such as ``tcp:127.0.0.1:6653``.
        """
        command = ["add-br", name, "--", "set", "Bridge", name, "datapath_type=netdev"]
        command += ["fail_mode=secure", "protocols=OpenFlow13"]
        if dpid is not None:
            command.append(f"other_config:datapath-id={dpid:016x}")
        if controller is not None:
            command += ["--", "set-controller", name, controller]
        vsctl(*command)
        self.bridges.append(name)
        return name

    def dpid(self, bridge: str) -> int:
        """The datapath id of a bridge."""
        return int(vsctl("get", "Bridge", bridge, "datapath_id").strip().strip('"'), 16)

    def add_port(self, bridge: str, ofport: int, iface_id: str | None = None) -> Endpoint:
        """Plug one cable into port ``ofport`` of ``bridge``; see ``add_ports``."""
        ids = {} if iface_id is None else {ofport: iface_id}
        return self.add_ports(bridge, [ofport], ids)[0]

    def add_ports(
        self, bridge: str, ofports: Iterable[int], iface_ids: dict[int, str] | None = None,
        mtu: int = 1500,
    ) -> list[Endpoint]:  # fmt: skip
        """Plug cables into ``ofports`` of ``bridge``, all at once (one port alone is not faster).

        The interface is named BRIDGE-ethNUMBER. ``iface_ids`` gives some of them an
        ``external_ids:iface-id``.
        """
        numbers = list(ofports)
        names = [(f"{bridge}-eth{n}", f"{bridge}-far{n}") for n in numbers]
        self._lay_cables(names, mtu)
        self._plug(
            [(bridge, n, near) for n, (near, _) in zip(numbers, names, strict=True)], iface_ids
        )
        added = [Endpoint(bridge, n, *pair) for n, pair in zip(numbers, names, strict=True)]
        self.endpoints += added
        return added

    def link(
        self, bridge_a: str, ofport_a: int, bridge_b: str, ofport_b: int, mtu: int = LINK_MTU
    ) -> None:
        """Join two bridges by a cable (MTU 1600, so a tag of ours never cuts a frame)."""
        near, far = f"{bridge_a}-eth{ofport_a}", f"{bridge_b}-eth{ofport_b}"
        self._lay_cables([(near, far)], mtu)
        self._plug([(bridge_a, ofport_a, near), (bridge_b, ofport_b, far)])
        self.links.append((bridge_a, ofport_a, bridge_b, ofport_b))

    def remove_port(self, endpoint: Endpoint) -> None:
        """Pull the cable of an endpoint out and delete its port."""
        vsctl("--if-exists", "del-port", endpoint.bridge, endpoint.interface)
        endpoint.close()
        self.endpoints.remove(endpoint)
        self._cables.remove(endpoint.interface)
        _run(["ip", "link", "del", endpoint.interface])
        self._is_armed = False

    def settle(self) -> None:
        """Wait until cached packet paths agree with the flow tables (after any change of flows)."""
        _run(["ovs-appctl", "revalidator/wait"])

    def exchange(
        self, frames: Sequence[tuple[Endpoint, bytes]], burst_size: int = BURST,
        pause: int | None = None,
    ) -> dict[Endpoint, list[bytes]]:  # fmt: skip
        """Send each frame from its endpoint, and collect all that arrives, at every endpoint.

        ``burst_size`` frames are sent at once: they and all that is made of them must fit the
        receive buffers. Between bursts there are ``pause`` rounds of markers, if not all.
        Endpoints that received nothing are in the answer with an empty list. What was still
        unread from before is thrown away by ``receive_all``, not mixed in.
        """
        if not self._is_armed:
            self.arm()
        for endpoint in self.endpoints:
            endpoint.receive_all()
        rest = iter(frames)
        while burst := list(islice(rest, burst_size)):
            for endpoint, frame in burst:
                endpoint.send(frame)
            self.flush(pause)
        if pause is not None:
            self.flush()
        return {endpoint: endpoint.receive_all() for endpoint in self.endpoints}

    def flush(self, rounds: int | None = None) -> None:
        """Return when everything sent so far has been delivered (to ``Endpoint.receive_all``).

        Raises:
            LabError: a marker did not arrive; the message says which ones are missing.
        """
        if not self._is_armed:
            self.arm()
        for _ in range(rounds or self._rounds()):
            self._one_round(DEADLINE_S)
        for endpoint in self.endpoints:
            endpoint.check_nothing_was_lost()

    def arm(self) -> None:
        """Install the flows that carry markers; again after Open vSwitch was restarted.

        New cables swallow frames until the kernel has noticed that both ends are up: rounds that
        fail are repeated until one is complete. From then on the data path knows the markers.
        """
        for bridge in self.bridges:
            fence = f"cookie={FENCE_COOKIE:#x}/-1"
            _run(["ovs-ofctl", "-O", "OpenFlow13", "del-flows", bridge, fence])
            text = "\n".join(self._fence_flows(bridge)) + "\n"
            _run(["ovs-ofctl", "-O", "OpenFlow13", "add-flows", bridge, "-"], text)
        self._is_armed = True
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                return self._one_round(WARM_UP_S)
            except LabError:
                if time.monotonic() > deadline:
                    raise

    def on_close(self, close: Callable[[], None]) -> None:
        """Have something closed together with the lab."""
        self._closing.append(close)

    def close(self) -> None:
        """Remove bridges and cables."""
        while self._closing:
            self._closing.pop()()
        for endpoint in self.endpoints:
            endpoint.close()
        for bridge in self.bridges:
            vsctl("--if-exists", "del-br", bridge)
        _run(["ip", "-batch", "-"], "".join(f"link del {name}\n" for name in self._cables))
        self.bridges, self.endpoints, self.links, self._cables = [], [], [], []

    def _lay_cables(self, pairs: list[tuple[str, str]], mtu: int) -> None:
        lines = [f"link add {a} mtu {mtu} type veth peer name {b} mtu {mtu}" for a, b in pairs]
        lines += [f"link set {end} up" for pair in pairs for end in pair]
        _run(["ip", "-batch", "-"], "\n".join(lines) + "\n")
        self._cables += [a for a, _ in pairs]
        for pair in pairs:
            for end in pair:
                finish_checksums(end)

    def _plug(
        self, ports: list[tuple[str, int, str]], iface_ids: dict[int, str] | None = None
    ) -> None:
        command: list[str] = []
        for bridge, ofport, interface in ports:
            command += ["--", "add-port", bridge, interface]
            command += ["--", "set", "Interface", interface, f"ofport_request={ofport}"]
            if iface_ids and ofport in iface_ids:
                command.append(f"external_ids:iface-id={iface_ids[ofport]}")
        vsctl(*command[1:])
        names = [interface for _, _, interface in ports]
        listed = vsctl("--format=csv", "--columns=name,ofport", "list", "Interface", *names)
        got = dict(line.split(",") for line in listed.split("\n")[1:-1])
        for _, ofport, interface in ports:
            if got[interface] != str(ofport):
                raise LabError(
                    f"{interface} should be port {ofport}, Open vSwitch made it {got[interface]}"
                )
        self._is_armed = False

    def _link_ports(self, bridge: str) -> list[tuple[int, str, int]]:
        ends = [(port_a, b, port_b) for a, port_a, b, port_b in self.links if a == bridge]
        return ends + [(port_b, a, port_a) for a, port_a, b, port_b in self.links if b == bridge]

    def _fence_flows(self, bridge: str) -> list[str]:
        """Markers go to every other endpoint here, and over each other link with one hop less."""
        own = [e.ofport for e in self.endpoints if e.bridge == bridge]
        links = [port for port, _, _ in self._link_ports(bridge)]
        most = len(self.bridges) - 1
        entries = [(port, most) for port in own]
        entries += [(port, hops) for port in links for hops in range(most)]
        flows = []
        for port, hops in entries:
            actions = [f"output:{other}" for other in own if other != port]
            if hops:
                actions.append(f"set_field:{_mac(hops - 1)}->eth_dst")
                actions += [f"output:{other}" for other in links if other != port]
            flows.append(
                f"cookie={FENCE_COOKIE:#x},table=0,priority={FENCE_PRIORITY},in_port={port},"
                f"dl_type={MARKER:#x},dl_dst={_mac(hops)},actions={','.join(actions) or 'drop'}"
            )
        return flows

    def _expected(self, sender: Endpoint) -> Counter[Endpoint]:
        """How many copies of one marker of ``sender`` reach each endpoint (1 each, in a tree)."""
        expected: Counter[Endpoint] = Counter()

        def visit(bridge: str, entered: int, hops: int) -> None:
            for endpoint in self.endpoints:
                if endpoint.bridge == bridge and endpoint.ofport != entered:
                    expected[endpoint] += 1
            for port, other, far_port in self._link_ports(bridge) if hops else ():
                if port != entered:
                    visit(other, far_port, hops - 1)

        visit(sender.bridge, sender.ofport, len(self.bridges) - 1)
        return expected

    def _rounds(self) -> int:
        """Markers of one port are behind the frames of another after a turn of the data path, which
        serves one port after the other: with few criers each hop takes a turn more.
        """
        usual = 3 if self.links else 2
        return usual + 2 * len(self.bridges) if self.criers else usual

    def _one_round(self, seconds: float) -> None:
        self._round += 1
        missing: Counter[Endpoint] = Counter()
        hops = len(self.bridges) - 1
        for sender in self.criers or self.endpoints:
            missing += self._expected(sender)
            with suppress(OSError):  # a dead cable; its markers will be missing
                sender.send(_marker(hops, self._round))
        by_descriptor = {endpoint.fileno(): endpoint for endpoint in self.endpoints}
        deadline = time.monotonic() + seconds
        with select.epoll() as poll:
            for descriptor in by_descriptor:
                poll.register(descriptor, select.EPOLLIN)
            while missing := +missing:
                left = deadline - time.monotonic()
                if left < 0:
                    names = f"round {self._round}: {dict(missing)}"
                    raise LabError(f"markers did not arrive in time, {names}")
                for descriptor, _ in poll.poll(left):
                    endpoint = by_descriptor[descriptor]
                    missing[endpoint] -= self._collect(endpoint)

    def _collect(self, endpoint: Endpoint) -> int:
        """Keep the frames in the socket; the number of markers of this round among them."""
        markers = 0
        while (frame := endpoint.receive_raw()) is not None:
            if frame[:5] == MARKER_MAC and frame[12:14] == MARKER.to_bytes(2, "big"):
                markers += int.from_bytes(frame[14:18], "big") == self._round
            else:
                endpoint.frames.append(frame)
        return markers


def finish_checksums(interface: str) -> None:
    """Have the kernel finish checksums before it sends, as ``ethtool -K INTERFACE tx off``."""
    value = ctypes.create_string_buffer(struct.pack("=II", ETHTOOL_STXCSUM, 0), 8)
    request = struct.pack("=16sQ16x", interface.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)


def vsctl(*arguments: str) -> str:
    """Run ovs-vsctl and return what it printed."""
    return _run(["ovs-vsctl", *arguments])


def ofctl(command: str, *arguments: str) -> str:
    """Run an ovs-ofctl command with OpenFlow 1.3 and return what it printed."""
    return _run(["ovs-ofctl", "-O", "OpenFlow13", command, *arguments])


def ofctl_text(bridge: str, lines: Iterable[str]) -> None:
    """Send flow-mods, one a line ("add ..." or "delete ..."), in one bundle: all or nothing."""
    command = ["ovs-ofctl", "-O", "OpenFlow13", "--bundle", "add-flows", bridge, "-"]
    _run(command, "".join(f"{line}\n" for line in lines))


def ofproto_trace(bridge: str, ofport: int, frame: bytes) -> str:
    """What Open vSwitch says that it does with a frame."""
    return _run(["ovs-appctl", "ofproto/trace", bridge, f"in_port={ofport}", frame.hex()])


def purge_cache() -> None:
    """Empty the data path's cache, so that the next packets meet the flow tables themselves."""
    _run(["ovs-appctl", "revalidator/purge"])


def _run(command: list[str], text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise LabError(f"{' '.join(command)[:300]}: {done.stderr.strip()}")
    return done.stdout


def _mac(hops: int) -> str:
    return ":".join(f"{byte:02x}" for byte in MARKER_MAC + bytes([hops]))


def _marker(hops: int, number: int) -> bytes:
    head = (
        MARKER_MAC
        + bytes([hops])
        + bytes.fromhex("02fece000100")
        + struct.pack("!HI", MARKER, number)
    )
    return head.ljust(60, b"\0")

"""Bridges of a real Open vSwitch with veth pairs: sends frames and collects all that comes out.

``Lab.exchange`` detects without a timeout that everything has been delivered. After the frames,
every endpoint sends a marker, which flows of the lab carry to all other endpoints. veth pairs and
the datapath keep the order of frames that enter by one port, so once the markers have arrived
everywhere, all that was sent before them has arrived too, extra frames included.

Several rounds of markers are needed. Within one burst Open vSwitch sends packets that need an
upcall before packets that hit a megaflow, so the first marker may overtake frames. A copy that
travels back over a link is only followed by a marker that starts at the bridge where it turned.

On the kernel datapath a packet that needs an upcall waits in a queue for ovs-vswitchd, and packets
that hit a megaflow overtake it. There every marker needs an upcall at every bridge: its megaflow
matches the number of the round. One processor has one queue and one handler thread, so a marker
is behind all upcalls of frames that were sent before it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType

from tests.ovs.datapath import DATAPATH, INSTANCES, IS_KERNEL
from tests.ovs.endpoint import Endpoint
from tests.ovs.open_vswitch import pid_of
from tests.ovs.waiting import wait_for

MARKER = 0x88B5
"""EtherType for local experiments (IEEE 802): no test may send it."""
MARKER_COOKIE = 0xFE9CE
"""Cookie of the flows of markers. It is not a cookie of the product, which must keep them."""
MARKER_PRIORITY = 65535
MARKER_MAC = bytes.fromhex("02fece0000")
MARKER_SOURCE = bytes.fromhex("02fe")
"""Begin of the source address of a marker; the number of its round follows."""
EXACT_SOURCE = "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_SRC[]"
"""Changes nothing, and has the megaflow match the source address: no later marker hits it."""
BURST = 32
"""Frames sent before a round of markers: the receive buffers of the datapath hold as many."""
LINK_MTU = 1600
DEADLINE_S = 30.0
WARM_UP_S = 1.0 if IS_KERNEL else 0.1
SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17
"""linux/sockios.h and linux/ethtool.h."""


class LabError(RuntimeError):
    """The lab cannot be built here, or frames did not arrive in time."""


class Lab:
    """Bridges of one datapath, endpoints at their ports, and links between bridges.

    The datapath is that of tests/ovs/datapath.py. Everything is removed by ``close`` (or at the
    end of a ``with`` block).
    """

    def __init__(self) -> None:
        if os.environ.get("CLOUDTAP_ISOLATED") != "yes":
            raise LabError(
                "tests on Open vSwitch need a private one: run them with `tools/isolate COMMAND`"
            )
        if IS_KERNEL and (count := os.cpu_count()) != 1:
            raise LabError(
                f"with {count} processors the kernel datapath does not keep the order of upcalls: "
                "run this with `tools/kernel-lab tools/isolate COMMAND`"
            )
        for scope in ("all", "default"):  # or the kernel sends frames of its own
            Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")
        self.bridges: list[str] = []
        self.endpoints: list[Endpoint] = []
        self.links: list[tuple[str, int, str, int]] = []
        self._veths: list[str] = []
        self._has_markers = False
        self._round = 0
        self._closing: list[Callable[[], object]] = []
        self.marker_senders: list[Endpoint] = []
        """The endpoints that send markers, one on each bridge; if empty, all do."""
        self.passes = 0
        """How often more than once a copy may pass one bridge, as by a segmenting pair."""

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
        """Create a bridge in fail mode secure, without flows; returns its name.

        ``controller`` is a target such as ``tcp:127.0.0.1:6653``.
        """
        command = ["add-br", name, "--", "set", "Bridge", name, f"datapath_type={DATAPATH}"]
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
        """Add one port with an endpoint; see ``add_ports``."""
        ids = {} if iface_id is None else {ofport: iface_id}
        return self.add_ports(bridge, [ofport], ids)[0]

    def add_ports(
        self, bridge: str, ofports: Iterable[int], iface_ids: dict[int, str] | None = None,
        mtu: int = 1500, attached_macs: dict[int, str] | None = None,
    ) -> list[Endpoint]:  # fmt: skip
        """Add ports with endpoints to a bridge, all at once (one port alone is not faster).

        The interface is named BRIDGE-ethNUMBER. ``iface_ids`` gives some of them an
        ``external_ids:iface-id``, ``attached_macs`` an ``external_ids:attached-mac`` as Nova does.
        """
        numbers = list(ofports)
        names = [(f"{bridge}-eth{n}", f"{bridge}-far{n}") for n in numbers]
        self._add_veth_pairs(names, mtu)
        self._attach(
            [(bridge, n, near) for n, (near, _) in zip(numbers, names, strict=True)],
            iface_ids,
            attached_macs,
        )
        added = [Endpoint(bridge, n, *pair) for n, pair in zip(numbers, names, strict=True)]
        self.endpoints += added
        return added

    def link(
        self, bridge_a: str, ofport_a: int, bridge_b: str, ofport_b: int, mtu: int = LINK_MTU
    ) -> None:
        """Join two bridges by a veth pair (MTU 1600: a full frame with a tag of ours fits)."""
        near, far = f"{bridge_a}-eth{ofport_a}", f"{bridge_b}-eth{ofport_b}"
        self._add_veth_pairs([(near, far)], mtu)
        self._attach([(bridge_a, ofport_a, near), (bridge_b, ofport_b, far)])
        self.links.append((bridge_a, ofport_a, bridge_b, ofport_b))

    def remove_port(self, endpoint: Endpoint) -> None:
        """Delete the port of an endpoint and its veth pair."""
        vsctl("--if-exists", "del-port", endpoint.bridge, endpoint.interface)
        endpoint.close()
        self.endpoints.remove(endpoint)
        self._veths.remove(endpoint.interface)
        _run(["ip", "link", "del", endpoint.interface])
        self._has_markers = False

    def remove_device(self, endpoint: Endpoint) -> None:
        """Delete the veth pair of an endpoint; the database keeps its port."""
        endpoint.close()
        self.endpoints.remove(endpoint)
        self._veths.remove(endpoint.interface)
        _run(["ip", "link", "del", endpoint.interface])
        self._has_markers = False

    def wait_settled(self) -> None:
        """Wait until revalidators have checked every megaflow (after any change of flows)."""
        _run(["ovs-appctl", "revalidator/wait"])

    def exchange(
        self, frames: Sequence[tuple[Endpoint, bytes]], burst_size: int = BURST,
        pause: int | None = None, at_once: bool = False,
    ) -> dict[Endpoint, list[bytes]]:  # fmt: skip
        """Send each frame from its endpoint, and collect all that arrives at every endpoint.

        ``burst_size`` frames are sent at once: they and all their copies must fit the receive
        buffers. ``pause`` is the number of rounds of markers between bursts (None: as many as at
        the end). ``at_once`` makes Open vSwitch receive each burst as one batch. Endpoints that
        received nothing have an empty list. Frames that were unread before are discarded.
        """
        if not self._has_markers:
            self.install_markers()
        for endpoint in self.endpoints:
            endpoint.receive_all()
        rest = iter(frames)
        while burst := list(islice(rest, burst_size)):
            with paused_switch() if at_once else nullcontext():
                for endpoint, frame in burst:
                    endpoint.send(frame)
            self.flush(pause)
        if pause is not None:
            self.flush()
        return {endpoint: endpoint.receive_all() for endpoint in self.endpoints}

    def flush(self, rounds: int | None = None) -> None:
        """Block until everything sent so far has been delivered (to ``Endpoint.receive_all``).

        Raises:
            LabError: a marker did not arrive; the message says which ones are missing.
        """
        if not self._has_markers:
            self.install_markers()
        for _ in range(rounds or self._rounds()):
            self._send_markers(DEADLINE_S)
        for endpoint in self.endpoints:
            endpoint.check_nothing_was_lost()

    def install_markers(self) -> None:
        """Install the flows that carry markers; again after Open vSwitch was restarted.

        New veth pairs drop frames until the kernel sees both ends up: rounds that fail are
        repeated until one is complete. From then on the datapath has megaflows for the markers.
        """
        for bridge in self.bridges:
            fence = f"cookie={MARKER_COOKIE:#x}/-1"
            _run(["ovs-ofctl", "-O", "OpenFlow13", "del-flows", bridge, fence])
            text = "\n".join(self._marker_flows(bridge)) + "\n"
            _run(["ovs-ofctl", "-O", "OpenFlow13", "add-flows", bridge, "-"], text)
        self._has_markers = True
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                return self._send_markers(WARM_UP_S)
            except LabError:
                if time.monotonic() > deadline:
                    raise

    def remove_markers(self) -> None:
        """Remove the flows that carry markers: a controller reports them as flows of others."""
        for bridge in self.bridges:
            fence = f"cookie={MARKER_COOKIE:#x}/-1"
            _run(["ovs-ofctl", "-O", "OpenFlow13", "del-flows", bridge, fence])
        self._has_markers = False

    def on_close(self, close: Callable[[], object]) -> None:
        """Register a function that ``close`` calls first, in reverse order."""
        self._closing.append(close)

    def close(self) -> None:
        """Remove bridges and veth pairs."""
        while self._closing:
            self._closing.pop()()
        for endpoint in self.endpoints:
            endpoint.close()
        for bridge in self.bridges:
            vsctl("--if-exists", "del-br", bridge)
        _run(["ip", "-batch", "-"], "".join(f"link del {name}\n" for name in self._veths))
        self.bridges, self.endpoints, self.links, self._veths = [], [], [], []

    def _add_veth_pairs(self, pairs: list[tuple[str, str]], mtu: int) -> None:
        lines = [f"link add {a} mtu {mtu} type veth peer name {b} mtu {mtu}" for a, b in pairs]
        lines += [f"link set {end} up" for pair in pairs for end in pair]
        _run(["ip", "-batch", "-"], "\n".join(lines) + "\n")
        self._veths += [a for a, _ in pairs]
        for pair in pairs:
            for end in pair:
                disable_checksum_offload(end)

    def _attach(
        self, ports: list[tuple[str, int, str]], iface_ids: dict[int, str] | None = None,
        attached_macs: dict[int, str] | None = None,
    ) -> None:  # fmt: skip
        command: list[str] = []
        for bridge, ofport, interface in ports:
            command += ["--", "add-port", bridge, interface]
            command += ["--", "set", "Interface", interface, f"ofport_request={ofport}"]
            if iface_ids and ofport in iface_ids:
                command.append(f"external_ids:iface-id={iface_ids[ofport]}")
            if attached_macs and ofport in attached_macs:
                command.append(f"external_ids:attached-mac={attached_macs[ofport]}")
        vsctl(*command[1:])
        names = [interface for _, _, interface in ports]
        listed = vsctl("--format=csv", "--columns=name,ofport", "list", "Interface", *names)
        got = dict(line.split(",") for line in listed.split("\n")[1:-1])
        for _, ofport, interface in ports:
            if got[interface] != str(ofport):
                raise LabError(
                    f"{interface} should be port {ofport}, Open vSwitch made it {got[interface]}"
                )
        self._has_markers = False

    def _link_ports(self, bridge: str) -> list[tuple[int, str, int]]:
        ends = [(port_a, b, port_b) for a, port_a, b, port_b in self.links if a == bridge]
        return ends + [(port_b, a, port_a) for a, port_a, b, port_b in self.links if b == bridge]

    def _marker_flows(self, bridge: str) -> list[str]:
        """Flows that output a marker to every other endpoint here, and to each other link with one
        hop less."""
        own = [e.ofport for e in self.endpoints if e.bridge == bridge]
        links = [port for port, _, _ in self._link_ports(bridge)]
        most = len(self.bridges) - 1
        entries = [(port, most) for port in own]
        entries += [(port, hops) for port in links for hops in range(most)]
        flows = []
        for port, hops in entries:
            actions = [EXACT_SOURCE] if IS_KERNEL else []
            actions += [f"output:{other}" for other in own if other != port]
            if hops:
                actions.append(f"set_field:{_mac(hops - 1)}->eth_dst")
                actions += [f"output:{other}" for other in links if other != port]
            flows.append(
                f"cookie={MARKER_COOKIE:#x},table=0,priority={MARKER_PRIORITY},in_port={port},"
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
        """How many rounds are needed.

        The datapath polls one port after the other, so a marker of one port is behind the frames
        of another only after a full poll. With few senders each hop takes a poll more. On the
        kernel datapath a copy needs an upcall at each bridge on its way, the underlay included,
        and for each pass of a bridge; each round waits for those that are in the queue.
        """
        if IS_KERNEL:
            return len(self.bridges) + 1 + self.passes
        usual = 3 if self.links else 2
        return usual + 2 * len(self.bridges) if self.marker_senders else usual

    def _send_markers(self, seconds: float) -> None:
        self._round += 1
        missing: Counter[Endpoint] = Counter()
        hops = len(self.bridges) - 1
        for sender in self.marker_senders or self.endpoints:
            missing += self._expected(sender)
            with suppress(OSError):  # the veth is down; its markers will be missing
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
        """Store the frames in the socket; returns how many are markers of this round."""
        markers = 0
        while (frame := endpoint.receive_raw()) is not None:
            if frame[:5] == MARKER_MAC and frame[12:14] == MARKER.to_bytes(2, "big"):
                markers += int.from_bytes(frame[14:18], "big") == self._round
            else:
                endpoint.frames.append(frame)
        return markers


def disable_checksum_offload(interface: str) -> None:
    """Have the kernel fill in checksums, as ``ethtool -K INTERFACE tx off`` does."""
    value = ctypes.create_string_buffer(struct.pack("=II", ETHTOOL_STXCSUM, 0), 8)
    request = struct.pack("=16sQ16x", interface.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCETHTOOL, request)


def set_link(interface: str, state: str) -> None:
    """Set one end of a veth pair up or down, and wait until the kernel forwards accordingly.

    A link that is up again has a carrier at once, but the kernel drops what is sent by it until its
    link watch, which may be up to a second late, has given it a queue and an ``operstate``.
    """
    subprocess.run(["ip", "link", "set", interface, state], check=True)
    device = Path("/sys/class/net", interface)
    peer = socket.if_indextoname(int((device / "iflink").read_text()))
    for end in (device, device.with_name(peer)):
        wait_for(partial(_is_settled, end), bool)


def _is_settled(device: Path) -> bool:
    """Whether a network device is not about to get a carrier."""
    try:
        has_carrier = (device / "carrier").read_text().strip() == "1"
    except OSError:  # it is switched off
        return True
    return not has_carrier or (device / "operstate").read_text().strip() == "up"


@contextmanager
def paused_switch() -> Iterator[None]:
    """Stop ovs-vswitchd, so that it reads all that is sent meanwhile in one batch (of up to 32)."""
    daemon = pid_of("ovs-vswitchd")
    os.kill(daemon, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon, signal.SIGCONT)


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
    """The output of `ofproto/trace` for a frame."""
    return _run(["ovs-appctl", "ofproto/trace", bridge, f"in_port={ofport}", frame.hex()])


def purge_cache() -> None:
    """Delete all megaflows, so that the next packets need upcalls."""
    _run(["ovs-appctl", "revalidator/purge"])


def dump_megaflows() -> str:
    """All megaflows of the datapath with every field, one a line."""
    return _run(["ovs-appctl", "dpctl/dump-flows", "-m", INSTANCES[DATAPATH]])


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
        + MARKER_SOURCE
        + number.to_bytes(4, "big")
        + struct.pack("!HI", MARKER, number)
    )
    return head.ljust(60, b"\0")

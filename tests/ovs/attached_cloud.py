"""A tapped bridge of somebody else that switches by itself (NORMAL), and what must be copied.

Two tenants have equal MAC and IP addresses, each in a VLAN of its own; a trunk port leads to the
rest of their networks. The owner's bridge has no controller. Copies are computed from the frames
that workloads have sent and that were really delivered to them, not from flows.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from click.testing import CliRunner

from controller.cli import main
from tests import frames
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.datapath import DATAPATH
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import MARKER, MARKER_MAC, Lab, vsctl
from tests.ovs.waiting import wait_for

OWNER, TAP = "br-int", "ct-br-int"
WEB, DB, APP, FAR = (0x020000000001 + n for n in range(4))
MACS = {"web": WEB, "db": DB, "app": APP, "far": FAR}
ADDRESSES = {"web": "10.0.0.1", "db": "10.0.0.2", "app": "10.0.0.3", "far": "10.0.0.4"}
TENANTS = {"red": 1, "blue": 2}
"""The VLAN of each."""
HOSTS = ("web", "db", "app")
WORKLOADS = {
    number: f"{tenant}-{host}"
    for number, (tenant, host) in enumerate(((t, h) for t in TENANTS for h in HOSTS), 1)
}
TRUNK = 9
"""The number of the trunk port; behind it is a host ``far`` of each tenant."""
TAPS = {"red": 9, "blue": 3}
"""How many tap ports each tenant has: red-t1 and so on, each with a collector of its name."""
BURST = 8
BPDU = bytes.fromhex("0180c2000000")
"""The group address of frames of a spanning tree (IEEE 802.1D)."""


def inventory() -> str:
    """All that the tests declare."""
    lines = [f"tenants: [{', '.join(TENANTS)}]", "networks:"]
    lines += [f"  - {{name: lan, tenant: {tenant}}}" for tenant in TENANTS]
    lines.append("ports:")
    for tenant in TENANTS:
        for host in HOSTS:
            mac = ":".join(f"{byte:02x}" for byte in frames.mac_bytes(MACS[host]))
            lines.append(
                f"  - {{id: {tenant}-{host}, name: {host}, tenant: {tenant}, network: lan, "
                f'mac: "{mac}"}}'
            )
    for tap in taps():
        tenant, _, name = tap.partition("-")
        lines.append(f"  - {{id: {tap}, name: {name}, tenant: {tenant}, kind: tap}}")
    return "\n".join(lines) + "\n"


def taps() -> list[str]:
    """The ids of all tap ports."""
    return [f"{tenant}-t{n}" for tenant, most in TAPS.items() for n in range(1, most + 1)]


def cloudtap(*words: str) -> str:
    """What `cloudtap bridge ...` prints when it has worked."""
    result = CliRunner().invoke(main, ["bridge", *words], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    return result.output


@dataclass(frozen=True)
class Sent:
    """A frame that the endpoint of a port sends; ``frame`` has no tag but those of a workload.

    ``name`` is the port, a tap port, or TENANT-far for the host behind the trunk. No two frames
    have equal bytes.
    """

    name: str
    frame: bytes

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self.name.partition("-")[0]


@dataclass
class Seen:
    """What arrived where: frames without the tag of the trunk, by the name of the receiver, and
    all that arrived at tap ports, by the id of the tap port."""

    delivered: dict[str, list[bytes]] = field(default_factory=dict)
    copied: dict[str, list[bytes]] = field(default_factory=dict)


@dataclass
class AttachedCloud:
    """The owner's bridge with its endpoints by port id, and the tap bridge when it is attached."""

    lab: Lab
    at: dict[str, Endpoint]
    trunk: Endpoint
    tap_at: dict[str, Endpoint] = field(default_factory=dict)
    vlans: Mapping[str, int] = field(default_factory=lambda: TENANTS)
    """The tag of each tenant on the trunk."""

    def attach(self) -> None:
        """Attach the bridge, and add all tap ports to the tap bridge."""
        cloudtap("attach", OWNER)
        self.lab.on_close(lambda: vsctl("--if-exists", "del-br", TAP) and None)
        self.lab.marker_senders = [*self.at.values(), self.trunk]
        numbers = dict(enumerate(taps(), 11))
        ends = self.lab.add_ports(TAP, numbers, numbers)
        self.tap_at = dict(zip(numbers.values(), ends, strict=True))

    def exchange(
        self, sent: Iterable[Sent], burst: int = BURST, between: Callable[[], None] = lambda: None
    ) -> Seen:
        """Send all, and collect what arrives at every port of both bridges; calls ``between``
        after each burst.

        A frame and its copies leave the datapath in one pass; a marker that is sent by the same
        port later leaves behind them.
        """
        for endpoint in self.lab.endpoints:
            drain(endpoint)
        rest = list(sent)
        while rest:
            for each in rest[:burst]:
                self.send(each)
            del rest[:burst]
            self.lab.flush()
            between()
        seen = Seen()
        for name, endpoint in self.at.items():
            seen.delivered[name] = drain(endpoint)
        for frame in drain(self.trunk):
            vlan = int.from_bytes(frame[14:16], "big") & 0xFFF
            if frame[:6] == BPDU and frame[12:14] != b"\x81\x00":
                continue  # with a spanning tree the bridge itself sends these, at any time
            assert frame[12:14] == b"\x81\x00", f"a frame without a tag on the trunk: {frame.hex()}"
            tenant = next(name for name, tag in self.vlans.items() if tag == vlan)
            seen.delivered.setdefault(f"{tenant}-far", []).append(frame[:12] + frame[16:])
        for name, endpoint in self.tap_at.items():
            seen.copied[name] = drain(endpoint)
        return seen

    def send(self, sent: Sent) -> None:
        """Send one frame from its port."""
        endpoint = self.at.get(sent.name) or self.tap_at.get(sent.name)
        if endpoint is not None:
            endpoint.send(sent.frame)
        else:
            tag = self.vlans[sent.tenant].to_bytes(2, "big")
            self.trunk.send(sent.frame[:12] + b"\x81\x00" + tag + sent.frame[12:])

    def run_production(self) -> Seen:
        """Send the same frames as in every other run, to a bridge that knows no address yet.

        A bridge learns from a packet with a cached flow only when a revalidator looks at it. So
        every frame is a packet without one: what it learns does not depend on the time.
        """
        script, seen = Script(), Seen()
        for sent in (script.all_kinds(), script.spoofed()):
            appctl("fdb/flush", OWNER)
            appctl("revalidator/purge")
            arrived = self.exchange(sent, 1, lambda: appctl("revalidator/purge"))
            for name, frames_there in arrived.delivered.items():
                seen.delivered.setdefault(name, []).extend(frames_there)
        return seen

    def copies_at(self, tap: str) -> int:
        """How many copies have arrived at a tap port since the last look."""
        return len(drain(self.tap_at[tap]))

    def wait_until_copied(self, sent: Callable[[], Sent], tap: str) -> None:
        """Send new frames until one of them arrives at a tap port."""

        def look() -> int:
            self.send(sent())
            return self.copies_at(tap)

        wait_for(look, bool)


def appctl(*words: str) -> None:
    """Run ovs-appctl."""
    subprocess.run(["ovs-appctl", *words], check=True, capture_output=True)


def build_attached_cloud(lab: Lab, fail_mode: str | None = "standalone") -> AttachedCloud:
    """An owner's bridge with its ports, not attached yet."""
    vsctl("add-br", OWNER, "--", "set", "Bridge", OWNER, f"datapath_type={DATAPATH}")
    if fail_mode is not None:
        vsctl("set-fail-mode", OWNER, fail_mode)
    lab.bridges.append(OWNER)
    ends = lab.add_ports(OWNER, [*WORKLOADS, TRUNK], WORKLOADS)
    for number, name in WORKLOADS.items():
        tag_port(number, name)
    vlans = ",".join(map(str, TENANTS.values()))
    vsctl("set", "Port", f"{OWNER}-eth{TRUNK}", f"trunks={vlans}")
    return AttachedCloud(lab, dict(zip(WORKLOADS.values(), ends, strict=False)), ends[-1])


def tag_port(number: int, name: str) -> None:
    """Make a port an access port of its tenant's VLAN, as the owner's agent does after the plug."""
    vlan = TENANTS[name.partition("-")[0]]
    vsctl("set", "Port", f"{OWNER}-eth{number}", f"tag={vlan}")


def make_collectors(controller: ControllerProcess) -> None:
    """One collector for each tap port, with the name of the port."""
    for tap in taps():
        tenant, _, name = tap.partition("-")
        controller.create_collector(tenant, name, tap)


# --- what must be copied ------------------------------------------------------------------------


def everything(frame: bytes) -> bool:
    """The rules of the filter `all`."""
    return True


def nothing(frame: bytes) -> bool:
    """A list without rules, or a direction that is not watched."""
    return False


@dataclass(frozen=True)
class Watch:
    """What a session asks for: the ports it watches, and what it accepts in each direction."""

    tap: str
    ports: frozenset[str]
    egress: Callable[[bytes], bool] = everything
    ingress: Callable[[bytes], bool] = everything
    length: int | None = None


def expected_copies(watch: Watch, sent: Sequence[Sent], seen: Seen) -> Counter[bytes]:
    """The copies of a session: one of each frame that a port has sent, if it is accepted as
    egress, or that was really delivered to a port, if it is accepted as ingress.

    A frame with a tag of a workload on an access port is never copied: NORMAL drops it, and where
    flows of an owner deliver it all the same, no Mirror sees that.
    """
    assert len({each.frame for each in sent}) == len(sent), "two frames with equal bytes"
    copies: Counter[bytes] = Counter()
    for each in sent:
        if is_tagged(each.frame):
            continue
        is_sent = each.name in watch.ports and watch.egress(each.frame)
        is_received = watch.ingress(each.frame) and any(
            each.frame in seen.delivered.get(port, ()) for port in watch.ports
        )
        if is_sent or is_received:
            copies[each.frame[: watch.length]] += 1
    return copies


def check_copies(watches: Iterable[Watch], sent: Sequence[Sent], seen: Seen) -> int:
    """Whether each tap port got the copies of its session, byte for byte, and nothing else.

    Returns how many copies there were.

    Raises:
        AssertionError: what is missing and what is extra, by tap port.
    """
    wanted = {watch.tap: expected_copies(watch, sent, seen) for watch in watches}
    wrong = []
    for tap, frames_there in seen.copied.items():
        got, due = Counter(frames_there), wanted.get(tap, Counter())
        if got != due:
            wrong.append((tap, "missing", _shown(due - got), "extra", _shown(got - due)))
    assert not wrong, wrong
    return sum(map(Counter.total, wanted.values()))


def is_tagged(frame: bytes) -> bool:
    """Whether a workload has put a VLAN tag on a frame."""
    return frame[12:14] in (b"\x81\x00", b"\x88\xa8")


def has_protocol(number: int) -> Callable[[bytes], bool]:
    """Whether a frame holds an IPv4 or IPv6 packet of a protocol."""

    def look(frame: bytes) -> bool:
        if frame[12:14] == b"\x08\x00":
            return frame[23] == number
        return frame[12:14] == b"\x86\xdd" and frame[20] == number

    return look


def _shown(frames_there: Counter[bytes]) -> list[str]:
    return [f"{n} x {frame[:60].hex()} ({len(frame)} B)" for frame, n in frames_there.items()]


def drain(endpoint: Endpoint) -> list[bytes]:
    """All frames that have arrived at an endpoint, without markers and copies of markers."""
    found = endpoint.receive_all()
    while (frame := endpoint.receive_raw()) is not None:
        found.append(frame)
    endpoint.check_nothing_was_lost()
    kind = MARKER.to_bytes(2, "big")
    return [f for f in found if not (f[:5] == MARKER_MAC and kind in (f[12:14], f[16:18]))]


# --- what is sent -------------------------------------------------------------------------------


class Script:
    """Frames of all kinds between the workloads of both tenants; each has a number in it."""

    def __init__(self) -> None:
        self._number = 0

    def _next(self) -> bytes:
        self._number += 1
        return b"frame" + self._number.to_bytes(4, "big")

    def udp(self, tenant: str, source: str, target: str, size: int = 0) -> Sent:
        """A datagram; with one ``size`` it is so many bytes long."""
        data = self._next()
        data = data.ljust(max(len(data), size - 42), b"\0")
        return self._ip(tenant, source, target, 17, frames.udp(1000, 53, data))

    def tcp(self, tenant: str, source: str, target: str) -> Sent:
        """A segment."""
        return self._ip(tenant, source, target, 6, frames.tcp(1000, 80, 0x10, self._next()))

    def arp(self, tenant: str, source: str, target: str) -> Sent:
        """A request for an address, broadcast."""
        body = frames.arp(1, MACS[source], ADDRESSES[source], 0, ADDRESSES[target]) + self._next()
        return self._ethernet(tenant, source, frames.BROADCAST, 0x0806, body)

    def all_kinds(self) -> list[Sent]:
        """Frames to learned, unknown, broadcast and multicast addresses, of many protocols."""
        sent = [self.arp(tenant, host, "web") for host in ("far", *HOSTS) for tenant in TENANTS]
        for tenant in TENANTS:
            pairs = [("web", "db"), ("db", "web"), ("app", "web"), ("web", "far"), ("far", "web")]
            pairs += [("far", "app"), ("app", "far"), ("db", "app")]
            for source, target in pairs:
                sent += [self.udp(tenant, source, target), self.tcp(tenant, source, target)]
            sent += [*self._odd(tenant), *self._fragments(tenant), *self._ipv6(tenant)]
            sent += [self.udp(tenant, "web", "db", 1514), self.udp(tenant, "far", "web", 1514)]
        return sent

    def spoofed(self) -> list[Sent]:
        """Frames under an address of another workload of the network, and their answers."""
        sent = []
        for tenant in TENANTS:
            for target in ("db", "web"):
                forged = self.udp(tenant, "web", target)
                sent += [Sent(f"{tenant}-app", forged.frame), self.udp(tenant, "db", "web")]
            sent.append(self.udp(tenant, "web", "db"))
        return sent

    def _odd(self, tenant: str) -> list[Sent]:
        """Group addresses, unknown addresses, an unknown protocol, and tags of a workload."""
        sent = []
        for source in ("web", "app", "far"):
            for target in (frames.BROADCAST, 0x01005E000001, 0x0200000000EE):
                sent.append(self._ethernet(tenant, source, target, 0x88B6, self._next()))
        sent.append(self._ethernet(tenant, "web", DB, 0x88B6, self._next()))
        sent.append(self._ethernet(tenant, "web", 0x0180C200000E, 0x88CC, self._next()))
        own_tag = ((0x8100, 77),)
        sent.append(self._ethernet(tenant, "web", DB, 0x0800, self._next(), own_tag))
        return sent

    def _fragments(self, tenant: str) -> list[Sent]:
        """Two pieces of one datagram."""
        first = frames.udp(1000, 53, self._next() + bytes(15))
        more, offset = 0x2000, len(first) // 8
        ip = ADDRESSES["web"], ADDRESSES["db"], 17
        number = self._number
        packets = [
            frames.ipv4(*ip, first, fragment=more, ident=number),
            frames.ipv4(*ip, self._next(), fragment=offset, ident=number),
        ]
        return [self._ethernet(tenant, "web", DB, 0x0800, packet) for packet in packets]

    def _ipv6(self, tenant: str) -> list[Sent]:
        """A neighbour solicitation to its group address, and a datagram."""
        near, far = "fe80::1", "fe80::2"
        ask = frames.ipv6(near, "ff02::1:ff00:2", 58, frames.icmpv6_nd(135, far, self._next()))
        data = frames.ipv6(near, far, 17, frames.udp(1000, 53, self._next()))
        return [
            self._ethernet(tenant, "web", 0x3333FF000002, 0x86DD, ask),
            self._ethernet(tenant, "web", DB, 0x86DD, data),
        ]

    def _ip(self, tenant: str, source: str, target: str, protocol: int, body: bytes) -> Sent:
        packet = frames.ipv4(ADDRESSES[source], ADDRESSES[target], protocol, body)
        return self._ethernet(tenant, source, MACS[target], 0x0800, packet)

    def _ethernet(
        self, tenant: str, source: str, target: int, kind: int, body: bytes,
        tags: tuple[tuple[int, int], ...] = (),
    ) -> Sent:  # fmt: skip
        frame = frames.ethernet(target, MACS[source], kind, body, tags)
        return Sent(f"{tenant}-{source}", frames.pad(frame))

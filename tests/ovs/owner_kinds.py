"""Bridges of others that switch with NORMAL in the ways that clouds do, and random frames on them.

Workloads of two tenants with equal addresses are on access ports, on trunks with a native VLAN
(tagged or not), and on a trunk without one; the uplink is a port or a bond. Copies are computed by
the contract (``flows.semantics``) from the frames that were really delivered to each workload.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from flows.model import Dpid, Filter, Ofport, Placement, Port, PortId, Session, World
from flows.semantics import copies_of_delivered
from tests import frames
from tests.flows.hand_made import tap, vm, world
from tests.ovs.attached_cloud import OWNER, TAP, appctl, cloudtap, drain
from tests.ovs.datapath import DATAPATH
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, ofctl, vsctl
from tests.ovs.waiting import wait_for

RED, BLUE, INSIDE = 10, 20, {"red": 30, "blue": 40}
"""The VLAN of each tenant's network, and the one that its workloads use inside of trunks."""
VLANS = {"red": RED, "blue": BLUE}


@dataclass(frozen=True)
class Plug:
    """A workload and how its port is connected: Port columns, as ovs-vsctl takes them.

    ``vlan`` is its access or native VLAN, ``inside`` the other VLANs that its port carries.
    """

    name: str
    mac: int
    columns: tuple[str, ...]
    vlan: int | None
    inside: tuple[int, ...] = ()

    @property
    def tenant(self) -> str:
        """Whose it is."""
        return self.name.partition("-")[0]


def _native(kind: str) -> tuple[str, ...]:
    return (f"vlan_mode=native-{kind}", f"tag={RED}", f"trunks={RED},{INSIDE['red']}")


WEB, DB, ROUTER, GATE, FAR = (0x020000000001 + n for n in range(5))
PLUGS = {
    1: Plug("red-web", WEB, (f"tag={RED}",), RED),
    2: Plug("red-db", DB, (f"tag={RED}",), RED),
    3: Plug("red-router", ROUTER, _native("untagged"), RED, (INSIDE["red"],)),
    4: Plug("red-gate", GATE, _native("tagged"), RED, (INSIDE["red"],)),
    5: Plug("blue-web", WEB, (f"tag={BLUE}",), BLUE),
    6: Plug("blue-db", DB, (f"tag={BLUE}",), BLUE),
    7: Plug("blue-hub", ROUTER, (f"trunks={BLUE},{INSIDE['blue']}",), None, (BLUE, INSIDE["blue"])),
}
UPLINKS = (9, 10)
TAPS = {n: f"{tenant}-t{n}" for n, tenant in enumerate(["red"] * 6 + ["blue"] * 3, 11)}


@dataclass(frozen=True)
class Kind:
    """How somebody has set up a bridge."""

    name: str
    fail_mode: str = "standalone"
    bond: str | None = None
    flows: tuple[str, ...] = ()


KINDS = (
    Kind("one uplink"),
    Kind("bond, active-backup", bond="active-backup"),
    Kind("bond, balance-slb", bond="balance-slb"),
    Kind(
        "flows of its own, secure", "secure", "active-backup",
        (
            "priority=200,udp,tp_dst=99,actions=drop",
            "priority=150,in_port=1,tcp,vlan_tci=0/0x1fff,actions=output:2,output:3",
            "priority=140,icmp,in_port=5,actions=ct(zone=7,table=10)",
            "priority=1,actions=resubmit(,10)",
            "table=10,priority=0,actions=NORMAL",
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """A frame of the lab: who sends it at which port, and a number that it carries.

    ``name`` is TENANT-far for what comes in by an uplink. ``tag`` is the VLAN tag that is sent.
    """

    number: int
    name: str
    ofport: int
    bare: bytes
    tag: int | None = None

    @property
    def wire(self) -> bytes:
        """What the endpoint sends."""
        return tagged(self.bare, self.tag)


@dataclass
class Delivered:
    """What arrived at each port of the owner's bridge after each burst, and at each tap port."""

    bursts: list[Mapping[int, Counter[bytes]]] = field(default_factory=list)
    copied: dict[str, Counter[bytes]] = field(default_factory=dict)

    def receivers(self) -> Mapping[int, set[str]]:
        """The workloads that have got each frame, by its number."""
        found: dict[int, set[str]] = {}
        for burst in self.bursts:
            for ofport, there in burst.items():
                for frame in there if ofport in PLUGS else ():
                    found.setdefault(number_in(frame), set()).add(PLUGS[ofport].name)
        return found


class OwnersBridge:
    """A bridge of one kind with its endpoints by OpenFlow number; attached or not."""

    def __init__(self, lab: Lab, kind: Kind) -> None:
        self.lab = lab
        vsctl("add-br", OWNER, "--", "set", "Bridge", OWNER, f"datapath_type={DATAPATH}")
        vsctl("set-fail-mode", OWNER, kind.fail_mode)
        lab.bridges.append(OWNER)
        uplinks = UPLINKS if kind.bond else UPLINKS[:1]
        ids = {number: plug.name for number, plug in PLUGS.items()}
        ends = lab.add_ports(OWNER, [*PLUGS, *uplinks], ids)
        self.at = {end.ofport: end for end in ends}
        for number, plug in PLUGS.items():
            vsctl("set", "Port", f"{OWNER}-eth{number}", *plug.columns)
        trunks = "trunks=" + ",".join(map(str, (*VLANS.values(), *INSIDE.values())))
        if kind.bond:
            self._bond(kind.bond)
        vsctl("set", "Port", "bond0" if kind.bond else f"{OWNER}-eth{UPLINKS[0]}", trunks)
        for flow in kind.flows:
            ofctl("add-flow", OWNER, flow)
        self.tap_at: dict[str, Endpoint] = {}

    def _bond(self, mode: str) -> None:
        """Make one port of both uplinks, which keep their numbers; returns when both carry."""
        members = [f"{OWNER}-eth{number}" for number in UPLINKS]
        command = [word for name in members for word in ("del-port", name, "--")]
        command += ["add-bond", OWNER, "bond0", *members, f"bond_mode={mode}"]
        command += ["other_config:bond-rebalance-interval=0"]
        for number, name in zip(UPLINKS, members, strict=True):
            command += ["--", "set", "Interface", name, f"ofport_request={number}"]
        vsctl(*command)
        look = ["ovs-appctl", "bond/show", "bond0"]
        wait_for(
            lambda: subprocess.run(look, capture_output=True, text=True, check=True).stdout,
            lambda text: len(re.findall(r"^(?:slave|member) \S+: enabled", text, re.M)) == 2,
        )
        for number, name in zip(UPLINKS, members, strict=True):
            assert vsctl("get", "Interface", name, "ofport").strip() == str(number)

    def attach(self) -> None:
        """Attach it, and add all tap ports to the tap bridge."""
        cloudtap("attach", OWNER)
        self.lab.on_close(lambda: vsctl("--if-exists", "del-br", TAP) and None)
        self.lab.marker_senders = list(self.at.values())
        ends = self.lab.add_ports(TAP, TAPS, TAPS)
        self.tap_at = dict(zip(TAPS.values(), ends, strict=True))

    def play(self, bursts: Iterable[Sequence[Frame]]) -> Delivered:
        """Send all to a bridge that knows no address yet; each burst is sent by one port.

        A bridge learns from a packet with a cached flow only when a revalidator looks at it. So
        no burst finds cached flows, and at most its last frame has a forged sender: what the bridge
        has learned before each frame does not depend on the time.
        """
        self.lab.flush()
        self._take()
        appctl("fdb/flush", OWNER)
        seen = Delivered(copied={name: Counter() for name in self.tap_at})
        for burst in bursts:
            appctl("revalidator/purge")
            for frame in burst:
                self.at[frame.ofport].send(frame.wire)
            self.lab.flush()
            seen.bursts.append(self._take())
            for name, end in self.tap_at.items():
                seen.copied[name].update(drain(end))
        return seen

    def _take(self) -> Mapping[int, Counter[bytes]]:
        return {number: Counter(drain(end)) for number, end in self.at.items()}


# --- what must be copied ------------------------------------------------------------------------


def contract(sessions: Iterable[Session], filters: Iterable[Filter]) -> World:
    """The world of the sessions, as the contract sees it. Hosts behind the uplink are in it to send
    frames; no session watches them."""
    there = Dpid(0xA1)
    places = {plug.name: Placement(there, Ofport(n), owner=Dpid(0xB1)) for n, plug in PLUGS.items()}
    things = [
        vm(plug.name, places[plug.name], plug.mac, network=f"{plug.tenant}-lan")
        for plug in PLUGS.values()
    ]
    things += [
        vm(f"{tenant}-far", Placement(there, Ofport(n)), FAR, network=f"{tenant}-lan")
        for n, tenant in enumerate(VLANS, 90)
    ]
    things += [tap(t, Placement(there, Ofport(n)), t.partition("-")[0]) for n, t in TAPS.items()]
    return world(*things, *sessions, *filters)


def due_copies(
    sent: Iterable[Frame], receivers: Mapping[int, set[str]], of: World
) -> dict[str, Counter[bytes]]:
    """The copies that each tap port must get of frames that were delivered to these receivers.

    Tags that are not a workload's own are not in copies: that of the access or native VLAN of the
    ports that a session watches, and the priority tag of an access port.
    """
    natives = {
        session.id: {p.vlan for p in PLUGS.values() if PortId(p.name) in session.source.ports}
        for session in of.sessions
    }
    due: dict[str, Counter[bytes]] = {name: Counter() for name in TAPS.values()}
    for frame in sent:
        vlan = vlan_of(frame)
        got: list[Port] = [of.port_by_id[PortId(n)] for n in receivers.get(frame.number, ())]
        if vlan is None:
            assert not got, f"a frame that NORMAL drops was delivered: {frame}"
            continue
        sender = of.port_by_id[PortId(frame.name)]
        for session in copies_of_delivered(frame.bare, sender, got, of):
            collector = of.session_by_id[session].collector
            is_bare = vlan in natives[session]
            due[str(collector)][frame.bare if is_bare else tagged(frame.bare, vlan)] += 1
    return due


def vlan_of(frame: Frame) -> int | None:
    """The VLAN in which NORMAL forwards a frame; None if its port may not send it."""
    plug = PLUGS.get(frame.ofport)
    if plug is None:
        return frame.tag
    if frame.tag in (None, 0):
        return plug.vlan
    is_trunk = bool(plug.inside)
    return frame.tag if is_trunk and frame.tag in (plug.vlan, *plug.inside) else None


def wrong_copies(
    due: Mapping[str, Counter[bytes]], got: Mapping[str, Counter[bytes]]
) -> list[tuple[str, str, str]]:
    """What is missing and what is extra, by tap port."""
    return [
        (name, f"missing {_shown(due[name] - there)}", f"extra {_shown(there - due[name])}")
        for name, there in got.items()
        if there != due[name]
    ]


def _shown(found: Counter[bytes]) -> list[str]:
    return [f"{n} x {frame[:70].hex()} ({len(frame)} B)" for frame, n in found.items()][:6]


# --- what is sent -------------------------------------------------------------------------------

MARK = re.compile(rb"frame(.{4})", re.DOTALL)


def number_in(frame: bytes) -> int:
    """The number that a frame carries."""
    found = MARK.search(frame)
    assert found is not None, frame.hex()
    return int.from_bytes(found[1], "big")


def tagged(frame: bytes, vlan: int | None) -> bytes:
    """A frame with a VLAN tag."""
    if vlan is None:
        return frame
    return frame[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + frame[12:]


def random_bursts(rng: Random, count: int, uplinks: Sequence[int]) -> Iterator[list[Frame]]:
    """Frames of all kinds, in bursts of one sender; at most the last of each is forged."""
    number = 0
    senders = [*PLUGS, *(port for port in uplinks for _ in range(2))]
    while number < count:
        ofport = rng.choice(senders)
        tenant = PLUGS[ofport].tenant if ofport in PLUGS else rng.choice(list(VLANS))
        size = min(rng.randint(1, 12), count - number)
        is_forged = rng.random() < 0.5
        yield [
            _random_frame(rng, number + n, ofport, tenant, is_forged and n == size)
            for n in range(1, size + 1)
        ]
        number += size


def _random_frame(rng: Random, number: int, ofport: int, tenant: str, is_forged: bool) -> Frame:
    plug = PLUGS.get(ofport)
    name, mac = (plug.name, plug.mac) if plug else (f"{tenant}-far", FAR)
    known = [WEB, DB, ROUTER, GATE, FAR]
    source = rng.choice([each for each in known if each != mac]) if is_forged else mac
    groups = (frames.BROADCAST, 0x01005E000001, 0x3333FF000002, 0x0180C200000E)
    target = rng.choice(known) if rng.random() < 0.7 else rng.choice((*groups, 0x0200000000EE))
    kind, body = _random_body(rng, b"frame" + number.to_bytes(4, "big"), source)
    bare = frames.pad(frames.ethernet(target, source, kind, body))
    return Frame(number, name, ofport, bare, _random_tag(rng, plug, tenant))


def _random_tag(rng: Random, plug: Plug | None, tenant: str) -> int | None:
    """The tag that a port sends: often a right one, sometimes one that it may not use."""
    if plug is None:
        return rng.choice((VLANS[tenant], VLANS[tenant], INSIDE[tenant]))
    if not plug.inside:
        return rng.choice((None,) * 10 + (0, plug.vlan, 77))
    own = (INSIDE[tenant], VLANS[tenant])
    return rng.choice((*own, 77) if plug.vlan is None else (None, None, *own, 77))


def _random_body(rng: Random, data: bytes, source: int) -> tuple[int, bytes]:
    """EtherType and body of a frame that carries ``data``."""
    near, far = (f"10.0.0.{rng.randint(1, 5)}" for _ in range(2))
    port = rng.choice((53, 80, 99))
    near6, far6 = "fe80::1", "fe80::2"
    match rng.choice(("udp", "udp", "tcp", "tcp", "icmp", "arp", "udp6", "nd", "first", "later",
                      "long", "other")):  # fmt: skip
        case "udp":
            return 0x0800, frames.ipv4(near, far, 17, frames.udp(1000, port, data))
        case "tcp":
            return 0x0800, frames.ipv4(near, far, 6, frames.tcp(1000, port, 0x10, data))
        case "icmp":
            return 0x0800, frames.ipv4(near, far, 1, b"\x08\0\0\0\0\1\0\1" + data)
        case "arp":  # a request for another address: one for the own lets a bond wait for 5 s
            return 0x0806, frames.arp(1, source, "10.0.0.1", 0, "10.0.0.2") + data
        case "udp6":
            return 0x86DD, frames.ipv6(near6, far6, 17, frames.udp(1000, port, data))
        case "nd":
            return 0x86DD, frames.ipv6(near6, far6, 58, frames.icmpv6_nd(135, far6, data))
        case "first":
            first = frames.udp(1000, port, data.ljust(16, b"\0"))
            return 0x0800, frames.ipv4(near, far, 17, first, fragment=0x2000, ident=7)
        case "later":
            return 0x0800, frames.ipv4(near, far, 17, data, fragment=3, ident=7)
        case "long":
            datagram = frames.udp(1000, port, data.ljust(1472, b"\0"))
            return 0x0800, frames.ipv4(near, far, 17, datagram)
        case _:
            return 0x88B6, data

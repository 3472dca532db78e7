"""Beacons are recognized in every encapsulation, and every fault of them is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from scapy.contrib.erspan import ERSPAN_II, ERSPAN_III
from scapy.contrib.geneve import GENEVE
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE, Dot1AD, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from flows.beacon import LENGTHS, Arrivals, Beacon, BeaconPath, Finding
from flows.beacon.beacon import read_beacon
from flows.beacon.decapsulate import decapsulate
from flows.errors import InvalidValue
from flows.model import Dpid

BEACON = Beacon(
    run=0xAB << 56, bridge=Dpid(0x51), sensor=1, network=3, number=2, count=9, length=300
)
PATH = BeaconPath(BEACON.bridge, BEACON.sensor, BEACON.network, sent=3, length=300, tag=101)


@pytest.mark.parametrize("length", [LENGTHS.start, 300, LENGTHS.stop - 1])
def test_a_beacon_is_read_back_from_its_frame_also_when_it_was_cut(length: int) -> None:
    beacon = replace(BEACON, length=length, sent_ns=12345)
    assert len(beacon.frame()) == length
    assert read_beacon(beacon.frame()) == beacon
    assert read_beacon(beacon.frame()[:64]) == beacon
    assert read_beacon(beacon.frame()[:61]) is None


def test_its_addresses_are_local_and_belong_to_nobody() -> None:
    frame = BEACON.frame()
    assert frame[0] & 3 == frame[6] & 3 == 2, "locally administered, and no group"


@pytest.mark.parametrize("changes", [{"length": 63}, {"length": 1501}, {"number": 10}])
def test_a_beacon_that_cannot_be_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(InvalidValue):
        replace(BEACON, **changes)


def test_another_frame_of_the_same_ethertype_is_no_beacon() -> None:
    frame = bytearray(BEACON.frame())
    frame[14] ^= 1
    assert read_beacon(bytes(frame)) is None
    frame = bytearray(BEACON.frame())
    frame[52:54] = b"\0\0"  # its length
    assert read_beacon(bytes(frame)) is None


ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:09")
ENDS = ETHER / IP(src="192.0.2.1", dst="192.0.2.9")
SIX = ETHER / IPv6(src="2001:db8::1", dst="2001:db8::9")
TAG = Ether(BEACON.frame())
TAGGED = Ether(src=TAG.src, dst=TAG.dst) / Dot1Q(vlan=101, type=0x88B5) / Raw(TAG.payload)
FROM_TO = "from 192.0.2.1 to 192.0.2.9"
ENVELOPES: dict[str, tuple[Packet, str, tuple[int, ...]]] = {
    "plain": (TAG, "None", ()),
    "tagged": (TAGGED, "None", (101,)),
    "vxlan": (ENDS / UDP(dport=4789) / VXLAN(vni=7001, flags=8) / TAGGED,
              f"vxlan {FROM_TO}, key 7001", (101,)),
    "vxlan over a tagged IPv6 underlay": (
        ETHER / Dot1AD(vlan=9) / Dot1Q(vlan=8) / SIX.payload / UDP(dport=4789)
        / VXLAN(vni=5, flags=8) / TAG, "vxlan from 2001:db8::1 to 2001:db8::9, key 5", ()),
    "geneve with options": (
        ENDS / UDP(dport=6081)
        / GENEVE(vni=12, proto=0x6558, options=[bytes.fromhex("0102030100000009")]) / TAG,
        f"geneve {FROM_TO}, key 12", ()),
    "gre": (ENDS / GRE(proto=0x6558, key_present=1, key=99) / TAGGED,
            f"gre {FROM_TO}, key 99", (101,)),
    "gre without a key": (ENDS / GRE(proto=0x6558) / TAG, f"gre {FROM_TO}", ()),
    "erspan 2": (ENDS / GRE(proto=0x88BE, seqnum_present=1) / ERSPAN_II(session_id=77) / TAG,
                 f"erspan2 {FROM_TO}, key 77", ()),
    "erspan 3": (ENDS / GRE(proto=0x22EB, seqnum_present=1) / ERSPAN_III(session_id=78) / TAG,
                 f"erspan3 {FROM_TO}, key 78", ()),
}  # fmt: skip


@pytest.mark.parametrize("what", ENVELOPES)
def test_every_encapsulation_of_a_copy_is_removed(what: str) -> None:
    packet, tunnel, tags = ENVELOPES[what]
    opened = decapsulate(bytes(packet))
    assert (str(opened.tunnel), opened.tags) == (tunnel, tags)
    assert read_beacon(opened.frame) == BEACON


@pytest.mark.parametrize("what", ENVELOPES)
def test_a_frame_that_ends_too_early_is_no_error(what: str) -> None:
    whole = bytes(ENVELOPES[what][0])
    for length in range(14, len(whole) - BEACON.length + 61):
        assert read_beacon(decapsulate(whole[:length]).frame) is None


def test_a_port_that_is_no_tunnel_and_a_fragment_are_left_alone() -> None:
    other = bytes(ENDS / UDP(dport=4790) / VXLAN(vni=7001, flags=8) / TAG)
    piece = bytes(ETHER / IP(flags="MF") / UDP(dport=4789) / VXLAN(vni=7001, flags=8) / TAG)
    assert decapsulate(other).frame == other
    assert decapsulate(piece).frame == piece


def found(*frames: bytes, path: BeaconPath = PATH) -> Finding:
    """The finding for these frames."""
    arrivals = Arrivals()
    for frame in frames:
        arrivals.take(frame)
    [finding] = arrivals.findings(BEACON.run, [path])
    return finding


def beacon(number: int, **changes: int) -> bytes:
    """A frame with the right tag."""
    frame = replace(BEACON, number=number, **changes).frame()
    return frame[:12] + bytes.fromhex("81000065") + frame[12:]


def test_all_that_is_right_has_no_fault() -> None:
    seen = found(beacon(1), beacon(2), beacon(3))
    assert (seen.arrived, seen.lost, seen.faults) == (3, 0, ())
    assert (dict(seen.tags), dict(seen.lengths)) == ({101: 3}, {300: 3})


Damage = Callable[[bytes], list[bytes]]
FAULTS: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "one is lost": (lambda f: [], ("1 lost",)),
    "one comes twice": (lambda f: [f, f], ("1 twice",)),
    "one is late": (lambda f: [beacon(3), f], ("1 twice", "1 out of order")),
    "one is changed": (lambda f: [f[:200] + b"!" + f[201:]], ("1 damaged",)),
    "one is cut": (lambda f: [f[:104]], ("100 bytes instead of 300",)),
    "one has no tag": (lambda f: [f[:12] + f[16:]], ("tag none instead of 101",)),
    "one has another tag": (
        lambda f: [f[:14] + b"\0\x09" + f[16:]], ("tag 9 instead of 101",)),
    "one is of another check": (lambda f: [beacon(2, run=5)], ("1 lost",)),
    "one is of another bridge": (lambda f: [beacon(2, bridge=5)], ("1 lost",)),
    "one is of another sensor": (lambda f: [beacon(2, sensor=0)], ("1 lost",)),
    "one is of another network": (lambda f: [beacon(2, network=0)], ("1 lost",)),
}  # fmt: skip


@pytest.mark.parametrize("what", FAULTS)
def test_each_fault_is_reported(what: str) -> None:
    damage, faults = FAULTS[what]
    assert found(beacon(1), *damage(beacon(2)), beacon(3)).faults == faults


def test_frames_that_are_too_long_to_be_sent_are_not_lost_and_a_fault_if_they_arrive() -> None:
    skipped = replace(PATH, length=0)
    assert found(path=skipped).faults == ()
    assert found(beacon(1), path=skipped).faults == ("300 bytes though it is too long to go",)


def test_padding_by_an_ethernet_card_is_no_part_of_a_frame() -> None:
    assert found(*(beacon(n) + bytes(20) for n in (1, 2, 3))).faults == ()

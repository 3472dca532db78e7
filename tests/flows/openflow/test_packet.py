"""Headers are read out of any bytes: from frames that scapy builds, and from garbage.

tests/ovs/test_packet_fields.py compares with what Open vSwitch itself reads.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, LLC, SNAP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from flows.errors import InvalidValue
from flows.openflow import FIELD_BY_NAME, is_group, length_without_padding, read_fields
from tests.generators.random_frames import random_frame

ETHER = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
V4 = IP(src="10.0.0.1", dst="10.0.0.2")
V6 = IPv6(src="fd00::1", dst="fd00::2")
IN_V4 = {"eth_type": 0x0800, "ip_src": 0x0A000001, "ip_dst": 0x0A000002}
IN_V6 = {"eth_type": 0x86DD, "ipv6_src": (0xFD << 120) + 1, "ipv6_dst": (0xFD << 120) + 2}
OPTIONS = [IPOption(b"\x94\x04\x00\x00")] * 3
DNS = UDP(sport=1000, dport=53)
IN_DNS = {"ip_proto": 17, "udp_src": 1000, "udp_dst": 53}
PAD = PadN(optdata=b"\0" * 12)


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (V4 / DNS, IN_V4 | IN_DNS),
        (IP(src="10.0.0.1", dst="10.0.0.2", options=OPTIONS) / DNS, IN_V4 | IN_DNS),
        (V4 / TCP(sport=1, dport=2, flags="SA"), IN_V4 | {"tcp_src": 1, "tcp_flags": 0x12}),
        (V4 / TCP(dport=2, options=[("MSS", 1460)]), IN_V4 | {"tcp_dst": 2}),
        (V4 / SCTP(sport=1, dport=2), IN_V4 | {"ip_proto": 132, "sctp_src": 1, "sctp_dst": 2}),
        (V4 / ICMP(type=3, code=1), IN_V4 | {"ip_proto": 1, "icmp_type": 3, "icmp_code": 1}),
        (V6 / DNS, IN_V6 | IN_DNS),
        (V6 / IPv6ExtHdrHopByHop(options=[PAD]) / DNS, IN_V6 | IN_DNS),
        (V6 / IPv6ExtHdrRouting(addresses=["fd00::9"]) / IPv6ExtHdrDestOpt() / DNS, IN_V6 | IN_DNS),
        (V6 / AH(payloadlen=4, icv=b"\0" * 12, nh=17) / DNS, IN_V6 | IN_DNS),
        (V6 / IPv6ExtHdrFragment(m=1) / DNS, IN_V6 | IN_DNS),
        (V6 / ICMPv6EchoRequest(), IN_V6 | {"ip_proto": 58, "icmpv6_type": 128, "nd_target": 0}),
        (V6 / ICMPv6ND_NS(tgt="fd00::9"), {"icmpv6_type": 135, "nd_target": (0xFD << 120) + 9}),
        (V6 / ICMPv6ND_NA(tgt="fd00::9"), {"icmpv6_type": 136, "nd_target": (0xFD << 120) + 9}),
        (V6 / ICMPv6ND_NA(code=1, tgt="fd00::9"), {"icmpv6_type": 136, "nd_target": 0}),
        (
            ARP(op=2, hwsrc="02:00:00:00:00:01", psrc="10.0.0.1", pdst="10.0.0.2"),
            {"eth_type": 0x0806, "arp_op": 2, "arp_spa": 0x0A000001, "arp_sha": 0x020000000001},
        ),
        (Dot1Q(vlan=5, prio=3) / V4 / DNS, {"vlan_vid": 0x1005, "vlan_pcp": 3} | IN_V4 | IN_DNS),
        (Dot1AD(vlan=7) / Dot1Q(vlan=5) / V4 / DNS, {"vlan_vid": 0x1007, "eth_type": 0x8100}),
    ],
)
def test_a_frame_of_scapy_is_read(packet: Packet, expected: dict[str, int]) -> None:
    fields = read_fields(bytes(ETHER / packet))
    for name, value in expected.items():
        assert fields[FIELD_BY_NAME[name]] == value, name
    assert fields[FIELD_BY_NAME["eth_src"]] == 0x020000000001
    assert fields[FIELD_BY_NAME["eth_dst"]] == 0x020000000002


@pytest.mark.parametrize(
    ("packet", "proto"),
    [
        (IP(frag=5, proto=17) / Raw(bytes(DNS)), 17),
        (IP(flags="MF", frag=5, proto=17) / Raw(bytes(DNS)), 17),
        (V6 / IPv6ExtHdrFragment(offset=5, nh=17) / Raw(bytes(DNS)), 44),
    ],
)
def test_a_later_fragment_has_no_ports(packet: Packet, proto: int) -> None:
    fields = read_fields(bytes(ETHER / packet))
    assert fields[FIELD_BY_NAME["ip_proto"]] == proto
    assert not fields.get(FIELD_BY_NAME["udp_src"])
    assert not fields.get(FIELD_BY_NAME["udp_dst"])


def test_snap_tells_the_type_behind_it() -> None:
    frame = Dot3(dst="02:00:00:00:00:02") / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(code=0x0800)
    fields = read_fields(bytes(frame / V4 / DNS))
    assert fields[FIELD_BY_NAME["eth_type"]] == 0x0800
    assert fields[FIELD_BY_NAME["udp_dst"]] == 53


def test_802_3_has_no_type() -> None:
    frame = bytes(Dot3(dst="01:80:c2:00:00:00") / LLC(dsap=0x42, ssap=0x42) / Raw(bytes(35)))
    assert read_fields(frame)[FIELD_BY_NAME["eth_type"]] == 0x05FF


@pytest.mark.parametrize(
    "packet",
    [
        V4 / DNS, V4 / TCP(), V4 / ICMP(), V6 / ICMPv6ND_NA(), ARP(), Dot1Q() / V4 / DNS,
        V6 / IPv6ExtHdrHopByHop(options=[PAD]) / IPv6ExtHdrFragment() / DNS,
        Dot1AD() / Dot1Q() / V6,
    ],
    ids=Packet.summary,
)  # fmt: skip
def test_a_frame_cut_anywhere_is_still_read(packet: Packet) -> None:
    whole = bytes(ETHER / packet)
    for length in range(len(whole) + 1):
        if length < 14:
            with pytest.raises(InvalidValue, match="no Ethernet frame"):
                read_fields(whole[:length])
        else:
            check_fit(whole[:length])


@settings(max_examples=500, deadline=None)
@given(st.binary(min_size=14, max_size=200))
def test_any_bytes_are_a_frame(frame: bytes) -> None:
    check_fit(frame)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**63))
def test_any_half_broken_frame_is_read(seed: int) -> None:
    check_fit(random_frame(Random(seed)))


def check_fit(frame: bytes) -> None:
    """Every field is read, and fits its bits."""
    for field, value in read_fields(frame).items():
        assert 0 <= value <= field.full, field.name


@pytest.mark.parametrize(
    ("mac", "group"),
    [(0xFFFFFFFFFFFF, True), (0x01005E000001, True), (0x020000000001, False), (0, False)],
)
def test_a_group_address_is_known_by_its_bit(mac: int, group: bool) -> None:
    assert is_group(mac) is group


@pytest.mark.parametrize("tags", [(), (Dot1Q(vlan=5),), (Dot1AD(vlan=5),)])
@pytest.mark.parametrize("inside", [IP() / UDP() / b"data", IPv6() / UDP() / b"some data"])
def test_padding_behind_an_ip_packet_does_not_count(inside: Packet, tags: tuple[Packet]) -> None:
    packet = Ether()
    for tag in tags:
        packet /= tag
    frame = bytes(packet / inside)
    assert length_without_padding(frame) == len(frame)
    assert length_without_padding(frame + bytes(100)) == len(frame)


@pytest.mark.parametrize(
    "packet",
    [
        Ether() / ARP(),
        Ether(type=0x88CC) / b"odd",
        Ether() / Dot1Q() / Dot1Q() / IP() / UDP(),
        Ether() / IP(len=10) / UDP(),
        Ether() / IP(len=2000) / UDP(),
        Ether() / IPv6(plen=2000) / UDP(),
    ],
)
def test_every_byte_counts_of_what_is_not_read(packet: Packet) -> None:
    frame = bytes(packet) + bytes(100)
    assert length_without_padding(frame) == len(frame)

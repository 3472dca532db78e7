"""flows/openflow/packet.py reads a frame as Open vSwitch itself does, malformed frames included."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from netaddr import EUI, IPAddress

from flows.openflow import (
    ARP_OP,
    ARP_SHA,
    ARP_SPA,
    ARP_THA,
    ARP_TPA,
    ETH_ARP,
    ETH_DST,
    ETH_IPV4,
    ETH_IPV6,
    ETH_SRC,
    ETH_TYPE,
    FRAGMENT,
    ICMP_CODE,
    ICMP_TYPE,
    ICMPV6_CODE,
    ICMPV6_TYPE,
    IP_DST,
    IP_FRAG,
    IP_PROTO,
    IP_SRC,
    IPV6_DST,
    IPV6_SRC,
    LATER_FRAGMENT,
    ND_TARGET,
    SCTP_DST,
    SCTP_SRC,
    TCP_DST,
    TCP_FLAGS,
    TCP_SRC,
    UDP_DST,
    UDP_SRC,
    VLAN_PCP,
    VLAN_PRESENT,
    VLAN_VID,
    Fields,
    read_fields,
)
from tests.generators.random_frames import random_frame
from tests.ovs.lab import ofproto_trace

FRAMES = 1200
KINDS = {
    "ip": (ETH_IPV4, None), "icmp": (ETH_IPV4, 1), "tcp": (ETH_IPV4, 6), "udp": (ETH_IPV4, 17),
    "sctp": (ETH_IPV4, 132), "ipv6": (ETH_IPV6, None), "icmp6": (ETH_IPV6, 58),
    "tcp6": (ETH_IPV6, 6), "udp6": (ETH_IPV6, 17), "sctp6": (ETH_IPV6, 132),
    "arp": (ETH_ARP, None), "rarp": (0x8035, None),
}  # fmt: skip
"""The keywords for an EtherType and a protocol in the flow syntax of Open vSwitch."""
TRANSPORT = {
    6: {"tp_src": TCP_SRC, "tp_dst": TCP_DST, "tcp_flags": TCP_FLAGS},
    17: {"tp_src": UDP_SRC, "tp_dst": UDP_DST},
    132: {"tp_src": SCTP_SRC, "tp_dst": SCTP_DST},
    1: {"icmp_type": ICMP_TYPE, "icmp_code": ICMP_CODE},
    58: {"icmp_type": ICMPV6_TYPE, "icmp_code": ICMPV6_CODE, "nd_target": ND_TARGET},
}
PLAIN = {
    "nw_frag": IP_FRAG,
    "dl_src": ETH_SRC, "dl_dst": ETH_DST, "dl_type": ETH_TYPE, "dl_vlan_pcp": VLAN_PCP,
    "nw_src": IP_SRC, "nw_dst": IP_DST, "nw_proto": IP_PROTO,
    "ipv6_src": IPV6_SRC, "ipv6_dst": IPV6_DST,
}  # fmt: skip
ARP = {
    "arp_op": ARP_OP, "arp_spa": ARP_SPA, "arp_tpa": ARP_TPA, "arp_sha": ARP_SHA,
    "arp_tha": ARP_THA,
}  # fmt: skip
FRAGMENTS = {"no": 0, "first": FRAGMENT, "later": FRAGMENT | LATER_FRAGMENT}
FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns")


def fields_of(text: str) -> Fields:
    """The fields that Open vSwitch parses; those that it omits are 0."""
    words = text.strip().split(",")
    pairs = dict(word.split("=", 1) for word in words if "=" in word)
    eth_type, proto = KINDS[words[0]] if "=" not in words[0] else (None, None)
    if proto is None and "nw_proto" in pairs:
        proto = int(pairs["nw_proto"])
    is_other_icmp = (eth_type, proto) in ((ETH_IPV4, 58), (ETH_IPV6, 1))
    transport = {} if is_other_icmp else TRANSPORT.get(proto or 0, {})
    named = PLAIN | transport | (ARP if eth_type == ETH_ARP else {})
    fields = {field: _number(pairs[name]) for name, field in named.items() if name in pairs}
    if eth_type is not None:
        fields[ETH_TYPE] = eth_type
    if proto is not None:
        fields[IP_PROTO] = proto
    if "dl_vlan" in pairs:
        fields[VLAN_VID] = VLAN_PRESENT | int(pairs["dl_vlan"])
    return fields


def _number(text: str) -> int:
    if text in FRAGMENTS:
        return FRAGMENTS[text]
    if re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", text):
        return int(EUI(text, version=48))
    if re.fullmatch(r"\d+\.\d+\.\d+\.\d+|[0-9a-f:]*:[0-9a-f:.]*", text):
        return int(IPAddress(text))
    flags = text.split("|")
    if flags[0] in FLAGS:
        return sum(1 << FLAGS.index(f) if f in FLAGS else int(f.strip("[]"), 16) for f in flags)
    return int(text, 0)


def test_frames_are_read_as_open_vswitch_reads_them(bridge: Callable[..., str]) -> None:
    name = bridge()
    rng = Random(11)
    differences = []
    for _ in range(FRAMES):
        frame = random_frame(rng)
        says = ofproto_trace(name, 1, frame).split("\n")[0].removeprefix("Flow: ")
        seen, read = fields_of(says), read_fields(frame)
        fields = [f for f in seen.keys() | read.keys() if seen.get(f, 0) != read.get(f, 0)]
        if fields:
            names = {f.name: (seen.get(f, 0), read.get(f, 0)) for f in fields}
            differences.append(f"{frame.hex()}\n{says}\n(Open vSwitch, we): {names}")
    assert not differences, f"{len(differences)} differ:\n" + "\n\n".join(differences[:8])


def test_a_difference_would_be_seen() -> None:
    text = (
        "tcp,in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:02,dl_dst=00:00:00:00:00:01,"
        "nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_tos=0,nw_ecn=0,nw_ttl=64,nw_frag=no,tp_src=1,"
        "tp_dst=2,tcp_flags=syn|ack"
    )
    assert fields_of(text) == {
        ETH_SRC: 2, ETH_DST: 1, ETH_TYPE: 0x0800, IP_SRC: 0x0A000001, IP_DST: 0x0A000002,
        IP_FRAG: 0, IP_PROTO: 6, TCP_SRC: 1, TCP_DST: 2, TCP_FLAGS: 0x12,
    }  # fmt: skip

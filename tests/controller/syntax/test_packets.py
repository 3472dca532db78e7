"""Packets as text become frames that scapy parses as meant."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Packet

from controller.inventory.file import parse
from controller.syntax import BadPacket, build_frame

PORTS = {
    port.id: port
    for port in parse(b"""
tenants: [red]
networks: [{name: lan, tenant: red}]
ports:
  - {id: web, tenant: red, network: lan, mac: "02:00:00:00:00:01", ips: [10.0.0.1, "fd00::1"]}
  - {id: db, tenant: red, network: lan, mac: "02:00:00:00:00:02", ips: [10.0.0.2, "fd00::2"]}
  - {id: lb, tenant: red, network: lan}
""").ports
}


def packet(text: str, sender: str = "web") -> Packet:
    """What scapy makes of the frame."""
    return Ether(build_frame(text, PORTS[sender], PORTS.values()))


def test_what_is_left_out_comes_from_the_inventory() -> None:
    seen = packet("tcp,destination=10.0.0.2,destination_port=443,source_port=1,tcp_flags=syn+ack")

    assert (seen.src, seen.dst) == ("02:00:00:00:00:01", "02:00:00:00:00:02")
    assert (seen[IP].src, seen[IP].dst, seen[IP].len) == ("10.0.0.1", "10.0.0.2", 40)
    assert (seen[TCP].sport, seen[TCP].dport, seen[TCP].flags) == (1, 443, "SA")
    sum_given = seen[IP].chksum
    del seen[IP].chksum
    assert Ether(bytes(seen))[IP].chksum == sum_given


def test_every_kind_is_built() -> None:
    assert packet("udp,destination=10.0.0.2")[UDP].dport == 53
    assert packet("sctp,destination=10.0.0.2,destination_port=9")[SCTP].dport == 9
    assert packet("icmp,destination=10.0.0.2,icmp_type=3,icmp_code=4")[ICMP].code == 4
    six = packet("icmpv6,destination=fd00::2")
    assert six[IPv6].src == "fd00::1" and six[ICMPv6EchoRequest].seq == 1
    assert packet("tcp,destination=fd00::2")[IPv6].plen == 20
    asks = packet("arp,destination=10.0.0.2")
    assert (asks.dst, asks[ARP].op, asks[ARP].hwsrc) == ("ff:ff:ff:ff:ff:ff", 1, asks.src)
    answers = packet("arp,destination=10.0.0.2,arp_operation=reply")
    assert (answers.dst, answers[ARP].op, answers[ARP].pdst) == ("02:00:00:00:00:02", 2, "10.0.0.2")
    assert packet("destination=10.0.0.2,protocol=esp")[IP].proto == 50
    assert packet("destination=10.0.0.2,protocol=6,destination_port=81")[TCP].dport == 81
    assert packet("eth_type=lldp").type == 0x88CC
    tagged = packet("tcp,destination=10.0.0.2,vlan=7")
    assert tagged[Dot1Q].vlan == 7 and tagged[TCP].dport == 80


def test_the_destination_mac_is_found_or_given() -> None:
    assert packet("udp,destination=255.255.255.255").dst == "ff:ff:ff:ff:ff:ff"
    assert packet("udp,destination=239.129.2.3").dst == "01:00:5e:01:02:03"
    assert packet("udp,destination=ff02::1:2").dst == "33:33:00:01:00:02"
    given = packet("tcp,destination=192.0.2.1,destination_mac=02:00:00:00:00:FE")
    assert given.dst == "02:00:00:00:00:fe"
    text = "tcp,source=10.0.0.7,source_mac=02:00:00:00:00:07,destination=10.0.0.1"
    assert packet(text, "lb")[IP].src == "10.0.0.7"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is not understood"),
        ("http", "'http' is not understood: begin with one of tcp"),
        ("tcp,port=80", "'port=80' is not understood"),
        ("tcp,destination=10.0.0.2,destination=10.0.0.2", "destination is given twice"),
        ("tcp", "say where the packet goes: destination=ADDRESS"),
        ("tcp,destination=10.2", "destination=10.2: it is not an IP address"),
        ("tcp,destination=192.0.2.1", "no port of the network is declared with 192.0.2.1"),
        ("tcp,destination=10.0.0.2,source=fd00::1", "of different IP versions"),
        ("tcp,destination=10.0.0.2,destination_port=65536", "not a number from 0 to 65535"),
        ("tcp,destination=10.0.0.2,destination_port=x", "destination_port=x: it is not"),
        ("tcp,destination=10.0.0.2,icmp_type=1", "icmp_type has no place"),
        ("tcp,destination=10.0.0.2,tcp_flags=syn+x", "tcp_flags: 'x' is no flag"),
        ("tcp,destination=10.0.0.2,vlan=4096", "vlan=4096: it is not a number"),
        ("tcp,destination=10.0.0.2,source_mac=1", "source_mac=1: write a MAC address"),
        ("arp", "an ARP packet needs destination="),
        ("destination=10.0.0.2", "the packet needs protocol=..."),
        ("vlan=1", "the packet needs eth_type=..."),
    ],
)
def test_an_invalid_packet_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(BadPacket) as caught:
        packet(text)

    assert said in str(caught.value)


def test_a_port_without_addresses_must_be_given_them() -> None:
    with pytest.raises(BadPacket, match="port 'lb' has no declared IPv4 address: give source="):
        packet("tcp,destination=10.0.0.2", "lb")
    with pytest.raises(BadPacket, match="port 'lb' has no declared MAC address: give source_mac="):
        packet("tcp,destination=10.0.0.2,source=10.0.0.7", "lb")


@pytest.mark.parametrize(
    "number", ["\uff18\uff10", "\u0668\u0660", "8_0", "+80", " 80", "-80", "0b1", "0o7", "8\u00b2"]
)
@pytest.mark.parametrize("key", ["destination_port", "vlan"])
def test_a_number_is_written_in_ascii_digits(key: str, number: str) -> None:
    with pytest.raises(BadPacket, match=f"{key}=.* is not a number from 0 to"):
        build_frame(f"tcp,destination=10.0.0.2,{key}={number}", PORTS["web"], PORTS.values())

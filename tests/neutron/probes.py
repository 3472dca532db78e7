"""What a tenant does and sees: pings, connections, spoofed frames, and random frames of all kinds.

Workloads are raw sockets without an IP stack. An answer is a frame that the asked workload sends
after the question has been delivered to it, so nothing is waited for in vain.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address
from itertools import count

from tests import frames
from tests.neutron.cloud import NeutronCloud
from tests.ovs.attached_cloud import ADDRESSES, HOSTS, MACS, TENANTS, Script, Sent

ECHO_REPLY, ECHO_REQUEST = 0, 8
SYN, SYN_ACK, ACK = 0x02, 0x12, 0x10
UNKNOWN_MAC, GROUP_MAC = 0x0200000000EE, 0x01005E000001
PROTOCOL = 0x88B6
"""EtherType for local experiments (IEEE 802)."""
NOT_ALLOWED = 47
"""An IP protocol that the security group does not accept."""
_numbers = count(1)


def icmp(
    tenant: str, source: str, target: str, kind: int = ECHO_REQUEST, number: int = 1,
    series: int | None = None,
) -> Sent:  # fmt: skip
    """An echo request or reply, of a new series (its identifier) if none is given.

    What conntrack has once marked as refused stays so, for the whole series.
    """
    series = next(_numbers) % 60000 if series is None else series
    body = struct.pack("!BBHHH", kind, 0, 0, series, number)
    body += b"ping" + next(_numbers).to_bytes(4, "big")
    body = body[:2] + struct.pack("!H", frames.checksum(body)) + body[4:]
    return _ip(tenant, source, target, 1, body)


def segment(tenant: str, source: str, target: str, flags: int, ports: tuple[int, int]) -> Sent:
    """A TCP segment of a connection with these ports, in the middle of nothing."""
    data = b"" if flags & SYN else next(_numbers).to_bytes(4, "big")
    body = checked_tcp(source, target, frames.tcp(*ports, flags, data))
    return _ip(tenant, source, target, 6, body)


def checked_tcp(source: str, target: str, body: bytes) -> bytes:
    """A segment with its checksum (RFC 9293), without which conntrack takes it for invalid."""
    pseudo = IPv4Address(ADDRESSES[source]).packed + IPv4Address(ADDRESSES[target]).packed
    pseudo += struct.pack("!BBH", 0, 6, len(body))
    whole = pseudo + body + bytes(len(body) % 2)
    return body[:16] + struct.pack("!H", frames.checksum(whole)) + body[18:]


def spoofed_ip(tenant: str, source: str, target: str) -> Sent:
    """A datagram under an IP address that nobody has given to its sender."""
    data = frames.udp(1000, 53, b"spoof" + next(_numbers).to_bytes(4, "big"))
    packet = frames.ipv4("10.0.0.77", ADDRESSES[target], 17, data)
    frame = frames.ethernet(MACS[target], MACS[source], 0x0800, packet)
    return Sent(f"{tenant}-{source}", frames.pad(frame))


def broadcast(tenant: str, source: str) -> Sent:
    """An ARP request for nobody."""
    body = frames.arp(1, MACS[source], ADDRESSES[source], 0, "10.0.0.200")
    body += b"who" + next(_numbers).to_bytes(4, "big")
    frame = frames.ethernet(frames.BROADCAST, MACS[source], 0x0806, body)
    return Sent(f"{tenant}-{source}", frames.pad(frame))


def is_delivered(cloud: NeutronCloud, sent: Sent, target: str) -> bool:
    """Send a frame; whether it has reached a workload."""
    return sent.frame in cloud.receive(sent)[target]


def learn_addresses(cloud: NeutronCloud, tenant: str, hosts: Sequence[str] = HOSTS) -> None:
    """Each host tells its address, as before its first packet."""
    cloud.receive(*(broadcast(tenant, host) for host in hosts))


def answered_pings(
    cloud: NeutronCloud, tenant: str, source: str, target: str, most: int = 20
) -> int:
    """How many of so many pings are answered: request and reply are both delivered."""
    learn_addresses(cloud, tenant, (source, target))
    answered, series = 0, next(_numbers) % 60000
    for number in range(1, most + 1):
        request = icmp(tenant, source, target, ECHO_REQUEST, number, series)
        if is_delivered(cloud, request, f"{tenant}-{target}"):
            reply = icmp(tenant, target, source, ECHO_REPLY, number, series)
            answered += is_delivered(cloud, reply, f"{tenant}-{source}")
    return answered


def can_connect(cloud: NeutronCloud, tenant: str, source: str, target: str) -> bool:
    """Whether a TCP handshake comes through, and a first segment."""
    near = 20000 + next(_numbers) % 20000
    there, back = (near, 80), (80, near)
    steps = [
        (segment(tenant, source, target, SYN, there), target),
        (segment(tenant, target, source, SYN_ACK, back), source),
        (segment(tenant, source, target, ACK, there), target),
    ]
    return all(is_delivered(cloud, sent, f"{tenant}-{to}") for sent, to in steps)


class RandomScript(Script):
    """Random frames of all kinds, of workloads that may lie about their addresses."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._kinds = [
            self._known, self._known, self._segment, self._segment, self._echo, self._echo6,
            self._request, self._to_all, self._to_group, self._to_unknown, self._pieces,
            self._tagged, self._spoofed, self._spoofed, self._refused, self._other, self._large,
        ]  # fmt: skip

    def frames(self, most: int) -> list[Sent]:
        """So many frames, at least; a fragmented packet is never left incomplete."""
        sent: list[Sent] = []
        while len(sent) < most:
            tenant = self._random.choice(list(TENANTS))
            source, target = self._random.sample(list(MACS), 2)
            sent += self._random.choice(self._kinds)(tenant, source, target)
        return sent

    def short_pieces(self, tenant: str) -> list[Sent]:
        """Both pieces of a datagram that conntrack of the userspace datapath does not put together.

        It drops a first piece that is shorter than its ipf-min-frag (1200) and holds the last one
        until that expires. Then it sends it with any other packet that conntrack looks at, to the
        receivers of that one, in whichever network they are.
        """
        return self._fragments(tenant)

    def _known(self, tenant: str, source: str, target: str) -> list[Sent]:
        return [self.udp(tenant, source, target)]

    def _segment(self, tenant: str, source: str, target: str) -> list[Sent]:
        """One of a connection that there may be already; some have a wrong checksum."""
        flags = self._random.choice((SYN, SYN, SYN_ACK, ACK, 0x04, 0x11, 0))
        body = frames.tcp(self._random.randrange(1000, 1004), 80, flags, self._next())
        if self._random.random() < 0.8:
            body = checked_tcp(source, target, body)
        return [self._ip(tenant, source, target, 6, body)]

    def _echo(self, tenant: str, source: str, target: str) -> list[Sent]:
        return [icmp(tenant, source, target, self._random.choice((ECHO_REQUEST, ECHO_REPLY)))]

    def _echo6(self, tenant: str, source: str, target: str) -> list[Sent]:
        return [self._random.choice(self._ipv6(tenant))]

    def _request(self, tenant: str, source: str, target: str) -> list[Sent]:
        return [self.arp(tenant, source, target)]

    def _to_all(self, tenant: str, source: str, target: str) -> list[Sent]:
        data = frames.udp(68, 67, self._next())
        packet = frames.ipv4(ADDRESSES[source], "255.255.255.255", 17, data)
        return [self._ethernet(tenant, source, frames.BROADCAST, 0x0800, packet)]

    def _to_group(self, tenant: str, source: str, target: str) -> list[Sent]:
        packet = frames.ipv4(ADDRESSES[source], "224.0.0.1", 17, frames.udp(5, 6, self._next()))
        return [self._ethernet(tenant, source, GROUP_MAC, 0x0800, packet)]

    def _to_unknown(self, tenant: str, source: str, target: str) -> list[Sent]:
        packet = frames.ipv4(ADDRESSES[source], "10.0.0.99", 17, frames.udp(5, 6, self._next()))
        return [self._ethernet(tenant, source, UNKNOWN_MAC, 0x0800, packet)]

    def _pieces(self, tenant: str, source: str, target: str) -> list[Sent]:
        """Both pieces of a datagram, of which the first is not too short (see short_pieces)."""
        first = frames.udp(1000, 53, self._next().ljust(1208, b"\0"))
        ends, ident = (ADDRESSES[source], ADDRESSES[target], 17), self._number
        packets = [
            frames.ipv4(*ends, first, fragment=0x2000, ident=ident),
            frames.ipv4(*ends, self._next(), fragment=len(first) // 8, ident=ident),
        ]
        return [self._ethernet(tenant, source, MACS[target], 0x0800, each) for each in packets]

    def _tagged(self, tenant: str, source: str, target: str) -> list[Sent]:
        tag = self._random.choice(((0x8100, 1), (0x8100, 2), (0x8100, 77), (0x8100, 4095)))
        inner = self._random.choice(((), ((0x8100, 5),)))
        data = frames.udp(1000, 53, self._next())
        packet = frames.ipv4(ADDRESSES[source], ADDRESSES[target], 17, data)
        source = self._random.choice(HOSTS)
        return [self._ethernet(tenant, source, MACS[target], 0x0800, packet, (tag, *inner))]

    def _spoofed(self, tenant: str, source: str, target: str) -> list[Sent]:
        """Under the MAC address of another, under another IP address, or both."""
        mac, address = self._random.choice(list(MACS)), self._random.choice(list(ADDRESSES))
        data = frames.udp(1000, 53, self._next())
        packet = frames.ipv4(ADDRESSES[address], ADDRESSES[target], 17, data)
        forged = self._ethernet(tenant, mac, MACS[target], 0x0800, packet)
        return [Sent(f"{tenant}-{source}", forged.frame)]

    def _refused(self, tenant: str, source: str, target: str) -> list[Sent]:
        return [self._ip(tenant, source, target, NOT_ALLOWED, self._next())]

    def _other(self, tenant: str, source: str, target: str) -> list[Sent]:
        return [self._ethernet(tenant, source, MACS[target], PROTOCOL, self._next())]

    def _large(self, tenant: str, source: str, target: str) -> list[Sent]:
        return [self.udp(tenant, source, target, self._random.randrange(60, 1515))]


def _ip(tenant: str, source: str, target: str, protocol: int, body: bytes) -> Sent:
    ends, ident = (ADDRESSES[source], ADDRESSES[target]), next(_numbers) % 0x10000
    packet = frames.ipv4(*ends, protocol, body, ident=ident)
    frame = frames.ethernet(MACS[target], MACS[source], 0x0800, packet)
    return Sent(f"{tenant}-{source}", frames.pad(frame))

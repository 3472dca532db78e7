"""The bridge of the page on installation: two VMs, a sensor, a router behind the uplink."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.installed.machine import Machine
from tests.ovs.waiting import wait_for

BRIDGE = "br-vms"
HOSTS = {
    # name: interface at the bridge, MAC address, IP address
    "web": ("vnet0", "02:00:00:00:00:01", "10.0.0.1/24"),
    "db": ("vnet1", "02:00:00:00:00:02", "10.0.0.2/24"),
    "router": ("eth1", "02:00:00:00:00:fe", "10.0.0.254/24"),
    "ids": ("tap0", "02:00:00:00:00:05", ""),
}
BEHIND = "192.0.2.1"
"""An address behind the router."""
HOST = "10.0.0.100"
"""The address of the machine itself, at the bridge."""
PERIOD_S = 0.05
_ECHO = re.compile(r"> (\S+): ICMP echo (request|reply), id \d+, seq (\d+)")
_ANSWERED = re.compile(r"(\d+) packets transmitted, (\d+) received")


@dataclass
class Pings:
    """How many were sent and answered, once they have ended."""

    sent: int = 0
    answered: int = 0

    @property
    def pause_s(self) -> float:
        """How long none was answered, if that was at once, in seconds."""
        return (self.sent - self.answered) * PERIOD_S


class BridgeOfVms:
    """An ordinary switch with four machines, each a network namespace of its own."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        machine.must(f"ovs-vsctl add-br {BRIDGE} -- set Bridge {BRIDGE} datapath_type=netdev")
        for name, host in HOSTS.items():
            self._add(name, *host)
        for command in (
            f"ip -n router address add {BEHIND}/32 dev lo",
            "ip -n web route add default via 10.0.0.254",
            "ip -n db route add default via 10.0.0.254",
            f"ip link set {BRIDGE} up",
            f"ip address add {HOST}/24 dev {BRIDGE}",
        ):
            machine.must(command)

    def _add(self, name: str, interface: str, mac: str, address: str) -> None:
        for command in (
            f"ip netns add {name}",
            f"ip link add {interface} type veth peer name eth0 netns {name}",
            f"ip link set {interface} up",
            f"ip -n {name} link set lo up",
            f"ip netns exec {name} sysctl -q -w net.ipv6.conf.all.disable_ipv6=1",
            f"ip -n {name} link set eth0 address {mac} up",
            f"ip netns exec {name} ethtool -K eth0 tx off",
            f"ovs-vsctl add-port {BRIDGE} {interface}",
            *([f"ip -n {name} address add {address} dev eth0"] if address else []),
        ):
            self._machine.must(command)

    def reaches(self, sender: str, address: str) -> bool:
        """Whether an address answers a machine."""
        ping = f"ip netns exec {sender} ping -c 1 -W 1 {address}"
        return self._machine.run(ping).returncode == 0

    def wait_until_all_reach_each_other(self) -> None:
        """Block until VMs, router, what is behind it, and the host answer."""
        for sender, address in (
            *(("web", "10.0.0.2"), ("db", "10.0.0.1"), ("web", BEHIND)),
            *(("db", HOST), ("router", HOST), ("router", "10.0.0.1")),
        ):
            wait_for(lambda one=(sender, address): self.reaches(*one), bool)

    def copies_of(self, pings: int) -> Counter[tuple[str, str, int]]:
        """What the sensor has got of so many pings of `web` to what is behind the router.

        Each is the destination, `request` or `reply`, and a number. The pings of `db` that follow
        take longer than copies that are on their way.
        """
        capture = self._machine.start(
            "ip netns exec ids tcpdump -n -l -i eth0 icmp", ready="listening on eth0"
        )
        self._machine.must(f"ip netns exec web ping -q -c {pings} -i {PERIOD_S} {BEHIND}")
        self._machine.must(f"ip netns exec db ping -q -c 5 -i 0.2 {BEHIND}")
        seen = _ECHO.finditer(capture.stop())
        return Counter((found[1], found[2], int(found[3])) for found in seen)

    def flooded(self) -> list[str]:
        """What the sensor sees when `web` asks everybody for an address (ARP)."""
        capture = self._machine.start(
            "ip netns exec ids tcpdump -n -l -i eth0 arp", ready="listening on eth0"
        )
        self._machine.must("ip -n web neigh flush all")
        self._machine.must("ip netns exec web ping -q -c 5 -i 0.2 10.0.0.2")
        return [line for line in capture.stop().splitlines() if "ARP, Request" in line]

    @contextmanager
    def pinging(self) -> Iterator[Pings]:
        """Let `web` ping what is behind the router, 20 times a second, inside the block."""
        pings = Pings()
        running = self._machine.start(
            f"ip netns exec web ping -q -i {PERIOD_S} {BEHIND}", ready="PING"
        )
        yield pings
        found = _ANSWERED.search(running.stop())
        assert found
        pings.sent, pings.answered = map(int, found.groups())

"""A scenario as a Mininet topology with its own classes of hosts, links and switches."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from scenario.model import Scenario, TapPort, number_of, switch_of

try:
    from mininet.link import Link
    from mininet.node import Host, OVSSwitch, RemoteController
    from mininet.topo import Topo
except ModuleNotFoundError:
    sys.exit(
        f"mininet is not installed for {sys.executable}: run 'make setup', "
        "and start the scenarios with /usr/bin/python3"
    )

LINK_MTU = 1600
"""Cables between switches carry a full frame plus one 802.1Q tag of ours (4 bytes)."""


class QuietHost(Host):
    """A host that sends nothing on its own, and whose frames have valid checksums."""

    def config(self, **params: object) -> dict[str, object]:
        """Disable IPv6 and checksum offload, and configure the host as Mininet does."""
        self.cmd("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
        result = super().config(**params)
        for interface in self.intfList():
            # the userspace datapath reads frames before the kernel would fill in the checksum
            self.cmd(f"ethtool -K {interface} tx off")
        return result


class Cable(Link):
    """A link whose ends at switches have no IPv6, so that the kernel sends nothing on them."""

    def __init__(self, *args: object, **params: object) -> None:
        super().__init__(*args, **params)
        for end in (self.intf1, self.intf2):
            if isinstance(end.node, OVSSwitch):
                end.node.cmd(f"sysctl -qw net.ipv6.conf.{end}.disable_ipv6=1")


class TapCable(Cable):
    """A link to a tap port, whose end at the switch has no checksum offload.

    The datapath of the kernel would hand on packets of up to 64 kB with unfinished checksums.
    """

    def __init__(self, *args: object, **params: object) -> None:
        super().__init__(*args, **params)
        for end in (self.intf1, self.intf2):
            if isinstance(end.node, OVSSwitch):
                end.node.cmd(f"ethtool -K {end} tx off")


class SwitchCable(Cable):
    """A link between two switches."""

    def __init__(self, *args: object, **params: object) -> None:
        super().__init__(*args, **params)
        for end in (self.intf1, self.intf2):
            end.node.cmd(f"ip link set {end} mtu {LINK_MTU}")


class RunningController(RemoteController):
    """A controller that runs already; replaces the class that `mn --controller remote` uses."""

    def isListening(self, ip: str, port: int) -> bool:
        """Whether it accepts connections.

        Mininet itself starts telnet and decodes the controller's first OpenFlow message as text,
        which fails when the random xid in it is not UTF-8.
        """
        try:
            socket.create_connection((ip, port), timeout=5).close()
        except OSError:
            print(f"no controller listens at {ip}:{port} yet: switches go on trying", flush=True)
            return False
        return True


def topology(scenario: Scenario) -> type[Topo]:
    """The class for `mn --topo`, with the interface names of the scenario and its inventory."""

    class ScenarioTopo(Topo):
        def build(self) -> None:
            for switch in scenario.switches:
                self.addSwitch(
                    switch,
                    cls=OVSSwitch,
                    protocols="OpenFlow13",
                    failMode="secure",
                    datapath=datapath(),
                )
            for member in scenario.members:
                is_tap = isinstance(member, TapPort)
                where = {"ip": None} if is_tap else {"ip": f"{member.ip}/24", "mac": member.mac}
                self.addHost(member.host, cls=QuietHost, **where)
                ports = {"port1": 0, "port2": number_of(member.interface)}
                cable = TapCable if is_tap else Cable
                self.addLink(member.host, switch_of(member.interface), cls=cable, **ports)
            for one, other in scenario.cables:
                ports = {"port1": number_of(one), "port2": number_of(other)}
                self.addLink(switch_of(one), switch_of(other), cls=SwitchCable, **ports)

    ScenarioTopo.__name__ = ScenarioTopo.__qualname__ = scenario.name
    return ScenarioTopo


def datapath() -> str:
    """``kernel`` where the module openvswitch is available, else ``user``."""
    if Path("/sys/module/openvswitch").exists():
        return "kernel"
    try:
        done = subprocess.run(["modprobe", "openvswitch"], capture_output=True)
    except FileNotFoundError:
        return "user"
    return "user" if done.returncode else "kernel"

"""A story as a Mininet topology that chooses its own switches and hosts: plain `mn` works."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from story.words import Story, TapPort, number_of, switch_of

try:
    from mininet.link import Link
    from mininet.node import Host, OVSSwitch, RemoteController
    from mininet.topo import Topo
except ModuleNotFoundError:
    sys.exit(
        f"mininet is not installed for {sys.executable}: run 'make setup', "
        "and start the stories with /usr/bin/python3"
    )

LINK_MTU = 1600
"""Cables between switches carry a full frame plus one 802.1Q tag of ours (4 bytes)."""


class Machine(Host):
    """A host that sends nothing by itself, and finished frames only."""

    def config(self, **params: object) -> dict[str, object]:
        """Switch off IPv6 chatter and checksum offload, then configure the host as usual."""
        self.cmd("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
        result = super().config(**params)
        for interface in self.intfList():
            # the userspace datapath reads frames before the kernel would fill in the checksum
            self.cmd(f"ethtool -K {interface} tx off")
        return result


class Cable(Link):
    """A link whose ends at a switch send nothing by themselves."""

    def __init__(self, *args: object, **params: object) -> None:
        super().__init__(*args, **params)
        for end in (self.intf1, self.intf2):
            if isinstance(end.node, OVSSwitch):
                end.node.cmd(f"sysctl -qw net.ipv6.conf.{end}.disable_ipv6=1")


class SwitchCable(Cable):
    """A link between two switches."""

    def __init__(self, *args: object, **params: object) -> None:
        super().__init__(*args, **params)
        for end in (self.intf1, self.intf2):
            end.node.cmd(f"ip link set {end} mtu {LINK_MTU}")


class RunningController(RemoteController):
    """A controller that runs already; for `mn` it takes the place of its own `remote`."""

    def isListening(self, ip: str, port: int) -> bool:
        """Whether it accepts connections.

        Mininet's own way starts telnet and reads the controller's first OpenFlow message as text,
        which fails whenever the random number in it is no UTF-8.
        """
        try:
            socket.create_connection((ip, port), timeout=5).close()
        except OSError:
            print(f"no controller listens at {ip}:{port} yet: switches go on trying", flush=True)
            return False
        return True


def topology(story: Story) -> type[Topo]:
    """The class for `mn --topo`: interfaces have the names that the story and the inventory say."""

    class StoryTopo(Topo):
        def build(self) -> None:
            for switch in story.switches:
                self.addSwitch(
                    switch,
                    cls=OVSSwitch,
                    protocols="OpenFlow13",
                    failMode="secure",
                    datapath=_datapath(),
                )
            for member in story.members:
                is_tap = isinstance(member, TapPort)
                where = {"ip": None} if is_tap else {"ip": f"{member.ip}/24", "mac": member.mac}
                self.addHost(member.host, cls=Machine, **where)
                ports = {"port1": 0, "port2": number_of(member.interface)}
                self.addLink(member.host, switch_of(member.interface), cls=Cable, **ports)
            for one, other in story.cables:
                ports = {"port1": number_of(one), "port2": number_of(other)}
                self.addLink(switch_of(one), switch_of(other), cls=SwitchCable, **ports)

    StoryTopo.__name__ = StoryTopo.__qualname__ = story.name
    return StoryTopo


def _datapath() -> str:
    """``kernel`` where the kernel can switch for Open vSwitch, else ``user``."""
    if Path("/sys/module/openvswitch").exists():
        return "kernel"
    try:
        done = subprocess.run(["modprobe", "openvswitch"], capture_output=True)
    except FileNotFoundError:
        return "user"
    return "user" if done.returncode else "kernel"

"""The files of a lab of one's own: a Mininet topology, its inventory, and a configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.cli.client import Failure

TOPOLOGY, INVENTORY, CONFIGURATION = "topology.py", "inventory.yaml", "cloudtap.toml"
HOST_CHARACTERS_MAX = 10
"""Longest name of a Mininet host: its interface, NAME-eth0, has at most 15 characters."""
HOSTS_MAX = 250
"""Most hosts of one tenant: they are in 10.0.0.0/24."""
PORTS_MAX = 4000
"""Most ports of the switch; each interface is a veth pair, and takes Mininet some milliseconds."""
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class LabHost:
    """One host of a lab: a workload, or a tap port (then without addresses)."""

    host: str
    """Its name in Mininet."""
    tenant: str
    name: str
    interface: str
    mac: str | None = None
    ip: str | None = None


@dataclass(frozen=True, slots=True)
class Lab:
    """Tenants, each with the same hosts and a tap port, on one switch.

    Raises:
        Failure: a name cannot be used, stands twice, or there are too many hosts.
    """

    tenants: Sequence[str]
    names: Sequence[str]
    tap: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= HOSTS_MAX:
            raise Failure(f"a tenant of a lab has 1 to {HOSTS_MAX} hosts, not {len(self.names)}")
        if len(self.tenants) * (len(self.names) + 1) > PORTS_MAX:
            raise Failure(f"a lab has at most {PORTS_MAX} hosts and tap ports together")
        for what, words in (("tenant", self.tenants), ("host", [*self.names, self.tap])):
            for word in words:
                if not _WORD.fullmatch(word):
                    raise Failure(
                        f"{word!r} is no name of a {what} in a lab: use letters, digits and _, "
                        "and begin with a letter"
                    )
                if words.count(word) > 1:
                    raise Failure(f"{what} {word!r} is named twice")
        long = max((h.host for h in self.hosts), key=len)
        if len(long) > HOST_CHARACTERS_MAX:
            raise Failure(
                f"Mininet host {long!r} would have more than {HOST_CHARACTERS_MAX} characters: "
                "choose shorter names"
            )

    @property
    def hosts(self) -> list[LabHost]:
        """Every host, in the order of the ports of the switch; tenants have equal addresses."""
        found: list[LabHost] = []
        for tenant in self.tenants:
            prefix = "" if len(self.tenants) == 1 else f"{tenant}_"
            for number, name in enumerate(self.names, 1):
                mac = f"02:00:00:00:00:{number:02x}"
                at = f"s1-eth{len(found) + 1}"
                found.append(LabHost(f"{prefix}{name}", tenant, name, at, mac, f"10.0.0.{number}"))
            at = f"s1-eth{len(found) + 1}"
            found.append(LabHost(f"{prefix}{self.tap}", tenant, self.tap, at))
        return found


def write_lab(lab: Lab, folder: Path) -> list[Path]:
    """Write the files of a lab into a folder, which is made; the files that were written.

    Raises:
        Failure: one of the files exists, or cannot be written; then nothing was written.
    """
    texts = {TOPOLOGY: topology(lab), INVENTORY: inventory(lab)}
    texts[CONFIGURATION] = config(folder.resolve())
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            with open(folder / name, "x", encoding="utf-8") as file:
                written.append(folder / name)
                file.write(text)
    except OSError as error:
        for done in written:
            done.unlink(missing_ok=True)
        if isinstance(error, FileExistsError) and folder.is_dir():
            raise Failure(
                f"{error.filename} exists and is not overwritten: name another folder, or remove "
                "what is no longer needed"
            ) from error
        raise Failure(f"the lab cannot be written to {folder}: {error.strerror}") from error
    return written


def _toml(path: Path) -> str:
    """A path as a basic string of TOML."""
    return json.dumps(str(path), ensure_ascii=False)


def config(folder: Path) -> str:
    """The configuration of the controller; everything else has its default."""
    return f"""\
# The controller of this lab; docs/reference/configuration.md lists all keys.
[inventory]
file = {_toml(folder / INVENTORY)}
vanish_limit = 1.0    # in a lab everything may change at once
settle_seconds = 1.0

[state]
directory = {_toml(folder / "state")}    # sessions, collectors; remove it to begin anew
"""


def inventory(lab: Lab) -> str:
    """The inventory: which host belongs to whom. An interface is named as in the topology."""
    return "\n".join(_inventory_lines(lab)) + "\n"


def _inventory_lines(lab: Lab) -> Iterator[str]:
    yield f"# What {TOPOLOGY} builds. The controller reads this file again when it has changed."
    yield f"tenants: [{', '.join(lab.tenants)}]"
    yield "networks:"
    for tenant in lab.tenants:
        yield f"  - {{name: lan, tenant: {tenant}}}"
    yield "ports:"
    for host in lab.hosts:
        head = f"  - {{id: {host.host}, name: {host.name}, tenant: {host.tenant}, "
        if host.mac is None:
            yield f"{head}kind: tap, interface: {host.interface}}}"
        else:
            addresses = f'mac: "{host.mac}", ips: [{host.ip}]'
            yield f"{head}network: lan, {addresses}, interface: {host.interface}}}"


def topology(lab: Lab) -> str:
    """The file for `mn --custom`."""
    rows = "\n".join(
        f'    ("{h.host}", "{h.interface}", "{h.mac}", "{h.ip}"),'
        if h.mac is not None
        else f'    ("{h.host}", "{h.interface}", None, None),'
        for h in lab.hosts
    )
    return _TOPOLOGY.replace("@HOSTS@", rows)


_TOPOLOGY = '''\
"""A lab of my own: hosts on switches of Open vSwitch, for cloudtap. Edit MY_HOSTS and MY_CABLES.

    mn --custom topology.py --topo lab --controller remote

(`mn` takes over the names of this file: HOSTS and LINKS would replace its own.)
"""

import socket
import subprocess

from mininet.link import Link
from mininet.node import Host, OVSSwitch, RemoteController
from mininet.topo import Topo

# name in Mininet, interface of its switch (SWITCH-ethNUMBER), MAC and IP address (a tap port: None)
MY_HOSTS = (
@HOSTS@
)

# cables between switches: the interfaces at both ends, like ("s1-eth9", "s2-eth9"); the inventory
# has them as `links`
MY_CABLES = (
)


def place(interface):
    """The switch and the port number of an interface."""
    switch, _, number = interface.rpartition("-eth")
    return switch, int(number)


def datapath():
    """The datapath of the kernel if it can be loaded, else that of ovs-vswitchd."""
    try:
        done = subprocess.run(["modprobe", "openvswitch"], capture_output=True)
    except FileNotFoundError:
        return "user"
    return "user" if done.returncode else "kernel"


class QuietHost(Host):
    """A host without IPv6, which sends nothing by itself, and with checksums in all its frames."""

    def config(self, **params):
        self.cmd("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
        result = super().config(**params)
        for interface in self.intfList():
            self.cmd(f"ethtool -K {interface} tx off")
        return result


class Cable(Link):
    """A cable on which switches send nothing by themselves.

    Between switches it carries full frames with the tag that cloudtap adds there.
    """

    def __init__(self, *args, **params):
        super().__init__(*args, **params)
        ends = [end for end in (self.intf1, self.intf2) if isinstance(end.node, OVSSwitch)]
        for end in ends:
            end.node.cmd(f"sysctl -qw net.ipv6.conf.{end}.disable_ipv6=1")
            if len(ends) == 2:
                end.node.cmd(f"ip link set {end} mtu 1600")


class RunningController(RemoteController):
    """A controller that runs already; Mininet's own look at it does not understand OpenFlow."""

    def isListening(self, ip, port):
        try:
            socket.create_connection((ip, port), timeout=5).close()
        except OSError:
            print(f"no controller listens at {ip}:{port} yet: switches go on trying")
            return False
        return True


class Lab(Topo):
    """The hosts and cables above."""

    def build(self):
        ends = [interface for _, interface, _, _ in MY_HOSTS]
        ends += [end for cable in MY_CABLES for end in cable]
        kind = datapath()
        for switch in sorted({place(end)[0] for end in ends}):
            self.addSwitch(switch, cls=OVSSwitch, protocols="OpenFlow13", failMode="secure",
                           datapath=kind)
        for name, interface, mac, ip in MY_HOSTS:
            switch, number = place(interface)
            self.addHost(name, cls=QuietHost, mac=mac, ip=f"{ip}/24" if ip else None)
            self.addLink(name, switch, cls=Cable, port1=0, port2=number)
        for one, other in MY_CABLES:
            (a, number_a), (b, number_b) = place(one), place(other)
            self.addLink(a, b, cls=Cable, port1=number_a, port2=number_b)


controllers = {"remote": RunningController}
topos = {"lab": Lab}
'''

"""The underlay for tests: a bridge with an IP address, and a veth pair to remote sensors."""

from __future__ import annotations

import subprocess
from pathlib import Path

from controller.southbound.ovsdb import tunnel_name, tunnel_options, tunnel_type
from flows.model import Dpid, TunnelKind
from tests.datapath import TUNNEL_KINDS
from tests.ovs.datapath import DATAPATH
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, vsctl
from tests.tunnels import Carried, unwrap

BRIDGE = "under"
HOST4, HOST6 = "192.0.2.1/24", "fd00:9::1/64"
NETWORKS = ("192.0.2.0/24", "fd00:9::/64")
SENSORS = ("192.0.2.9", "192.0.2.10", "fd00:9::9")
"""Addresses of remote sensors, all behind the same veth pair."""
SENSOR_MAC = bytes.fromhex("020000009999")
FIRST_OFPORT = 31


class Underlay:
    """Carries the packets of tunnel ports; ``arrived`` decapsulates them."""

    def __init__(self, lab: Lab, mtu: int = 1500) -> None:
        self._ports: dict[str, int] = {}
        near, far = "under-eth1", "under-far1"
        _run(f"ip link add {near} mtu {mtu} type veth peer name {far} mtu {mtu}")
        vsctl("add-br", BRIDGE, "--", "set", "Bridge", BRIDGE, f"datapath_type={DATAPATH}")
        vsctl("add-port", BRIDGE, near, "--", "set", "Interface", near, "ofport_request=1")
        Path(f"/proc/sys/net/ipv6/conf/{BRIDGE}/disable_ipv6").write_text("0")
        for command in (
            f"ip link set {near} up",
            f"ip link set {far} up",
            f"ethtool -K {far} tx off",
            f"ip link set {BRIDGE} up",
            f"ip address add {HOST4} dev {BRIDGE}",
            f"ip -6 address add {HOST6} dev {BRIDGE} nodad",
            f"ovs-ofctl del-flows {BRIDGE}",
            f"ovs-ofctl add-flow {BRIDGE} in_port=LOCAL,actions=output:1",
            *(f"ovs-appctl ovs/route/add {network} {BRIDGE}" for network in NETWORKS),
            *(f"ovs-appctl tnl/neigh/set {BRIDGE} {a} {SENSOR_MAC.hex(':')}" for a in SENSORS),
        ):
            _run(command)
        for address in SENSORS:  # the kernel datapath asks the kernel for routes and neighbours
            to = f"{address} lladdr {SENSOR_MAC.hex(':')} dev {BRIDGE} nud permanent"
            _run(f"ip neighbour replace {to}")
        self.end = Endpoint(BRIDGE, 1, near, far)
        lab.on_close(self.close)

    def add_tunnels(self, bridge: str, dpid: Dpid) -> dict[tuple[Dpid, TunnelKind], int]:
        """Add a tunnel port of each kind to a bridge, as the product does."""
        found: dict[tuple[Dpid, TunnelKind], int] = {}
        names, command = list[str](), list[str]()
        for number, each in enumerate(TUNNEL_KINDS):
            name, ofport = tunnel_name(dpid, each), FIRST_OFPORT + number
            kind, options = tunnel_type(each), tunnel_options(dpid, each)
            command += ["--", "add-port", bridge, name, "--", "set", "Interface", name]
            command += [f"type={kind}", f"ofport_request={ofport}"]
            command += [f"options:{key}={value}" for key, value in options.items()]
            names.append(name)
            found[dpid, each] = ofport
        vsctl(*command[1:])
        given = vsctl("--bare", "--columns=ofport", "list", "Interface", *names).split()
        assert list(map(int, given)) == list(found.values())
        return found

    def arrived(self) -> list[Carried]:
        """The copies that have arrived since the last call; nothing else may go to sensors."""
        found: list[Carried] = []
        while (outer := self.end.receive_raw()) is not None:
            if outer[:6] != SENSOR_MAC:
                continue  # neighbour discovery of the kernel
            carried = unwrap(outer)
            assert carried is not None, f"not a tunnel: {outer.hex()}"
            found.append(carried)
        self.end.check_nothing_was_lost()
        return found

    def close(self) -> None:
        """Remove the bridge, its routes and the veth pair."""
        self.end.close()
        for network in NETWORKS:  # ovs-vswitchd keeps them; one that was started since has none
            subprocess.run(["ovs-appctl", "ovs/route/del", network], capture_output=True)
        vsctl("--if-exists", "del-br", BRIDGE)
        _run("ip link del under-eth1")


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True, capture_output=True, text=True, timeout=60)

"""A second host: a network namespace with an Open vSwitch and a database of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.ovs.datapath import DATAPATH
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, disable_checksum_offload
from tests.ovs.waiting import wait_for

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
CONTROLLER_IP = "172.31.255.254"
"""The address of the controller for other hosts; it must listen at every address."""
TARGET = f"tcp:{CONTROLLER_IP}:6653"
QUIET = ["-vconsole:off", "-vsyslog:off", "--no-chdir", "--detach"]


class Hypervisor:
    """One more host of a lab. Names of bridges and interfaces may be those of other hosts.

    ``database`` is the target of its database, for this machine.
    """

    def __init__(self, lab: Lab, folder: Path, name: str, number: int) -> None:
        self.name, self.address = name, f"172.31.0.{number}"
        self.folder = folder / name
        self.folder.mkdir()
        self.database = f"unix:{self.folder}/db.sock"
        self._uplink = f"up{number}"
        self._veths: list[str] = []
        self._lab = lab
        self._add_namespace()
        self._start()
        lab.on_close(self.close)

    def vsctl(self, *arguments: str) -> str:
        """Run ovs-vsctl on this host and return what it printed."""
        return _run(["ovs-vsctl", f"--db={self.database}", *arguments])

    def flows(self, bridge: str) -> str:
        """All flows of a bridge."""
        socket = f"unix:{self.folder}/{bridge}.mgmt"
        return _run(["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", socket])

    def add_bridge(self, bridge: str, dpid: int | None = None, target: str | None = TARGET) -> None:
        """Create a bridge in fail mode secure, which connects to the controller at ``target``."""
        words = ["add-br", bridge, "--", "set", "Bridge", bridge, f"datapath_type={DATAPATH}"]
        words += ["fail_mode=secure", "protocols=OpenFlow13"]
        if dpid is not None:
            words.append(f"other_config:datapath-id={dpid:016x}")
        if target is not None:
            words += ["--", "set-controller", bridge, target]
        self.vsctl(*words)

    def add_port(
        self, bridge: str, ofport: int, interface: str, iface_id: str | None = None
    ) -> Endpoint:
        """Add a port whose other end is on this machine."""
        near, far = f"{self.name}n{ofport}", f"{self.name}f{ofport}"
        self._add_veth(near, far)
        self._enter(near, interface)
        self.attach(bridge, ofport, interface, iface_id)
        return Endpoint(bridge, ofport, interface, far)

    def link(self, bridge: str, ofport: int, interface: str, far: str) -> None:
        """Add a port whose other end is the interface ``far`` of this machine, for a bridge."""
        near = f"{self.name}l{ofport}"
        self._add_veth(near, far)
        self._enter(near, interface)
        self.attach(bridge, ofport, interface, None)

    def attach(self, bridge: str, ofport: int, interface: str, iface_id: str | None = None) -> None:
        """Add a port for an interface that this host has."""
        words = ["add-port", bridge, interface, "--", "set", "Interface", interface]
        words.append(f"ofport_request={ofport}")
        if iface_id is not None:
            words.append(f"external_ids:iface-id={iface_id}")
        self.vsctl(*words)

    def delete_port(self, bridge: str, interface: str) -> None:
        """Remove a port; its cable stays."""
        self.vsctl("del-port", bridge, interface)

    def pause(self) -> None:
        """Let ovs-vswitchd hang."""
        os.kill(self._pid("ovs-vswitchd"), signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self._pid("ovs-vswitchd"), signal.SIGCONT)

    def close(self) -> None:
        """End its programs and remove its namespace."""
        for program in ("ovs-vswitchd", "ovsdb-server"):
            pid = self._pid(program)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda at=pid: Path(f"/proc/{at}").exists(), lambda is_there: not is_there)  # type: ignore[misc]
        _run(["ip", "netns", "del", self.name])
        for veth in (*self._veths, self._uplink):
            subprocess.run(["ip", "link", "del", veth], capture_output=True, check=False)

    def _add_namespace(self) -> None:
        if not Path("/sys/class/net/ul").exists():
            _run(["ip", "link", "add", "ul", "type", "bridge"])
            _run(["ip", "link", "set", "ul", "up"])
            _run(["ip", "address", "add", f"{CONTROLLER_IP}/16", "dev", "ul"])
            disable_checksum_offload("ul")
        _run(["ip", "netns", "add", self.name])
        _run(["ip", "link", "add", self._uplink, "type", "veth", "peer", "name", "under"])
        _run(["ip", "link", "set", "under", "netns", self.name])
        _run(["ip", "link", "set", self._uplink, "master", "ul", "up"])
        for words in (
            ["link", "set", "lo", "up"],
            ["link", "set", "under", "up"],
            ["address", "add", f"{self.address}/16", "dev", "under"],
        ):
            _run(["ip", "-n", self.name, *words])

    def _start(self) -> None:
        folder = str(self.folder)
        names = ("OVS_RUNDIR", "OVS_DBDIR", "OVS_SYSCONFDIR", "OVS_LOGDIR")
        enter = ["ip", "netns", "exec", self.name, "env", *(f"{name}={folder}" for name in names)]
        _run(["ovsdb-tool", "create", f"{folder}/conf.db", SCHEMA])
        _run([
            *enter, "ovsdb-server", f"{folder}/conf.db", f"--remote=p{self.database}",
            f"--pidfile={folder}/ovsdb-server.pid", f"--unixctl={folder}/ovsdb.ctl", *QUIET,
        ])  # fmt: skip
        ids = (f"external_ids:hostname={self.name}", f"external_ids:system-id={self.name}-id")
        self.vsctl("--no-wait", "init", "--", "set", "Open_vSwitch", ".", *ids)
        _run([
            *enter, "ovs-vswitchd", self.database, f"--pidfile={folder}/ovs-vswitchd.pid",
            f"--unixctl={folder}/vswitchd.ctl", *QUIET,
        ])  # fmt: skip

    def _add_veth(self, near: str, far: str) -> None:
        _run(["ip", "link", "add", near, "mtu", "1600", "type", "veth", "peer", "name", far])
        _run(["ip", "link", "set", far, "mtu", "1600", "up"])
        disable_checksum_offload(near)
        disable_checksum_offload(far)
        self._veths.append(far)

    def _enter(self, near: str, interface: str) -> None:
        _run(["ip", "link", "set", near, "netns", self.name])
        _run(["ip", "-n", self.name, "link", "set", near, "name", interface, "up"])

    def _pid(self, program: str) -> int:
        return int((self.folder / f"{program}.pid").read_text())


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)[:300]}: {done.stderr.strip()}"
    return done.stdout

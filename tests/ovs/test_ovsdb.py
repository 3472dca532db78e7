"""The watcher of Open vSwitch databases, on a real ovsdb-server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from netaddr import EUI

from controller.southbound.ovsdb.watcher import OvsdbWatcher, RemoteState
from controller.southbound.revalidation import wait_revalidated
from flows.model.session import Dpid
from tests.ovs.lab import Lab, ofctl, vsctl
from tests.ovs.waiting import wait_for

LOCAL = "unix:/run/openvswitch/db.sock"


class Heard:
    def __init__(self) -> None:
        self.dpids: set[Dpid] = set()

    def __call__(self, dpids: frozenset[Dpid]) -> None:
        self.dpids |= dpids


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def watcher(heard: Heard) -> Iterator[OvsdbWatcher]:
    watching = OvsdbWatcher([LOCAL], heard)
    watching.start()
    yield watching
    watching.stop()


def interfaces(watcher: OvsdbWatcher) -> dict[str, tuple[str | None, int | None]]:
    return {row.name: (row.iface_id, row.ofport) for row in watcher.snapshot().interfaces}


def test_ports_are_seen_as_they_come_change_and_go(
    lab: Lab, watcher: OvsdbWatcher, heard: Heard
) -> None:
    dpid = Dpid(lab.dpid(lab.add_bridge("s1", dpid=0x51)))
    endpoint = lab.add_port("s1", 7, iface_id="vm-a")
    seen = wait_for(lambda: interfaces(watcher), lambda rows: rows.get("s1-eth7") == ("vm-a", 7))
    assert seen["s1"] == (None, None), "the bridge's own interface has no number that we use"
    (row,) = watcher.snapshot().bridges
    assert (row.dpid, row.name, row.fail_mode, row.datapath_type) == (
        0x51,
        "s1",
        "secure",
        "netdev",
    )
    assert heard.dpids == {dpid}

    address = 'external_ids:attached-mac="02:00:00:00:00:07"'
    vsctl("set", "Interface", "s1-eth7", "external_ids:iface-id=vm-b", address)
    wait_for(lambda: interfaces(watcher), lambda rows: rows.get("s1-eth7") == ("vm-b", 7))
    (row,) = [row for row in watcher.snapshot().interfaces if row.name == "s1-eth7"]
    assert row.attached_mac == EUI("02:00:00:00:00:07")

    lab.remove_port(endpoint)
    wait_for(lambda: interfaces(watcher), lambda rows: "s1-eth7" not in rows)


def test_a_bridge_that_would_forward_by_itself_is_made_secure(
    lab: Lab, watcher: OvsdbWatcher
) -> None:
    lab.add_bridge("s1", dpid=0x51)
    lab.add_bridge("s2", dpid=0x52)
    vsctl("clear", "Bridge", "s1", "fail_mode", "--", "set", "Bridge", "s2", "fail_mode=standalone")

    def modes() -> dict[str, str]:
        return {row.name: row.fail_mode for row in watcher.snapshot().bridges}

    wait_for(modes, lambda seen: seen == {"s1": "", "s2": "standalone"})
    watcher.secure(Dpid(0x51))
    wait_for(modes, lambda seen: seen == {"s1": "secure", "s2": "standalone"})
    assert vsctl("get", "Bridge", "s1", "fail_mode").strip() == "secure"
    watcher.secure(Dpid(0x52))
    watcher.secure(Dpid(0x99))
    wait_for(modes, lambda seen: seen == {"s1": "secure", "s2": "secure"})


class Server:
    """An ovsdb-server of the test's own, which can be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.remote = folder, f"unix:{folder}/db.sock"
        schema = "/usr/share/openvswitch/vswitch.ovsschema"
        subprocess.run(["ovsdb-tool", "create", f"{folder}/db", schema], check=True)

    def start(self) -> None:
        command = ["ovsdb-server", f"{self.folder}/db", f"--remote=p{self.remote}", "--no-chdir"]
        command += [f"--unixctl={self.folder}/ctl", "-vconsole:off"]
        self.process = subprocess.Popen(command)
        wait_for(lambda: (self.folder / "db.sock").exists(), bool)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        (self.folder / "db.sock").unlink(missing_ok=True)

    def add_bridge(self, name: str, dpid: int) -> None:
        command = ["ovs-vsctl", f"--db={self.remote}", "--no-wait", "--", "init", "--"]
        command += ["add-br", name, "--", "set", "Bridge", name, f'datapath_id="{dpid:016x}"']
        subprocess.run(command, check=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    own = Server(tmp_path)
    own.start()
    yield own
    own.kill()


def test_segments_that_open_vswitch_would_not_cut_are_noticed(server: Server, heard: Heard) -> None:
    """On a database without a switch: the setting cannot be undone in a running one."""
    server.add_bridge("far1", 0xF1)
    watching = OvsdbWatcher([server.remote], heard)
    watching.start()
    try:
        wait_for(watching.snapshot, lambda snapshot: bool(snapshot.bridges))
        assert not watching.snapshot().userspace_tso
        heard.dpids.clear()
        setting = "other_config:userspace-tso-enable=true"
        command = ["ovs-vsctl", f"--db={server.remote}", "--no-wait", "set", "Open_vSwitch", "."]
        subprocess.run([*command, setting], check=True)
        wait_for(watching.snapshot, lambda snapshot: snapshot.userspace_tso)
        wait_for(lambda: heard.dpids, lambda dpids: dpids == {0xF1})
    finally:
        watching.stop()


def test_a_database_that_dies_and_comes_back_is_found_again_and_others_go_on(
    lab: Lab, server: Server, heard: Heard
) -> None:
    server.add_bridge("far1", 0xF1)
    watching = OvsdbWatcher([server.remote, LOCAL, "unix:/nowhere/db.sock"], heard)
    watching.start()
    try:
        names = lambda: {row.name for row in watching.snapshot().bridges}  # noqa: E731
        wait_for(names, lambda seen: seen == {"far1"})
        server.kill()
        state = lambda: watching.statuses()[server.remote]  # noqa: E731
        wait_for(state, lambda status: status.state is RemoteState.UNREACHABLE)
        assert "far1" in names(), "what was known stays known"
        lab.add_bridge("s1")
        wait_for(names, lambda seen: seen == {"far1", "s1"})
        status = watching.statuses()["unix:/nowhere/db.sock"]
        assert "does not exist: see whether ovsdb-server runs" in status.reason

        heard.dpids.clear()
        server.start()
        wait_for(state, lambda status: status.state is RemoteState.SYNCED)
        wait_for(lambda: heard.dpids, lambda dpids: Dpid(0xF1) in dpids)
        server.add_bridge("far2", 0xF2)
        wait_for(names, lambda seen: seen == {"far1", "far2", "s1"})
    finally:
        watching.stop()


def test_a_user_without_permission_is_told_so(server: Server) -> None:
    os.chmod(server.folder / "db.sock", 0o600)
    for folder in (server.folder, *server.folder.parents):
        os.chmod(folder, folder.stat().st_mode | 0o055)
    program = (
        "import os, sys, time\n"
        "from controller.southbound.ovsdb import OvsdbWatcher\n"
        "watcher = OvsdbWatcher([sys.argv[1]], print)\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "watcher.start()\n"
        "end = time.monotonic() + 15\n"
        "while 'denied' not in watcher.statuses()[sys.argv[1]].reason:\n"
        "    assert time.monotonic() < end, watcher.statuses()\n"
        "print(watcher.statuses()[sys.argv[1]].reason)\n"
    )
    command = [sys.executable, "-c", program, server.remote]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "permission to open unix:" in done.stdout and "run as root" in done.stdout, done.stderr


def test_cached_packet_paths_are_gone_after_the_wait(lab: Lab) -> None:
    lab.add_bridge("s1")
    sender, receiver = lab.add_ports("s1", (1, 2))
    frame = bytes.fromhex("ffffffffffff0200000000010800").ljust(60, b"\0")
    for _ in range(3):
        ofctl("add-flow", "s1", "in_port=1,actions=output:2")
        assert wait_revalidated()
        assert len(lab.exchange([(sender, frame)])[receiver]) == 1
        ofctl("del-flows", "s1", "cookie=0/-1")
        assert wait_revalidated()
        assert not lab.exchange([(sender, frame)])[receiver]


def test_nothing_is_known_where_no_switch_can_be_asked(tmp_path: Path) -> None:
    assert not wait_revalidated(str(tmp_path))
    (tmp_path / "ovs-vswitchd.pid").write_text("not a number")
    assert not wait_revalidated(str(tmp_path))
    (tmp_path / "ovs-vswitchd.pid").write_text("1")
    assert not wait_revalidated(str(tmp_path))

"""The watcher of Open vSwitch databases, on a real ovsdb-server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from netaddr import EUI

from controller.process import ChangeSignal
from controller.southbound.ovsdb import (
    OvsdbSnapshot,
    OvsdbWatcher,
    RemoteState,
    TlsFiles,
    TunnelDemand,
)
from controller.southbound.revalidation import wait_revalidated
from controller.topology import Placements
from flows.model import Dpid, TunnelKind
from tests.ovs.database_server import DatabaseServer
from tests.ovs.datapath import DATAPATH
from tests.ovs.lab import Lab, ofctl, vsctl
from tests.ovs.runtime_process import Authority
from tests.ovs.waiting import wait_for

LOCAL = "unix:/run/openvswitch/db.sock"


class Changes:
    """The bridges of which the databases have reported something else."""

    def __init__(self) -> None:
        self.dpids: set[Dpid] = set()
        self.reports = 0
        self._before = OvsdbSnapshot()

    def interfaces_changed(self, snapshot: OvsdbSnapshot) -> None:
        self.reports += 1
        self.dpids |= snapshot.changed_since(self._before)
        self._before = snapshot


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def watcher(changes: Changes) -> Iterator[OvsdbWatcher]:
    watching = OvsdbWatcher([LOCAL], changes, ChangeSignal())
    watching.start()
    yield watching
    watching.stop()


def interfaces(watcher: OvsdbWatcher) -> dict[str, tuple[str | None, int | None]]:
    return {row.name: (row.iface_id, row.ofport) for row in watcher.snapshot().interfaces}


def test_ports_are_seen_as_they_come_change_and_go(
    lab: Lab, watcher: OvsdbWatcher, changes: Changes
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
        DATAPATH,
    )
    assert changes.dpids == {dpid}

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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[DatabaseServer]:
    own = DatabaseServer(tmp_path)
    own.start()
    yield own
    own.kill()


def test_segments_that_open_vswitch_would_not_cut_are_noticed(
    server: DatabaseServer, changes: Changes
) -> None:
    """On a database without ovs-vswitchd, where the setting cannot be reverted."""
    server.add_bridge("far1", 0xF1)
    watching = OvsdbWatcher([server.remote], changes, ChangeSignal())
    watching.start()
    try:
        wait_for(watching.snapshot, lambda snapshot: bool(snapshot.bridges))
        assert not watching.snapshot().userspace_tso
        changes.dpids.clear()
        setting = "other_config:userspace-tso-enable=true"
        command = ["ovs-vsctl", f"--db={server.remote}", "--no-wait", "set", "Open_vSwitch", "."]
        subprocess.run([*command, setting], check=True)
        wait_for(watching.snapshot, lambda snapshot: snapshot.userspace_tso)
        wait_for(lambda: changes.dpids, lambda dpids: dpids == {0xF1})
    finally:
        watching.stop()


def test_a_database_that_dies_and_comes_back_is_found_again_and_others_go_on(
    lab: Lab, server: DatabaseServer, changes: Changes
) -> None:
    server.add_bridge("far1", 0xF1)
    watching = OvsdbWatcher(
        [server.remote, LOCAL, "unix:/nowhere/db.sock"], changes, ChangeSignal()
    )
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
        wait_for(
            lambda: watching.statuses()["unix:/nowhere/db.sock"].reason,
            lambda reason: "does not exist: see whether ovsdb-server runs" in reason,
        )

        before = changes.reports
        server.start()
        wait_for(state, lambda status: status.state is RemoteState.SYNCED)
        wait_for(lambda: changes.reports, lambda reports: reports > before)
        server.add_bridge("far2", 0xF2)
        wait_for(names, lambda seen: seen == {"far1", "far2", "s1"})
    finally:
        watching.stop()


def test_a_user_without_permission_is_told_so(server: DatabaseServer) -> None:
    os.chmod(server.folder / "db.sock", 0o600)
    for folder in (server.folder, *server.folder.parents):
        os.chmod(folder, folder.stat().st_mode | 0o055)
    program = (
        "import os, sys, time\n"
        "from controller.process import ChangeSignal\n"
        "from controller.southbound.ovsdb import OvsdbWatcher\n"
        "watcher = OvsdbWatcher([sys.argv[1]], None, ChangeSignal())\n"
        "watcher.start()\n"
        "end = time.monotonic() + 60\n"
        "while 'denied' not in watcher.statuses()[sys.argv[1]].reason:\n"
        "    assert time.monotonic() < end, watcher.statuses()\n"
        "print(watcher.statuses()[sys.argv[1]].reason)\n"
    )
    # may enter folders, since the checkout can be in one that is closed, and open nothing
    enter = "dac_read_search"
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    command += [f"--inh-caps=+{enter}", f"--ambient-caps=+{enter}"]
    command += [sys.executable, "-c", program, server.remote]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
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


def test_certificate_and_ca_for_databases_are_read_again_when_they_change(
    server: DatabaseServer, changes: Changes, tmp_path: Path
) -> None:
    server.kill()
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    mine = [tmp_path / name for name in ("mine.key", "mine.pem", "ca.pem")]

    def replace(authority: Authority, *which: int) -> None:
        """Put files of this authority in the place of ours."""
        certificate, key = authority.issue("controller")
        for number in which:
            whence = (key, certificate, authority.certificate)[number]
            other = mine[number].with_suffix(".other")
            other.touch(mode=0o600)
            other.write_bytes(Path(whence).read_bytes())
            other.replace(mine[number])

    def start(authority: Authority) -> None:
        """Start the server with a certificate of this authority, the only one that it trusts."""
        certificate, key = authority.issue("database")
        files = (f"--certificate={certificate}", f"--private-key={key}")
        server.start("--remote=pssl:6641:127.0.0.1", *files, f"--ca-cert={authority.certificate}")

    replace(old, 0, 1, 2)
    start(old)
    server.add_bridge("far1", 0xF1)
    watching = OvsdbWatcher(
        ["ssl:127.0.0.1:6641"], changes, ChangeSignal(), TlsFiles(*map(str, mine))
    )
    watching.start()
    try:
        wait_for(lambda: [row.name for row in watching.snapshot().bridges], ["far1"].__eq__)
        replace(new, 1)  # the key is that of another certificate
        (problem,) = wait_for(watching.tls_problems, bool)
        assert problem.startswith("the old certificate and CA are still used for databases: ")
        assert str(mine[0]) in problem
        server.kill()
        start(old)
        server.add_bridge("far2", 0xF2)
        wait_for(lambda: len(watching.snapshot().bridges), (2).__eq__)
        replace(new, 0, 1, 2)
        wait_for(watching.tls_problems, lambda seen: not seen)
        server.kill()
        start(new)
        server.add_bridge("far3", 0xF3)
        wait_for(lambda: len(watching.snapshot().bridges), (3).__eq__)
    finally:
        watching.stop()


def test_a_database_over_tls_is_watched_if_its_certificate_is_signed_by_ours(
    server: DatabaseServer, changes: Changes, tmp_path: Path
) -> None:
    server.kill()
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    certificate, key = ours.issue("database")
    files = [
        f"--certificate={certificate}",
        f"--private-key={key}",
        f"--ca-cert={ours.certificate}",
    ]
    server.start("--remote=pssl:6641:127.0.0.1", *files)
    server.add_bridge("far1", 0xF1)
    remote = "ssl:127.0.0.1:6641"
    mine, my_key = ours.issue("controller")
    tls = TlsFiles(my_key, mine, str(ours.certificate))
    foreign, foreign_key = other.issue("stranger")
    doubting = TlsFiles(my_key, mine, str(other.certificate))
    stranger = TlsFiles(foreign_key, foreign, str(ours.certificate))
    watching = [
        OvsdbWatcher([remote], changes, ChangeSignal(), t) for t in (tls, doubting, stranger)
    ]
    trusting, *refused = watching
    for each in watching:
        each.start()
    try:
        wait_for(trusting.snapshot, lambda seen: [row.dpid for row in seen.bridges] == [0xF1])
        wait_for(
            lambda: refused[0].statuses()[remote].reason,
            lambda reason: "is not trusted" in reason and "`ca` of [ovsdb]" in reason,
        )
        wait_for(
            lambda: refused[1].statuses()[remote].reason,
            lambda reason: "over TLS" in reason or "accepts our certificate" in reason,
        )
        assert not refused[0].snapshot().bridges and not refused[1].snapshot().bridges
    finally:
        for each in watching:
            each.stop()


def test_nothing_is_written_to_a_database_that_does_not_speak_for_the_bridge(
    lab: Lab, server: DatabaseServer
) -> None:
    lab.add_bridge("s1", dpid=0x51)
    vsctl("set-fail-mode", "s1", "standalone")
    server.add_bridge("s1", 0x51)
    placements, dpid = Placements(), Dpid(0x51)

    class Listener:
        def interfaces_changed(self, snapshot: OvsdbSnapshot) -> None:
            placements.report_interfaces(snapshot)

    speaking = OvsdbWatcher([LOCAL], Listener(), ChangeSignal())
    speaking.start()
    try:
        wait_for(lambda: placements.believed.bridges, bool)
    finally:
        speaking.stop()
    watching = OvsdbWatcher(
        [server.remote, LOCAL], Listener(), ChangeSignal(), believed=lambda: placements.believed
    )
    watching.start()
    try:
        watching.secure(dpid)
        watching.want_tunnels({dpid: TunnelDemand(frozenset([TunnelKind.VXLAN]))})
        for remote in (server.remote, LOCAL):
            wait_for(
                lambda remote=remote: watching.statuses()[remote].state,
                lambda state: state is RemoteState.SYNCED,
            )
        modes = lambda: {r.database: r.fail_mode for r in watching.snapshot().bridges}  # noqa: E731
        wait_for(modes, lambda seen: seen.get(LOCAL) == "secure")
        wait_for(
            lambda: [r.database for r in watching.snapshot().interfaces if r.tunnel],
            lambda databases: databases == [LOCAL],
        )
        assert modes()[server.remote] == ""
    finally:
        watching.stop()

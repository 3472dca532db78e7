"""The daemons of the Open vSwitch of an isolated run: kills and restarts them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.ovs.waiting import wait_for

RUN = Path("/run/openvswitch")
SOCKET = "/run/openvswitch/db.sock"
QUIET = ["--no-chdir", "--pidfile", "--detach", "--log-file", "-vconsole:off", "-vsyslog:off"]


def pid_of(daemon: str) -> int:
    """The process id of `ovs-vswitchd` or `ovsdb-server`."""
    return int((RUN / f"{daemon}.pid").read_text())


def kill(daemon: str) -> None:
    """Kill one of them with SIGKILL, and wait until it is gone."""
    number = pid_of(daemon)
    os.kill(number, signal.SIGKILL)
    wait_for(lambda: _is_alive(number), lambda alive: not alive)


def start_vswitchd() -> None:
    """Start ovs-vswitchd with the same options; returns when it has read its database."""
    subprocess.run(["ovs-vswitchd", f"unix:{SOCKET}", *QUIET], check=True)


def start_ovsdb_server() -> None:
    """Start ovsdb-server on the existing database."""
    remotes = [
        f"--remote=punix:{SOCKET}",
        "--remote=db:Open_vSwitch,Open_vSwitch,manager_options",
    ]
    subprocess.run(["ovsdb-server", "/etc/openvswitch/conf.db", *remotes, *QUIET], check=True)


def _is_alive(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"

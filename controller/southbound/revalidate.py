"""Waits until the data path of this machine has let go of packet paths that flows no longer allow.

After a barrier the flow tables are right, but cached paths ("megaflows") may go on copying for some
milliseconds, until the revalidators of ovs-vswitchd have been round once.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

RUN_DIRECTORY = "/run/openvswitch"
REQUEST = {"method": "revalidator/wait", "params": [], "id": 0}
READ_BYTES = 65536


def wait_revalidated(run_dir: str = RUN_DIRECTORY, timeout_s: float = 5.0) -> bool:
    """Return once every cached path agrees with the flow tables.

    False when the ovs-vswitchd of ``run_dir`` cannot be asked, or does not answer in time: then
    nothing is known.
    """
    deadline = time.monotonic() + timeout_s
    try:
        number = int(Path(run_dir, "ovs-vswitchd.pid").read_text())
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            asked.settimeout(timeout_s)
            asked.connect(f"{run_dir}/ovs-vswitchd.{number}.ctl")
            asked.sendall(json.dumps(REQUEST).encode())
            return _is_done(asked, deadline)
    except (OSError, ValueError):
        return False


def _is_done(asked: socket.socket, deadline: float) -> bool:
    """Read one answer, which has no end mark but that of its JSON object."""
    answer = b""
    while (left := deadline - time.monotonic()) > 0:
        asked.settimeout(left)
        data = asked.recv(READ_BYTES)
        if not data:
            return False
        answer += data
        try:
            return json.loads(answer).get("error") is None
        except json.JSONDecodeError:
            continue
    return False

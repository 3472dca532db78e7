"""Waits until the data path of this machine has let go of packet paths that flows no longer allow.

After a barrier the flow tables are right, but cached paths ("megaflows") may go on copying for some
milliseconds, until the revalidators of ovs-vswitchd have been round once.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

RUN_DIRECTORY = "/run/openvswitch"
REQUEST = {"method": "revalidator/wait", "params": [], "id": 0}
READ_BYTES = 65536
ROUNDS = 3
"""Ends of rounds to wait for. The first may come before ovs-vswitchd has told its revalidators of
the change, and the second may be that of a round that had begun by then."""


def wait_revalidated(
    run_dir: str = RUN_DIRECTORY,
    timeout_s: float = 5.0,
    nudge: Callable[[], None] = lambda: None,
) -> bool:
    """Return once every cached path agrees with the flow tables.

    ``nudge`` makes the revalidators begin a round at once (see Switch.nudge): then all of it takes
    15 ms, and without it 1.5 s, because they go round each 500 ms (Open vSwitch 3.1).

    False when the ovs-vswitchd of ``run_dir`` cannot be asked, does not answer in time, or has
    data paths of two types: then nothing is known.
    """
    deadline = time.monotonic() + timeout_s
    try:
        number = int(Path(run_dir, "ovs-vswitchd.pid").read_text())
        path = f"{run_dir}/ovs-vswitchd.{number}.ctl"
        return all(_wait_for_a_round(path, deadline, nudge) for _ in range(ROUNDS))
    except (OSError, ValueError):
        return False


def _wait_for_a_round(path: str, deadline: float, nudge: Callable[[], None]) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.settimeout(max(0.1, deadline - time.monotonic()))
        asked.connect(path)
        asked.sendall(json.dumps(REQUEST).encode())
        nudge()
        return _is_done(asked, deadline)


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

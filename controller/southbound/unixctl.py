"""Asks the ovs-vswitchd of this machine over its control socket, as ovs-appctl(8) does."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

from controller.process import PID_BYTES_MAX, UnusableFile, read_file
from flows.errors import CloudtapError

RUN_DIRECTORY = "/run/openvswitch"
"""Where Open vSwitch has its management and control sockets."""
CONTROL_BYTES = 65536
CONTROL_BYTES_MAX = 16 << 20


class NotAnswered(CloudtapError):
    """ovs-vswitchd cannot be asked, or did not answer in time."""


class CommandFailed(CloudtapError):
    """ovs-vswitchd has refused a command, with the sentence that it gave."""


def control_socket(run_dir: str = RUN_DIRECTORY) -> str:
    """The path of the control socket of the ovs-vswitchd that runs now.

    Raises:
        OSError, UnusableFile, ValueError: none runs, or its file of the process id cannot be read.
    """
    number = int(read_file(Path(run_dir, "ovs-vswitchd.pid"), PID_BYTES_MAX))
    return f"{run_dir}/ovs-vswitchd.{number}.ctl"


def ask_vswitchd(
    command: str, *arguments: str, run_dir: str = RUN_DIRECTORY, timeout_s: float = 0.5
) -> str:
    """The answer to one command such as ``ovs/route/lookup``.

    Raises:
        NotAnswered: it does not run here, or does not answer within ``timeout_s`` seconds.
        CommandFailed: it answered with an error.
    """
    deadline = time.monotonic() + timeout_s
    request = json.dumps({"method": command, "params": arguments, "id": 0}).encode()
    try:
        path = control_socket(run_dir)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(path)
            connection.sendall(request)
            answer = _read_answer(connection, deadline)
    except (OSError, EOFError, ValueError, UnusableFile) as problem:
        # closed green sockets raise EOFError
        raise NotAnswered(f"ovs-vswitchd of this machine does not answer: {problem}") from problem
    if answer.get("error") is not None:
        raise CommandFailed(str(answer["error"]).strip())
    return str(answer.get("result") or "")


def _read_answer(connection: socket.socket, deadline: float) -> dict[str, object]:
    """One answer, which ends with its JSON object: there is no other delimiter.

    Raises:
        OSError, ValueError: it is late, cut off, or too long.
    """
    data = b""
    while len(data) <= CONTROL_BYTES_MAX:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        more = connection.recv(CONTROL_BYTES)
        if not more:
            raise ConnectionError("it closed the connection")
        data += more
        if data.rstrip().endswith(b"}"):
            try:
                found = json.loads(data)
            except json.JSONDecodeError:
                continue
            if isinstance(found, dict):
                return found
    raise ValueError("its answer is too long")

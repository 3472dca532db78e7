"""The real controller in a process of its own, with a state directory, an inventory and an API."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import pytest

from controller.runtime import (
    RUNTIME_VARIABLE,
    RUNTIMES,
    configured_runtime,
    default_runtime,
    launch_command,
)
from tests.ovs.lab import vsctl
from tests.ovs.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
API, OPENFLOW = "127.0.0.1:9470", "127.0.0.1:6653"
TARGET = f"tcp:{OPENFLOW}"
"""What a bridge needs as its controller."""
RUNTIME = configured_runtime() or default_runtime()
"""The OpenFlow library that it runs on where a test does not say: RUNTIME_VARIABLE chooses it."""
on_both_runtimes = pytest.mark.parametrize("runtime", RUNTIMES, indirect=True)
"""A mark of tests, or as ``pytestmark`` of a module; the fixture ``runtime`` is in conftest."""
NOBODY = "tcp:127.0.0.1:6699"
"""A target where nobody listens. A bridge keeps its flows if it always has a target."""
DEADLINE_S = 60.0
START_S = 180.0
"""A bound for the start of a process on a loaded machine: its libraries alone may take 60 s to load
there."""
CALL_AGAIN_S = 1.0
"""After so many seconds a bridge is called again, and then ever more seldom: that ends a connection
which is being made."""

LOGGED_S = 2.0
"""How long at most is waited for what the process has logged."""
LOG_SHOWN = 50_000
"""Characters of the log that a failed test shows, from its end."""

Document = dict[str, Any]


def unread_bytes(pid: int, descriptor: int) -> int:
    """How much is in a pipe that a process writes to; 0 if it has none there."""
    try:
        end = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # it has ended, or writes to something else
        return 0
    try:
        if not stat.S_ISFIFO(os.fstat(end).st_mode):
            return 0
        return int.from_bytes(fcntl.ioctl(end, termios.FIONREAD, bytes(4)), sys.byteorder)
    finally:
        os.close(end)


class ControllerProcess:
    """`ryu-manager controller.app`, or the same on os-ken; can be started repeatedly.

    ``settings`` are written like ``bridges__own="s1"``. The log of all starts is in ``log()``.
    A second one needs its own listening addresses for the API and OpenFlow. ``open_files`` limits
    the file descriptors of the process.
    """

    def __init__(
        self,
        folder: Path,
        inventory: str | None,
        runtime: str = RUNTIME,
        addresses: tuple[str, str] = (API, OPENFLOW),
        open_files: int | None = None,
    ) -> None:
        self.addresses = addresses
        """Those of the API and of OpenFlow."""
        self.folder, self.inventory = folder, folder / "inventory.yaml"
        if inventory is not None:
            self.inventory.write_text(inventory)
        self._log = folder / "controller.log"
        self._logged_at_start = 0
        self.output: int | None = -1
        """Where its log goes: a file descriptor, -1 for a file, None if its streams are closed."""
        self._runtime, self._command = runtime, launch_command(runtime)
        if open_files is not None:
            self._command = ["prlimit", f"--nofile={open_files}:{open_files}", *self._command]
        self.process: subprocess.Popen[bytes] | None = None
        self.api = httpx.Client(base_url=f"http://{addresses[0]}", timeout=30)

    def __enter__(self) -> ControllerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        what: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.api.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        # shown if the test has failed: a fixture does not learn whether it has
        print(f"--- log of the controller ---\n{self.log()[-LOG_SHOWN:]}")

    def launch(
        self, application: str | None = None, folder: Path = ROOT, **settings: str
    ) -> subprocess.Popen[bytes]:
        """Start the process, in a folder, without waiting."""
        given = {
            "inventory__file": str(self.inventory),
            # tests write it in place, and take away what they like
            "inventory__vanish_limit": "1",
            "inventory__settle_seconds": "0",
            "state__directory": str(self.folder / "state"),
            "api__listen": self.addresses[0],
            "openflow__listen": self.addresses[1],
            **settings,
        }
        environment = {f"CLOUDTAP_{key.upper()}": value for key, value in given.items()}
        environment.setdefault(RUNTIME_VARIABLE, self._runtime)
        closing = ["bash", "-c", 'exec "$@" >&- 2>&-', "bash"] if self.output is None else []
        command = self._command
        if application is not None:  # this command runs it on either library
            command = [launch_command("ryu")[0], application]
        with self._log.open("ab") as file:
            log = file if self.output in (-1, None) else self.output
            self.process = subprocess.Popen(
                [*closing, *command],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.process

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def start(self, *bridges: str, **settings: Any) -> None:
        """Start it; returns when its API answers and these bridges are verified."""
        process = self.launch(**settings)

        def has_started() -> bool:
            assert process.poll() is None, f"the controller has ended: {self.log()}"
            return self.is_answering()

        wait_for(has_started, bool, START_S)
        for bridge in bridges:
            self.wait_until_connected(bridge)
            self.wait_for_bridge(bridge)
        self._logged_at_start = len(self.log())

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit; returns the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait_for_end()

    def wait_for_end(self) -> int:
        """Wait for the exit; returns the exit status."""
        assert self.process is not None
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended in {DEADLINE_S} s: {self.log()}") from None

    def log(self) -> str:
        """The whole log, with what the process has logged until now."""
        if self.process is not None and self.process.poll() is None:
            sizes = [-1]
            with suppress(AssertionError):  # one that is stopped, or logs all the time
                wait_for(partial(self._is_log_at_rest, sizes), bool, LOGGED_S)
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _is_log_at_rest(self, sizes: list[int]) -> bool:
        """Whether nothing is on its way to the file (see controller/runtime/log_output.py) and it
        has not grown since the last look; ``sizes`` are those of all looks."""
        sizes.append(self._log.stat().st_size)
        return sizes[-1] == sizes[-2] and not unread_bytes(self.pid, 2)

    def log_since_start(self) -> str:
        """The log since ``start`` returned the last time."""
        return self.log()[self._logged_at_start :]

    def is_answering(self) -> bool:
        """Whether the API answers."""
        try:
            return self.api.get("/v1/status").status_code == 200
        except httpx.TransportError:
            return False

    # --- what a user does -----------------------------------------------------------------------

    def create_collector(self, tenant: str, name: str, port: str) -> None:
        """A collector with one tap port."""
        body = {"tenant": tenant, "name": name, "delivery": "port", "sensors": [{"port": port}]}
        answer = self.api.post("/v1/collectors", json=body)
        assert answer.status_code == 201, answer.text

    def change_collector(self, name: str, **fields: object) -> Document:
        """PATCH; returns what the API answers."""
        answer = self.api.patch(f"/v1/collectors/{name}", json=fields)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def create_session(
        self, tenant: str, name: str, ports: list[str], collector: str, **fields: object
    ) -> Document:
        """A session; returns what the API answers."""
        source = {"kind": "port", "ports": ports}
        body = {"tenant": tenant, "name": name, "source": source, "collector": collector, **fields}
        answer = self.api.post("/v1/sessions", json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def change_session(self, name: str, **fields: object) -> Document:
        """PATCH; returns what the API answers."""
        answer = self.api.patch(f"/v1/sessions/{name}", json=fields)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def delete_session(self, name: str) -> int:
        """DELETE; returns the status code."""
        answer = self.api.delete(f"/v1/sessions/{name}")
        assert answer.status_code in (202, 204), answer.text
        return answer.status_code

    # --- what a user sees -----------------------------------------------------------------------

    def status(self) -> Document:
        """The status of the whole system."""
        return dict(self.api.get("/v1/status").raise_for_status().json())

    def bridge(self, name: str) -> Document:
        """One bridge; empty when it is not known."""
        answer = self.api.get(f"/v1/bridges/{name}")
        return dict(answer.json()) if answer.status_code == 200 else {}

    def session(self, name: str) -> Document:
        """One session; empty when there is none."""
        answer = self.api.get(f"/v1/sessions/{name}")
        return dict(answer.json()) if answer.status_code == 200 else {}

    def place(self, port: str) -> tuple[str, int] | None:
        """Where a port is now: bridge and OpenFlow port number."""
        found = self.api.get(f"/v1/ports/{port}").raise_for_status().json()["placement"]
        return (found["bridge"], found["ofport"]) if found else None

    def wait_until_connected(self, bridge: str) -> None:
        """Block until a bridge is connected; resets its controller so that it retries at once.

        By itself it retries every 8 seconds only: Open vSwitch 3.1 does not honour max_backoff.
        """
        due, pause = 0.0, CALL_AGAIN_S

        def look() -> bool:
            nonlocal due, pause
            is_connected = bool(self.bridge(bridge).get("connected"))
            if not is_connected and time.monotonic() > due:
                vsctl("set-controller", bridge, NOBODY)
                vsctl("set-controller", bridge, TARGET)
                due, pause = time.monotonic() + pause, 2 * pause
            return is_connected

        wait_for(look, bool, DEADLINE_S)

    def wait_for_bridge(self, name: str, state: str = "active") -> Document:
        """Return the bridge once it is in this state."""
        return wait_for(
            lambda: self.bridge(name), lambda seen: seen.get("state") == state, DEADLINE_S
        )

    def wait_for_session(
        self, name: str, state: str = "active", words: str = "", seconds: float = DEADLINE_S
    ) -> Document:
        """Return the session once it is in this state, with these words in its reasons."""

        def is_right(seen: Document) -> bool:
            status = seen.get("status", {})
            return status.get("state") == state and words in " ".join(status["reasons"])

        return wait_for(lambda: self.session(name), is_right, seconds)

    def wait_until_free_of(self, name: str, words: str) -> Document:
        """Return the session once its bridges have confirmed a change after which these words are
        not among its reasons."""

        def is_right(seen: Document) -> bool:
            status = seen["status"]
            return status["state"] != "pending" and words not in " ".join(status["reasons"])

        return wait_for(lambda: self.session(name), is_right)

    def wait_for_problem(self, words: str) -> str:
        """Return the problem of the whole system that has these words."""
        looks: Callable[[], list[str]] = lambda: list(self.status()["problems"])  # noqa: E731
        seen = wait_for(looks, lambda found: any(words in p for p in found), DEADLINE_S)
        return next(problem for problem in seen if words in problem)

"""The controller of a scenario, started as a user would start it, and the `cloudtap` command."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scenario.model import ScenarioError

ROOT = Path(__file__).resolve().parents[2]
"""The repository: `.venv/bin` has what `make setup` installed."""

COMMANDS = {
    "ryu": ("ryu-manager", "controller.app"),
    "os-ken": ("cloudtap", "controller", "--runtime", "os-ken"),
}
"""How to start the controller on each runtime."""

PATIENCE_S = 60.0
"""So long a start takes at most, on a machine that is busy with other things or emulated."""
_LAST_LINES = 15


class Controller:
    """One controller process with a state directory of its own."""

    def __init__(self, runtime: str, inventory: Path, folder: Path) -> None:
        self._log = folder / "controller.log"
        self._process: subprocess.Popen[bytes] | None = None
        listen = os.environ.get("CLOUDTAP_API__LISTEN", "127.0.0.1:9470")
        self.openflow = os.environ.get("CLOUDTAP_OPENFLOW__LISTEN", "127.0.0.1:6653")
        self.command = COMMANDS[runtime]
        self.url = f"http://{listen}"
        self.settings = {
            "CLOUDTAP_INVENTORY__FILE": str(inventory),
            "CLOUDTAP_STATE__DIRECTORY": str(folder / "state"),
            "CLOUDTAP_API__LISTEN": listen,
            "CLOUDTAP_OPENFLOW__LISTEN": self.openflow,
            "CLOUDTAP_OPENFLOW__RUNTIME": runtime,
        }

    def start(self) -> None:
        """Start it and wait until its API answers.

        Raises:
            ScenarioError: with the last lines of its log.
        """
        program = ROOT / ".venv/bin" / self.command[0]
        if not program.exists():
            raise ScenarioError(f"{program} is not there: run 'make setup' first")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, *self.command[1:]],
                cwd=ROOT,
                env=os.environ | self.settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C must reach us only: we stop it in order
            )
        self._wait_until(lambda: self._status() is not None, "its API does not answer")

    def stop(self) -> None:
        """End it as Ctrl-C would, with SIGKILL after five seconds; flows stay."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait_for_switches(self, names: tuple[str, ...]) -> None:
        """Return when every switch has connected and has its flows.

        Raises:
            ScenarioError: one has not, in time.
        """
        self._wait_until(
            lambda: self._active("bridges", "name").issuperset((name,) for name in names),
            f"not all of {', '.join(names)} connected and got their flows",
        )

    def wait_for_sessions(self, names: list[tuple[str, str]]) -> None:
        """Return when all sessions (tenant, name) are active: verified on the switches.

        Raises:
            ScenarioError: one is not, in time.
        """
        self._wait_until(
            lambda: self._active("sessions", "tenant", "name").issuperset(names),
            "not all sessions became active",
        )

    def wait_until_not_active(self, tenant: str, name: str) -> None:
        """Return when a session is not active any more.

        Raises:
            ScenarioError: it still is, in the end.
        """
        self._wait_until(
            lambda: (tenant, name) not in self._active("sessions", "tenant", "name"),
            f"session {name} is still active",
        )

    def counted(self, wanted: Mapping[str, int], deadline_s: float = 5.0) -> dict[str, int]:
        """Copies of each tenant as the switches count them, once they agree with ``wanted``.

        Counters of a switch lag behind its traffic; at the deadline they are what they are.
        """
        end = time.monotonic() + deadline_s
        while True:
            counts = dict.fromkeys(wanted, 0)
            for session in (self._status() or {}).get("sessions", []):
                counts[session["tenant"]] += session["status"]["copies"]["packets"]
            if counts == wanted or time.monotonic() > end:
                return counts
            time.sleep(0.1)

    def cloudtap(self, words: str) -> None:
        """Run the command as a user would type it, and print it with its output.

        Raises:
            ScenarioError: it failed; the message is that of the command.
        """
        print(f"$ cloudtap {words}", flush=True)
        done = subprocess.run(
            [ROOT / ".venv/bin/cloudtap", *shlex.split(words)],
            env=os.environ | {"CLOUDTAP_API": self.url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        print(done.stdout, end="", flush=True)
        if done.returncode:
            raise ScenarioError(f"'cloudtap {words}' failed: {done.stderr.strip()}")

    def last_lines(self) -> str:
        """The end of the controller's log."""
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-_LAST_LINES:])

    def _active(self, what: str, *keys: str) -> set[tuple[str, ...]]:
        """Names of the bridges or sessions that are verified on the switch."""
        items = (self._status() or {}).get(what, [])
        states = ((item, item.get("status", item)["state"]) for item in items)
        return {tuple(item[key] for key in keys) for item, state in states if state == "active"}

    def _status(self) -> dict[str, Any] | None:
        """The status of the whole system, or None while the API does not answer."""
        try:
            with urllib.request.urlopen(f"{self.url}/v1/status", timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ScenarioError(f"{error.url} was refused: {error}") from error
        except OSError:
            return None

    def _why_not(self) -> str:
        """Problems, and the state and reasons of bridges and sessions, as the API reports them."""
        status = self._status() or {}
        items = [*status.get("bridges", []), *status.get("sessions", [])]
        statuses = [(item["name"], item.get("status", item)) for item in items]
        lines = [f"{name}: {s['state']}, {'; '.join(s['reasons'])}" for name, s in statuses]
        return "".join(f"\n    {line}" for line in [*status.get("problems", []), *lines])

    def _wait_until(
        self, is_true: Callable[[], bool], otherwise: str, deadline_s: float = PATIENCE_S
    ) -> None:
        end = time.monotonic() + deadline_s
        command = " ".join(self.command)
        while not is_true():
            if self._process is None or self._process.poll() is not None:
                raise ScenarioError(f"'{command}' did not start:\n{self.last_lines()}")
            if time.monotonic() > end:
                why = f"{otherwise} after {deadline_s:.0f} s{self._why_not()}"
                raise ScenarioError(f"'{command}': {why}\nIts log ends:\n{self.last_lines()}")
            time.sleep(0.05)

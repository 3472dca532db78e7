"""A machine for tests: systemd, an empty Open vSwitch, and a file system that is thrown away.

The machine is a copy of this one in namespaces (see `boot`); the repository is not there. Its
network is that of an isolated run: without a connection to others.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import TracebackType

from tests.ovs.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
START_S, COMMAND_S = 120.0, 600.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEPT = ("PIP_", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""Variables that commands get: how to reach an index of packages."""
NOT_KEPT = ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT")


class Machine:
    """A booted machine; commands are those of root, typed in /root.

    ``libraries``: a folder that is at /srv/libraries of the machine.
    """

    def __init__(self, folder: Path, libraries: Path | None = None) -> None:
        self._log = folder / "machine.log"
        place = folder / "machine"
        place.mkdir()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [ROOT / "tools" / "isolate", ROOT / "tests" / "installed" / "boot", place, ROOT],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "LIBRARIES": str(libraries or "")},
            )
        self._init = wait_for(self._find_init, bool, START_S)
        wait_for(lambda: self.run("systemctl is-system-running").stdout.strip(), _is_up, START_S)

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        what: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if kind is not None:
            print(self.run("journalctl --no-pager -o cat -n 200").stdout)
        self.run("systemctl --force --force poweroff")
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def root(self) -> Path:
        """Its file system, as seen from here."""
        return Path(f"/proc/{self._init}/root")

    def run(self, command: str, is_online: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command of the shell; standard error is part of the output.

        ``is_online``: with the network of the tests, to install packages.
        """
        return subprocess.run(
            self._inside(command, is_online),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=COMMAND_S,
            check=False,
        )

    def start(self, program: str, ready: str = "") -> Running:
        """Start a program; returns once it has printed ``ready``."""
        return Running(self, program, ready)

    def _inside(self, command: str, is_online: bool = False) -> list[str]:
        namespaces = ["--mount", "--pid", "--uts", "--ipc", "--cgroup"]
        if not is_online:
            namespaces.append("--net")
        inside = ["nsenter", f"--target={self._init}", *namespaces, "--root", "--wd"]
        return [*inside, "env", "-i", *_environment(), "bash", "-c", f"cd /root; {command}"]

    def must(self, command: str) -> str:
        """The output of a command that succeeds."""
        done = self.run(command)
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def beside(self, command: str) -> str:
        """Run a command of the shell where Open vSwitch runs, beside the machine; it succeeds."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        target = children.read_text().split()[0]
        inside = ["nsenter", f"--target={target}", "--all", "env", "-i", f"PATH={PATH}"]
        done = subprocess.run(
            [*inside, "bash", "-c", command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _find_init(self) -> int:
        """The process id of its systemd, as seen from here; 0 while it does not run."""
        assert self._process.poll() is None, f"not booted: {self._log.read_text()}"
        for pid in _descendants(self._process.pid):
            try:
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    return pid
            except OSError:
                continue
        return 0


class Running:
    """A program that runs on a machine, with what it prints."""

    def __init__(self, machine: Machine, program: str, ready: str) -> None:
        self._machine, self._name = machine, f"running-{next(_NUMBERS)}"
        files = f">{self._name}.out 2>&1 </dev/null & echo $!"
        self._pid = machine.must(f"setsid {program} {files}").strip()
        wait_for(self._output, lambda seen: ready in seen)

    def stop(self) -> str:
        """Interrupt it, as Ctrl-C does, and return what it has printed, once it has ended."""
        self._machine.must(f"kill -INT {self._pid}")
        wait_for(lambda: self._machine.run(f"kill -0 {self._pid}").returncode, bool)
        return self._output()

    def _output(self) -> str:
        return self._machine.must(f"cat {self._name}.out")


_NUMBERS = count(1)


def _is_up(state: str) -> bool:
    return state in ("running", "degraded")


def _environment() -> Iterator[str]:
    yield from (f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", "COLUMNS=110")
    for name, value in os.environ.items():
        if name.startswith(KEPT) and name not in NOT_KEPT:
            yield f"{name}={value}"


def _descendants(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        yield child
        yield from _descendants(child)

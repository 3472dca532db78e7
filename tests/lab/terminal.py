"""Terminals for tests: types a command and waits for its output."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

SUDO = """#!/bin/sh
# mn cleans up /tmp when it fails: give it a /tmp of its own
case $PWD in /tmp/*) exec "$@";; esac
exec unshare --mount sh -c 'mount -t tmpfs tmpfs /tmp && exec "$@"' sh "$@"
"""
"""The replacement of sudo: tests run as root."""
READY = "<ready>"
"""Printed by the shell when a command has ended."""
DEADLINE_S = 30.0


def make_sudo(folder: Path) -> str:
    """Put a `sudo` for tests into a folder; returns the PATH that finds it."""
    sudo = folder / "sudo"
    sudo.write_text(SUDO)
    sudo.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def _enable_ctrl_c() -> None:
    """Restore the default of SIGINT, which is ignored in background jobs."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A shell, and everything that it has printed."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.screen = ""
        self._shell = subprocess.Popen(
            ["/bin/bash", "--norc", "-s"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_enable_ctrl_c,
        )
        assert self._shell.stdin is not None and self._shell.stdout is not None
        os.set_blocking(self._shell.stdout.fileno(), False)
        self._input, self._output = self._shell.stdin, self._shell.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def type(self, command: str, until: str, deadline_s: float = DEADLINE_S) -> str:
        """Type one line in the shell and wait until what it prints matches ``until``."""
        return self._enter(f"{command}; echo; echo '{READY}'", until, deadline_s)

    def type_until(self, command: str, wanted: str, deadline_s: float = DEADLINE_S) -> str:
        """Repeat a command until its output matches ``wanted``."""
        end = time.monotonic() + deadline_s
        while True:
            answer = self.type(command, READY)
            if re.search(wanted, answer, re.DOTALL):
                return answer
            assert time.monotonic() < end, f"{command!r} never showed {wanted!r}; last:\n{answer}"

    def type_inside(self, command: str, until: str, deadline_s: float = DEADLINE_S) -> str:
        """Type one line into the program that runs in the shell."""
        return self._enter(command, until, deadline_s)

    def press_ctrl_c(self, until: str = re.escape(READY)) -> str:
        """Interrupt the program that runs in the shell, and wait for its output."""
        start = len(self.screen)
        children = Path(f"/proc/{self._shell.pid}/task/{self._shell.pid}/children")
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGINT)
        return self._wait(start, until, DEADLINE_S)

    def close(self) -> None:
        """End the shell and what runs in it."""
        if self._shell.poll() is None:
            self._input.close()
            try:
                os.killpg(self._shell.pid, signal.SIGTERM)
                self._shell.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._shell.pid, signal.SIGKILL)
                self._shell.wait()
        self._selector.close()
        self._output.close()

    def _enter(self, line: str, until: str, deadline_s: float) -> str:
        start = len(self.screen)
        self._input.write(f"{line}\n".encode())
        self._input.flush()
        return self._wait(start, until, deadline_s)

    def _wait(self, start: int, until: str, deadline_s: float) -> str:
        """The output since ``start``, once it matches."""
        end = time.monotonic() + deadline_s
        while not re.search(until, self.screen[start:], re.DOTALL):
            left = end - time.monotonic()
            seen = self.screen[start:]
            is_over = left <= 0 or READY in seen
            assert not is_over, f"{until!r} was not printed in {deadline_s:.0f} s; it was:\n{seen}"
            for _ in self._selector.select(left):
                data = os.read(self._output.fileno(), 1 << 16)
                assert data, f"the terminal ended before it printed {until!r}; it was:\n{seen}"
                self.screen += data.decode(errors="replace")
        return self.screen[start:]

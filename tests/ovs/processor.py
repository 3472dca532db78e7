"""How long things take without the time for which a process has had no processor to run on.

A machine that is busy with other things makes everything take longer: that is nobody's fault.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

Waits = dict[str, float]
"""How long each thread of a process has been runnable and had no processor, in seconds."""


def waits_of(pid: int) -> Waits:
    """The waits of a process so far; of Linux, see proc_pid_schedstat in its documentation."""
    found: Waits = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # the thread has ended
            found[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return found


def without_waits(seconds: float, before: Waits, now: Waits) -> float:
    """So much time without the longest wait of a thread meanwhile."""
    return seconds - max(waited - before.get(thread, 0.0) for thread, waited in now.items())


class Stopwatch:
    """How long something takes without the waits of a process, from now on."""

    def __init__(self, pid: int) -> None:
        self._pid, self._waits, self._begun = pid, waits_of(pid), time.monotonic()

    def seconds(self) -> float:
        """What it has taken until now."""
        return without_waits(time.monotonic() - self._begun, self._waits, waits_of(self._pid))

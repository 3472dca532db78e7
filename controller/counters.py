"""How many copies one bridge has made, counted on although a switch may begin at 0 again."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from controller.status import Copies


class Counters:
    """The copies of one bridge by session number; session numbers are not used again.

    A switch counts from 0 again when it restarts, or when a session's flow goes and comes back.
    What it had counted before, as far as it was read, is kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: dict[int, Copies] = {}
        self._now: dict[int, Copies] = {}

    def update(self, now: Mapping[int, Copies]) -> None:
        """Take what the switch reports now."""
        with self._lock:
            for number, last in self._now.items():
                current = now.get(number, Copies())
                if current.packets < last.packets:
                    self._before[number] = _sum(self._before.get(number, Copies()), last)
            self._now = dict(now)

    def update_one(self, number: int, now: Copies) -> None:
        """Take what the switch reports of one session now."""
        with self._lock:
            last = self._now.get(number, Copies())
            if now.packets < last.packets:
                self._before[number] = _sum(self._before.get(number, Copies()), last)
            self._now[number] = now

    def of(self, number: int) -> Copies:
        """The copies of one session, as far as they were counted."""
        with self._lock:
            return _sum(self._before.get(number, Copies()), self._now.get(number, Copies()))

    def parts_of(self, number: int) -> tuple[Copies, Copies]:
        """The same in two parts: before the switch began at 0 again, and its last report."""
        with self._lock:
            return self._before.get(number, Copies()), self._now.get(number, Copies())

    def restore(self, number: int, before: Copies, last: Copies) -> None:
        """Go on with what an earlier controller has counted."""
        with self._lock:
            self._before[number], self._now[number] = before, last


def _sum(one: Copies, other: Copies) -> Copies:
    return Copies(one.packets + other.packets, one.bytes + other.bytes)

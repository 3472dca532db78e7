"""Cooperative multitasking: time slices of one processor, so that long work delays nothing else.

Under ryu all threads share one event loop, and a thread that computes blocks all others. So work
that computes for long holds TIME_SLICES and calls ``pause`` now and then; work that also waits for
things cannot hold them, and uses a Yielder.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SLICE_S = 0.01
"""How long work inside ``taken`` computes before other threads may run, in seconds."""
YIELD_AFTER_S = 0.002
"""How long work without TIME_SLICES computes before other threads may run, in seconds."""


class TimeSlices:
    """A lock for computing: one thread holds it at a time, and yields after each slice.

    Short pieces of work share one slice, so many of them never block the event loop for longer than
    one slice. A long piece of work delays short ones by a slice each.
    """

    def __init__(self, slice_s: float = SLICE_S) -> None:
        self._slice_s = slice_s
        self._lock = threading.Lock()
        self._began = self._used = 0.0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the time slices inside; not reentrant.

        Wait for switches, locks and databases outside. Otherwise a thread inside could wait for a
        lock whose holder waits for the time slices: a deadlock.
        """
        with self._lock:
            self._began = time.monotonic()
            try:
                yield
            finally:
                if self._is_used_up():
                    time.sleep(0)  # with the lock: the event loop runs before others compute
                    self._used = 0.0

    def pause(self) -> None:
        """Inside ``taken``: let other threads run if the slice is used up."""
        if self._is_used_up():
            self._lock.release()
            time.sleep(0)
            self._lock.acquire()
            self._used, self._began = 0.0, time.monotonic()

    def _is_used_up(self) -> bool:
        now = time.monotonic()
        self._used, self._began = self._used + now - self._began, now
        return self._used >= self._slice_s


class Yielder:
    """Yields the processor at intervals, for work that holds no time slices.

    Each yield may last for a slice of the work that holds them.
    """

    def __init__(self, interval_s: float = YIELD_AFTER_S) -> None:
        self._interval_s = interval_s
        self._began = time.monotonic()

    def pause(self) -> None:
        """Let other threads run if the interval is over."""
        if time.monotonic() - self._began >= self._interval_s:
            time.sleep(0)
            self._began = time.monotonic()


TIME_SLICES = TimeSlices()
"""Those of this process: all Python threads share one processor."""

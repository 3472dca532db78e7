"""Work that keeps the processor, in turns and in slices: meanwhile everything else goes on.

Under ryu all threads share one event loop, and a thread that computes stops all others. Whoever
computes for longer than a moment takes a turn, and calls ``pause`` now and then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SLICE_S = 0.01
"""Nobody computes for longer, in seconds, before others may run."""


class Turns:
    """One thread at a time computes; after each slice everything else has its turn.

    Many small pieces of work never become one long one, because the slice is theirs together, and
    a long one delays the small ones by a slice each.
    """

    def __init__(self, slice_s: float = SLICE_S) -> None:
        self._slice_s = slice_s
        self._turn = threading.Lock()
        self._began = self._used = 0.0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Compute inside; not to be taken twice by one thread.

        Whoever waits for a switch, a lock or a database does so outside: so no lock that somebody
        holds who waits for a turn is ever waited for inside one.
        """
        with self._turn:
            self._began = time.monotonic()
            try:
                yield
            finally:
                if self._is_used_up():
                    time.sleep(0)  # with the turn: nobody computes before the loop went round
                    self._used = 0.0

    def pause(self) -> None:
        """Inside a turn: let others have theirs, when this one has taken its slice."""
        if self._is_used_up():
            self._turn.release()
            time.sleep(0)
            self._turn.acquire()
            self._used, self._began = 0.0, time.monotonic()

    def _is_used_up(self) -> bool:
        now = time.monotonic()
        self._used, self._began = self._used + now - self._began, now
        return self._used >= self._slice_s


TURNS = Turns()
"""Those of this process: there is one processor for all Python."""

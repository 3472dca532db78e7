"""Pauses in work that takes no turn, because it waits for things now and then."""

from __future__ import annotations

import time

SLICE_S = 0.002
"""Whoever takes no turn computes no longer before others may run, in seconds."""


class Pauses:
    """Lets others run when it is time; each time may cost the slice of somebody who has a turn."""

    def __init__(self, slice_s: float = SLICE_S) -> None:
        self._slice_s = slice_s
        self._began = time.monotonic()

    def pause(self) -> None:
        """Let others run, if they have not lately."""
        if time.monotonic() - self._began >= self._slice_s:
            time.sleep(0)
            self._began = time.monotonic()

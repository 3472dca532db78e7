"""A daemon thread whose end can be waited for, with a time, on every Python and runtime.

`Thread.join` with a time is none that can: under green threads (eventlet 0.41) on Python 3.13 it
raises eventlet.Timeout, which is no Exception, instead of returning.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class BackgroundThread(threading.Thread):
    """Runs ``target(*arguments)``; the process does not wait for it at its end."""

    def __init__(self, target: Callable[..., object], *arguments: Any, name: str) -> None:
        super().__init__(target=target, args=arguments, name=name, daemon=True)
        self._is_over = threading.Event()

    def run(self) -> None:
        """Run the target, then say that it is over; called by ``start``."""
        try:
            super().run()
        finally:
            self._is_over.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until it has ended, for ``timeout_s`` at most; returns whether it has.

        A thread that was not started counts as ended.
        """
        return self.ident is None or self._is_over.wait(timeout_s)

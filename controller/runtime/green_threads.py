"""Green threads that go when they end, without being searched for as unused memory."""

from __future__ import annotations

import functools
import threading
from typing import Any

START = "_bootstrap_inner"
"""Where eventlet hangs a function on each thread that knows the thread: a cycle."""


@functools.cache
def untie_ended_threads() -> None:
    """Have each thread let go of that function at its end; to be called once threads are green.

    A status of 1,000 bridges starts a thread for each, so does their return, and a search for
    unused memory stops everything. Without this the search would find nearly nothing but threads.
    """
    end: Any = getattr(threading.Thread, "_delete", None)
    if end is None:  # another Python, whose threads eventlet leaves as they are
        return

    @functools.wraps(end)
    def end_untied(thread: threading.Thread) -> None:
        end(thread)
        vars(thread).pop(START, None)

    threading.Thread._delete = end_untied  # type: ignore[attr-defined]

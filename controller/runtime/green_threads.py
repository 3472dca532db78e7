"""Frees green threads when they end, without a run of the garbage collector."""

from __future__ import annotations

import functools
import threading
from typing import Any

BOOTSTRAP = "_bootstrap_inner"
"""The attribute in which eventlet stores, on each thread, a function that refers to the thread."""


@functools.cache
def break_thread_cycles() -> None:
    """Break the reference cycle of each thread when it ends; to be called after monkey patching.

    A status of 1,000 bridges starts a thread for each, and so does their reconnection; without this
    nearly all garbage that the collector finds would be threads, and a collection stops everything.
    From Python 3.13 on eventlet makes no such cycle; then there is nothing to break.
    """
    delete: Any = getattr(threading.Thread, "_delete", None)
    if delete is None:  # another Python version, whose threads eventlet does not change
        return

    @functools.wraps(delete)
    def delete_and_break(thread: threading.Thread) -> None:
        delete(thread)
        vars(thread).pop(BOOTSTRAP, None)

    threading.Thread._delete = delete_and_break  # type: ignore[attr-defined]

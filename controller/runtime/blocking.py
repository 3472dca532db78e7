"""Calls that wait for something else than a socket, without stopping the event loop."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

THREADS = 2
"""Real threads that wait for the disk; a state database is written by one at a time."""


def apart(call: Callable[..., T], *arguments: Any) -> T:
    """The result of a call that waits outside of Python, for the disk for example.

    Under green threads it runs in a real thread, and the other green threads go on; under real
    threads it is called as it is. It must take no lock that green threads take, and must not
    compute for long: green threads would get the processor in small pieces only.
    """
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is None or not patcher.is_monkey_patched("thread"):
        return call(*arguments)
    from eventlet import tpool

    tpool.set_num_threads(THREADS)  # before the first call; of no effect later
    result: T = tpool.execute(call, *arguments)
    return result

"""Runs blocking calls, for example of the disk, without blocking the event loop."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

BLOCKING_THREADS = 2
"""Native threads for blocking calls; a state database has one writer at a time."""


def run_blocking(call: Callable[..., T], *arguments: Any) -> T:
    """The result of a call that blocks outside of Python, for example on the disk.

    Under green threads the call runs in a native thread while other green threads run; under native
    threads it is called directly. It must not take a lock that green threads take, and must not
    compute for long: the interpreter lock would let green threads run in short slices only.
    """
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is None or not patcher.is_monkey_patched("thread"):
        return call(*arguments)
    from eventlet import tpool

    tpool.set_num_threads(BLOCKING_THREADS)  # before the first call; of no effect later
    result: T = tpool.execute(call, *arguments)
    return result

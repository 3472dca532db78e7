"""Waits for a condition with a deadline; a failure shows the last value that was seen."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_AGAIN_S = 0.01


def wait_for(look: Callable[[], T], is_right: Callable[[T], bool], seconds: float = 15.0) -> T:
    """Call ``look`` until its value ``is_right``; returns the value.

    Raises:
        AssertionError: the deadline has passed; the message shows the last value.
    """
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not is_right(seen := look()):
        assert time.monotonic() < deadline, f"not after {seconds} s; seen last: {seen!r}"
        pause.wait(LOOK_AGAIN_S)
    return seen


async def pass_time(seconds: float) -> None:
    """Let time pass in an event loop: the pace of a peer, or of looking at a condition again."""
    loop = asyncio.get_running_loop()
    passed: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, passed.set_result, None)
    await passed

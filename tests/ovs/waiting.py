"""Waits for a condition with a deadline; a failure shows the last value that was seen."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_AGAIN_S = 0.01
PATIENCE_S = 60.0
"""What takes longer never comes, also on a machine that is busy with other things."""


def wait_for(
    look: Callable[[], T], is_right: Callable[[T], bool], seconds: float = PATIENCE_S
) -> T:
    """Call ``look`` until its value ``is_right``; returns the value.

    ``is_right`` may be the ``__eq__`` of what is waited for: where that knows nothing of the type
    that was seen (NotImplemented, which is true as a condition), the two are not equal.

    Raises:
        AssertionError: the deadline has passed; the message shows the last value.
    """
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while (verdict := is_right(seen := look())) is NotImplemented or not verdict:
        assert time.monotonic() < deadline, f"not after {seconds} s; seen last: {seen!r}"
        pause.wait(LOOK_AGAIN_S)
    return seen


def wait_for_all(count: Callable[[], int], wanted: int, seconds: float = PATIENCE_S) -> None:
    """Block until ``count`` has come to a number, however long that takes while it grows.

    Raises:
        AssertionError: it has not grown for so many seconds.
    """
    most = -1
    while most < wanted:
        before = most
        most = wait_for(count, lambda seen, before=before: seen > before, seconds)


async def pass_time(seconds: float) -> None:
    """Let time pass in an event loop: the pace of a peer, or of looking at a condition again."""
    loop = asyncio.get_running_loop()
    passed: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, passed.set_result, None)
    await passed

"""Waiting for a condition with a deadline; what was seen last is printed when it does not come."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_AGAIN_S = 0.01


def wait_for(look: Callable[[], T], is_right: Callable[[T], bool], seconds: float = 15.0) -> T:
    """Look again and again until ``is_right``; returns what was seen.

    Raises:
        AssertionError: the deadline has passed; the message shows what was seen last.
    """
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not is_right(seen := look()):
        assert time.monotonic() < deadline, f"not after {seconds} s; seen last: {seen!r}"
        pause.wait(LOOK_AGAIN_S)
    return seen

"""Settings of the garbage collector for a process that holds 100,000 flows and more."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

THRESHOLDS = 2_000, 1, 5
"""The thresholds of the three generations (gc.set_threshold)."""
FREEZE_ABOVE = 20_000
"""If the oldest generation has more objects, it is frozen: no collection examines them again."""


def expect_many_objects() -> None:
    """Collect garbage in short runs, and never examine again the many objects that stay.

    Flows form no reference cycles: they are freed by reference counting. With Python's own
    thresholds a full collection with the flows of 1,000 bridges stops everything for 1.6 s
    (measured on Python 3.11), and the first 100,000 flows take twice as long to compile. A frozen
    object is still freed by reference counting, but not as part of a cycle. So large objects that
    come and go must form no cycles (worlds, resolved worlds, programs, threads, connections of
    switches). Those of the API do, and are collected young.
    """
    gc.set_threshold(*THRESHOLDS)
    if _freeze_old not in gc.callbacks:
        gc.callbacks.append(_freeze_old)


@contextmanager
def building_permanent_objects() -> Iterator[None]:
    """Disables the garbage collector inside; freezes what was allocated (gc.freeze) at the end.

    Otherwise a tenth of the time to compile a bridge for the first time is spent on examining its
    flows, three times each. Only for work that a process does once, or once for each bridge: a
    cycle that is garbage at the end is never collected.
    """
    with _lock:
        _builders.append(None)
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _builders.pop()
            if not _builders:
                gc.freeze()
                gc.enable()


_lock = Lock()
_builders: list[None] = []
"""One entry for each block that is running."""


def _freeze_old(phase: str, info: dict[str, int]) -> None:
    """Check after each collection of generation 1 or 2: a full one may already be too long."""
    if phase == "stop" and info["generation"] > 0 and count_old() > FREEZE_ABOVE:
        gc.freeze()


def count_old() -> int:
    """How many objects the oldest generation has.

    No other thread may run while there is a list of them: a tuple that it is just filling would
    have one reference too many, and CPython raises SystemError. So it is made and measured within
    one call of the interpreter.
    """
    return next(map(len, map(gc.get_objects, (2,))))

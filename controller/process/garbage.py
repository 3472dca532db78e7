"""How the interpreter looks for unused memory in a process that holds 100,000 flows and more."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

YOUNG, MIDDLE, OLD = 2_000, 1, 5
"""New objects before they are searched, and after how many searches older ones are, too."""
SET_ASIDE = 20_000
"""More objects than this that have outlived a search are not searched again."""


def expect_many_objects() -> None:
    """Search for unused objects in small steps, and never again among the many that stay.

    Flows are no cycles and go when nothing refers to them, searched or not. With Python's own ways
    a search through those of 1,000 bridges stops everything for 1.6 s (measured on Python 3.11),
    and the first 100,000 flows take twice as long to compile. What is set aside can still go, but
    not as a cycle: whatever is large and comes and goes must be none (worlds, surveys, programs,
    threads, connections of switches). Those of the API are, and are found young.
    """
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    if _set_aside not in gc.callbacks:
        gc.callbacks.append(_set_aside)


@contextmanager
def making_what_stays() -> Iterator[None]:
    """Search for nothing inside, and set aside what is there at the end: it will stay.

    A tenth of the time that it takes to compile a bridge for the first time is otherwise spent on
    searching its flows, three times each. For what a process does once, for each bridge say: a
    cycle that is garbage at the end is never found.
    """
    with _making:
        _makers.append(None)
        gc.disable()
    try:
        yield
    finally:
        with _making:
            _makers.pop()
            if not _makers:
                gc.freeze()
                gc.enable()


_making = Lock()
_makers: list[None] = []
"""One for each who makes something that stays."""


def _set_aside(phase: str, info: dict[str, int]) -> None:
    """Ask after each search of more than the new objects: a full one of too many comes too late."""
    is_old = phase == "stop" and info["generation"] > 0
    if is_old and len(gc.get_objects(generation=2)) > SET_ASIDE:
        gc.freeze()

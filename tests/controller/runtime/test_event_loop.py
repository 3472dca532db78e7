"""One poll of the event loop returns few events, and the next poll those of other sockets."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from controller.runtime.event_loop import MAX_EVENTS, BoundedPollHub

MANY = 3 * MAX_EVENTS


@pytest.fixture
def readable() -> Iterator[list[int]]:
    """File descriptors that are all readable."""
    pipes = [os.pipe() for _ in range(MANY)]
    for _, end in pipes:
        os.write(end, b"x")
    yield [start for start, _ in pipes]
    for pipe in pipes:
        for each in pipe:
            os.close(each)


def test_a_poll_returns_few_events_and_no_descriptor_starves(
    readable: list[int],
) -> None:
    loop, seen = BoundedPollHub(), []
    for descriptor in readable:
        loop.add(loop.READ, descriptor, seen.append, seen.append, lambda: None)

    polls = 0
    while len(set(seen)) < MANY:
        before = len(seen)
        loop.wait(0)
        polls += 1
        assert len(seen) - before <= MAX_EVENTS
        assert polls <= MANY / MAX_EVENTS + 1, "some descriptors starve"

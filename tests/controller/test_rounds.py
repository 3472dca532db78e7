"""One round of the event loop looks at few connections, and the next one at others."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from controller.runtime.event_loop import CONNECTIONS, ShortRounds

MANY = 3 * CONNECTIONS


@pytest.fixture
def readable() -> Iterator[list[int]]:
    """Connections that all have something to read."""
    pipes = [os.pipe() for _ in range(MANY)]
    for _, end in pipes:
        os.write(end, b"x")
    yield [start for start, _ in pipes]
    for pipe in pipes:
        for each in pipe:
            os.close(each)


def test_a_round_looks_at_few_connections_and_no_connection_waits_for_ever(
    readable: list[int],
) -> None:
    loop, seen = ShortRounds(), []
    for connection in readable:
        loop.add(loop.READ, connection, seen.append, seen.append, lambda: None)

    rounds = 0
    while len(set(seen)) < MANY:
        before = len(seen)
        loop.wait(0)
        rounds += 1
        assert len(seen) - before <= CONNECTIONS
        assert rounds <= MANY / CONNECTIONS + 1, "some are passed over again and again"

"""eventlet's event loop with short rounds: what is due meanwhile never waits for all connections.

Its own loop takes every connection that has something to read before it looks at its clock again.
When a thousand switches come or go at once that is a third of a second.
"""

from __future__ import annotations

import os
from typing import Any

from eventlet import hubs
from eventlet.hubs import epolls

CONNECTIONS = 16
"""So many are looked at in one round. The kernel passes the others first in the next ones."""


class ShortRounds(epolls.Hub):  # type: ignore[misc]  # eventlet has no types
    """The same, a few connections at a time."""

    is_available = staticmethod(epolls.is_available)

    def do_poll(self, seconds: float) -> Any:
        """The connections to look at, after ``seconds`` at most."""
        return self.poll.poll(seconds, CONNECTIONS)


def keep_rounds_short() -> None:
    """Let this thread have that loop; to be called before anything else of eventlet runs.

    It stays with eventlet's own where the system has no epoll, or another loop was asked for.
    """
    if ShortRounds.is_available() and "EVENTLET_HUB" not in os.environ:
        hubs.use_hub(ShortRounds)

"""eventlet's event loop with a bound on the events of one poll, so timers are never late.

eventlet's own loop handles every readable socket before it checks its timers again. When a thousand
switches connect or disconnect at once that takes a third of a second.
"""

from __future__ import annotations

import os
from typing import Any

from eventlet import hubs
from eventlet.hubs import epolls

MAX_EVENTS = 16
"""maxevents of epoll_wait; the kernel reports the other descriptors first in the next poll."""


class BoundedPollHub(epolls.Hub):  # type: ignore[misc]  # eventlet has no types
    """eventlet's epoll hub, with at most MAX_EVENTS events of each poll."""

    is_available = staticmethod(epolls.is_available)

    def do_poll(self, seconds: float) -> Any:
        """Poll for ``seconds`` at most; the file descriptors that are ready, and their events."""
        return self.poll.poll(seconds, MAX_EVENTS)


def use_bounded_polls() -> None:
    """Use that event loop in this thread; to be called before anything else of eventlet runs.

    eventlet's own stays where the system has no epoll, or EVENTLET_HUB names another one.
    """
    if BoundedPollHub.is_available() and "EVENTLET_HUB" not in os.environ:
        hubs.use_hub(BoundedPollHub)

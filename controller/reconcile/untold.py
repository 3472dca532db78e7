"""Which sessions bridges go on with that nobody could tell anything after a start.

A session may end while no controller is there: it expires, or has reached its limit. Bridges call
back one after the other. If the bridge of the sensor is first and drops copies that come over links
at once, then the others, which make these copies, count them as made until they are told, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Set

from controller.reconcile.protocols import InstalledSessions
from controller.reconcile.writers import Writers

CALLS_BACK_S = 10.0
"""How long after a start bridges are waited for, in seconds: Open vSwitch calls a controller that
did not answer every 8 seconds at least."""


class Untold:
    """The sessions of bridges that were not verified since the start; any thread may ask.

    None once bridges could be written to for CALLS_BACK_S, which ``ready`` tells: a session that
    has ended must not be delivered for ever because a bridge is away.
    """

    def __init__(
        self,
        writers: Writers,
        installed_sessions: InstalledSessions,
        ready: threading.Event,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writers, self._installed_sessions = writers, installed_sessions
        self._ready, self._now = ready, now
        self._until: float | None = None

    def __call__(self) -> Set[int]:
        """The numbers of these sessions."""
        if self._until is None and self._ready.is_set():
            self._until = self._now() + CALLS_BACK_S
        if self._until is not None and self._now() >= self._until:
            return frozenset()
        told = {dpid for dpid, seen in self._writers.confirmed().items() if seen.version > 0}
        held = self._installed_sessions.sessions_by_bridge().items()
        return frozenset[int]().union(*(some for dpid, some in held if dpid not in told))

"""Which sessions bridges go on with although nobody can tell them anything.

A session may end while the bridge that makes its copies is away. If these cross a link, another
bridge drops them, and the one that makes them counts them as made until it is told, too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Set

from controller.reconcile.protocols import InstalledSessions, Telling
from controller.reconcile.writers import Writers
from flows.model import CopyWay, Dpid

CALLS_BACK_S = 10.0
"""How long after a start bridges are waited for, in seconds: Open vSwitch calls a controller that
did not answer at least every 8 seconds."""


class Untold(Telling):
    """The sessions of bridges that are not connected, or not verified since; any thread may ask.

    ``ready`` tells that bridges may be written to.
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
        self._heard: frozenset[Dpid] = frozenset()

    def unheard(self) -> frozenset[int]:
        """Those of bridges that were not verified since the start; none after CALLS_BACK_S."""
        if self._until is None and self._ready.is_set():
            self._until = self._now() + CALLS_BACK_S
        if self._until is not None and self._now() >= self._until:
            return frozenset()
        self._heard |= self._verified()
        return self._held_without(self._heard)

    def untold(self) -> frozenset[int]:
        """The numbers of all these sessions."""
        return self._held_without(self._verified())

    def known_ways(self) -> Mapping[Dpid, frozenset[CopyWay]]:
        """The ways of copies over bridges that cannot be given others now, as far as known."""
        return self._writers.known_ways()

    def _verified(self) -> frozenset[Dpid]:
        return frozenset(w.dpid for w in self._writers.writing() if w.is_verified)

    def _held_without(self, told: Set[Dpid]) -> frozenset[int]:
        held = self._installed_sessions.sessions_by_bridge().items()
        return frozenset[int]().union(*(some for dpid, some in held if dpid not in told))

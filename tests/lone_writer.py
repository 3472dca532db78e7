"""One writer of one switch, without the rest of a controller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from controller.reconcile.bridge.writer import BridgeWriter
from controller.reconcile.snapshot import Snapshot
from controller.reconcile.bridge.programs import Programs
from controller.southbound.switch import Switch
from controller.status.session_counters import Tally
from controller.reconcile.bridge.confirmed import Verified
from flows.model.session import Dpid

PATIENCE_S = 60.0


class LoneWriter:
    """Brings a switch to what ``snapshot`` returns; nobody else is interested in its sessions."""

    def __init__(self, switch: Switch, snapshot: Callable[[], Snapshot]) -> None:
        self._tried = threading.Event()
        ready = threading.Event()
        ready.set()
        tell = lambda _: self._tried.set()  # noqa: E731
        self.writer = BridgeWriter(
            switch, snapshot, lambda _: None, ready, tell, Tally(), self, Programs()
        )
        self.writer.start()

    def bring(self) -> Verified:
        """Have it look at the world once; what it has verified then."""
        self._tried.clear()
        self.writer.wake()
        assert self._tried.wait(PATIENCE_S), "the writer is stuck"
        return self.writer.verified

    def stop(self) -> None:
        """End it."""
        self.writer.stop()

    def wait_for_end(self) -> None:
        """Return when it has done what it was at when it was stopped."""
        self.writer._thread.join(PATIENCE_S)

    def bridges(self) -> frozenset[Dpid]:
        return frozenset()

    def holders(self, session: int) -> frozenset[Dpid]:
        return frozenset()

    def add(self, dpid: Dpid, sessions: Iterable[int]) -> None:
        """What may be copied is of no interest here."""

    def replace(self, dpid: Dpid, sessions: Iterable[int]) -> None:
        """What may be copied is of no interest here."""

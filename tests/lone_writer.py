"""One writer of one switch, without the rest of a controller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from controller.reconcile import Snapshot
from controller.reconcile.bridge import (
    BridgeWriter,
    Confirmed,
    ProgramCache,
    TurnStep,
    WriterContext,
)
from controller.southbound import Switch
from controller.status import SessionCounters
from flows.model import Dpid
from tests.ovs.waiting import wait_for

PATIENCE_S = 60.0


def nothing_to_check(switch: Switch) -> None:
    """Adopts any bridge."""


class LoneWriter:
    """Reconciles a switch with what ``snapshot`` returns; nobody stores its sessions."""

    def __init__(
        self,
        switch: Switch,
        snapshot: Callable[[], Snapshot],
        adopt: Callable[[Switch], None] = nothing_to_check,
        *,
        needs_epoch: bool = False,
    ) -> None:
        self._attempted = threading.Event()
        self.ready = threading.Event()
        self.ready.set()
        self.taken_back = 0
        context = WriterContext(
            snapshot=snapshot,
            adopt=adopt,
            ready=self.ready,
            observer=self,
            installed_sessions=self,
            programs=ProgramCache(),
            needs_epoch=lambda switch: needs_epoch,
            settle=lambda bridges, seconds: True,
            counters=lambda dpid: SessionCounters(),
        )
        self.writer = BridgeWriter(switch, SessionCounters(), context)
        self.writer.start()

    def sync(self) -> Confirmed:
        """Have it reconcile once; what the switch has confirmed then.

        Rules that come ahead, or go afterwards, have come and gone.
        """
        self._attempted.clear()
        self.writer.wake()
        assert self._attempted.wait(PATIENCE_S), "the writer is stuck"
        writer = self.writer
        wait_for(
            lambda: bool(writer.confirmed.held) or writer.has_unreferenced,
            lambda is_busy: not is_busy,
            PATIENCE_S,
        )
        return writer.confirmed

    def stop(self) -> None:
        """Stop it."""
        self.writer.stop()

    def wait_for_end(self) -> None:
        """Return when the attempt that was under way when it was stopped has ended."""
        self.writer._thread.join(PATIENCE_S)

    def attempt_ended(self) -> None:
        """The attempt of the writer is over."""
        self._attempted.set()

    def begin(self, writer: BridgeWriter, newest: Snapshot) -> Snapshot:
        """It begins with the newest version: there are no others."""
        writer.begin(newest)
        return newest

    def wait_for_others(self, writer: BridgeWriter, step: TurnStep) -> tuple[BridgeWriter, ...]:
        """There are no others."""
        return ()

    def bridge_taken_back(self, dpid: Dpid) -> None:
        """Another controller had led the bridge."""
        self.taken_back += 1

    def bridges(self) -> frozenset[Dpid]:
        return frozenset()

    def sessions_by_bridge(self) -> Mapping[Dpid, frozenset[int]]:
        return {}

    def holders(self, session: int) -> frozenset[Dpid]:
        return frozenset()

    def add(self, dpid: Dpid, sessions: Iterable[int]) -> None:
        """Which sessions may be copied is not stored here."""

    def replace(self, dpid: Dpid, sessions: Iterable[int]) -> None:
        """Which sessions may be copied is not stored here."""

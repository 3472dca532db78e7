"""Brings every bridge to the desired state, and waits until that is confirmed.

Events only report that something has changed (ChangeSignal); the writers of the bridges then read a
new snapshot of the world. Whoever has changed the desired state calls ``sync`` to see it come true.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager

from controller.process import ChangeSignal
from controller.reconcile.bridge import BridgeWriter
from controller.reconcile.finalizer import Finalizer
from controller.reconcile.mirror_demand import MirrorDemandLoop
from controller.reconcile.protocols import Revalidating
from controller.reconcile.snapshot import Snapshot, SnapshotBuilder
from controller.reconcile.tunnel_demand import TunnelDemandLoop
from controller.reconcile.writers import Writers
from controller.status import Reconciling
from flows.model import Collector, Dpid, Session, SessionId

TUNNELS_S = 2.0
"""An answer waits so long for tunnel ports that are being made, in seconds."""
MIRRORS_S = 2.0
"""An answer waits so long for Mirrors that are being made on bridges of others, in seconds."""
GREETED_S = 1.0
"""An answer waits so long for a bridge that is not known to be ours yet, in seconds: it has just
connected, or never answers."""
SETTLING_ROUNDS = 5
"""How often an answer waits for the datapaths of its bridges, if other plans follow meanwhile."""
ATTEMPT_S = 0.1
"""How long it waits for writers that are at work on something older, before it looks again."""


class Reconciler(Reconciling):
    """What the API may ask to be done; see the Protocol."""

    def __init__(
        self,
        *,
        changes: ChangeSignal,
        snapshots: SnapshotBuilder,
        ready: threading.Event,
        writers: Writers,
        finalizer: Finalizer,
        tunnels: TunnelDemandLoop,
        mirrors: MirrorDemandLoop,
        revalidation: Revalidating,
    ) -> None:
        self._changes, self._ready, self._writers = changes, ready, writers
        self._snapshots = snapshots
        self._finalizer, self._tunnels, self._mirrors = finalizer, tunnels, mirrors
        self._revalidation = revalidation

    def moment(self) -> Snapshot | None:
        """The world that was built last; see Reconciling."""
        return self._snapshots.latest

    def expecting(self, collector: Collector) -> AbstractContextManager[None]:
        """Have the tunnel ports made before a change needs them; see Reconciling."""
        return self._tunnels.expecting(collector, TUNNELS_S)

    def mirroring(self, session: Session) -> AbstractContextManager[None]:
        """Have the Mirrors made before a change needs them; see Reconciling."""
        return self._mirrors.expecting(session, MIRRORS_S)

    def sync(self, timeout_s: float, since: object = None, ending: SessionId | None = None) -> bool:
        """Bring every bridge to the desired state now in the store; see Reconciling.

        It waits for the bridges whose flows change, so no other bridge delays the answer. One that
        has something left to do from before is not waited for either; nor are sessions of others,
        if thousands of rules have to come for them first.
        """
        before = since if isinstance(since, Snapshot) else None
        deadline = time.monotonic() + timeout_s
        version = self._changes.changed()
        if not self._ready.is_set():
            return False
        if self._tunnels.wait_made(before, min(timeout_s, TUNNELS_S)):
            version = self._changes.changed()
        if self._mirrors.wait_made(before, min(timeout_s, MIRRORS_S)):
            version = self._changes.changed()
        resolved = self._snapshots.snapshot().resolved
        concerned = self._writers.concerned(
            version, resolved, None if before is None else before.resolved
        )
        affected = {
            w: None if before is None else resolved.affected_since(before.resolved, w.dpid)
            for w in concerned
        }
        strangers = {w: those for w, those in affected.items() if not w.is_adopted}
        self._writers.wait_tried(strangers, version, min(timeout_s, GREETED_S))
        ours = {w: those for w, those in affected.items() if w.is_adopted}
        self._writers.wait_tried(ours, version, deadline - time.monotonic())
        others = [w for w in self._writers.writing() if w.confirmed.version >= version]
        settling = dict.fromkeys((*ours, *others))  # who answers is settled as well
        for _ in range(SETTLING_ROUNDS):
            self._wait_settled(settling, max(0.1, deadline - time.monotonic()))
            following = [w for w in ours if w.is_unsettled and w.confirmed.failure is None]
            if not following or time.monotonic() > deadline:
                break
        is_gone = self._finish_deletions(ending, deadline)
        return is_gone and all(w.has_confirmed(version, those) for w, those in affected.items())

    def _finish_deletions(self, ending: SessionId | None, deadline: float) -> bool:
        """Finish deletions, and wait for that of one session while connected bridges are at it."""
        while not (is_gone := self._finalizer.finish_deletions(deadline)):
            if ending is None or time.monotonic() > deadline:
                break
            if not self._finalizer.is_ending(ending):
                break
            self._writers.wait_attempt(ATTEMPT_S)
            self._wait_settled(self._writers.writing(), max(0.1, deadline - time.monotonic()))
        return is_gone

    def wait_settled(self, timeout_s: float) -> None:
        """Block until the datapath of every bridge follows the plans that were applied."""
        self._wait_settled(self._writers.writing(), timeout_s)

    def _wait_settled(self, writers: Iterable[BridgeWriter], timeout_s: float) -> None:
        unsettled = [(w, w.applied) for w in writers if w.is_unsettled]
        bridges = [writer for writer, _ in unsettled]
        if unsettled and self._revalidation.wait_settled(bridges, timeout_s):
            for writer, applied in unsettled:
                writer.note_settled(applied)

    def forget(self, dpid: Dpid, who: str) -> None:
        """Forget a bridge that will not come back; see Reconciling."""
        self._finalizer.forget(dpid, who)

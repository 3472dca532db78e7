"""Desired state to switches: who must write, what is verified, and how everything stands.

Events only say that something changed (``changed``). Each connected bridge has one writer
(controller/bridge.py), so that a busy bridge never delays another. Everything shown to people is
worked out from what the writers have verified.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog

from controller.bridge import BridgeWriter
from controller.counters import Counters
from controller.desired import DesiredWorld, Snapshot
from controller.southbound.switch import Switch
from controller.standing import WriterView, describe_bridge, describe_session
from controller.status import BridgeStatus, SessionStatus
from flows.compile import compile_bridge
from flows.errors import CloudtapError
from flows.model import Dpid, PortId, SessionId

COUNTERS_FRESH_S = 1.0
"""Counters of copies are read from a switch at most this often."""

log = structlog.get_logger(__name__)


class Deletions(Protocol):
    """What the reconciler tells the store."""

    def finish_deletions(self, sessions: Iterable[SessionId]) -> None:
        """No bridge has a flow of these sessions any more."""
        ...


class BridgeNames(Protocol):
    """What the reconciler asks the places."""

    def bridge_names(self) -> dict[Dpid, str]:
        """Every bridge that is, or was, known, with its name."""
        ...


class Reconciler:
    """Keeps every bridge what the world asks for; see Reconciling for what the API may ask.

    ``greet`` looks at a bridge that has connected, before it is written to; it raises what makes
    the bridge unfit. ``settle`` returns when the data paths have let go of what was removed before.
    """

    def __init__(
        self,
        world: DesiredWorld,
        deletions: Deletions,
        names: BridgeNames,
        greet: Callable[[Switch], None],
        settle: Callable[[float], bool],
        problems: Callable[[], Sequence[str]],
    ) -> None:
        self._world, self._deletions, self._names = world, deletions, names
        self._greet, self._settle, self._problems = greet, settle, problems
        self.ready = threading.Event()
        """Set when enough is known of the world to write to switches."""
        self._writers: dict[Dpid, BridgeWriter] = {}
        self._last: dict[Dpid, WriterView] = {}
        self._handler_errors = 0
        self._attempted = threading.Condition()
        self._counters: dict[Dpid, Counters] = {}
        self._counted_at: dict[Dpid, float] = {}

    # --- events -------------------------------------------------------------------------------

    def connect(self, switch: Switch) -> None:
        """A bridge has connected: write to it from now on."""
        counters = self._counters.setdefault(switch.dpid, Counters())
        writer = BridgeWriter(
            switch, self._world.snapshot, self._greet, self.ready, self._tell, counters
        )
        with self._attempted:
            old, self._writers[switch.dpid] = self._writers.get(switch.dpid), writer
        if old is not None:
            old.stop()
        writer.start()
        self.changed()
        log.info("bridge connected", bridge=switch.name, dpid=f"{switch.dpid:016x}")

    def disconnect(self, switch: Switch) -> None:
        """A bridge is gone; its flows go on working, and nothing is forgotten."""
        with self._attempted:
            writer = self._writers.get(switch.dpid)
            if writer is None or writer.switch is not switch:
                return
            del self._writers[switch.dpid]
            self._last[switch.dpid] = WriterView.of(writer, is_connected=False)
            self._attempted.notify_all()
        writer.stop()
        log.warning("bridge disconnected", bridge=switch.name, dpid=f"{switch.dpid:016x}")

    def changed(self) -> int:
        """Something in the world changed; returns the version that knows of it."""
        version = self._world.touch()
        for writer in self._writing():
            writer.wake()
        return version

    def recheck(self) -> None:
        """Read again what every bridge has, and repair what drifted."""
        for writer in self._writing():
            writer.recheck()

    def handler_failed(self, dpid: int | None, error: Exception) -> None:
        """An event handler failed: the bridge it was about is degraded, and checked again."""
        self._handler_errors += 1
        writer = self._writers.get(Dpid(dpid)) if dpid is not None else None
        if writer is not None:
            writer.fail(f"an event could not be handled: {error}")
            writer.recheck()

    def stop(self) -> None:
        """Write no more; every flow stays."""
        for writer in self._writing():
            writer.stop()

    # --- what the API asks ----------------------------------------------------------------------

    def bring(self, timeout_s: float) -> bool:
        """Bring every bridge to the state now in the store; see Reconciling."""
        deadline = time.monotonic() + timeout_s
        version = self.changed()
        if not self.ready.is_set():
            return False
        with self._attempted:
            self._attempted.wait_for(
                lambda: all(_has_tried(w, version) for w in self._writers.values()), timeout_s
            )
        if any(w.is_unsettled for w in self._writing()):
            self._settle_all(deadline)
        return self.finish_deletions() and all(
            w.verified.version >= version and w.verified.failure is None for w in self._writing()
        )

    def finish_deletions(self) -> bool:
        """Forget deleted sessions that no bridge can have flows of; True when none is left over."""
        snapshot = self._world.snapshot()
        if not snapshot.deleting:
            return True
        clean = {
            w.dpid
            for w in self._writing()
            if w.verified.version >= snapshot.version
            and w.verified.failure is None
            and not w.verified.rejected
            and not w.is_unsettled
        }
        known = set(self._names.bridge_names()) | set(snapshot.survey.world.dpids)
        if known - clean:
            return False
        self._deletions.finish_deletions(snapshot.deleting)
        self.changed()
        return True

    def writes_to(self, dpid: Dpid) -> bool:
        """Whether this bridge is connected, and ours."""
        with self._attempted:
            return dpid in self._writers

    def session_status(self, session: SessionId) -> SessionStatus:
        """The standing of one session."""
        try:
            snapshot = self._world.snapshot()
        except CloudtapError as problem:
            return describe_session(session, None, [], str(problem))
        return describe_session(session, snapshot, self._views(), None)

    def bridges(self) -> Sequence[BridgeStatus]:
        """Every bridge that is, or was, known; by name."""
        views = {view.dpid: view for view in self._views(with_counters=False)}
        names = {dpid: view.name for dpid, view in views.items()} | self._names.bridge_names()
        snapshot = self._safe_snapshot()
        found = [describe_bridge(d, n, views.get(d), snapshot) for d, n in names.items()]
        return sorted(found, key=lambda status: (status.name, status.dpid))

    def flows(self, dpid: Dpid) -> Sequence[str]:
        """The flows that one bridge should have, with the reason of each."""
        flows = compile_bridge(dpid, self._world.snapshot().survey)
        ordered = sorted(flows, key=lambda f: (f.table, -f.priority, str(f.match)))
        return [f"{flow}  # {flow.why}" for flow in ordered]

    def place_of(self, port: str) -> tuple[str, int] | None:
        """Where a port is now: bridge name and OpenFlow port number."""
        snapshot = self._safe_snapshot()
        if snapshot is None:
            return None
        place = snapshot.survey.world.placements.get(PortId(port))
        if place is None:
            return None
        names = self._names.bridge_names()
        return names.get(place.dpid, f"{place.dpid:016x}"), place.ofport

    def problems(self) -> Sequence[str]:
        """What hinders the whole system."""
        found = list(self._problems())
        try:
            untagged = self._world.snapshot().survey.untagged
            found += [str(refusal) for refusal in untagged]
        except CloudtapError as problem:
            found.append(str(problem))
        if self._handler_errors:
            found.append(f"{self._handler_errors} events could not be handled: see the log")
        return found

    # --- inside -------------------------------------------------------------------------------

    def _tell(self) -> None:
        with self._attempted:
            self._attempted.notify_all()

    def _writing(self) -> list[BridgeWriter]:
        with self._attempted:
            return list(self._writers.values())

    def _safe_snapshot(self) -> Snapshot | None:
        try:
            return self._world.snapshot()
        except CloudtapError:
            return None

    def _settle_all(self, deadline: float) -> None:
        unsettled = [w for w in self._writing() if w.is_unsettled]
        if self._settle(max(0.1, deadline - time.monotonic())):
            for writer in unsettled:
                writer.is_unsettled = False

    def _views(self, with_counters: bool = True) -> list[WriterView]:
        """What is known of each bridge that is, or was, connected."""
        for writer in self._writing():
            if with_counters:
                self._count(writer)
            with self._attempted:
                self._last[writer.dpid] = WriterView.of(writer, is_connected=True)
        with self._attempted:
            return list(self._last.values())

    def _count(self, writer: BridgeWriter) -> None:
        now = time.monotonic()
        if now - self._counted_at.get(writer.dpid, -COUNTERS_FRESH_S) < COUNTERS_FRESH_S:
            return
        self._counted_at[writer.dpid] = now
        try:
            writer.count()
        except CloudtapError as problem:
            log.warning("copies not counted", bridge=writer.switch.name, reason=str(problem))


def _has_tried(writer: BridgeWriter, version: int) -> bool:
    return writer.verified.version >= version or writer.verified.failure is not None

"""The writers of all bridges: one for each connected bridge, so that a busy one delays no other."""

from __future__ import annotations

import threading
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    Set,
)
from contextlib import contextmanager

import structlog

from controller.process import ChangeSignal
from controller.reconcile.bridge import (
    STAGE_S,
    BridgeWriter,
    Confirmed,
    Depth,
    Phase,
    ProgramCache,
    TurnStep,
    WriterContext,
    WriterObserver,
    WriterView,
)
from controller.reconcile.protocols import InstalledSessions
from controller.reconcile.snapshot import Snapshot, SnapshotBuilder
from controller.southbound import Switch
from controller.status import SessionCountersByBridge
from flows.model import CopyWay, Dpid, SessionId
from flows.resolve import ResolvedWorld

log = structlog.get_logger(__name__)


class Writers(WriterObserver):
    """The writers of the bridges that are connected, and the last views of those that are not.

    What was confirmed of a bridge that is gone stays known: its flows go on working.
    """

    def __init__(self) -> None:
        self.programs = ProgramCache()
        self._attempts = ChangeSignal()
        self._beginning = threading.Lock()
        """Held while a writer takes a version, so that others see that in one piece."""
        self._begun: set[BridgeWriter] = set()
        """The writers of linked bridges that were at work when one began last, and that one."""
        self._lock = threading.Lock()
        self._by_dpid: dict[Dpid, BridgeWriter] = {}
        self._last_views: dict[Dpid, WriterView] = {}
        self._once_ours: set[Dpid] = set()
        self._ways: dict[Dpid, frozenset[CopyWay]] = {}
        """The ways that bridges had when their last connection ended."""
        self.handler_errors = 0
        """Events of switches that could not be handled."""

    # --- bridges come and go --------------------------------------------------------------------

    def add(
        self, dpid: Dpid, make: Callable[[], BridgeWriter]
    ) -> tuple[BridgeWriter, BridgeWriter | None]:
        """A bridge has connected: make its writer while nobody can forget what it goes on with.

        Also returns the writer of an older connection, if there is one.
        """
        with self._lock:
            old, new = self._by_dpid.get(dpid), make()
            if old is not None:
                self._note_ways(old)
            self._by_dpid[dpid] = new
        return new, old

    def remove(self, switch: Switch) -> BridgeWriter | None:
        """A connection has ended; returns its writer, unless a newer one has taken its place."""
        with self._lock:
            writer = self._by_dpid.get(switch.dpid)
            if writer is None or writer.switch is not switch:
                return None
            del self._by_dpid[switch.dpid]
            self._note_ways(writer)
            if writer.is_adopted:
                self._once_ours.add(switch.dpid)
            if switch.dpid in self._once_ours:
                self._last_views[switch.dpid] = writer.view(is_connected=False)
            else:  # it was never found to be ours: whoever comes once is not remembered
                self._last_views.pop(switch.dpid, None)
        self._attempts.changed()
        return writer

    @contextmanager
    def while_absent(self, dpid: Dpid) -> Iterator[bool]:
        """Whether a bridge is not connected; inside, it cannot connect.

        After the block, if it was absent, nothing is known of the bridge any more.
        """
        with self._lock:
            is_absent = dpid not in self._by_dpid
            yield is_absent
            if is_absent:
                self._last_views.pop(dpid, None)
                self._once_ours.discard(dpid)
                self._ways.pop(dpid, None)
                self.programs.forget(dpid)

    def _note_ways(self, writer: BridgeWriter) -> None:
        """A connection ends; with the lock held. One that was never verified has changed nothing
        that is certain.
        """
        if (ways := writer.ways) is not None:
            self._ways[writer.dpid] = ways
        elif writer.state.phase is not Phase.CONNECTED:
            self._ways.pop(writer.dpid, None)

    # --- what is reported -----------------------------------------------------------------------

    def attempt_ended(self) -> None:
        """A writer has confirmed a bridge, or failed to: whoever waits for that looks again."""
        self._attempts.changed()

    def bridge_taken_back(self, dpid: Dpid) -> None:
        """Have the bridges that are linked to one read again: its link tags may have changed."""
        for writer in self.writing():
            other, resolved = writer.dpid, writer.confirmed.resolved
            if other != dpid and resolved is not None and resolved.is_joined(other, dpid):
                writer.recheck(Depth.COOKIES)

    def handler_failed(self, dpid: int | None, error: Exception) -> None:
        """An event handler failed: the bridge that it was about is degraded, and read again."""
        self.handler_errors += 1
        writer = self._by_dpid.get(Dpid(dpid)) if dpid is not None else None
        if writer is not None:
            writer.fail(f"an event could not be handled: {error}")
            writer.recheck(Depth.COOKIES)

    def begin(self, writer: BridgeWriter, newest: Snapshot) -> Snapshot:
        """Have a writer begin with a version; see WriterObserver.

        Who skipped a version that a linked bridge is at work on could not take turns with it: that
        one would be at a stage of a version through which this bridge never comes.
        """
        with self._beginning:
            self._begun = {w for w in self._begun if w.at_work is not None and not w.state.is_final}
            others = (each.at_work for each in self._begun if _takes_turns(each, writer))
            seen = writer.confirmed
            unfinished = [s for s in others if s is not None and not _has_come_to(seen, s)]
            snapshot = min(unfinished, key=lambda each: each.version, default=newest)
            writer.begin(snapshot)
            if _has_links(writer, snapshot):  # of a thousand others each would look at all
                self._begun.add(writer)
        return snapshot

    def wait_for_others(self, writer: BridgeWriter, step: TurnStep) -> Sequence[BridgeWriter]:
        """Wait until the writers of linked bridges have come to a step; see WriterObserver."""
        others = [other for other in self.writing() if _takes_turns(writer, other)]
        self._attempts.changed()  # the step of this writer
        if others:
            self._attempts.wait_for(lambda: all(o.has_reached(step) for o in others), STAGE_S)
        return others

    # --- what is asked --------------------------------------------------------------------------

    def writing(self) -> list[BridgeWriter]:
        """The writers of the connected bridges that are ours."""
        with self._lock:
            return [writer for writer in self._by_dpid.values() if writer.is_ours]

    def is_connected(self, dpid: Dpid) -> bool:
        """Whether this bridge is connected, ours or not."""
        with self._lock:
            return dpid in self._by_dpid

    def writes_to(self, dpid: Dpid) -> bool:
        """Whether this bridge is connected, and ours."""
        with self._lock:
            return dpid in self._by_dpid and self._by_dpid[dpid].is_ours

    def find(self, dpids: Iterable[Dpid]) -> list[BridgeWriter]:
        """The writers of those of some bridges that are connected and ours."""
        wanted = frozenset(dpids)
        return sorted((w for w in self.writing() if w.dpid in wanted), key=lambda w: w.dpid)

    def recheck(self, depth: Depth) -> None:
        """Read again what every bridge has installed, and repair what has drifted."""
        for writer in self.writing():
            writer.recheck_at_rest(depth)

    def concerned(
        self, version: int, resolved: ResolvedWorld, before: ResolvedWorld | None = None
    ) -> list[BridgeWriter]:
        """The writers whose bridges may have something to do for this version of the world.

        The others need not be waited for: what they hold does not change, nor will it before they
        come to this version. With an older world ``before``, what bridges still have to do for that
        one does not count.
        """
        older = self._older_at_work(version)
        return [
            writer
            for writer in self.writing()
            if not writer.has_confirmed(version)
            and (
                writer.confirmed.version >= version
                or writer.is_concerned(resolved)
                or _is_concerned_by(older, writer, resolved)
            )
            and (before is None or resolved.concerns(before, writer.dpid))
        ]

    def _older_at_work(self, version: int) -> Collection[Snapshot]:
        """The older versions that bridges are being brought to, or may begin with."""
        with self._beginning:
            at_work = [writer.at_work for writer in self.writing()]
        older = (each for each in at_work if each is not None and each.version < version)
        return {each.version: each for each in older}.values()

    def may_write_older(self, version: int) -> Set[SessionId] | None:
        """The sessions whose copies a bridge may still install for an older version; None: any.

        That is also true of bridges that have not begun, and are linked to one that is at work.
        """
        with self._beginning:
            at_work = [writer.may_write_older(version) for writer in self.writing()]
        if None in at_work:
            return None
        return frozenset[SessionId]().union(*(some for some in at_work if some))

    def wait_tried(
        self,
        writers: Mapping[BridgeWriter, Set[SessionId] | None],
        version: int,
        timeout_s: float,
    ) -> bool:
        """Block until these bridges were brought to this version of the world, or failed.

        Each is waited for with the sessions that matter there; None: all.
        """
        return self._attempts.wait_for(
            lambda: all(w.has_tried(version, s) or w.state.is_final for w, s in writers.items()),
            timeout_s,
        )

    def wait_attempt(self, timeout_s: float) -> None:
        """Block until a writer has confirmed a bridge, or failed to, or some time has passed."""
        before = self._attempts.version
        self._attempts.wait_for(lambda: self._attempts.version != before, timeout_s)

    def concerned_with(self, session: int | None, others: Iterable[Dpid]) -> set[Dpid]:
        """The bridges that make copies of a session, or refused to, and ``others``."""
        with self._lock:
            found = {d for d, w in self._by_dpid.items() if w.confirmed.concerns(session)}
            found |= {d for d, v in self._last_views.items() if v.confirmed.concerns(session)}
        return found | set(others)

    def known_ways(self) -> Mapping[Dpid, frozenset[CopyWay]]:
        """The ways of copies over bridges that cannot be given others now.

        Nobody knows what one has that was written to in vain.
        """
        with self._lock:
            seen = {d: self._by_dpid[d].confirmed for d in self._ways.keys() & self._by_dpid.keys()}
            tried = {d for d, confirmed in seen.items() if confirmed.version or confirmed.failure}
            return {dpid: ways for dpid, ways in self._ways.items() if dpid not in tried}

    def confirmed(self) -> dict[Dpid, Confirmed]:
        """What each bridge that is, or was, connected has confirmed."""
        with self._lock:
            found = {dpid: view.confirmed for dpid, view in self._last_views.items()}
            return found | {dpid: writer.confirmed for dpid, writer in self._by_dpid.items()}

    def views(self) -> list[WriterView]:
        """What is known of each bridge that is, or was, connected."""
        with self._lock:
            for dpid, writer in self._by_dpid.items():
                self._last_views[dpid] = writer.view(is_connected=True)
            return list(self._last_views.values())

    def views_away(self) -> list[WriterView]:
        """What is known of each bridge that was connected and is not."""
        with self._lock:
            return [v for dpid, v in self._last_views.items() if dpid not in self._by_dpid]

    def views_of(self, dpids: Iterable[Dpid]) -> list[WriterView]:
        """What is known of some bridges, as far as they are, or were, connected."""
        with self._lock:
            for dpid in dpids:
                if dpid in self._by_dpid:
                    self._last_views[dpid] = self._by_dpid[dpid].view(is_connected=True)
            return [self._last_views[d] for d in sorted(dpids) if d in self._last_views]


def _takes_turns(writer: BridgeWriter, other: BridgeWriter) -> bool:
    """Whether a writer waits for another one at the stages of its plans: links join the bridges."""
    resolved = writer.confirmed.resolved
    if other is writer or resolved is None or other.confirmed.resolved is None:
        return False
    return resolved.is_joined(other.dpid, writer.dpid)


def _has_links(writer: BridgeWriter, snapshot: Snapshot) -> bool:
    """Whether links lead from a bridge, in the world that it follows or is being brought to."""
    worlds = (writer.confirmed.resolved, snapshot.resolved)
    return any(world.spanning_tree.link_ports(writer.dpid) for world in worlds if world is not None)


def _has_come_to(seen: Confirmed, snapshot: Snapshot) -> bool:
    """Whether a bridge is not waited for with a version: it was brought to that, or has failed."""
    return seen.failure is not None or seen.covers(snapshot.version, frozenset())


def _is_concerned_by(
    older: Iterable[Snapshot], writer: BridgeWriter, resolved: ResolvedWorld
) -> bool:
    """Whether a bridge that may be brought to an older version first has other flows then."""
    return any(
        resolved.concerns(each.resolved, writer.dpid)
        for each in older
        if not _has_come_to(writer.confirmed, each)
    )


class WriterLifecycle:
    """Starts a writer when a bridge connects, and stops it when the bridge is gone.

    ``changes`` wakes the writers. ``ready`` is set when enough is known of the world to write.
    """

    def __init__(
        self,
        *,
        writers: Writers,
        changes: ChangeSignal,
        snapshots: SnapshotBuilder,
        adopt: Callable[[Switch], None],
        ready: threading.Event,
        counters: SessionCountersByBridge,
        installed_sessions: InstalledSessions,
        needs_epoch: Callable[[Switch], bool] = lambda switch: False,
        settle: Callable[[Sequence[BridgeWriter], float], bool] = lambda bridges, seconds: True,
    ) -> None:
        self._writers, self._changes, self._counters = writers, changes, counters
        self._lock = threading.Lock()
        self._uncounted: set[Dpid] = set()
        """Connected bridges of which nothing was counted before this connection."""
        self._context = WriterContext(
            snapshot=snapshots.snapshot,
            adopt=adopt,
            ready=ready,
            observer=writers,
            installed_sessions=installed_sessions,
            programs=writers.programs,
            needs_epoch=needs_epoch,
            settle=settle,
            counters=counters.of,
        )

    def connect(self, switch: Switch) -> None:
        """Write to this switch from now on; an older connection of the bridge ends."""
        writer, old = self._writers.add(switch.dpid, lambda: self._make(switch))
        if old is not None:
            if old.is_adopted:
                with self._lock:
                    self._uncounted.discard(switch.dpid)
            self._stop(old)
        self._changes.subscribe(writer.wakeup)
        writer.start()
        writer.wake()  # the others have nothing to do: the world is as it was
        log.info("bridge connected", bridge=switch.name, dpid=f"{switch.dpid:016x}")

    def disconnect(self, switch: Switch) -> None:
        """A bridge is gone; its flows go on working, and nothing is forgotten."""
        writer = self._writers.remove(switch)
        if writer is not None:
            self._stop(writer)
            with self._lock:
                is_uncounted = switch.dpid in self._uncounted
                self._uncounted.discard(switch.dpid)
            is_unknown = is_uncounted and not writer.is_adopted
            if is_unknown and not writer.session_counters.numbers():  # else it has got this id
                self._counters.forget(switch.dpid)
            else:
                self._counters.note_gone(switch.dpid)
            log.warning("bridge disconnected", bridge=switch.name, dpid=f"{switch.dpid:016x}")

    def stop(self) -> None:
        """Write no more; every flow stays."""
        for writer in self._writers.writing():
            self._stop(writer)

    def _make(self, switch: Switch) -> BridgeWriter:
        """The writer of a bridge, which goes on with what was counted of it."""
        with self._lock:
            if not self._counters.knows(switch.dpid):
                self._uncounted.add(switch.dpid)
        return BridgeWriter(switch, self._counters.of(switch.dpid), self._context)

    def _stop(self, writer: BridgeWriter) -> None:
        self._changes.unsubscribe(writer.wakeup)
        writer.stop()

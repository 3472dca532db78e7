"""Which Mirrors tap bridges need from bridges of others, and which ones nothing uses any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field

from controller.process import ChangeSignal
from controller.reconcile.bridge import BridgeWriter
from controller.reconcile.demand_loop import DemandLoop
from controller.reconcile.protocols import Mirroring
from controller.reconcile.snapshot import Snapshot, SnapshotBuilder
from controller.reconcile.writers import Writers
from controller.southbound.ovsdb import MirrorDemand, MirrorId
from flows.model import MIRRORS_MAX, Dpid, MirrorKey, Session, World


class MirrorDemandLoop(DemandLoop[MirrorId]):
    """Has the Mirrors made that sessions need, in a thread that every change wakes.

    ``databases`` reports changes of OVSDB.
    """

    def __init__(
        self,
        *,
        changes: ChangeSignal,
        databases: ChangeSignal,
        snapshots: SnapshotBuilder,
        writers: Writers,
        mirrors: Mirroring,
        ready: threading.Event,
    ) -> None:
        super().__init__("Mirrors", name="mirrors", signals=(changes, databases), ready=ready)
        self._snapshots, self._writers, self._mirrors = snapshots, writers, mirrors

    def wait_made(self, before: Snapshot | None, timeout_s: float) -> bool:
        """Have made what is needed now, and block until it is; True if one was missing.

        Those that were missing ``before`` are not waited for: a database does not make them.
        """
        self._want()
        old = frozenset[MirrorId]() if before is None else _missing(before)

        def are_made() -> bool:
            problems = self._mirrors.mirror_problems().keys()
            return not _missing(self._snapshots.snapshot()) - old - problems

        if are_made():
            return False
        self._wait_until(are_made, timeout_s)
        return True

    @contextmanager
    def expecting(self, session: Session, timeout_s: float) -> Iterator[None]:
        """Inside, bridges of others have the Mirrors for a session, as far as they come in time.

        Who changes a live session to this one does so inside, and brings it about: else nothing
        would be copied while the Mirrors are being made.
        """
        uses = self._snapshots.snapshot().resolved.mirrors_for(session)
        wanted = {(use.dpid, use.wanted) for use in uses if not use.is_refused}

        def are_made() -> bool:
            world = self._snapshots.snapshot().resolved.world
            left = {(d, k) for d, k in wanted if not _is_made(world, d, k)}
            return not left - self._mirrors.mirror_problems().keys()

        with self._expecting(wanted):
            if not are_made():
                self._want()
                self._wait_until(are_made, timeout_s)
            yield

    def _wait_until(self, are_made: Callable[[], bool], timeout_s: float) -> None:
        """Look after each change, without its lock: a look may build a snapshot of the world."""
        deadline, wakeup = time.monotonic() + timeout_s, threading.Event()
        for signal in self._signals:
            signal.subscribe(wakeup)
        try:
            while not are_made() and (left := deadline - time.monotonic()) > 0:
                wakeup.wait(left)
                wakeup.clear()
        finally:
            for signal in self._signals:
                signal.unsubscribe(wakeup)

    def _want(self) -> None:
        if self._is_stopping or not self._ready.is_set():
            return
        expected = self._all_expected()
        demand = mirror_demand(self._snapshots.snapshot(), self._writers.writing(), expected)
        self._mirrors.want_mirrors(demand)


def mirror_demand(
    snapshot: Snapshot, writers: Iterable[BridgeWriter], expected: Set[MirrorId] = frozenset()
) -> dict[Dpid, MirrorDemand]:
    """What each tap bridge needs for this version of the world, and for changes that follow.

    A Mirror that no session needs is removed once the last flows that use it are gone.
    """
    world, found = snapshot.resolved.world, dict[Dpid, MirrorDemand]()
    if not world.attachments:
        return found
    needs = _needs(snapshot)
    for writer in writers:
        attachment = world.attachments.get(writer.dpid)
        if attachment is None or not writer.is_adopted:
            continue
        need = needs.get(writer.dpid, _Need())
        room = max(0, attachment.room)
        wanted = frozenset(list(need.first)[:room])
        kept = need.in_use & attachment.mirrors.keys()
        kept |= {key for dpid, key in expected if dpid == writer.dpid}
        # one that has changed since, because a port has gone, may be what is wanted next
        is_over = writer.has_confirmed(snapshot.version)
        left = attachment.mirrors.keys() - wanted - kept
        found[writer.dpid] = MirrorDemand(wanted | kept, frozenset(left if is_over else ()))
    return found


def crowded_out(snapshot: Snapshot) -> Mapping[MirrorId, str]:
    """The Mirrors for which bridges of others have no room, a sentence each."""
    found: dict[MirrorId, str] = {}
    for dpid, need in _needs(snapshot).items():
        room = max(0, snapshot.resolved.world.attachments[dpid].room)
        for key in need.refused:
            others = MIRRORS_MAX - room
            found[dpid, key] = (
                f"Open vSwitch makes at most {MIRRORS_MAX} Mirrors for a bridge, of which others "
                f"have {others} and sessions with lower numbers the rest: watch the same ports in "
                "fewer sessions, or more ports in each"
            )
    return found


@dataclass(frozen=True, slots=True)
class _Need:
    """The Mirrors that sessions want, those of the lowest numbers first, and those in use.

    ``refused`` are wanted, and there is no room for them.
    """

    first: dict[MirrorKey, None] = field(default_factory=dict)
    refused: dict[MirrorKey, None] = field(default_factory=dict)
    in_use: set[MirrorKey] = field(default_factory=set)


def _needs(snapshot: Snapshot) -> dict[Dpid, _Need]:
    world, found = snapshot.resolved.world, dict[Dpid, _Need]()
    if not world.attachments:
        return found
    numbers, sessions = world.numbers.session, snapshot.resolved.sessions
    for session in sorted(sessions, key=lambda key: numbers.get(key, 0)):
        resolved_session = sessions[session]
        if not resolved_session.session.enabled or resolved_session.refused is not None:
            continue
        for use in resolved_session.mirrors:
            need = found.setdefault(use.dpid, _Need())
            (need.refused if use.is_refused else need.first)[use.wanted] = None
            if use.made is not None:
                need.in_use.add(use.made)
    return found


def _is_made(world: World, dpid: Dpid, key: MirrorKey) -> bool:
    attachment = world.attachments.get(dpid)
    return attachment is None or key in attachment.mirrors


def _missing(snapshot: Snapshot) -> frozenset[MirrorId]:
    """The Mirrors that sessions need and that are not made."""
    made = {dpid: at.mirrors for dpid, at in snapshot.resolved.world.attachments.items()}
    found = {(d, key) for d, need in _needs(snapshot).items() for key in need.first}
    return (
        frozenset((d, key) for d, key in found if key not in made[d]) - crowded_out(snapshot).keys()
    )

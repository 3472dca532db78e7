"""Which tunnel ports bridges need for their sessions, and which ones nothing uses any more."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager

import structlog

from controller.process import ChangeSignal
from controller.reconcile.bridge import BridgeWriter
from controller.reconcile.protocols import Tunnelling
from controller.reconcile.snapshot import Snapshot, SnapshotBuilder
from controller.reconcile.writers import Writers
from controller.southbound.ovsdb import KINDS, TunnelDemand
from flows.errors import CloudtapError
from flows.model import Delivery, Dpid

LOOK_S = 1.0
"""What bridges need is looked at again at least so often, in seconds."""

NOTHING_EXPECTED: frozenset[Delivery] = frozenset()

log = structlog.get_logger(__name__)


class TunnelDemandLoop:
    """Has the tunnel ports made that sessions need, in a thread that every change wakes.

    ``databases`` reports changes of OVSDB, such as a port that could not be opened.
    """

    def __init__(
        self,
        *,
        changes: ChangeSignal,
        databases: ChangeSignal,
        snapshots: SnapshotBuilder,
        writers: Writers,
        tunnels: Tunnelling,
        ready: threading.Event,
    ) -> None:
        self._signals = (changes, databases)
        self._changes, self._snapshots, self._writers = changes, snapshots, writers
        self._tunnels, self._ready = tunnels, ready
        self._wakeup = threading.Event()
        self._expected: Counter[Delivery] = Counter()
        """How many changes are under way that need each kind."""
        self._lock = threading.Lock()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="tunnels", daemon=True)

    def start(self) -> None:
        """Begin to look at what bridges need."""
        for signal in self._signals:
            signal.subscribe(self._wakeup)
        self._thread.start()

    def stop(self) -> None:
        """Make and remove no more; every port stays."""
        self._is_stopping = True
        for signal in self._signals:
            signal.unsubscribe(self._wakeup)
        self._wakeup.set()

    def wait_made(self, before: Snapshot | None, timeout_s: float) -> bool:
        """Have made what is needed now, and block until it is; True if a port has come.

        Ports of the kinds that were needed ``before`` are not waited for: they are there, or a
        database does not make them.
        """
        self._want()
        kinds = frozenset(wanted_kinds(self._snapshots.snapshot()))
        if before is not None:
            kinds -= wanted_kinds(before)
        return bool(kinds) and self._tunnels.wait_made(kinds, timeout_s)

    @contextmanager
    def expecting(self, kind: Delivery, timeout_s: float) -> Iterator[None]:
        """Inside, bridges have the ports of a kind of tunnel, as far as they come in time.

        Who gives a session that copies another collector does so inside, and brings it about: else
        nothing would be copied while the ports are being made.
        """
        self._expect(kind, 1)
        try:
            self._want()
            if self._tunnels.wait_made(frozenset({kind}), timeout_s):
                self._changes.changed()
            yield
        finally:
            self._expect(kind, -1)

    def _expect(self, kind: Delivery, by: int) -> None:
        with self._lock:
            self._expected[kind] += by

    def _run(self) -> None:
        while not self._is_stopping:
            self._wakeup.wait(LOOK_S)
            self._wakeup.clear()
            try:
                if self._tunnels.refresh():
                    self._changes.changed()
                self._want()
            except CloudtapError as problem:
                log.warning("tunnel ports not looked at", reason=str(problem))
            except Exception as problem:  # the edge of the loop: it must go on
                log.error("look at tunnel ports failed", exc_info=problem)

    def _want(self) -> None:
        if self._is_stopping:
            return
        demand: dict[Dpid, TunnelDemand] = {}
        if self._ready.is_set():
            with self._lock:
                expected = frozenset(+self._expected)
            demand = tunnel_demand(self._snapshots.snapshot(), self._writers.writing(), expected)
        self._tunnels.want(demand)


def tunnel_demand(
    snapshot: Snapshot, writers: Iterable[BridgeWriter], expected: Set[Delivery] = NOTHING_EXPECTED
) -> dict[Dpid, TunnelDemand]:
    """What each bridge of ours needs for this version of the world, and kinds that are expected.

    A kind that no session uses is unwanted once the last flows that use it are gone.
    """
    wanted = frozenset(wanted_kinds(snapshot) | expected)
    unwanted = frozenset(KINDS) - wanted
    return {
        writer.dpid: TunnelDemand(
            wanted, unwanted if writer.has_confirmed(snapshot.version) else frozenset()
        )
        for writer in writers
        if writer.is_adopted
    }


def wanted_kinds(snapshot: Snapshot) -> set[Delivery]:
    """The kinds of tunnel that some enabled session uses."""
    world = snapshot.resolved.world
    kind_by_collector = {c.id: c.delivery for c in world.collectors if c.is_tunnelled}
    if not kind_by_collector:
        return set()
    used = {session.collector for session in world.sessions if session.enabled}
    return {kind for collector, kind in kind_by_collector.items() if collector in used}

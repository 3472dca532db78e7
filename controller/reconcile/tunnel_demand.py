"""Which tunnel ports bridges need for their sessions, and which ones nothing uses any more."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager

from controller.process import ChangeSignal
from controller.reconcile.bridge import BridgeWriter
from controller.reconcile.demand_loop import DemandLoop
from controller.reconcile.protocols import Tunnelling
from controller.reconcile.snapshot import Snapshot, SnapshotBuilder
from controller.reconcile.writers import Writers
from controller.southbound.ovsdb import TunnelDemand
from flows.model import Collector, Datapath, Dpid, TunnelKind, World, tunnel_kinds

NOTHING_EXPECTED: frozenset[Collector] = frozenset()


class TunnelDemandLoop(DemandLoop[Collector]):
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
        super().__init__("tunnel ports", name="tunnels", signals=(changes, databases), ready=ready)
        self._changes, self._snapshots, self._writers = changes, snapshots, writers
        self._tunnels = tunnels

    def wait_made(self, before: Snapshot | None, timeout_s: float) -> bool:
        """Have made what is needed now, and block until it is; True if a port has come.

        Ports of the kinds that were needed ``before`` are not waited for: they are there, or a
        database does not make them.
        """
        self._want()
        kinds = wanted_kinds(self._snapshots.snapshot())
        if before is not None:
            kinds -= wanted_kinds(before)
        return bool(kinds) and self._tunnels.wait_made(kinds, timeout_s)

    @contextmanager
    def expecting(self, collector: Collector, timeout_s: float) -> Iterator[None]:
        """Inside, bridges have the tunnel ports for a collector, as far as they come in time.

        Who gives a session that copies another collector does so inside, and brings it about: else
        nothing would be copied while the ports are being made.
        """
        with self._expecting([collector]):
            self._want()
            kinds = _kinds_anywhere([collector], self._snapshots.snapshot().resolved.world)
            if self._tunnels.wait_made(kinds, timeout_s):
                self._changes.changed()
            yield

    def _look(self) -> None:
        if self._tunnels.refresh():
            self._changes.changed()
        self._want()

    def _want(self) -> None:
        if self._is_stopping:
            return
        demand: dict[Dpid, TunnelDemand] = {}
        if self._ready.is_set():
            expected = self._all_expected()
            demand = tunnel_demand(self._snapshots.snapshot(), self._writers.writing(), expected)
        self._tunnels.want(demand)


def tunnel_demand(
    snapshot: Snapshot, writers: Iterable[BridgeWriter], expected: Set[Collector] = NOTHING_EXPECTED
) -> dict[Dpid, TunnelDemand]:
    """What each bridge of ours needs for this version of the world, and for expected collectors.

    A kind that no session uses is unwanted once the last flows that use it are gone.
    """
    world, found = snapshot.resolved.world, dict[Dpid, TunnelDemand]()
    collectors = {*_collectors_in_use(world), *expected}
    for writer in writers:
        if writer.is_adopted:
            wanted = _kinds(collectors, world.datapaths.get(writer.dpid))
            unwanted = frozenset(TunnelKind) - wanted
            is_over = writer.has_confirmed(snapshot.version)
            found[writer.dpid] = TunnelDemand(wanted, unwanted if is_over else frozenset())
    return found


def wanted_kinds(snapshot: Snapshot) -> frozenset[TunnelKind]:
    """The kinds of tunnel ports that some enabled session uses on some bridge."""
    world = snapshot.resolved.world
    return _kinds_anywhere(_collectors_in_use(world), world)


def _collectors_in_use(world: World) -> Iterator[Collector]:
    """The remote collectors of enabled sessions."""
    remote = [collector for collector in world.collectors if collector.is_tunnelled]
    if remote:
        used = {session.collector for session in world.sessions if session.enabled}
        yield from (collector for collector in remote if collector.id in used)


def _kinds(collectors: Iterable[Collector], datapath: Datapath | None) -> frozenset[TunnelKind]:
    """The kinds of ports that a bridge with this datapath needs for some collectors."""
    none: frozenset[TunnelKind] = frozenset()
    return none.union(*(tunnel_kinds(collector, datapath) for collector in collectors))


def _kinds_anywhere(collectors: Iterable[Collector], world: World) -> frozenset[TunnelKind]:
    """The kinds of ports that bridges of any datapath there is need for some collectors."""
    collectors, none = tuple(collectors), frozenset[TunnelKind]()
    return none.union(*(_kinds(collectors, each) for each in {None, *world.datapaths.values()}))

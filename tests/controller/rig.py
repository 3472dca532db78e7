"""Store, places and reconciler as in the controller, with strict fake switches below them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from struct import Struct
from types import SimpleNamespace
from typing import Any

from controller.inventory import Inventory
from controller.inventory.file import parse
from controller.process import ChangeSignal
from controller.reconcile import (
    Finalizer,
    MirrorDemandLoop,
    Reconciler,
    SnapshotBuilder,
    TunnelDemandLoop,
    WriterLifecycle,
    Writers,
)
from controller.reconcile.bridge import BridgeWriter
from controller.reconcile.protocols import NoMirrors, NoTunnels
from controller.reconcile.report import CounterPoller, Inspector
from controller.southbound import LOCAL_PORT, NotOurs, SettlingBridge, Switch, SwitchUnfit
from controller.southbound.openflow import OpenFlowSwitch
from controller.status import SessionCountersByBridge
from controller.store import Store
from controller.topology import Placements, PlacementTracker
from flows.compile import Program
from flows.model import (
    Collector,
    CollectorId,
    Dpid,
    Hop,
    Placement,
    PortId,
    Session,
    SessionId,
    Source,
    TenantName,
)  # fmt: skip
from flows.openflow import is_ours, object_of
from flows.pipeline import DELIVER
from flows.plan import count_meters
from tests.fake_switches import FakeSwitch

HEADER = Struct("!BBHI")
TIMEOUT_S = 20.0
"""How long a switch may take to answer: a loaded machine must not look like a switch that hangs."""
HANG_TIMEOUT_S = 0.5
"""The same for a switch that a test lets hang."""
RED = TenantName("red")

INVENTORY = """\
tenants: [red]
networks: [{id: lan, name: lan, tenant: red}, {id: dmz, name: dmz, tenant: red}]
ports:
  - {id: a, tenant: red, network: lan, mac: "02:00:00:00:00:01", interface: s1-eth1}
  - {id: b, tenant: red, network: lan, mac: "02:00:00:00:00:02", interface: s2-eth1}
  - {id: c, tenant: red, network: dmz, mac: "02:00:00:00:00:03", interface: s3-eth1}
  - {id: d, tenant: red, network: dmz, mac: "02:00:00:00:00:04", interface: s1-eth2}
  - {id: t1, tenant: red, kind: tap, interface: s1-eth7}
  - {id: t2, tenant: red, kind: tap, interface: s2-eth7}
  - {id: t3, tenant: red, kind: tap, interface: s3-eth7}
links:
  - {from: {bridge: s1, interface: s1-eth9}, to: {bridge: s2, interface: s2-eth9}}
  - {from: {bridge: s2, interface: s2-eth10}, to: {bridge: s3, interface: s3-eth10}}
"""


class PatientReconciler(Reconciler):
    """One that waits for bridges that have just connected, too: a test brings all of them up."""

    def __init__(self, *, strangers: Set[int], writers: Writers, **parts: Any) -> None:
        super().__init__(writers=writers, **parts)
        self._strangers, self._all = strangers, writers

    def sync(self, timeout_s: float, since: object = None, ending: SessionId | None = None) -> bool:
        """Wait until every bridge was tried once, and then as the reconciler does."""

        def is_tried(writer: BridgeWriter) -> bool:
            seen = writer.confirmed
            is_over = writer.state.is_final or writer.dpid in self._strangers
            return bool(seen.version or seen.failure or is_over)

        if self._ready.is_set():
            self._all._attempts.wait_for(lambda: all(map(is_tried, self._all.writing())), timeout_s)
            self.wait_settled(timeout_s)  # as the periodic work does
        return super().sync(timeout_s, since, ending)


class Rig:
    """Three fake switches s1, s2, s3 in a row, and a controller that may crash and start again."""

    def __init__(self, folder: Path, text: str = INVENTORY) -> None:
        self.folder, self.inventory = folder, parse(text.encode())
        self.models: dict[int, FakeSwitch] = {}
        for n in (1, 2, 3):
            ports = {number: f"s{n}-eth{number}" for number in (1, 2, 7, 9, 10)}
            self.models[n] = FakeSwitch(n, f"s{n}", ports)
        self.wait_settled: Callable[[Sequence[SettlingBridge]], bool] = lambda bridges: True
        self.on_send: Callable[[int], None] = lambda dpid: None
        self.may_hang: set[int] = set()
        """Switches with a short timeout, from their next connection on."""
        self.foreign: set[int] = set()
        self.strangers: set[int] = set()
        """Switches that are not waited for although they were never verified."""
        self.unfit: set[int] = set()
        self.stale: set[int] = set()
        """Switches that may keep stale megaflows after a change of their flows."""
        self.hops: Mapping[Placement, Hop] = {}
        """What is known of ports."""
        self.links_down: frozenset[Placement] = frozenset()
        self.connected: dict[int, OpenFlowSwitch] = {}
        self.adopted: list[int] = []
        self._start()

    def close(self) -> None:
        """End the controller in order."""
        for dpid in list(self.connected):
            self.cut(dpid)
        self.tracker.stop()
        self.lifecycle.stop()
        self.store.close()

    def restart(self) -> None:
        """The controller is gone without a word, and a new one begins on the same file."""
        self.close()
        self._start()

    def connect(self, dpid: int) -> OpenFlowSwitch:
        """Let a switch connect."""
        model, lock = self.models[dpid], threading.Lock()

        def send(data: bytes) -> bool:
            if self.connected.get(dpid) is not switch:
                return False
            self.on_send(dpid)
            with lock:
                at = 0
                while at < len(data):
                    length = HEADER.unpack_from(data, at)[2]
                    for answer in model.answer(data[at : at + length]):
                        switch.on_message(answer)
                    at += length
            return True

        timeout_s = HANG_TIMEOUT_S if dpid in self.may_hang else TIMEOUT_S
        switch = OpenFlowSwitch(Dpid(dpid), f"s{dpid}", send, timeout_s)
        self.connected[dpid] = switch
        self.lifecycle.connect(switch)
        return switch

    def cut(self, dpid: int) -> None:
        """Let a switch lose its connection."""
        switch = self.connected.pop(dpid)
        self.models[dpid].disconnected()
        switch.on_disconnect()
        self.lifecycle.disconnect(switch)

    def place(self, port: str) -> int | None:
        """The port number that the world has for a port."""
        place = self.world.snapshot().resolved.world.placements.get(PortId(port))
        return None if place is None else int(place.ofport)

    def declare(self, inventory: Inventory) -> None:
        """Another inventory."""
        self.inventory = inventory
        self.tracker.declare(inventory)

    def add_session(self, name: str, *ports: str, tap: str = "t1", enabled: bool = True) -> None:
        """A session; its id is its name, and each tap port has a collector of its own."""
        collector = CollectorId(f"to-{tap}")
        if collector not in {record.collector.id for record in self.store.collectors.all()}:
            self.store.collectors.add(Collector(collector, collector, RED, (PortId(tap),)), "test")
        source = Source(tuple(PortId(port) for port in ports))
        session = Session(SessionId(name), name, RED, source, collector, enabled=enabled)
        self.store.sessions.add(session, "test")

    def copying(self, dpid: int) -> set[int]:
        """The numbers of the sessions that a switch makes copies of."""
        entries = list(self.models[dpid].tables.flows.values())
        cookies = [entry.cookie for entry in entries if entry.table == DELIVER.number]
        return {object_of(cookie) for cookie in cookies if is_ours(cookie)} - {0}

    def count_copies(self, dpid: int, session: str, packets: int, octets: int) -> None:
        """A switch has made so many copies of a session since it has the flows."""
        number = self.world.snapshot().numbers.session[SessionId(session)]
        meters = self.models[dpid].tables.meters.by_number
        [meter] = [meters[number] for number in count_meters(number) if number in meters]
        is_tagged = meter.number != count_meters(number)[0]
        meter.passed = packets, octets + 4 * packets * is_tagged

    def missing(self, dpid: int) -> list[str]:
        """What a switch should have and has not, or has and should not have."""
        program = Program(Dpid(dpid))
        program.has_meters = True
        flows = program.update(self.world.snapshot().resolved).put
        wanted = {(flow.table, flow.priority, flow.cookie) for flow in flows}
        entries = list(self.models[dpid].tables.flows.values())  # its thread may change them
        found = {(e.table, e.priority, e.cookie) for e in entries if is_ours(e.cookie)}
        return [*map(str, sorted(wanted - found)), *map(str, sorted(found - wanted))]

    def wait_settled_of(self, bridges: Sequence[SettlingBridge], timeout_s: float) -> bool:
        """Stands for Revalidation: ``wait_settled`` may be exchanged by a test."""
        return self.wait_settled(bridges)

    def _start(self) -> None:
        self.ready, self.changes = threading.Event(), ChangeSignal()
        self.store = Store(self.folder / "state")
        self.sensors = SimpleNamespace(
            down=lambda probes: frozenset(),
            hops=lambda: self.hops,
            datapaths=dict,
            segmenters=dict,
            links_down=lambda: self.links_down,
        )
        installed_sessions, changes = self.store.installed_sessions, self.changes
        self.placements = Placements()
        self.placements.remember(self.store.placements.bridges())
        self.placements.declare(self.inventory)
        counters, tunnels = SessionCountersByBridge(), NoTunnels()
        self.tracker = PlacementTracker(
            placements=self.placements,
            changes=changes,
            store=self.store.placements,
            counters=counters,
        )
        self.world = SnapshotBuilder(
            self.store,
            lambda: self.inventory,
            self.placements.snapshot,
            changes=changes,
            sensors=self.sensors,
        )
        self.writers = Writers()
        self.lifecycle = WriterLifecycle(
            writers=self.writers,
            changes=changes,
            snapshots=self.world,
            adopt=self._adopt,
            ready=self.ready,
            counters=counters,
            installed_sessions=installed_sessions,
            needs_epoch=lambda switch: switch.dpid in self.stale,
        )
        self.poller = CounterPoller(counters, self.writers.writing)
        self.finalizer = Finalizer(
            changes=changes,
            snapshots=self.world,
            writers=self.writers,
            installed_sessions=installed_sessions,
            deletions=self.store.sessions,
            bridges=self.tracker,
            counters=self.poller,
        )
        demand = TunnelDemandLoop(
            changes=changes,
            databases=ChangeSignal(),
            snapshots=self.world,
            writers=self.writers,
            tunnels=tunnels,
            ready=self.ready,
        )
        mirrors = MirrorDemandLoop(
            changes=changes,
            databases=ChangeSignal(),
            snapshots=self.world,
            writers=self.writers,
            mirrors=NoMirrors(),
            ready=self.ready,
        )
        self.reconciler = PatientReconciler(
            strangers=self.strangers,
            changes=changes,
            snapshots=self.world,
            ready=self.ready,
            writers=self.writers,
            finalizer=self.finalizer,
            tunnels=demand,
            mirrors=mirrors,
            revalidation=SimpleNamespace(wait_settled=self.wait_settled_of),
        )
        self.inspector = Inspector(
            changes=changes,
            snapshots=self.world,
            writers=self.writers,
            counters=self.poller,
            installed_sessions=installed_sessions,
            bridges=self.tracker,
            tunnels=tunnels,
            is_ready=self.ready.is_set,
        )
        self.ready.set()

    def _adopt(self, switch: Switch) -> None:
        self.adopted.append(switch.dpid)
        if switch.dpid in self.foreign:
            raise NotOurs(switch.name)
        if switch.dpid in self.unfit:
            raise SwitchUnfit(switch.name, ("the clone action",))
        assert any(port.ofport == LOCAL_PORT for port in switch.ports())
        self.tracker.bridge_connected(switch)

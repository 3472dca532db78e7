"""Store, places and reconciler as in the controller, with strict fake switches below them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from pathlib import Path
from struct import Struct

from controller.reconcile.snapshot import DesiredWorld
from controller.inventory.file import Inventory, parse
from controller.topology.tracker import Movements
from controller.topology.placements import Places
from controller.reconcile.reconciler import Reconciler
from controller.southbound.errors import NotOurs, SwitchUnfit
from controller.southbound.openflow.openflow_switch import OpenFlowSwitch
from controller.southbound.switch import Switch
from controller.southbound.wire.message import LOCAL_PORT
from controller.store import Store
from flows.compile import Program
from flows.openflow.flow import is_ours, object_of
from flows.model.session import Collector, CollectorId, Dpid, PortId, Session, SessionId, Source, TenantName
from flows.pipeline.tables import DELIVER
from tests.fake_switches import FakeSwitch

HEADER = Struct("!BBHI")
TIMEOUT_S = 0.5
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


class Rig:
    """Three fake switches s1, s2, s3 in a row, and a controller that may crash and start again."""

    def __init__(self, folder: Path, text: str = INVENTORY) -> None:
        self.folder, self.inventory = folder, parse(text.encode())
        self.models: dict[int, FakeSwitch] = {}
        for n in (1, 2, 3):
            ports = {number: f"s{n}-eth{number}" for number in (1, 2, 7, 9, 10)}
            self.models[n] = FakeSwitch(n, f"s{n}", ports)
        self.settle: Callable[[Collection[Switch]], bool] = lambda switches: True
        self.on_send: Callable[[int], None] = lambda dpid: None
        self.foreign: set[int] = set()
        self.unfit: set[int] = set()
        self.connected: dict[int, OpenFlowSwitch] = {}
        self.greeted: list[int] = []
        self._start()

    def close(self) -> None:
        """End the controller in order."""
        for dpid in list(self.connected):
            self.cut(dpid)
        self.movements.stop()
        self.reconciler.stop()
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

        switch = OpenFlowSwitch(Dpid(dpid), f"s{dpid}", send, TIMEOUT_S)
        self.connected[dpid] = switch
        self.reconciler.connect(switch)
        return switch

    def cut(self, dpid: int) -> None:
        """Let a switch lose its connection."""
        switch = self.connected.pop(dpid)
        self.models[dpid].disconnected()
        switch.on_disconnect()
        self.reconciler.disconnect(switch)

    def place(self, port: str) -> int | None:
        """The port number that the world has for a port."""
        place = self.world.snapshot().survey.world.placements.get(PortId(port))
        return None if place is None else int(place.ofport)

    def declare(self, inventory: Inventory) -> None:
        """Another inventory."""
        self.inventory = inventory
        self.places.declare(inventory)
        self.reconciler.changed()

    def add_session(self, name: str, *ports: str, tap: str = "t1", enabled: bool = True) -> None:
        """A session; its id is its name, and each tap port has a collector of its own."""
        collector = CollectorId(f"to-{tap}")
        if collector not in {record.collector.id for record in self.store.collectors()}:
            self.store.add_collector(Collector(collector, collector, RED, (PortId(tap),)), "test")
        source = Source(tuple(PortId(port) for port in ports))
        session = Session(SessionId(name), name, RED, source, collector, enabled=enabled)
        self.store.add_session(session, "test")

    def copying(self, dpid: int) -> set[int]:
        """The numbers of the sessions that a switch makes copies of."""
        entries = self.models[dpid].tables.flows.values()
        cookies = [entry.cookie for entry in entries if entry.table == DELIVER.number]
        return {object_of(cookie) for cookie in cookies if is_ours(cookie)} - {0}

    def missing(self, dpid: int) -> list[str]:
        """What a switch should have and has not, or has and should not have."""
        program = Program(Dpid(dpid))
        program.has_meters = True
        flows = program.update(self.world.snapshot().survey).put
        wanted = {(flow.table, flow.priority, flow.cookie) for flow in flows}
        entries = self.models[dpid].tables.flows.values()
        found = {(e.table, e.priority, e.cookie) for e in entries if is_ours(e.cookie)}
        return [*map(str, sorted(wanted - found)), *map(str, sorted(found - wanted))]

    def _start(self) -> None:
        self.store = Store(self.folder / "state")
        self.places = Places()
        self.places.remember(self.store.bridges())
        self.places.declare(self.inventory)
        self.world = DesiredWorld(self.store, lambda: self.inventory, self.places.snapshot)
        self.reconciler = Reconciler(
            self.world, self.store, self.store.holdings, self.places, self._greet,
            lambda switches, timeout_s: self.settle(switches), list,
        )  # fmt: skip
        self.movements = Movements(self.places, self.reconciler.changed, self.store)
        self.reconciler.memory = self.movements
        self.reconciler.ready.set()

    def _greet(self, switch: Switch) -> None:
        self.greeted.append(switch.dpid)
        if switch.dpid in self.foreign:
            raise NotOurs(switch.name)
        if switch.dpid in self.unfit:
            raise SwitchUnfit(switch.name, ("the clone action",))
        assert any(port.ofport == LOCAL_PORT for port in switch.ports())
        self.movements.greeted(switch)

"""Many bridges that come at once, and ports that come and go, make few versions of the world."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.inventory import DeclaredBridge, Inventory
from controller.inventory.values import PortHint
from controller.process import ChangeSignal
from controller.southbound import PortChange, PortReason, SwitchPort
from controller.southbound.ovsdb import Device, OvsdbSnapshot
from controller.store import Store
from controller.topology import Placements, PlacementTracker, SensorHealth
from flows.compile import FlowSink, Program
from flows.model import Dpid, Port, PortId, PortKind, TenantName
from flows.plan import Delta
from flows.resolve import BridgeView
from tests.controller.rig import Rig
from tests.controller.topology.test_identity import HOST1, HOST2, said, together
from tests.fake_switches import many_bridges
from tests.ovs.waiting import wait_for

BRIDGES, PORTS = 60, 3
BRING_S = 30.0
FEW = BRIDGES // 2
"""Versions of the world that a storm may make, also on a busy machine; about 5 on a quiet one."""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path, many_bridges.inventory(BRIDGES, PORTS))
    built.models = {switch.dpid: switch for switch in many_bridges.switches(BRIDGES, PORTS)}
    yield built
    built.close()


def connect_all(rig: Rig) -> None:
    for dpid in rig.models:
        rig.connect(dpid)
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)


def verified(rig: Rig) -> int:
    """How many bridges are verified on their present connection."""
    return sum(writer.confirmed.version > 0 for writer in rig.writers.writing())


def watch_compiler(monkeypatch: pytest.MonkeyPatch) -> list[Dpid]:
    """The bridges that are compiled from nothing, from now on."""
    compiled: list[Dpid] = []
    anew = Program._compile_all

    def watched(program: Program, view: BridgeView, sink: FlowSink | None) -> Delta:
        compiled.append(program.dpid)
        return anew(program, view, sink)

    monkeypatch.setattr(Program, "_compile_all", watched)
    return compiled


def plug(n: int, number: int, reason: PortReason) -> tuple[Dpid, PortChange]:
    """The second workload of a bridge is at a port number, or is not any more."""
    return Dpid(n), PortChange(reason, SwitchPort(number, f"b{n - 1}p1", True))


def test_unknown_bridges_that_come_at_once_are_one_matter(rig: Rig) -> None:
    before = rig.changes.version
    connect_all(rig)
    assert rig.changes.version - before < FEW
    assert not any(rig.missing(dpid) for dpid in rig.models)
    plans = [status.plans for status in rig.inspector.bridges()]
    assert plans == [1] * BRIDGES, "each was written once, when its ports were known"
    assert len(rig.store.placements.bridges()) == BRIDGES


def test_bridges_that_come_back_as_they_were_are_no_news(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_all(rig)
    compiled = watch_compiler(monkeypatch)
    before = rig.changes.version
    for dpid in rig.models:
        rig.cut(dpid)
    wait_for(lambda: [t for t in threading.enumerate() if t.name.startswith("bridge ")], [].__eq__)
    for dpid in rig.models:
        rig.connect(dpid)
    wait_for(lambda: verified(rig), lambda number: number == BRIDGES)
    assert rig.changes.version == before
    assert compiled == [], "what they should have was still known"


def test_port_events_that_come_together_make_few_plans(rig: Rig) -> None:
    connect_all(rig)
    before, plans = rig.changes.version, rig.inspector.bridges()[0].plans
    at = 2
    for number in range(10, 210):
        rig.tracker.port_changed(*plug(1, at, PortReason.DELETED))
        rig.tracker.port_changed(*plug(1, number, PortReason.ADDED))
        at = number
    wait_for(lambda: rig.place("vm0-1"), lambda place: place == at)
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    assert rig.changes.version - before < FEW
    assert rig.inspector.bridges()[0].plans - plans < FEW
    assert not rig.missing(1)


def test_a_port_that_moves_has_its_own_bridge_compiled_and_no_other(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_all(rig)
    compiled = watch_compiler(monkeypatch)
    rig.tracker.port_changed(*plug(7, 2, PortReason.DELETED))
    wait_for(lambda: rig.place("vm6-1"), lambda place: place is None)
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    assert compiled == [Dpid(7)]
    assert not any(rig.missing(dpid) for dpid in rig.models)


def test_a_bridge_that_hangs_while_it_is_greeted_keeps_no_other_waiting(rig: Rig) -> None:
    rig.models[1].faults.answers = False
    for dpid in rig.models:
        rig.connect(dpid)
    wait_for(
        lambda: verified(rig),
        lambda n: n == BRIDGES - 1,
    )


def with_mtu(database: str, mtu: int) -> OvsdbSnapshot:
    """A bridge with one port, as one of several databases has it."""
    snapshot = said(Dpid(1), "s1", database, {"e1": (1, None)})
    device = Device(mtu=mtu)
    return OvsdbSnapshot(
        snapshot.bridges, tuple(replace(row, device=device) for row in snapshot.interfaces)
    )


def test_a_database_that_is_declared_for_a_bridge_says_what_its_ports_are(tmp_path: Path) -> None:
    store, placements, changes = Store(tmp_path / "state"), Placements(), ChangeSignal()
    health = SensorHealth(Inventory, placements.snapshot, changes)
    port = Port(PortId("e"), "e", TenantName("red"), None, PortKind.TAP)
    hinted = Inventory(ports=(port,), hints={port.id: PortHint(None, "e1")})
    tracker = PlacementTracker(
        placements=placements, changes=changes, store=store.placements, links=health
    )
    tracker.declare(hinted)
    tracker.interfaces_changed(with_mtu(HOST1, 1500))
    placements.report_ports(Dpid(1), [SwitchPort(1, "e1", True)])
    tracker.interfaces_changed(together(with_mtu(HOST1, 1500), with_mtu(HOST2, 9000)))
    assert [hop.mtu for hop in health.hops().values()] == [1500]
    tracker.declare(replace(hinted, bridges=(DeclaredBridge(Dpid(1), database=HOST2),)))
    assert [hop.mtu for hop in health.hops().values()] == [9000]
    tracker.stop()
    health.stop()
    store.close()

"""Many bridges that come at once, and ports that come and go, make few versions of the world."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.southbound.wire.message import PortChange, PortReason, SwitchPort
from flows.compile import Outlet, Program
from flows.resolve.bridge_view import Site
from flows.plan.plan import Delta
from flows.model.session import Dpid
from tests.controller.rig import Rig
from tests.fake_switches import estate
from tests.ovs.waiting import wait_for

BRIDGES, PORTS = 60, 3
BRING_S = 30.0
FEW = BRIDGES // 2
"""Versions of the world that a storm may make, also on a busy machine; about 5 on a quiet one."""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path, estate.inventory(BRIDGES, PORTS))
    built.models = {switch.dpid: switch for switch in estate.switches(BRIDGES, PORTS)}
    yield built
    built.close()


def connect_all(rig: Rig) -> None:
    for dpid in rig.models:
        rig.connect(dpid)
    wait_for(lambda: rig.reconciler.bring(BRING_S), bool)


def verified(rig: Rig) -> int:
    """How many bridges are verified on their present connection."""
    return sum(writer.verified.version > 0 for writer in rig.reconciler._writing())


def watch_compiler(monkeypatch: pytest.MonkeyPatch) -> list[Dpid]:
    """The bridges that are compiled from nothing, from now on."""
    compiled: list[Dpid] = []
    anew = Program._anew

    def watched(program: Program, site: Site, outlet: Outlet | None) -> Delta:
        compiled.append(program.dpid)
        return anew(program, site, outlet)

    monkeypatch.setattr(Program, "_anew", watched)
    return compiled


def plug(n: int, number: int, reason: PortReason) -> tuple[Dpid, PortChange]:
    """The second workload of a bridge is at a port number, or is not any more."""
    return Dpid(n), PortChange(reason, SwitchPort(number, f"b{n - 1}p1", True))


def test_unknown_bridges_that_come_at_once_are_one_matter(rig: Rig) -> None:
    before = rig.world.touch()
    connect_all(rig)
    assert rig.world.touch() - before < FEW
    assert not any(rig.missing(dpid) for dpid in rig.models)
    plans = [status.plans for status in rig.reconciler.bridges()]
    assert plans == [1] * BRIDGES, "each was written once, when its ports were known"
    assert len(rig.store.bridges()) == BRIDGES


def test_bridges_that_come_back_as_they_were_are_no_news(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_all(rig)
    compiled = watch_compiler(monkeypatch)
    before = rig.world.touch()
    for dpid in rig.models:
        rig.cut(dpid)
    for dpid in rig.models:
        rig.connect(dpid)
    wait_for(lambda: verified(rig), lambda number: number == BRIDGES)
    assert rig.world.touch() == before + 1
    assert compiled == [], "what they should have was still known"


def test_port_events_that_come_together_make_few_plans(rig: Rig) -> None:
    connect_all(rig)
    before, plans = rig.world.touch(), rig.reconciler.bridges()[0].plans
    at = 2
    for number in range(10, 210):
        rig.movements.port_changed(*plug(1, at, PortReason.DELETED))
        rig.movements.port_changed(*plug(1, number, PortReason.ADDED))
        at = number
    wait_for(lambda: rig.place("vm0-1"), lambda place: place == at)
    wait_for(lambda: rig.reconciler.bring(BRING_S), bool)
    assert rig.world.touch() - before < FEW
    assert rig.reconciler.bridges()[0].plans - plans < FEW
    assert not rig.missing(1)


def test_a_port_that_moves_has_its_own_bridge_compiled_and_no_other(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_all(rig)
    compiled = watch_compiler(monkeypatch)
    rig.movements.port_changed(*plug(7, 2, PortReason.DELETED))
    wait_for(lambda: rig.place("vm6-1"), lambda place: place is None)
    wait_for(lambda: rig.reconciler.bring(BRING_S), bool)
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

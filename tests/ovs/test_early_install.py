"""Early install: a bridge without flows forwards production before its sessions are compiled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from controller.reconcile import Snapshot
from controller.reconcile.bridge import EarlyInstall
from controller.reconcile.bridge import writer as bridge
from controller.southbound.openflow import ManagedSwitch, open_management
from flows.compile import Program
from flows.model import Rate, RateUnit, World
from flows.pipeline import DELIVER, LOOKUP
from flows.plan import plan
from flows.resolve import ResolvedWorld
from tests.flows.hand_made import S1, at, tap, watch, world
from tests.lone_writer import LoneWriter
from tests.ovs.lab import Lab, purge_cache, vsctl
from tests.ovs.waiting import wait_for
from tests.ovs.workload_bridges import DB, PAIR, WEB, WorkloadBridges, extended, udp

FRAME = udp(WEB, DB, 1, 2)
SESSION = watch("s", "web", to="ids")
COPIED = extended(world(*PAIR, tap("ids", at(S1, 3)), SESSION))
CAPPED = extended(
    world(*PAIR, tap("ids", at(S1, 3)), replace(SESSION, max_rate=Rate(RateUnit.PPS, 1_000_000)))
)


@pytest.fixture
def bridges(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> WorkloadBridges:
    monkeypatch.setattr(bridge, "EarlyInstall", partial(EarlyInstall, min_flows=1))
    return WorkloadBridges(lab)


@pytest.fixture
def switch(bridges: WorkloadBridges) -> Iterator[ManagedSwitch]:
    with open_management(bridges.names[S1], timeout_s=30) as connected:
        yield connected


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Sessions are not compiled before this is set."""
    is_open, compile_sessions = threading.Event(), Program._replace

    def wait_first(*arguments: object) -> None:
        assert is_open.wait(30)
        compile_sessions(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Program, "_replace", wait_first)
    return is_open


def writer_of(switch: ManagedSwitch, wanted: World) -> LoneWriter:
    return LoneWriter(switch, lambda: Snapshot(1, ResolvedWorld(wanted), (), wanted.numbers))


@pytest.mark.parametrize("wanted", [COPIED, CAPPED], ids=["plain", "with a meter"])
def test_production_is_there_before_the_sessions_are_compiled(
    bridges: WorkloadBridges, switch: ManagedSwitch, gate: threading.Event, wanted: World
) -> None:
    lone = writer_of(switch, wanted)
    lone.writer.wake()
    with open_management(bridges.names[S1]) as looking:
        wait_for(lambda: looking.count_flows().ours, bool)
        purge_cache()

        assert bridges.send(S1, 1, FRAME) == {(S1, 2): [FRAME]}
        assert looking.flow_copies(DELIVER.number) == {}

    gate.set()
    wait_for(lambda: lone.writer.confirmed.version, lambda version: version == 1)
    purge_cache()
    assert bridges.send(S1, 1, FRAME) == {(S1, 2): [FRAME], (S1, 3): [FRAME]}
    lone.stop()


def test_what_is_installed_early_is_all_that_is_confirmed(
    bridges: WorkloadBridges, switch: ManagedSwitch
) -> None:
    lone = writer_of(switch, COPIED)

    seen = lone.sync()

    there = switch.our_flows()
    assert (seen.failure, seen.rejected, seen.flows) == (None, (), len(there))
    assert lone.writer.plans == 2, "what counts copies needs meters, which follow"
    program = Program(S1)
    program.has_meters = True
    wanted = program.update(ResolvedWorld(COPIED)).put
    assert {flow.key: flow.cookie for flow in there} == {f.key: f.cookie for f in wanted}
    lone.stop()


def test_production_that_is_refused_is_named_and_the_rest_is_there(
    bridges: WorkloadBridges, switch: ManagedSwitch
) -> None:
    limit = "flow_limit=2", "overflow_policy=refuse"
    tables = f"flow_tables:{LOOKUP.number}=@full"
    vsctl(
        *("--", "--id=@full", "create", "Flow_Table", *limit),
        *("--", "set", "Bridge", bridges.names[S1], tables),
    )
    lone = writer_of(switch, COPIED)

    seen = lone.sync()

    assert seen.failure is None
    assert {r.flow.table for r in seen.rejected if hasattr(r.flow, "table")} == {LOOKUP.number}
    assert switch.count_flows().ours == seen.flows
    lone.stop()


def test_a_bridge_that_goes_meanwhile_is_named(
    bridges: WorkloadBridges, switch: ManagedSwitch, gate: threading.Event
) -> None:
    lone = writer_of(switch, COPIED)
    lone.writer.wake()
    with open_management(bridges.names[S1]) as looking:
        wait_for(lambda: looking.count_flows().ours, bool)
    vsctl("del-br", bridges.names[S1])
    gate.set()

    wait_for(lambda: lone.writer.confirmed.failure or "", lambda why: bridges.names[S1] in why)
    lone.stop()


def test_a_writer_that_is_stopped_meanwhile_commits_nothing_more(
    bridges: WorkloadBridges, switch: ManagedSwitch, gate: threading.Event
) -> None:
    lone = writer_of(switch, COPIED)
    lone.writer.wake()
    with open_management(bridges.names[S1]) as looking:
        production = wait_for(lambda: looking.count_flows().ours, bool)
        lone.stop()
        gate.set()
        lone.wait_for_end()

        assert looking.count_flows().ours == production


def test_a_bridge_that_another_controller_takes_meanwhile_gets_everything_in_the_end(
    bridges: WorkloadBridges, switch: ManagedSwitch, gate: threading.Event
) -> None:
    lone = writer_of(switch, COPIED)
    lone.writer.wake()
    with open_management(bridges.names[S1]) as other:
        wait_for(lambda: other.count_flows().ours, bool)
        other.lead()
        assert other.apply(plan([], other.our_flows())) == ()
        gate.set()
        wait_for(lambda: lone.writer.confirmed.version, lambda version: version == 1)

        program = Program(S1)
        program.has_meters = True
        wanted = program.update(ResolvedWorld(COPIED)).put
        there = {flow.key: flow.cookie for flow in other.our_flows()}
        assert there == {flow.key: flow.cookie for flow in wanted}
    purge_cache()
    assert bridges.send(S1, 1, FRAME) == {(S1, 2): [FRAME], (S1, 3): [FRAME]}
    lone.stop()

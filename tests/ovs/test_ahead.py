"""A bridge without flows forwards before its sessions are compiled: production goes ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from controller.reconcile.bridge import writer as bridge
from controller.reconcile.bridge.early_install import Ahead
from controller.reconcile.snapshot import Snapshot
from controller.southbound.openflow.management import ManagedSwitch, open_management
from flows.compile import Program, Survey
from flows.plan.plan import plan
from flows.model.session import Rate, RateUnit
from flows.pipeline.tables import DELIVER, LOOKUP
from flows.model.world import World
from tests.flows.hand_made import S1, at, tap, watch, world
from tests.lone_writer import LoneWriter
from tests.ovs.lab import Lab, purge_cache, vsctl
from tests.ovs.site import DB, PAIR, WEB, Site, extended, udp
from tests.ovs.waiting import wait_for

FRAME = udp(WEB, DB, 1, 2)
SESSION = watch("s", "web", to="ids")
COPIED = extended(world(*PAIR, tap("ids", at(S1, 3)), SESSION))
CAPPED = extended(
    world(*PAIR, tap("ids", at(S1, 3)), replace(SESSION, max_rate=Rate(RateUnit.PPS, 1_000_000)))
)


@pytest.fixture
def site(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(bridge, "Ahead", partial(Ahead, worth_it=1))
    return Site(lab)


@pytest.fixture
def switch(site: Site) -> Iterator[ManagedSwitch]:
    with open_management(site.names[S1], timeout_s=30) as connected:
        yield connected


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """No session is compiled before this is set."""
    is_open, compile_sessions = threading.Event(), Program._replace

    def wait_first(*arguments: object) -> None:
        assert is_open.wait(30)
        compile_sessions(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Program, "_replace", wait_first)
    return is_open


def writer_of(switch: ManagedSwitch, wanted: World) -> LoneWriter:
    return LoneWriter(switch, lambda: Snapshot(1, Survey(wanted), (), wanted.numbers))


@pytest.mark.parametrize("wanted", [COPIED, CAPPED], ids=["plain", "with a meter"])
def test_production_is_there_before_the_sessions_are_compiled(
    site: Site, switch: ManagedSwitch, gate: threading.Event, wanted: World
) -> None:
    lone = writer_of(switch, wanted)
    lone.writer.wake()
    with open_management(site.names[S1]) as looking:
        wait_for(lambda: looking.count_flows().ours, bool)
        purge_cache()

        assert site.send(S1, 1, FRAME) == {(S1, 2): [FRAME]}
        assert looking.flow_copies(DELIVER.number) == {}

    gate.set()
    wait_for(lambda: lone.writer.verified.version, lambda version: version == 1)
    purge_cache()
    assert site.send(S1, 1, FRAME) == {(S1, 2): [FRAME], (S1, 3): [FRAME]}
    lone.stop()


def test_what_is_sent_ahead_is_all_that_is_verified(site: Site, switch: ManagedSwitch) -> None:
    lone = writer_of(switch, COPIED)

    seen = lone.bring()

    there = switch.our_flows()
    assert (seen.failure, seen.rejected, seen.flows) == (None, (), len(there))
    assert lone.writer.plans == 1
    program = Program(S1)
    program.has_meters = True
    wanted = program.update(Survey(COPIED)).put
    assert {flow.key: flow.cookie for flow in there} == {f.key: f.cookie for f in wanted}
    lone.stop()


def test_production_that_is_refused_is_named_and_the_rest_is_there(
    site: Site, switch: ManagedSwitch
) -> None:
    limit = "flow_limit=2", "overflow_policy=refuse"
    tables = f"flow_tables:{LOOKUP.number}=@full"
    vsctl(
        *("--", "--id=@full", "create", "Flow_Table", *limit),
        *("--", "set", "Bridge", site.names[S1], tables),
    )
    lone = writer_of(switch, COPIED)

    seen = lone.bring()

    assert seen.failure is None
    assert {r.flow.table for r in seen.rejected if hasattr(r.flow, "table")} == {LOOKUP.number}
    assert switch.count_flows().ours == seen.flows
    lone.stop()


def test_a_bridge_that_goes_meanwhile_is_named(
    site: Site, switch: ManagedSwitch, gate: threading.Event
) -> None:
    lone = writer_of(switch, COPIED)
    lone.writer.wake()
    with open_management(site.names[S1]) as looking:
        wait_for(lambda: looking.count_flows().ours, bool)
    vsctl("del-br", site.names[S1])
    gate.set()

    wait_for(lambda: lone.writer.verified.failure or "", lambda why: site.names[S1] in why)
    lone.stop()


def test_a_writer_that_is_stopped_meanwhile_commits_nothing_more(
    site: Site, switch: ManagedSwitch, gate: threading.Event
) -> None:
    lone = writer_of(switch, COPIED)
    lone.writer.wake()
    with open_management(site.names[S1]) as looking:
        production = wait_for(lambda: looking.count_flows().ours, bool)
        lone.stop()
        gate.set()
        lone.wait_for_end()

        assert looking.count_flows().ours == production


def test_a_bridge_that_another_controller_takes_meanwhile_gets_everything_in_the_end(
    site: Site, switch: ManagedSwitch, gate: threading.Event
) -> None:
    lone = writer_of(switch, COPIED)
    lone.writer.wake()
    with open_management(site.names[S1]) as other:
        wait_for(lambda: other.count_flows().ours, bool)
        other.lead()
        assert other.apply(plan([], other.our_flows())) == ()
        gate.set()
        wait_for(lambda: lone.writer.verified.version, lambda version: version == 1)

        program = Program(S1)
        program.has_meters = True
        wanted = program.update(Survey(COPIED)).put
        there = {flow.key: flow.cookie for flow in other.our_flows()}
        assert there == {flow.key: flow.cookie for flow in wanted}
    purge_cache()
    assert site.send(S1, 1, FRAME) == {(S1, 2): [FRAME], (S1, 3): [FRAME]}
    lone.stop()

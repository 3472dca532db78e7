"""Another controller becomes master of a bridge: no plan is applied in part; it is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from controller.reconcile.bridge import BridgeWriter, Depth
from controller.reconcile.bridge import writer as bridge
from controller.reconcile.report import verify
from controller.southbound import Displaced, LastCounts, Rejected, SwitchTimeout
from controller.status import Check
from flows.errors import Refused
from flows.model import SessionId
from flows.plan import Plan
from tests.controller.rig import Rig
from tests.fake_switches.roles import BODY, MASTER, NOCHANGE
from tests.ovs.waiting import wait_for

OTHER = "another controller"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    made.add_session("one", "a")
    for dpid in (1, 2, 3):
        made.connect(dpid)
    wait_for(lambda: made.reconciler.sync(10), bool)
    yield made
    made.close()


def take_over(rig: Rig, dpid: int = 1) -> None:
    """Another controller becomes the master of a switch."""
    roles = rig.models[dpid].roles
    _, generation = BODY.unpack(roles.ask(OTHER, BODY.pack(NOCHANGE, 0)))
    roles.ask(OTHER, BODY.pack(MASTER, generation + 1))


def wipe(rig: Rig, dpid: int = 1) -> None:
    """Remove every flow of a switch."""
    rig.models[dpid].tables.flows.clear()


def writer_of(rig: Rig, dpid: int = 1) -> BridgeWriter:
    [writer] = [each for each in rig.writers.writing() if each.dpid == dpid]
    return writer


def generation(rig: Rig, dpid: int = 1) -> bytes:
    return rig.models[dpid].roles.ask(OTHER, BODY.pack(NOCHANGE, 0))


def drifts(rig: Rig) -> int:
    return len(writer_of(rig).drift._found_at)


def test_a_change_takes_a_displaced_bridge_back_and_repairs_all_of_it(rig: Rig) -> None:
    take_over(rig)
    wipe(rig)
    rig.add_session("two", "d")
    with capture_logs() as logs:
        assert rig.reconciler.sync(10)

    assert rig.missing(1) == []
    assert rig.copying(1) == {1, 2}
    events = [e["event"] for e in logs if "bridge" in e["event"]]
    assert events == ["bridge displaced", "bridge taken back"]
    [displaced] = [entry for entry in logs if entry["event"] == "bridge displaced"]
    assert "another controller has taken over bridge 's1'" in displaced["reason"]
    assert "ovs-vsctl get-controller s1" in displaced["reason"]
    assert drifts(rig) == 1


def test_bridges_linked_to_one_that_is_taken_back_are_taken_back_too(rig: Rig) -> None:
    for dpid in (1, 2):
        take_over(rig, dpid)
        wipe(rig, dpid)
    rig.add_session("two", "d")
    rig.reconciler.sync(10)

    assert rig.missing(1) == []
    wait_for(lambda: rig.missing(2), lambda missing: not missing)


def test_linked_bridges_are_taken_back_although_the_first_attempt_fails(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for dpid in (1, 2):
        take_over(rig, dpid)
        wipe(rig, dpid)
    switch, failures = writer_of(rig).switch, [SwitchTimeout("s1", "list its flows", 10)]
    scan = switch.scan

    def fail_once(*given: Any) -> Any:
        if failures:
            raise failures.pop()
        return scan(*given)

    monkeypatch.setattr(bridge, "RETRY_S", 0.1)
    monkeypatch.setattr(switch, "scan", fail_once)
    writer_of(rig).recheck(Depth.COOKIES)

    wait_for(lambda: rig.missing(2), lambda missing: not missing)
    wait_for(lambda: rig.missing(1), lambda missing: not missing)
    assert not failures


def test_a_recheck_takes_it_back_too_and_counts_one_drift_each_time(rig: Rig) -> None:
    for times in (1, 2, 3):
        take_over(rig)
        wipe(rig)
        writer_of(rig).recheck(Depth.COOKIES)
        wait_for(partial(drifts, rig), times.__eq__)
        assert rig.missing(1) == []
    assert writer_of(rig).drift.is_contested


def test_a_bridge_that_was_taken_over_unchanged_is_taken_back_by_a_recheck(rig: Rig) -> None:
    take_over(rig)
    writer_of(rig).recheck(Depth.COOKIES)
    wait_for(lambda: drifts(rig), lambda count: count == 1)
    rig.add_session("two", "d")
    with capture_logs() as logs:
        assert rig.reconciler.sync(10)
    assert not [entry for entry in logs if entry["event"] == "bridge displaced"]


def test_a_master_that_nobody_displaced_does_not_ask_for_its_role_again(rig: Rig) -> None:
    before = generation(rig)
    rig.add_session("two", "d")
    assert rig.reconciler.sync(10)
    plans, scans = writer_of(rig).plans, rig.models[1].scans
    writer_of(rig).recheck(Depth.COOKIES)
    wait_for(lambda: rig.models[1].scans, lambda seen: seen > scans)

    assert generation(rig) == before
    assert writer_of(rig).plans == plans
    assert drifts(rig) == 0


def test_a_bridge_that_is_taken_over_again_at_once_is_reported_and_tried_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, leads = writer_of(rig), list[int]()
    lead = writer.switch.lead

    def lead_for_a_moment() -> bool:
        leads.append(1)
        was_displaced = lead()
        take_over(rig)
        wipe(rig)
        return was_displaced

    monkeypatch.setattr(bridge, "RETRY_S", 600.0)
    monkeypatch.setattr(writer.switch, "lead", lead_for_a_moment)
    take_over(rig)
    rig.add_session("two", "d")
    assert not rig.reconciler.sync(10)
    assert writer.confirmed.failure is not None
    assert "another controller has taken over" in writer.confirmed.failure
    [status] = [each for each in rig.inspector.bridges() if each.name == "s1"]
    assert any("another controller has taken over" in reason for reason in status.reasons)
    assert len(leads) == 1, "once more, after it was refused"
    assert not writer.is_due, "and then not at once"

    monkeypatch.undo()
    assert wait_for(lambda: rig.reconciler.sync(1), bool)
    assert rig.missing(1) == []


def test_the_pause_before_a_retry_grows_with_each_displacement_in_a_row() -> None:
    assert bridge.RETRY_S <= bridge.retry_pause(0) <= bridge.RETRY_S * 1.5
    waits = [bridge.retry_pause(times) / bridge.RETRY_S for times in range(1, 9)]
    assert all(2**n <= wait <= 2**n * 1.5 for n, wait in enumerate(waits[:5]))
    assert max(waits) <= 2**bridge.DOUBLED_MAX * 1.5


def test_a_stopped_writer_leaves_the_bridge_to_its_successor(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = writer_of(rig)

    def apply(plan: Plan, last: LastCounts | None = None) -> tuple[Rejected, ...]:
        take_over(rig)
        writer.stop()
        raise Displaced("s1")

    monkeypatch.setattr(writer.switch, "apply", apply)
    rig.add_session("two", "d")
    rig.changes.changed()
    writer._thread.join(10)
    assert not writer._thread.is_alive()
    role, _ = BODY.unpack(rig.models[1].roles.ask(OTHER, BODY.pack(NOCHANGE, 0)))
    assert role == MASTER


def test_a_verification_reports_the_displacement_and_has_the_bridge_repaired(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "VERIFY_EVERY_S", 0.0)
    monkeypatch.setattr(verify, "ARRIVE_S", 0.0)
    take_over(rig)
    wish = Check(1, 20, 100)
    with pytest.raises(Refused, match=r"another controller has taken over bridge 's1'.*again"):
        rig.inspector.verify(SessionId("one"), wish)
    wait_for(lambda: drifts(rig), lambda count: count == 1)
    assert sum(way.sent for way in rig.inspector.verify(SessionId("one"), wish).ways) == 20

"""A bridge that another controller leads is never written to by halves, and is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controller.reconcile.bridge import writer as bridge
from controller.reconcile.report import verify
from controller.reconcile.bridge.writer import BridgeWriter
from controller.southbound.errors import Displaced
from controller.southbound.switch import Rejected
from controller.status.values import Check
from controller.reconcile.bridge.confirmed import Depth
from flows.plan.plan import Plan
from flows.errors import Refused
from flows.model.session import SessionId
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
    assert made.reconciler.bring(10)
    yield made
    made.close()


def take_over(rig: Rig, dpid: int = 1) -> None:
    """Another controller leads a switch from now on."""
    roles = rig.models[dpid].roles
    _, generation = BODY.unpack(roles.ask(OTHER, BODY.pack(NOCHANGE, 0)))
    roles.ask(OTHER, BODY.pack(MASTER, generation + 1))


def wipe(rig: Rig, dpid: int = 1) -> None:
    """It removes every flow."""
    rig.models[dpid].tables.flows.clear()


def writer_of(rig: Rig, dpid: int = 1) -> BridgeWriter:
    [writer] = [each for each in rig.reconciler._writing() if each.dpid == dpid]
    return writer


def generation(rig: Rig, dpid: int = 1) -> bytes:
    return rig.models[dpid].roles.ask(OTHER, BODY.pack(NOCHANGE, 0))


def drifts(rig: Rig) -> int:
    return len(writer_of(rig).drifts._found_at)


def test_a_change_finds_the_bridge_taken_and_sets_all_of_it_right(rig: Rig) -> None:
    take_over(rig)
    wipe(rig)
    rig.add_session("two", "d")
    with capture_logs() as logs:
        assert rig.reconciler.bring(10)

    assert rig.missing(1) == []
    assert rig.copying(1) == {1, 2}
    events = [e["event"] for e in logs if "bridge" in e["event"]]
    assert events == ["bridge displaced", "bridge taken back"]
    [displaced] = [entry for entry in logs if entry["event"] == "bridge displaced"]
    assert "another controller has taken over bridge 's1'" in displaced["reason"]
    assert "ovs-vsctl get-controller s1" in displaced["reason"]
    assert drifts(rig) == 1


def test_bridges_at_links_of_one_that_is_taken_back_are_taken_back_too(rig: Rig) -> None:
    for dpid in (1, 2):
        take_over(rig, dpid)
        wipe(rig, dpid)
    rig.add_session("two", "d")
    rig.reconciler.bring(10)

    assert rig.missing(1) == []
    wait_for(lambda: rig.missing(2), lambda missing: not missing)


def test_a_recheck_finds_it_too_and_each_time_counts_as_one_drift(rig: Rig) -> None:
    for times in (1, 2, 3):
        take_over(rig)
        wipe(rig)
        writer_of(rig).recheck(Depth.COOKIES)
        wait_for(partial(drifts, rig), times.__eq__)
        assert rig.missing(1) == []
    assert writer_of(rig).drifts.go_on


def test_one_that_was_taken_and_not_changed_is_taken_back_at_the_next_recheck(rig: Rig) -> None:
    take_over(rig)
    writer_of(rig).recheck(Depth.COOKIES)
    wait_for(lambda: drifts(rig), lambda count: count == 1)
    rig.add_session("two", "d")
    with capture_logs() as logs:
        assert rig.reconciler.bring(10)
    assert not [entry for entry in logs if entry["event"] == "bridge displaced"]


def test_who_leads_and_is_left_alone_does_not_claim_the_bridge_again(rig: Rig) -> None:
    before = generation(rig)
    rig.add_session("two", "d")
    assert rig.reconciler.bring(10)
    plans, scans = writer_of(rig).plans, rig.models[1].scans
    writer_of(rig).recheck(Depth.COOKIES)
    wait_for(lambda: rig.models[1].scans, lambda seen: seen > scans)

    assert generation(rig) == before
    assert writer_of(rig).plans == plans
    assert drifts(rig) == 0


def test_one_that_is_taken_again_at_once_is_said_and_tried_again_later(
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
    assert not rig.reconciler.bring(10)
    assert writer.verified.failure is not None
    assert "another controller has taken over" in writer.verified.failure
    [status] = [each for each in rig.reconciler.bridges() if each.name == "s1"]
    assert any("another controller has taken over" in reason for reason in status.reasons)
    assert len(leads) == 1, "once more, after it was refused"
    assert not writer.is_due, "and then not at once"

    monkeypatch.undo()
    assert wait_for(lambda: rig.reconciler.bring(1), bool)
    assert rig.missing(1) == []


def test_each_time_in_a_row_it_waits_longer(rig: Rig) -> None:
    writer = writer_of(rig)
    assert bridge.RETRY_S <= writer._pause_s <= bridge.RETRY_S * 1.5
    waits = []
    for times in range(1, 9):
        writer._displacements = times
        waits.append(writer._pause_s / bridge.RETRY_S)
    assert all(2**n <= wait <= 2**n * 1.5 for n, wait in enumerate(waits[:5]))
    assert max(waits) <= 2**bridge.DOUBLED_MAX * 1.5


def test_one_that_was_stopped_leaves_the_bridge_to_its_successor(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = writer_of(rig)

    def apply(plan: Plan) -> tuple[Rejected, ...]:
        take_over(rig)
        writer.stop()
        raise Displaced("s1")

    monkeypatch.setattr(writer.switch, "apply", apply)
    rig.add_session("two", "d")
    rig.reconciler.changed()
    writer._thread.join(10)
    assert not writer._thread.is_alive()
    role, _ = BODY.unpack(rig.models[1].roles.ask(OTHER, BODY.pack(NOCHANGE, 0)))
    assert role == MASTER


def test_a_check_of_a_session_says_so_and_has_it_set_right(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "AGAIN_S", 0.0)
    monkeypatch.setattr(verify, "ARRIVE_S", 0.0)
    take_over(rig)
    wish = Check(1, 20, 100)
    with pytest.raises(Refused, match=r"another controller has taken over bridge 's1'.*again"):
        rig.reconciler.verify(SessionId("one"), wish)
    wait_for(lambda: drifts(rig), lambda count: count == 1)
    assert sum(way.sent for way in rig.reconciler.verify(SessionId("one"), wish).ways) == 20

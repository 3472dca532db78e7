"""A bridge that another controller leads is never written to by halves, and is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controller.verified import Depth
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


def test_a_change_finds_the_bridge_taken_and_sets_all_of_it_right(rig: Rig) -> None:
    take_over(rig)
    wipe(rig)
    rig.add_session("two", "d")
    with capture_logs() as logs:
        assert rig.reconciler.bring(10)

    assert rig.missing(1) == []
    assert rig.copying(1) == {1, 2}
    [taken] = [entry for entry in logs if entry["event"] == "bridge taken back"]
    assert "another controller has taken over bridge 's1'" in taken["reason"]
    assert "ovs-vsctl get-controller s1" in taken["reason"]


def test_a_recheck_finds_it_too_and_counts_one_drift(rig: Rig) -> None:
    [writer] = [w for w in rig.reconciler._writing() if w.dpid == 1]
    for _ in range(2):
        take_over(rig)
        wipe(rig)
        writer.recheck(Depth.COOKIES)
        wait_for(lambda: rig.missing(1), lambda missing: not missing)
    assert not writer.drifts.go_on, "two are not several"
    take_over(rig)
    wipe(rig)
    writer.recheck(Depth.COOKIES)
    wait_for(lambda: writer.drifts.go_on, bool)


def test_who_leads_and_is_left_alone_does_not_claim_the_bridge_again(rig: Rig) -> None:
    generation = rig.models[1].roles.ask(OTHER, BODY.pack(NOCHANGE, 0))
    rig.add_session("two", "d")
    assert rig.reconciler.bring(10)
    [writer] = [w for w in rig.reconciler._writing() if w.dpid == 1]
    plans, scans = writer.plans, rig.models[1].scans
    writer.recheck(Depth.COOKIES)
    wait_for(lambda: rig.models[1].scans, lambda seen: seen > scans)

    assert rig.models[1].roles.ask(OTHER, BODY.pack(NOCHANGE, 0)) == generation
    assert writer.plans == plans


def test_one_that_is_taken_again_at_once_is_said_and_tried_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    [writer] = [w for w in rig.reconciler._writing() if w.dpid == 1]
    lead = writer.switch.lead

    def lead_for_a_moment() -> None:
        lead()
        take_over(rig)
        wipe(rig)

    monkeypatch.setattr(writer.switch, "lead", lead_for_a_moment)
    take_over(rig)
    rig.add_session("two", "d")
    assert not rig.reconciler.bring(10)
    assert writer.verified.failure is not None
    assert "another controller has taken over" in writer.verified.failure
    [status] = [bridge for bridge in rig.reconciler.bridges() if bridge.name == "s1"]
    assert any("another controller has taken over" in reason for reason in status.reasons)

    monkeypatch.undo()
    assert wait_for(lambda: rig.reconciler.bring(1), bool)
    assert rig.missing(1) == []

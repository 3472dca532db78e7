"""One line says how a start has ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controller.reconcile import StartReport
from controller.reconcile.start_report import LATE_S, NEVER_S
from flows.model import Dpid
from tests.controller.rig import Rig
from tests.ovs.waiting import wait_for

BRIDGES = {Dpid(n): f"s{n}" for n in (1, 2, 3)}
BRING_S = 30.0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path)
    yield built
    built.close()


def report_of(rig: Rig) -> StartReport:
    return StartReport(lambda: BRIDGES, rig.writers, rig.ready)


def wait_until_said(report: StartReport) -> None:
    """Ask until it has nothing left to say: ``sync`` waits only for bridges whose flows change."""
    wait_for(report, NEVER_S.__eq__)


def bring_all(rig: Rig) -> None:
    for dpid in (1, 2, 3):
        rig.connect(dpid)
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)


def test_a_restart_that_changes_nothing_says_so(rig: Rig) -> None:
    bring_all(rig)
    with capture_logs() as first:
        wait_until_said(report_of(rig))
    rig.restart()
    bring_all(rig)
    with capture_logs() as second:
        wait_until_said(report_of(rig))
    assert first[0]["event"] == second[0]["event"] == "bridges verified"
    assert first[0]["plans"] > 0 and first[0]["summary"] == "changed what had to be"
    assert (second[0]["bridges"], second[0]["plans"]) == (3, 0)
    assert second[0]["summary"] == "nothing to change"


def test_bridges_that_stay_away_are_named_once(rig: Rig) -> None:
    rig.connect(1)
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    now = 0.0
    report = StartReport(lambda: BRIDGES, rig.writers, rig.ready, lambda: now)
    with capture_logs() as before:
        report()
    now = LATE_S + 1
    with capture_logs() as late:
        report()
        report()
    assert before == []
    [line] = late
    assert line["event"] == "bridges not verified yet"
    assert (line["verified"], line["named"]) == (1, ["s2", "s3"])


def test_nothing_is_said_before_bridges_may_be_written_to(rig: Rig) -> None:
    report = StartReport(lambda: BRIDGES, rig.writers, threading.Event())
    with capture_logs() as said:
        assert report() < NEVER_S
    assert said == []


def test_it_is_said_once_however_long_the_controller_runs(rig: Rig) -> None:
    bring_all(rig)
    report = report_of(rig)
    with capture_logs() as logs:
        wait_until_said(report)
        assert report() == NEVER_S
    assert [entry["event"] for entry in logs].count("bridges verified") == 1

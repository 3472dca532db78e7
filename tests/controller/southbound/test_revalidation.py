"""Waiting until datapaths follow their flow tables, without a datapath."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from controller.southbound import Displaced, Revalidation, revalidation
from controller.southbound.ovsdb import BridgeRow, OvsdbSnapshot
from controller.southbound.unixctl import NotAnswered, ask_vswitchd
from flows.model import Dpid

LOCAL, FAR = "unix:/run/openvswitch/db.sock", "tcp:192.0.2.1:6640"


def waiting_with(*databases: str) -> Revalidation:
    """Bridge 1 is in the first of these databases, bridge 2 in the second, and so on."""
    rows = tuple(BridgeRow(Dpid(n), f"s{n}", database=d) for n, d in enumerate(databases, 1))
    found = OvsdbSnapshot(rows)
    return Revalidation(SimpleNamespace(snapshot=lambda: found), lambda: found)


def bridge(dpid: int, nudge: Any = lambda most_s: None) -> Any:
    return SimpleNamespace(dpid=Dpid(dpid), nudge=nudge)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long ovs-vswitchd was given to answer, for each time that it was asked."""
    found: list[float] = []

    def wait_revalidated(timeout_s: float, nudges: Any) -> bool:
        found.append(timeout_s)
        for nudge in nudges.values():
            nudge()
        return True

    monkeypatch.setattr(revalidation, "REMOTE_SETTLE_S", 0.0)
    monkeypatch.setattr(revalidation, "wait_revalidated", wait_revalidated)
    return found


def test_the_revalidators_of_this_machine_are_asked(asked: list[float]) -> None:
    assert waiting_with(LOCAL).wait_settled([bridge(1)], 3.0)
    assert asked == [3.0]


def test_those_of_another_machine_are_given_time(asked: list[float]) -> None:
    assert waiting_with(FAR).wait_settled([bridge(1)], 3.0)
    assert waiting_with().wait_settled([bridge(1)], 3.0), "no database has it"
    assert asked == []


def test_a_bridge_of_this_machine_does_not_wait_because_other_machines_have_some(
    asked: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revalidation, "REMOTE_SETTLE_S", 60.0)
    began = time.monotonic()
    assert waiting_with(FAR, LOCAL, FAR).wait_settled([bridge(2)], 3.0)
    assert time.monotonic() - began < 30.0
    assert asked == [3.0]


def test_of_bridges_here_and_elsewhere_those_elsewhere_are_given_time(
    asked: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revalidation, "REMOTE_SETTLE_S", 0.3)
    nudged: list[int] = []
    began = time.monotonic()
    both = [bridge(1, lambda _: nudged.append(1)), bridge(2, lambda _: nudged.append(2))]
    assert waiting_with(FAR, LOCAL).wait_settled(both, 3.0)
    assert time.monotonic() - began >= 0.3
    assert (asked, nudged) == ([3.0], [2])


def test_a_bridge_that_another_controller_leads_is_given_time(asked: list[float]) -> None:
    def nudge(most_s: float) -> None:
        raise Displaced("s1")

    assert waiting_with(LOCAL).wait_settled([bridge(1, nudge)], 3.0)
    assert asked == [3.0]


def test_those_of_another_machine_that_are_given_too_little_time_are_not_known() -> None:
    began = time.monotonic()
    assert not waiting_with(FAR).wait_settled([bridge(1)], revalidation.REMOTE_SETTLE_S / 10)
    assert time.monotonic() - began < revalidation.REMOTE_SETTLE_S


def test_a_bridge_gets_no_more_time_for_a_nudge_than_there_is(asked: list[float]) -> None:
    given: list[float] = []
    waiting_with(LOCAL).wait_settled([bridge(1, given.append)], 3.0)
    assert 0 <= given[0] <= 3.0


def test_after_the_end_nothing_is_known() -> None:
    waiting = waiting_with(FAR)
    waiting.stop()
    assert not waiting.wait_settled([bridge(1)], 3.0)


def test_a_fifo_in_place_of_the_process_id_is_waited_for_by_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ovs-vswitchd.pid", 0o600)
    found: list[object] = []

    def ask() -> None:
        found.append(revalidation.wait_revalidated(str(tmp_path)))
        try:
            ask_vswitchd("ovs/route/show", run_dir=str(tmp_path))
        except NotAnswered as problem:
            found.append(str(problem))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(10)
    assert not found or found[0] is False
    assert len(found) == 2 and "it is a FIFO" in str(found[1]), found

"""The flows that a bridge should have are listed without holding up anybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.reconcile.report import explaining
from controller.reconcile import reconciler as reconcile
from controller.reconcile.report.flow_list import TOGETHER, list_flows
from controller.process.time_slices import Turns
from flows.compile import Program, compile_bridge
from flows.model.session import Dpid, PortId
from tests.controller.rig import Rig

SESSIONS = 150


class CountedTurns(Turns):
    """Turns whose slices are over at once."""

    def __init__(self) -> None:
        super().__init__(slice_s=0)
        self.pauses = 0

    def pause(self) -> None:
        self.pauses += 1
        super().pause()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path)
    for dpid in (1, 2, 3):
        built.connect(dpid)
    for number in range(SESSIONS):
        built.add_session(f"s{number}", "a")
    assert built.reconciler.bring(10)
    yield built
    built.close()


def test_every_flow_is_listed_once_by_table_and_priority(rig: Rig) -> None:
    survey = rig.world.snapshot().survey
    flows = sorted(
        compile_bridge(Dpid(1), survey), key=lambda f: (f.table, -f.priority, str(f.match))
    )
    listed = list_flows(Program(Dpid(1)), survey, lambda: None)
    assert listed == [f"{flow}  # {flow.why}" for flow in flows]


def test_who_lists_the_flows_of_a_bridge_lets_others_run(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = CountedTurns()
    monkeypatch.setattr(reconcile, "TURNS", turns)
    listed = rig.reconciler.flows(Dpid(1))
    assert len(listed) > 3 * SESSIONS
    assert turns.pauses > len(listed) / TOGETHER, "writing alone pauses so often"


def test_who_asks_why_a_packet_is_copied_lets_others_run(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = CountedTurns()
    monkeypatch.setattr(explaining, "TURNS", turns)
    told = rig.reconciler.explain(
        PortId("a"), bytes.fromhex("ffffffffffff0200000000010800") + bytes(50)
    )
    assert len(told.answers) == SESSIONS and all(answer.is_copied for answer in told.answers)
    assert turns.pauses > SESSIONS

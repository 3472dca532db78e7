"""A switch refuses meters, or has none: which sessions are served, and what their status says."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.southbound.openflow import open_management
from controller.status import State
from flows.model import BRIDGE_METER, METERS, Rate, RateUnit
from tests.contracts.meter_contract import FAST, SLOW, Writing, capping
from tests.fake_switches import FakeSwitch, serve_unix
from tests.fake_switches.refusal import Refusal

MODEL_RATE = Rate(RateUnit.KBPS, 9_000)


class Rig:
    """A model of a switch, and a writer of it."""

    def __init__(self, model: FakeSwitch, folder: Path) -> None:
        self.model = model
        self.switch = open_management("s1", str(folder), timeout_s=5)

    def write(self, *rates: Rate | None) -> Writing:
        self.switch.probe()
        self.writing = Writing(self.switch, *rates)
        return self.writing


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    model = FakeSwitch(1, "s1", {1: "s1-eth1", 2: "s1-eth2"})
    with serve_unix(model, tmp_path):
        started = Rig(model, tmp_path)
        yield started
        started.writing.writer.stop()
        started.switch.close()


def refuse(*numbers: int) -> object:
    def refusal(message: bytes) -> Refusal | None:
        number = struct.unpack_from("!I", message, 12)[0]
        return Refusal.METER_NO_ROOM if number in numbers else None

    return refusal


def test_a_session_whose_meter_is_refused_is_not_served_and_says_so(rig: Rig) -> None:
    rig.model.faults.refuse_meter = refuse(METERS[1])
    writing = rig.write(SLOW, FAST, None)

    found = writing.refusals()

    assert (found["c0"], found["c2"], capping(rig.switch)) == ((), (), 1)
    assert found["c1"] == ("the switch has no room for another meter (OFPMMFC_OUT_OF_METERS)",)
    view = writing.writer.view(is_connected=True)
    state, reasons = view.state, view.reasons
    assert state is State.DEGRADED
    assert reasons[0].startswith("it refused a meter (meter=40001,kbps")
    rig.model.faults.refuse_meter = refuse()
    assert writing.recheck() == 1
    assert (writing.refusals()["c1"], capping(rig.switch)) == ((), 2)


def test_a_rate_that_cannot_be_changed_concerns_its_session_alone(rig: Rig) -> None:
    writing = rig.write(SLOW, FAST)
    rig.model.faults.refuse_meter = refuse(METERS[0])

    writing.show(FAST, FAST)
    writing.sync()

    assert writing.refusals()["c0"] != ()
    assert (writing.refusals()["c1"], capping(rig.switch)) == ((), 2)


def test_no_copy_is_made_where_the_cap_of_the_bridge_is_refused(rig: Rig) -> None:
    rig.model.faults.refuse_meter = refuse(BRIDGE_METER)
    writing = rig.write(SLOW, None)

    writing.show(SLOW, None, bridge_rate=FAST)
    writing.sync()

    assert all(writing.refusals().values()), "every session says why it has no copies"


@pytest.mark.parametrize("knows", [True, False])
def test_a_bridge_without_meters_serves_the_sessions_without_a_cap(rig: Rig, knows: bool) -> None:
    rig.model.tables.meters.limit = 0
    rig.model.knows_meters = knows
    writing = rig.write(SLOW, None)

    assert writing.refusals()["c1"] == ()
    (reason,) = writing.refusals()["c0"]
    assert reason.startswith("the switch has no meters, so copies cannot be capped on it")
    assert rig.model.tables.meters.changes == 0
    assert rig.switch.metered() == {}
    assert writing.recheck() == 1, "it is tried again"

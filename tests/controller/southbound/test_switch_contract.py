"""The fake switch keeps the contract of every switch."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.southbound.openflow import ManagedSwitch, Stream, openflow_switch
from controller.southbound.wire import HEADER, encode_flow_add
from flows.openflow import Mark, Output
from tests.contracts.frame_contract import *  # noqa: F403  # the tests themselves
from tests.contracts.install_contract import *  # noqa: F403  # the tests themselves
from tests.contracts.meter_contract import *  # noqa: F403  # the tests themselves
from tests.contracts.role_contract import *  # noqa: F403  # the tests themselves
from tests.contracts.switch_contract import *  # noqa: F403
from tests.contracts.switch_contract import XID, answers, apply, flow_of
from tests.fake_switches import FakeSwitch, serve_unix
from tests.flows.plan.test_scan import alike


@pytest.fixture(params=["fake"])
def place(tmp_path: Path) -> Iterator[Path]:
    model = FakeSwitch(1, "s1", {1: "s1-eth1", 2: "s1-eth2"})
    with serve_unix(model, tmp_path):
        yield tmp_path


def test_flows_that_share_a_cookie_are_altered_only_if_one_has_other_actions(
    switch: ManagedSwitch, stream: Stream
) -> None:
    one, other = alike()
    apply(switch, one, other)
    assert switch.altered([one, other]) == ()

    message = bytearray(encode_flow_add(one.replace(actions=(Output(9),)), XID))
    struct.pack_into("!Q", message, HEADER.size, one.cookie)
    assert answers(stream, bytes(message)) == []

    assert set(switch.altered([one, other])) == {one, other}


def test_a_switch_that_is_busy_is_not_nudged(
    switch: ManagedSwitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a wait for revalidation would take as long as the longest request of any switch."""
    monkeypatch.setattr(openflow_switch, "LISTED_MEANWHILE", range(1000))
    monkeypatch.setattr(openflow_switch, "NUDGE_S", 0.01)
    apply(switch, flow_of(1))

    def wanted() -> set[Mark]:
        switch.nudge()  # by another thread in earnest
        return {flow_of(1).mark}

    assert switch.scan(wanted).known == {flow_of(1).mark}
    switch.nudge()
    assert len(switch.our_flows()) == 1

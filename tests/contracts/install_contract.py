"""What every switch, fake or real, must do with flows that come while they are made.

``place`` is a fixture of whoever imports these tests, as in tests/contracts/switch_contract.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.southbound.openflow import ManagedSwitch
from flows.errors import InvalidFlow
from flows.openflow import Flow, Match, Output, field
from tests.contracts.switch_contract import BAD_PORT, apply, flow_of


def test_flows_are_installed_part_by_part_and_all_at_once(switch: ManagedSwitch) -> None:
    flows = [flow_of(n) for n in range(900)]
    changed = Flow(3, 100, flow_of(2).match, (Output(1),), 9, "the later one counts")

    def parts() -> Iterator[list[Flow]]:
        yield flows[:400]
        yield []
        yield [*flows[400:], changed]

    assert switch.install(parts())

    wanted = {flow.key: flow.cookie for flow in (*flows, changed)}
    assert {flow.key: flow.cookie for flow in switch.our_flows()} == wanted
    assert switch.count_flows() == (900, 0)


def test_of_parts_that_are_not_all_taken_none_is(switch: ManagedSwitch) -> None:
    bad = Flow(3, 7, Match.of(field.IN_PORT.eq(9)), (BAD_PORT,), 42, "sends to nowhere")

    assert not switch.install([[flow_of(n) for n in range(600)], [bad], [flow_of(700)]])

    assert switch.count_flows() == (0, 0)


def test_of_parts_that_cannot_all_be_made_none_is_taken(switch: ManagedSwitch) -> None:
    def broken() -> Iterator[list[Flow]]:
        yield [flow_of(n) for n in range(600)]
        raise InvalidFlow("cannot be compiled")

    with pytest.raises(InvalidFlow):
        switch.install(broken())

    apply(switch, flow_of(1))
    assert [flow.key for flow in switch.our_flows()] == [flow_of(1).key]

"""What every switch, fake or real, must do with two controllers: one of them leads.

``place`` is a fixture of whoever imports these tests, as in tests/contracts/switch_contract.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.southbound import Displaced, SwitchRefused
from controller.southbound.openflow import ManagedSwitch, Stream, open_management
from controller.southbound.wire import (
    ERROR,
    GENERATION_MASK,
    ROLE_REPLY,
    Role,
    decode_role_reply,
    encode_role_request,
)
from flows.model import Rate, RateUnit
from flows.openflow import Output
from flows.plan import Meter, MeterPlan, Plan, plan
from tests.contracts.switch_contract import apply, flow_of


@pytest.fixture
def other(place: Path) -> Iterator[ManagedSwitch]:
    with open_management("s1", str(place), timeout_s=5) as connected:
        yield connected


def test_without_a_master_every_controller_may_write(
    switch: ManagedSwitch, other: ManagedSwitch
) -> None:
    apply(switch, flow_of(1))
    apply(other, flow_of(1), flow_of(2))
    assert len(switch.our_flows()) == 2


def test_a_displaced_controller_changes_nothing_and_gets_an_error(
    switch: ManagedSwitch, other: ManagedSwitch
) -> None:
    assert switch.probe() == other.probe() == ()
    switch.lead()
    apply(switch, flow_of(1))
    other.lead()
    meter = Meter(5, Rate(RateUnit.KBPS, 100))

    for change in (
        lambda: switch.apply(plan([flow_of(2)], switch.our_flows())),
        lambda: switch.install([[flow_of(2)]]),
        lambda: switch.apply(Plan((), (), 0, MeterPlan(add=(meter,)))),
        lambda: switch.send([bytes(60)], (Output(1),)),
        switch.nudge,
    ):
        with pytest.raises(Displaced, match=r"another controller has taken over bridge 's1'"):
            change()

    assert [flow.key for flow in switch.our_flows()] == [flow_of(1).key], "it may read"
    assert other.our_meters() == {}


def test_a_displaced_controller_may_become_master_again(
    switch: ManagedSwitch, other: ManagedSwitch
) -> None:
    assert not switch.lead(), "nobody led before"
    assert not switch.lead(), "it leads"
    assert not other.lead(), "it takes the lead, nobody took it from this one"
    apply(other, flow_of(1))
    with pytest.raises(Displaced):
        switch.apply(plan([flow_of(2)], switch.our_flows()))
    assert switch.lead(), "it had been displaced"
    apply(switch, flow_of(2))

    assert [flow.key for flow in other.our_flows()] == [flow_of(2).key]
    with pytest.raises(Displaced):
        other.apply(plan([flow_of(1)], other.our_flows()))


def test_an_older_claim_is_refused(switch: ManagedSwitch, stream: Stream) -> None:
    def ask(role: Role, generation: int = 0) -> bytes:
        stream.send(encode_role_request(7, role, generation))
        while (message := stream.receive()) is not None:
            if message[1] in (ERROR, ROLE_REPLY):
                return message
        raise AssertionError("no answer")

    switch.lead()
    role, generation = decode_role_reply(ask(Role.NOCHANGE))
    assert role is Role.EQUAL
    assert ask(Role.MASTER, (generation - 1) & GENERATION_MASK)[1] == ERROR
    apply(switch, flow_of(1))
    assert decode_role_reply(ask(Role.MASTER, generation + 5)) == (Role.MASTER, generation + 5)
    with pytest.raises(Displaced):
        switch.apply(plan([flow_of(2)], switch.our_flows()))


def test_a_claim_that_is_overtaken_is_an_error_in_words(
    switch: ManagedSwitch, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_role = switch._channel.request_role

    def overtaken(role: Role, generation: int = 0) -> tuple[Role, int]:
        if role is Role.MASTER:
            stream.send(encode_role_request(7, Role.MASTER, generation + 1))
            while (message := stream.receive()) is not None and message[1] != ROLE_REPLY:
                pass
        return request_role(role, generation)

    monkeypatch.setattr(switch._channel, "request_role", overtaken)
    with pytest.raises(SwitchRefused, match="another controller takes it over at the same time"):
        switch.lead()

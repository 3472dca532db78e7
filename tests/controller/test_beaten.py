"""An exclusive session to which others leave nothing says so, and who they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from controller.status.starvation import with_takers
from controller.status.values import SessionStatus, State
from flows.compile import Standing
from flows.resolve.arbitration import Contest
from flows.model.session import Direction, Dpid, Mode, NetworkId, Port, SessionId, TenantName
from flows.model.world import Numbers
from tests.controller.rig import Rig
from tests.flows.hand_made import S1, at, vm, watch
from tests.ovs.waiting import wait_for

NOTHING_OF_A = "session 'first' (number 10) takes every packet of port 'a' before it"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path)
    for dpid in (1, 2, 3):
        built.connect(dpid)
    wait_for(lambda: built.reconciler.bring(5), bool)
    yield built
    built.close()


def add(rig: Rig, name: str, number: int, *ports: str, **fields: object) -> None:
    """An exclusive session without a filter."""
    rig.add_session(name, *ports)
    change(rig, name, mode=Mode.EXCLUSIVE, number=number, **fields)


def change(rig: Rig, name: str, **fields: object) -> None:
    rig.store.change_session(
        SessionId(name),
        lambda old: replace(old, session=replace(old.session, **fields)),  # type: ignore[arg-type]
        "test",
    )
    rig.reconciler.bring(5)


def standing(rig: Rig, name: str) -> tuple[State, tuple[str, ...]]:
    seen = rig.reconciler.session_status(SessionId(name))
    return seen.state, seen.reasons


def test_a_session_that_is_left_nothing_at_all_is_degraded(rig: Rig) -> None:
    add(rig, "second", 20, "a")
    assert standing(rig, "second") == (State.ACTIVE, ())
    add(rig, "first", 10, "a", "b")
    assert standing(rig, "second") == (State.DEGRADED, (NOTHING_OF_A,))
    assert standing(rig, "first") == (State.ACTIVE, ())
    change(rig, "first", number=30)
    assert standing(rig, "second") == (State.ACTIVE, ())
    assert standing(rig, "first") == (
        State.ACTIVE,
        ("session 'second' (number 20) takes every packet of port 'a' before it",),
    )


def test_a_session_that_is_left_something_is_active_and_says_of_which_ports_nothing(
    rig: Rig,
) -> None:
    add(rig, "first", 10, "a")
    add(rig, "second", 20, "a", "b")
    assert standing(rig, "second") == (State.ACTIVE, (NOTHING_OF_A,))
    change(rig, "first", enabled=False)
    assert standing(rig, "second") == (State.ACTIVE, ())


def test_what_is_taken_is_told_by_direction(rig: Rig) -> None:
    add(rig, "sent", 10, "a", "d", direction=Direction.EGRESS)
    add(rig, "received", 20, "a", direction=Direction.INGRESS)
    add(rig, "rest", 30, "a", "b", "d")
    assert standing(rig, "rest") == (
        State.ACTIVE,
        (
            "session 'sent' (number 10) takes every packet sent by port 'a' before it",
            "session 'received' (number 20) takes every packet received by port 'a' before it",
        ),
    )
    change(rig, "rest", direction=Direction.EGRESS)
    (reason,) = standing(rig, "rest")[1]
    assert reason == (
        "session 'sent' (number 10) takes every packet sent by ports 'a' and 'd' before it"
    )


def test_many_ports_are_one_sentence(rig: Rig) -> None:
    add(rig, "first", 10, "a", "b", "c", "d")
    add(rig, "second", 20, "a", "b", "c", "d")
    state, (reason,) = standing(rig, "second")
    assert state is State.DEGRADED
    assert reason == (
        "session 'first' (number 10) takes every packet of 4 ports ('a', 'b', 'c', ...) before it"
    )


def test_nothing_is_said_before_data_paths_follow(rig: Rig) -> None:
    add(rig, "second", 20, "a")
    rig.settle = lambda switches: False
    add(rig, "first", 10, "a")
    assert NOTHING_OF_A not in standing(rig, "second")[1]
    rig.settle = lambda switches: True
    rig.reconciler.bring(5)
    assert standing(rig, "second") == (State.DEGRADED, (NOTHING_OF_A,))


def test_a_session_that_is_switched_off_says_no_more_than_that(rig: Rig) -> None:
    add(rig, "first", 10, "a")
    add(rig, "second", 20, "a", enabled=False)
    assert standing(rig, "second") == (State.INACTIVE, ("switched off by its owner",))


@dataclass(frozen=True)
class OfTwoTenants:
    """What a survey says of a port that sessions of two tenants watch, by a grant."""

    here: Contest
    number: dict[SessionId, int]

    @property
    def world(self) -> OfTwoTenants:
        return self

    @property
    def numbers(self) -> Numbers:
        return Numbers(session=self.number)

    def contest(self, network: NetworkId, dpid: Dpid) -> Contest:
        return self.here

    def place(self, port: Port) -> Dpid:
        return S1


def test_a_session_of_another_tenant_is_not_named() -> None:
    port = vm("web", at(S1, 1), 0x02_0000_000001).port
    theirs = Standing(watch("theirs", "web", to="x", exclusive=10, tenant="blue"), (port,), (port,))
    ours = Standing(watch("ours", "web", to="y", exclusive=20), (port,), (port,))
    numbers = {SessionId("theirs"): 1, SessionId("ours"): 2}
    survey = OfTwoTenants(Contest([(theirs, [port]), (ours, [port])], numbers), numbers)
    assert ours.session.tenant == TenantName("red")

    status = with_takers(SessionStatus(State.ACTIVE), ours, {port.id: survey})

    assert status.state is State.DEGRADED
    assert status.reasons == (
        "an exclusive session of another tenant takes every packet of port 'web' before it",
    )

"""The status of a starved exclusive session names the sessions that take its packets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from controller.status import SessionStatus, State, with_starvation
from flows.model import Direction, Mode, Port, PortId, Session, SessionId, TenantName
from flows.resolve import Arbitration, ResolvedSession, ResolvedWorld
from tests.controller.rig import Rig
from tests.flows.hand_made import S1, at, tap, vm, watch, world
from tests.ovs.waiting import wait_for

STARVED_AT_A = "session 'first' (number 10) takes every packet of port 'a' before it"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path)
    for dpid in (1, 2, 3):
        built.connect(dpid)
    wait_for(lambda: built.reconciler.sync(5), bool)
    yield built
    built.close()


def add(rig: Rig, name: str, number: int, *ports: str, **fields: object) -> None:
    """An exclusive session without a filter."""
    rig.add_session(name, *ports)
    change(rig, name, mode=Mode.EXCLUSIVE, number=number, **fields)


def change(rig: Rig, name: str, **fields: object) -> None:
    rig.store.sessions.change(
        SessionId(name),
        lambda old: replace(old, session=replace(old.session, **fields)),  # type: ignore[arg-type]
        "test",
    )
    rig.reconciler.sync(5)


def resolved_session(rig: Rig, name: str) -> tuple[State, tuple[str, ...]]:
    seen = rig.inspector.session_status(SessionId(name))
    return seen.state, seen.reasons


def test_a_session_that_is_starved_at_all_its_ports_is_degraded(rig: Rig) -> None:
    add(rig, "second", 20, "a")
    assert resolved_session(rig, "second") == (State.ACTIVE, ())
    add(rig, "first", 10, "a", "b")
    assert resolved_session(rig, "second") == (State.DEGRADED, (STARVED_AT_A,))
    assert resolved_session(rig, "first") == (State.ACTIVE, ())
    change(rig, "first", number=30)
    assert resolved_session(rig, "second") == (State.ACTIVE, ())
    assert resolved_session(rig, "first") == (
        State.ACTIVE,
        ("session 'second' (number 20) takes every packet of port 'a' before it",),
    )


def test_a_session_that_is_starved_at_some_ports_is_active_and_names_them(
    rig: Rig,
) -> None:
    add(rig, "first", 10, "a")
    add(rig, "second", 20, "a", "b")
    assert resolved_session(rig, "second") == (State.ACTIVE, (STARVED_AT_A,))
    change(rig, "first", enabled=False)
    assert resolved_session(rig, "second") == (State.ACTIVE, ())


def test_starvation_is_reported_by_direction(rig: Rig) -> None:
    add(rig, "sent", 10, "a", "d", direction=Direction.EGRESS)
    add(rig, "received", 20, "a", direction=Direction.INGRESS)
    add(rig, "rest", 30, "a", "b", "d")
    assert resolved_session(rig, "rest") == (
        State.ACTIVE,
        (
            "session 'sent' (number 10) takes every packet sent by port 'a' before it",
            "session 'received' (number 20) takes every packet received by port 'a' before it",
        ),
    )
    change(rig, "rest", direction=Direction.EGRESS)
    (reason,) = resolved_session(rig, "rest")[1]
    assert reason == (
        "session 'sent' (number 10) takes every packet sent by ports 'a' and 'd' before it"
    )


def test_many_ports_are_one_sentence(rig: Rig) -> None:
    add(rig, "first", 10, "a", "b", "c", "d")
    add(rig, "second", 20, "a", "b", "c", "d")
    state, (reason,) = resolved_session(rig, "second")
    assert state is State.DEGRADED
    assert reason == (
        "session 'first' (number 10) takes every packet of 4 ports ('a', 'b', 'c', ...) before it"
    )


def test_starvation_is_reported_once_the_datapaths_follow(rig: Rig) -> None:
    add(rig, "second", 20, "a")
    rig.wait_settled = lambda switches: False
    add(rig, "first", 10, "a")
    assert STARVED_AT_A not in resolved_session(rig, "second")[1]
    rig.wait_settled = lambda switches: True
    rig.reconciler.sync(5)
    assert resolved_session(rig, "second") == (State.DEGRADED, (STARVED_AT_A,))


def test_a_disabled_session_reports_only_that(rig: Rig) -> None:
    add(rig, "first", 10, "a")
    add(rig, "second", 20, "a", enabled=False)
    assert resolved_session(rig, "second") == (State.INACTIVE, ("switched off by its owner",))


@dataclass(frozen=True)
class OfTwoTenants:
    """The resolved world of a port that sessions of two tenants watch, by a grant."""

    here: Arbitration

    def starving_sessions(
        self, resolved_session: ResolvedSession, port: Port, failed: Set[int]
    ) -> Mapping[Direction, Session]:
        return self.here.starving_sessions(resolved_session, port)


def test_a_session_of_another_tenant_is_not_named() -> None:
    port = vm("web", at(S1, 1), 0x02_0000_000001).port
    theirs = ResolvedSession(
        watch("theirs", "web", to="x", exclusive=10, tenant="blue"), (port,), (port,)
    )
    ours = ResolvedSession(watch("ours", "web", to="y", exclusive=20), (port,), (port,))
    numbers = {SessionId("theirs"): 1, SessionId("ours"): 2}
    resolved = OfTwoTenants(Arbitration([(theirs, [port]), (ours, [port])], numbers))
    assert ours.session.tenant == TenantName("red")

    status = with_starvation(SessionStatus(State.ACTIVE), ours, {port.id: resolved}, {})

    assert status.state is State.DEGRADED
    assert status.reasons == (
        "an exclusive session of another tenant takes every packet of port 'web' before it",
    )


def test_a_session_that_makes_no_copies_starves_nobody() -> None:
    of = world(
        vm("web", at(S1, 1), 0x020000000001), tap("ids", at(S1, 8)), tap("soc", at(S1, 9)),
        watch("first", "web", to="ids", exclusive=1), watch("second", "web", to="soc", exclusive=2),
    )  # fmt: skip
    resolved = ResolvedWorld(of)
    second, web = resolved.sessions[SessionId("second")], PortId("web")
    worlds, active = {web: resolved}, SessionStatus(State.ACTIVE)
    assert with_starvation(active, second, worlds, {}).state is State.DEGRADED
    assert with_starvation(active, second, worlds, {web: {1}}) == active
    assert with_starvation(active, second, worlds, {web: {2}}).state is State.DEGRADED

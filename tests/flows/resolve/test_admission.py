"""Room in networks: who is admitted, who is refused, and what a released session gives back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.errors import TooManyOverlaps, TooManySessions
from flows.model import (
    Collector,
    CollectorId,
    Filter,
    FilterId,
    Mode,
    NetworkId,
    Port,
    Rate,
    RateUnit,
    Session,
    SessionId,
    TenantName,
    World,
)
from flows.resolve import EXCLUSIVE_WEIGHT, FAR_WEIGHT, FILTERED_WEIGHT, STAGED_WEIGHT
from flows.resolve.admission import Admission
from flows.resolve.capacity import NetworkLimits, weight
from flows.resolve.session import ResolvedSession
from tests.flows.hand_made import INGRESS, S1, at, tap, vm, watch, world

LAN, DMZ = NetworkId("red-lan"), NetworkId("red-dmz")
WEB = vm("web", at(S1, 1), 0x020000000001)
DB = vm("db", at(S1, 2), 0x020000000002)
OTHER = vm("other", at(S1, 3), 0x020000000003, network="red-dmz")
IDS = tap("ids", at(S1, 9))
COLLECTOR = Collector(CollectorId("ids"), "ids", TenantName("red"), (IDS.port.id,))
FILTER = Filter(FilterId("f"), "f", TenantName("red"))
NAMES = ("a", "b", "c", "d")
HERE = world(WEB, DB, OTHER, IDS, *(watch(name, "web", to="ids") for name in NAMES))


def admission(previous: Admission | None = None, of: World = HERE, **limits: int) -> Admission:
    return Admission(of, lambda port: S1, NetworkLimits(**limits), previous)


def resolved(session: Session, *ports: Port, is_far: bool = False) -> ResolvedSession:
    return ResolvedSession(session, ports, (IDS.port,), COLLECTOR, is_far=is_far)


def plain(name: str, *ports: Port) -> ResolvedSession:
    return resolved(watch(name, "web", to="ids"), *ports)


def exclusive(name: str, number: int, *ports: Port, **fields: object) -> ResolvedSession:
    session = watch(name, "web", to="ids", direction=INGRESS, exclusive=number)
    return resolved(replace(session, **fields), *ports)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "is_far", "expected"),
    [
        ({}, False, 1),
        ({}, True, 1 + FAR_WEIGHT),
        ({"mode": Mode.EXCLUSIVE}, False, EXCLUSIVE_WEIGHT),
        ({"filter": FILTER.id}, False, FILTERED_WEIGHT),
        ({"filter": FILTER.id, "mode": Mode.EXCLUSIVE}, False, FILTERED_WEIGHT),
        ({"packet_length": 64}, False, 1 + STAGED_WEIGHT),
        ({"packet_length": 64}, True, 1 + STAGED_WEIGHT),
        ({"max_rate": Rate(RateUnit.KBPS, 1000)}, False, 1 + STAGED_WEIGHT),
    ],
)
def test_a_session_weighs_what_its_resubmits_cost(
    fields: dict[str, object], is_far: bool, expected: int
) -> None:
    session = replace(watch("a", "web", to="ids"), **fields)  # type: ignore[arg-type]
    assert weight(resolved(session, WEB.port, is_far=is_far), None) == expected


def test_a_cap_of_the_bridge_makes_every_session_pass_all_tables() -> None:
    assert weight(plain("a", WEB.port), Rate(RateUnit.KBPS, 1000)) == 1 + STAGED_WEIGHT


def test_a_session_is_admitted_while_each_of_its_networks_has_room() -> None:
    room = admission(sessions=2)
    both = plain("a", WEB.port, OTHER.port)
    assert room.admit(both) is both
    assert room.admit(plain("b", DB.port)).is_served
    assert not room.refused

    refused = room.admit(plain("c", WEB.port, OTHER.port))

    assert isinstance(refused.refused, TooManySessions)
    assert refused.refused.network == "lan"
    assert room.refused
    assert room.admit(plain("d", OTHER.port)).is_served, "a refused session takes no room"


def test_a_session_that_is_not_served_needs_no_room() -> None:
    room = admission(sessions=0)
    off = replace(plain("a", WEB.port), session=watch("a", "web", to="ids", enabled=False))
    assert room.admit(off) is off
    room.release(off)
    assert not room.refused


def test_a_released_session_gives_its_room_back() -> None:
    room = admission(sessions=1)
    room.release(room.admit(plain("a", WEB.port)))
    assert room.admit(plain("b", WEB.port)).is_served


def test_an_admission_that_follows_another_leaves_that_one_as_it_is() -> None:
    first = admission(sessions=1)
    held = first.admit(plain("a", WEB.port))
    second = admission(first, sessions=1)
    second.release(held)
    assert second.admit(plain("b", WEB.port)).is_served
    assert first.admit(plain("b", WEB.port)).refused is not None


def test_exclusive_sessions_without_register_bits_for_their_cohorts_are_refused_newest_first() -> (
    None
):
    room = admission(cohorts=1)
    own = {"filter": FILTER.id}
    admitted = [
        room.admit(exclusive("a", 30, WEB.port, DB.port)),
        room.admit(exclusive("b", 10, WEB.port, **own)),
        room.admit(exclusive("c", 20, DB.port, **own)),
    ]
    assert all(each.is_served for each in admitted)

    [refused] = room.refuse_overlaps({LAN, DMZ})

    assert refused.session.id == SessionId("c")
    assert isinstance(refused.refused, TooManyOverlaps)
    assert room.refused
    assert room.exclusive.arbitrations(LAN)[S1].bits == 1
    assert room.refuse_overlaps({LAN}) == []


def test_networks_that_are_not_named_are_not_checked() -> None:
    room = admission(cohorts=0)
    room.admit(exclusive("a", 1, WEB.port, filter=FILTER.id))
    room.admit(exclusive("b", 2, WEB.port))
    assert room.refuse_overlaps({DMZ}) == []
    assert [r.session.id for r in room.refuse_overlaps({LAN})] == ["b"]

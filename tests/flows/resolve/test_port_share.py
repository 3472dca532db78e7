"""Caps for tap ports that send little: together they never exceed what the port sends."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from flows.model import Hop, Rate, RateUnit, Session, SessionId, World
from flows.resolve import STAGED_WEIGHT, ResolvedWorld
from flows.resolve.capacity import weight
from flows.resolve.port_share import LONGEST_BITS
from tests.flows.hand_made import S1, S2, at, cable, tap, vm, watch, world

PORTS = (
    vm("web", at(S1, 1), 0x020000000001),
    vm("db", at(S1, 2), 0x020000000002),
    vm("app", at(S2, 1), 0x020000000003),
    tap("ids", at(S1, 9)),
    cable(at(S1, 21), at(S2, 22)),
)
SLOW = {at(S1, 9): Hop("s1", "ids", mtu=1500, rate_kbps=9000)}


def slow_world(*sessions: Session) -> World:
    return replace(world(*PORTS, *sessions), hops=SLOW)


def caps(of: World) -> dict[str, Rate]:
    return {str(key): rate for key, rate in ResolvedWorld(of).port_caps.items()}


def kbps(value: int) -> Rate:
    return Rate(RateUnit.KBPS, value)


def test_a_session_gets_what_a_slow_port_sends_and_several_share_it() -> None:
    one, two = watch("one", "web", to="ids"), watch("two", "db", to="ids")
    assert caps(slow_world(one)) == {"one": kbps(9000)}
    assert caps(slow_world(one, two)) == {"one": kbps(4500), "two": kbps(4500)}
    assert caps(replace(slow_world(one, two), hops={})) == {}


def test_a_session_on_two_bridges_has_half_of_its_share_on_each() -> None:
    assert caps(slow_world(watch("one", "web", "app", to="ids"))) == {"one": kbps(4500)}


def test_a_modest_session_keeps_its_own_cap_and_leaves_the_rest() -> None:
    modest = replace(watch("one", "web", to="ids"), max_rate=kbps(1000))
    greedy = replace(watch("two", "db", to="ids"), max_rate=kbps(100_000))
    assert caps(slow_world(modest, greedy)) == {"two": kbps(8000)}


def test_a_cap_in_packets_holds_for_the_longest_frames_too() -> None:
    many = replace(watch("one", "web", to="ids"), max_rate=Rate(RateUnit.PPS, 5000))
    assert caps(slow_world(many)) == {"one": Rate(RateUnit.PPS, 9_000_000 // LONGEST_BITS)}
    few = replace(many, max_rate=Rate(RateUnit.PPS, 100))
    assert caps(slow_world(few)) == {}


def test_a_session_for_a_slow_port_counts_as_capped_and_another_one_changes_its_share() -> None:
    one, two = watch("one", "web", to="ids"), watch("two", "db", to="ids")
    before = ResolvedWorld(slow_world(one, replace(two, enabled=False)))
    assert weight(before.sessions[SessionId("one")], None) == 1 + STAGED_WEIGHT
    world = before.world
    sessions = {SessionId("one"): world.sessions[0], SessionId("two"): two}
    new = world.with_desired_state(world.collectors, sessions, world.filters, world.numbers)
    after = ResolvedWorld(new, before)
    assert after.changed_since(before, S1) == {"one", "two"}


RATES = st.none() | st.builds(Rate, st.sampled_from(RateUnit), st.integers(1, 20_000))


@given(st.lists(st.tuples(st.sampled_from(["web", "db", "app"]), RATES), min_size=1, max_size=12))
def test_all_copies_together_fit_the_port(wanted: list[tuple[str, Rate | None]]) -> None:
    sessions = [
        replace(watch(f"s{n}", port, to="ids"), max_rate=own)
        for n, (port, own) in enumerate(wanted)
    ]
    found = caps(slow_world(*sessions))
    total = 0
    for session in sessions:
        rate = found.get(str(session.id), session.max_rate)
        assert rate is not None
        is_packets = rate.unit is RateUnit.PPS
        total += rate.value * LONGEST_BITS // 1000 if is_packets else rate.value
        if session.max_rate is not None and rate.unit is session.max_rate.unit:
            assert rate.value <= session.max_rate.value
    assert total <= 9000 + len(sessions)

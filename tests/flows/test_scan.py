"""Comparing by table, priority and cookie finds what comparing whole flows finds."""

from __future__ import annotations

from collections.abc import Set
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import Survey, compile_bridge
from flows.plan.plan import (
    Installed,
    Plan,
    Scan,
    had_after,
    mark_of,
    plan,
    plan_from_scan,
    scan_of,
    wanted_of,
)
from flows.openflow.field import IN_PORT
from flows.openflow.flow import LEARNED_OBJECT, Cookie, Flow, Mark, Match, Output, make_cookie
from tests.random_worlds import random_world

SEEDS = st.integers(0, 2**63)


def installed(flow: Flow) -> Installed:
    return Installed(flow.table, flow.priority, flow.match, flow.cookie, 5, 500)


def some_flows(rng: Random) -> list[Flow]:
    world = random_world(rng)
    return [flow for dpid in world.dpids[:1] for flow in compile_bridge(dpid, Survey(world))]


def drifted(rng: Random, flows: list[Flow]) -> list[Installed]:
    """What a switch may have: some flows gone, some with other actions, some strangers."""
    left = [installed(flow) for flow in flows if rng.random() < 0.8]
    there = [
        Installed(f.table, f.priority, f.match, make_cookie(7, rng.getrandbits(32)))
        if rng.random() < 0.1
        else f
        for f in left
    ]
    there.append(Installed(3, 9, Match.of(IN_PORT.eq(77)), make_cookie(3, 1)))
    there.append(Installed(3, 9, None, make_cookie(3, 2)))
    there.append(Installed(3, 9, None, make_cookie(3, 3)))
    there.append(Installed(22, 9, Match.of(IN_PORT.eq(78)), make_cookie(LEARNED_OBJECT, 4)))
    return there


def seen_by(flows: list[Flow], there: list[Installed]) -> Scan:
    return seen_by_marks({mark_of(flow) for flow in flows}, there)


def seen_by_marks(wanted: Set[Mark], there: list[Installed]) -> Scan:
    known = frozenset(mark_of(flow) for flow in there) & wanted
    return Scan(known, tuple(flow for flow in there if mark_of(flow) not in known))


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_a_scan_leads_to_the_plan_of_whole_flows(seed: int) -> None:
    rng = Random(seed)
    flows = some_flows(rng)
    there = drifted(rng, flows)
    wanted = wanted_of(flows)

    found = plan_from_scan(wanted, seen_by(flows, there))

    whole = plan(flows, there)
    assert set(found.add) == set(whole.add)
    assert set(found.remove) == set(whole.remove)
    assert found.kept == whole.kept


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_what_a_switch_has_after_a_plan_needs_no_second_plan(seed: int) -> None:
    rng = Random(seed)
    flows = some_flows(rng)
    seen = seen_by(flows, drifted(rng, flows))
    wanted = wanted_of(flows)
    todo = plan_from_scan(wanted, seen)
    refused = [change for change in (*todo.add, *todo.remove) if rng.random() < 0.2]

    had = had_after(wanted_of(flows), seen, todo, refused)

    again = plan_from_scan(wanted, scan_of(wanted, had))
    assert set(again.add) == {flow for flow in refused if isinstance(flow, Flow)}
    assert set(again.remove) == {flow for flow in refused if isinstance(flow, Installed)}


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_the_next_world_costs_only_the_difference(seed: int) -> None:
    rng = Random(seed)
    before, after = some_flows(rng), some_flows(rng)
    had = had_after(wanted_of(before), Scan(frozenset()), plan(before, []), [])
    wanted = wanted_of(after)

    found = plan_from_scan(wanted, scan_of(wanted, had))

    whole = plan(after, [installed(flow) for flow in before])
    assert set(found.add) == set(whole.add)
    assert {mark_of(f) for f in found.remove} == {mark_of(f) for f in whole.remove}
    assert found.kept == whole.kept


def alike() -> tuple[Flow, Flow]:
    """Two flows whose digests are the same, found by trying: it takes some 77,000 of them."""
    seen: dict[Cookie, Flow] = {}
    for number in range(1 << 20):
        flow = Flow(3, 9, Match.of(IN_PORT.eq(number)), (Output(2),), 5, "test")
        other = seen.setdefault(flow.cookie, flow)
        if other is not flow:
            return other, flow
    raise AssertionError("no two digests are the same")


def test_two_flows_that_share_a_cookie_are_compared_whole() -> None:
    one, other = alike()
    plain = Flow(3, 9, Match.of(IN_PORT.eq(1 << 21)), (Output(2),), 5, "test")
    wanted = wanted_of([one, plain, other])
    assert (len(wanted), wanted.alike, set(wanted.marks)) == (3, (one, other), {plain.mark})

    def todo(*there: Flow) -> Plan:
        seen = seen_by_marks(wanted.marks, [installed(flow) for flow in there])
        return plan_from_scan(wanted, seen)

    assert not todo(one, other, plain) and todo(one, other, plain).kept == 3
    assert todo(one, plain).add == (other,)
    assert todo(other).add == (plain, one)
    assert set(todo().add) == {one, other, plain}


def test_a_scan_without_some_flows_is_that_of_a_switch_that_has_them_not() -> None:
    flows = [Flow(3, 9, Match.of(IN_PORT.eq(n)), (Output(2),), 5, "test") for n in range(6)]
    marks = {flow.mark for flow in flows[:4]}
    seen = seen_by_marks(marks, [installed(flow) for flow in flows])

    left = seen.without(flow for flow in (flows[0], flows[5]))

    assert left == seen_by_marks(marks, [installed(flow) for flow in flows[1:5]])
    assert seen.without(()) == seen


def test_unreadable_flows_are_removed_all_at_once() -> None:
    strangers = [Installed(3, 9, None, make_cookie(3, n)) for n in range(5)]

    assert len(plan([], strangers).remove) == 5


def test_a_match_is_told_apart_from_every_other_one() -> None:
    shifted = {Match.of(IN_PORT.masked(1 << n, 1 << n)) for n in range(32)}
    exact = {Match.of(IN_PORT.eq(1 << n)) for n in range(32)}
    assert len(shifted | exact) == 64

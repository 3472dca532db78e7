"""Comparing by table, priority and cookie finds what comparing whole flows finds."""

from __future__ import annotations

from collections.abc import Set
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import compile_bridge
from flows.openflow import IN_PORT, LEARNED_OBJECT, Cookie, Flow, Mark, Match, Output, make_cookie
from flows.plan import (
    InstalledFlow,
    InstalledFlows,
    Plan,
    desired_flows_of,
    installed_after,
    installed_flows_of,
    mark_of,
    plan,
    plan_from_scan,
)
from flows.resolve import ResolvedWorld
from tests.generators.random_worlds import random_world

SEEDS = st.integers(0, 2**63)


def installed(flow: Flow) -> InstalledFlow:
    return InstalledFlow(flow.table, flow.priority, flow.match, flow.cookie, 5, 500)


def some_flows(rng: Random) -> list[Flow]:
    world = random_world(rng)
    return [flow for dpid in world.dpids[:1] for flow in compile_bridge(dpid, ResolvedWorld(world))]


def drifted(rng: Random, flows: list[Flow]) -> list[InstalledFlow]:
    """What a switch may have: some flows gone, some with other actions, some strangers."""
    left = [installed(flow) for flow in flows if rng.random() < 0.8]
    on_switch = [
        InstalledFlow(f.table, f.priority, f.match, make_cookie(7, rng.getrandbits(32)))
        if rng.random() < 0.1
        else f
        for f in left
    ]
    on_switch.append(InstalledFlow(3, 9, Match.of(IN_PORT.eq(77)), make_cookie(3, 1)))
    on_switch.append(InstalledFlow(3, 9, None, make_cookie(3, 2)))
    on_switch.append(InstalledFlow(3, 9, None, make_cookie(3, 3)))
    on_switch.append(InstalledFlow(22, 9, Match.of(IN_PORT.eq(78)), make_cookie(LEARNED_OBJECT, 4)))
    return on_switch


def scan_of(flows: list[Flow], on_switch: list[InstalledFlow]) -> InstalledFlows:
    return scan_for_marks({mark_of(flow) for flow in flows}, on_switch)


def scan_for_marks(desired: Set[Mark], on_switch: list[InstalledFlow]) -> InstalledFlows:
    known = frozenset(mark_of(flow) for flow in on_switch) & desired
    return InstalledFlows(known, tuple(flow for flow in on_switch if mark_of(flow) not in known))


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_a_scan_leads_to_the_plan_of_whole_flows(seed: int) -> None:
    rng = Random(seed)
    flows = some_flows(rng)
    on_switch = drifted(rng, flows)
    desired = desired_flows_of(flows)

    found = plan_from_scan(desired, scan_of(flows, on_switch))

    whole = plan(flows, on_switch)
    assert set(found.add) == set(whole.add)
    assert set(found.remove) == set(whole.remove)
    assert found.kept == whole.kept


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_what_a_switch_has_after_a_plan_needs_no_second_plan(seed: int) -> None:
    rng = Random(seed)
    flows = some_flows(rng)
    scanned = scan_of(flows, drifted(rng, flows))
    desired = desired_flows_of(flows)
    todo = plan_from_scan(desired, scanned)
    refused = [change for change in (*todo.add, *todo.remove) if rng.random() < 0.2]

    after = installed_after(desired_flows_of(flows), scanned, todo, refused)

    again = plan_from_scan(desired, installed_flows_of(desired, after))
    assert set(again.add) == {flow for flow in refused if isinstance(flow, Flow)}
    assert set(again.remove) == {flow for flow in refused if isinstance(flow, InstalledFlow)}


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_the_next_world_costs_only_the_difference(seed: int) -> None:
    rng = Random(seed)
    before, after = some_flows(rng), some_flows(rng)
    on_switch = installed_after(
        desired_flows_of(before), InstalledFlows(frozenset()), plan(before, []), []
    )
    desired = desired_flows_of(after)

    found = plan_from_scan(desired, installed_flows_of(desired, on_switch))

    whole = plan(after, [installed(flow) for flow in before])
    assert set(found.add) == set(whole.add)
    assert {mark_of(f) for f in found.remove} == {mark_of(f) for f in whole.remove}
    assert found.kept == whole.kept


def alike() -> tuple[Flow, Flow]:
    """Two flows whose digests are the same, found by trying: it takes some 77,000 of them."""
    first: dict[Cookie, Flow] = {}
    for number in range(1 << 20):
        flow = Flow(3, 9, Match.of(IN_PORT.eq(number)), (Output(2),), 5, "test")
        other = first.setdefault(flow.cookie, flow)
        if other is not flow:
            return other, flow
    raise AssertionError("no two digests are the same")


def test_two_flows_that_share_a_cookie_are_compared_whole() -> None:
    one, other = alike()
    plain = Flow(3, 9, Match.of(IN_PORT.eq(1 << 21)), (Output(2),), 5, "test")
    desired = desired_flows_of([one, plain, other])
    assert (len(desired), desired.alike, set(desired.marks)) == (3, (one, other), {plain.mark})

    def todo(*on_switch: Flow) -> Plan:
        scanned = scan_for_marks(desired.marks, [installed(flow) for flow in on_switch])
        return plan_from_scan(desired, scanned)

    assert not todo(one, other, plain) and todo(one, other, plain).kept == 3
    assert todo(one, plain).add == (other,)
    assert todo(other).add == (plain, one)
    assert set(todo().add) == {one, other, plain}


def test_a_scan_without_some_flows_is_that_of_a_switch_that_has_them_not() -> None:
    flows = [Flow(3, 9, Match.of(IN_PORT.eq(n)), (Output(2),), 5, "test") for n in range(6)]
    marks = {flow.mark for flow in flows[:4]}
    scanned = scan_for_marks(marks, [installed(flow) for flow in flows])

    left = scanned.without(flow for flow in (flows[0], flows[5]))

    assert left == scan_for_marks(marks, [installed(flow) for flow in flows[1:5]])
    assert scanned.without(()) == scanned


def test_unreadable_flows_are_removed_all_at_once() -> None:
    strangers = [InstalledFlow(3, 9, None, make_cookie(3, n)) for n in range(5)]

    assert len(plan([], strangers).remove) == 5


def test_a_match_is_told_apart_from_every_other_one() -> None:
    shifted = {Match.of(IN_PORT.masked(1 << n, 1 << n)) for n in range(32)}
    exact = {Match.of(IN_PORT.eq(1 << n)) for n in range(32)}
    assert len(shifted | exact) == 64

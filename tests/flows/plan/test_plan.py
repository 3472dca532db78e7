"""A plan turns whatever a bridge has into what it should have, and touches nothing of others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import compile_bridge
from flows.openflow import (
    ETH_DST,
    IN_PORT,
    LEARNED_OBJECT,
    Cookie,
    Flow,
    FlowKey,
    Match,
    make_cookie,
)
from flows.plan import InstalledFlow, Plan, plan
from flows.resolve import ResolvedWorld
from tests.generators.random_worlds import random_world

SEEDS = st.integers(0, 2**63)
FOREIGN = Cookie(0xBEEF)


def some_flows(rng: Random) -> tuple[Flow, ...]:
    """The flows of the first bridge of a random world."""
    world = random_world(rng)
    return compile_bridge(world.dpids[0], ResolvedWorld(world)) if world.dpids else ()


def installed(flow: Flow) -> InstalledFlow:
    return InstalledFlow(flow.table, flow.priority, flow.match, flow.cookie, packets=7)


def strangers(rng: Random) -> list[InstalledFlow]:
    """Flows of somebody else, and flows that the switch has learned."""
    places = [IN_PORT.eq(n) for n in range(1, 6)]
    foreign = [InstalledFlow(rng.randrange(50), 1, Match.of(term), FOREIGN) for term in places]
    learned = Cookie(make_cookie(LEARNED_OBJECT, rng.randrange(1 << 32)))
    return [*foreign, InstalledFlow(22, 100, Match.of(ETH_DST.eq(5)), learned)]


def apply(todo: Plan, actual: Iterable[InstalledFlow]) -> dict[FlowKey, InstalledFlow]:
    """What a switch has after a plan: removals first, then additions that overwrite."""
    has = {flow.key: flow for flow in actual}
    for flow in todo.remove:
        del has[flow.key]
    for flow in todo.add:
        has[flow.key] = installed(flow)
    return has


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_a_plan_reaches_the_desired_flows_from_any_others(seed: int) -> None:
    rng = Random(seed)
    desired, before = some_flows(rng), some_flows(rng)
    mixed = [f for f in {f.key: f for f in (*before, *desired)}.values() if rng.random() < 0.6]
    actual = [*map(installed, mixed), *strangers(rng)]
    has = apply(plan(desired, actual), actual)

    ours = {key: flow.cookie for key, flow in has.items() if flow.packets}
    assert ours == {flow.key: flow.cookie for flow in desired}
    assert [f for f in has.values() if not f.packets] == actual[len(mixed) :]
    assert not plan(desired, has.values())


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_the_order_of_flows_does_not_matter(seed: int) -> None:
    rng = Random(seed)
    desired, before = list(some_flows(rng)), list(map(installed, some_flows(rng)))
    one = plan(desired, before)
    rng.shuffle(desired)
    rng.shuffle(before)
    other = plan(desired, before)
    assert set(one.add) == set(other.add)
    assert set(one.remove) == set(other.remove)
    assert one.kept == other.kept


FLOW = Flow(0, 100, Match.of(IN_PORT.eq(1)), (), 0, "one of ours")


@pytest.mark.parametrize(
    ("altered", "is_left_over"),
    [
        (replace(installed(FLOW), cookie=make_cookie(0, 1)), False),
        (replace(installed(FLOW), cookie=make_cookie(5, FLOW.cookie & 0xFFFFFFFF)), False),
        (replace(installed(FLOW), priority=99), True),
        (replace(installed(FLOW), table=1), True),
        (replace(installed(FLOW), match=Match.of(IN_PORT.eq(2))), True),
        (replace(installed(FLOW), match=Match()), True),
    ],
)
def test_an_altered_flow_is_repaired(altered: InstalledFlow, is_left_over: bool) -> None:
    todo = plan([FLOW], [altered])
    assert todo.add == (FLOW,)
    assert todo.remove == ((altered,) if is_left_over else ())
    assert not plan([FLOW], apply(todo, [altered]).values())


def test_a_right_flow_is_left_alone() -> None:
    todo = plan([FLOW], [installed(FLOW)])
    assert not todo
    assert todo.kept == 1
    assert str(todo) == "= 1 flows are right"


def test_a_foreign_flow_in_our_place_is_overwritten_not_removed() -> None:
    todo = plan([FLOW], [replace(installed(FLOW), cookie=FOREIGN)])
    assert todo.add == (FLOW,)
    assert todo.remove == ()


def test_a_plan_can_be_read() -> None:
    other = FLOW.replace(priority=200)
    text = str(plan([FLOW], [installed(other)]))
    assert f"+ {FLOW}  # one of ours" in text
    assert "- table=0,priority=200,in_port=1" in text
    assert text.endswith("= 0 flows are right")

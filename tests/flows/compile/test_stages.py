"""Long plans in parts: rules that decide about no packet come before the others, or go after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from flows.compile import Program, compile_bridge, in_stages
from flows.compile.stages import FLOWS_TOGETHER
from flows.model import (
    Filter,
    FilterId,
    PortRange,
    Rule,
    RuleMatch,
    TenantName,
    Verdict,
    World,
)
from flows.openflow import Flow
from flows.pipeline import FILTER
from flows.plan import InstalledFlow, Plan, plan_from_delta
from flows.resolve import ResolvedWorld
from tests.flows.hand_made import EGRESS, S1, S2, at, cable, tap, vm, watch, world

WEB, IDS = vm("web", at(S1, 1), 0x020000000001), tap("ids", at(S1, 2))
LONG = Filter(
    FilterId("long"), "long", TenantName("red"),
    egress=tuple(
        Rule(n, Verdict.ACCEPT, RuleMatch(protocol=17, destination_port=(PortRange(n, n),)))
        for n in range(1, 3 * FLOWS_TOGETHER)
    ),
)  # fmt: skip


def rules(flows: Iterable[Flow | InstalledFlow]) -> list[int]:
    """The priorities of the rules of filters among flows."""
    return [flow.priority for flow in flows if flow.table == FILTER.number and flow.priority]


@pytest.fixture
def worlds() -> tuple[World, World]:
    """Without a session, and with one that has a long filter."""
    having = world(WEB, IDS, LONG, watch("one", "web", to="ids", direction=EGRESS, wanted=LONG))
    return replace(having, sessions=()), having


def test_rules_come_before_what_refers_to_them(worlds: tuple[World, World]) -> None:
    without, having = worlds
    program = Program(S1)
    program.update(ResolvedWorld(without))
    before = program.filters
    delta = program.update(ResolvedWorld(having))
    stages = in_stages(plan_from_delta(delta, len(program.flows)), before, program.filters)
    assert all(len(part.add) <= FLOWS_TOGETHER and not part.remove for part in stages.before)
    assert len(rules(flow for part in stages.before for flow in part.add)) == 2 * len(LONG.egress)
    assert not rules(stages.main.add)
    assert stages.main.add
    assert not stages.after


def test_rules_go_after_what_refers_to_them_lowest_first(worlds: tuple[World, World]) -> None:
    without, having = worlds
    program = Program(S1)
    program.update(ResolvedWorld(having))
    before = program.filters
    delta = program.update(ResolvedWorld(without))
    todo = plan_from_delta(delta, len(program.flows))
    for known in (before, None):
        stages = in_stages(todo, known, program.filters)
        assert not rules(stages.main.remove)
        assert stages.main.remove or stages.main.add
        gone = rules(flow for part in stages.after for flow in part.remove)
        assert len(gone) == 2 * len(LONG.egress)
        assert gone == sorted(gone)
        assert all(len(part.remove) <= FLOWS_TOGETHER for part in stages.after)


def test_rules_of_a_filter_in_use_change_together(worlds: tuple[World, World]) -> None:
    """Each packet matches the old rules or the new ones, never a mix."""
    _, having = worlds
    program = Program(S1)
    program.update(ResolvedWorld(having))
    before = program.filters
    delta = program.update(ResolvedWorld(replace(having, filters=(replace(LONG, egress=()),))))
    todo = plan_from_delta(delta, len(program.flows))
    assert len(todo.remove) > FLOWS_TOGETHER
    assert in_stages(todo, before, program.filters).main == todo


def other_edition(of: World) -> World:
    """The same with other rules of the filter, as another edition."""
    rules = tuple(replace(rule, verdict=Verdict.REJECT) for rule in LONG.egress)
    return replace(of, filters=(replace(LONG, egress=rules, edition=1),))


@pytest.mark.parametrize("exclusive", [None, 7])
@pytest.mark.parametrize("ports", [("web",), ("web", "db")])
def test_another_edition_of_a_filter_in_use_comes_before_and_the_old_one_goes_after(
    exclusive: int | None, ports: tuple[str, ...]
) -> None:
    """No packet matches a mix, and the switch forwards meanwhile."""
    db, link = vm("db", at(S2, 1), 0x020000000002), cable(at(S1, 9), at(S2, 9))
    one = watch("one", *ports, to="ids", wanted=LONG, exclusive=exclusive)
    first = ResolvedWorld(world(WEB, db, link, IDS, LONG, one))
    resolved = ResolvedWorld(other_edition(first.world), first)
    for dpid in (S1, S2) if len(ports) > 1 else (S1,):
        program = Program(dpid)
        program.update(first)
        before = program.filters
        todo = plan_from_delta(program.update(resolved), len(program.flows))
        stages = in_stages(todo, before, program.filters)
        came = rules(flow for part in stages.before for flow in part.add)
        gone = rules(flow for part in stages.after for flow in part.remove)
        assert len(came) == len(gone) == 2 * len(LONG.egress)
        assert not rules(stages.main.add) and not rules(stages.main.remove)
        assert 0 < len(stages.main.add) < 20
        assert {f.mark for f in program.flows} == {f.mark for f in compile_bridge(dpid, resolved)}


def test_nothing_comes_early_while_it_is_not_known_what_refers_to_it(
    worlds: tuple[World, World],
) -> None:
    program = Program(S1)
    todo = Plan(program.update(ResolvedWorld(worlds[1])).put, (), 0)
    assert in_stages(todo, None, program.filters).main == todo


def test_ways_of_copies_come_first_and_go_last() -> None:
    """Those who send copies that way are on other bridges."""
    soc = tap("soc", at(S2, 2))
    link = cable(at(S1, 9), at(S2, 9))
    one = watch("one", "web", to="soc", direction=EGRESS)
    having = world(WEB, soc, link, one)
    without = replace(having, sessions=())
    program = Program(S2)
    program.update(ResolvedWorld(without))
    delta = program.update(ResolvedWorld(having))
    came = in_stages(plan_from_delta(delta, len(program.flows)), frozenset(), program.filters)
    assert came.has_way_before
    assert not came.has_way_after
    assert [len(part.add) for part in came.before] == [1]
    delta = program.update(ResolvedWorld(without))
    went = in_stages(plan_from_delta(delta, len(program.flows)), frozenset(), program.filters)
    assert went.has_way_after
    assert [len(part.remove) for part in went.after] == [1]
    assert not went.main.remove

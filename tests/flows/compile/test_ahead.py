"""Thousands of rules come ahead of what refers to them; nobody else waits, and nothing is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.compile import FLOWS_TOGETHER, Program, RulesAhead, RulesComing, compile_bridge
from flows.model import (
    Filter,
    FilterId,
    PortRange,
    Rule,
    RuleMatch,
    Session,
    TenantName,
    Verdict,
    World,
)
from flows.openflow import Flow
from flows.pipeline import FILTER
from flows.resolve import ResolvedWorld
from tests.flows.hand_made import EGRESS, S1, S2, at, cable, tap, vm, watch, world

WEB, IDS = vm("web", at(S1, 1), 0x020000000001), tap("ids", at(S1, 2))
COUNT = FLOWS_TOGETHER + 10
LONG = Filter(
    FilterId("long"), "long", TenantName("red"),
    egress=tuple(
        Rule(n, Verdict.ACCEPT, RuleMatch(protocol=17, destination_port=(PortRange(n, n),)))
        for n in range(1, COUNT)
    ),
)  # fmt: skip
OTHER = replace(
    LONG, edition=1, egress=tuple(replace(rule, verdict=Verdict.REJECT) for rule in LONG.egress)
)
ONE, PLAIN = (
    watch("one", "web", to="ids", direction=EGRESS, wanted=LONG),
    watch("plain", "web", to="ids", direction=EGRESS),
)
ALL = world(WEB, IDS, LONG, ONE, PLAIN)


def having(*sessions: str, wanted: Filter = LONG, of: World = ALL) -> World:
    """The same world with these sessions only, and this filter."""
    return replace(
        of, sessions=tuple(s for s in of.sessions if s.id in sessions), filters=(wanted,)
    )


def start(first: World) -> tuple[Program, ResolvedWorld]:
    program, resolved = Program(S1), ResolvedWorld(first)
    program.update(resolved)
    return program, resolved


def come(wanted: Filter, of: World = ALL) -> RulesAhead:
    """All rules of a filter, in parts."""
    coming = RulesComing(of.numbers.filter[wanted.id], wanted)
    sizes = []
    while not coming.is_whole:
        sizes.append(len(coming.next_part()))
    assert max(sizes) == FLOWS_TOGETHER
    return coming.whole()


def rules(flows: tuple[Flow, ...]) -> int:
    return sum(flow.table == FILTER.number and flow.priority > 0 for flow in flows)


def is_as_wanted(program: Program, resolved: ResolvedWorld) -> bool:
    return {f.mark for f in program.flows} == {f.mark for f in compile_bridge(S1, resolved)}


def test_another_session_changes_while_the_rules_of_a_filter_come() -> None:
    program, first = start(having("one"))
    second = ResolvedWorld(having("one", "plain", wanted=OTHER), first)
    held = program.find_ahead(second)
    assert held.filters == {LONG.id: LONG} and not held.waiting
    delta = program.update(second, held=held)

    assert delta.put and not rules(delta.put) and not delta.gone and not delta.left
    assert program.held_sessions == {ONE.id}
    assert is_as_wanted(program, ResolvedWorld(having("one", "plain")))
    assert program.follows(second, program.find_ahead(second)), "nothing else is to be done"


def test_rules_that_have_come_are_no_change_and_the_old_ones_are_left() -> None:
    program, first = start(having("one"))
    second = ResolvedWorld(having("one", wanted=OTHER), first)
    held, before = program.find_ahead(second), program.filters
    program.update(second, held=held)
    ready = {OTHER.id: come(OTHER)}
    assert not held.without(ready)
    delta = program.update(second, held=held.without(ready), ready=ready)

    assert 0 < len(delta.put) < 20 and not rules(delta.put) and not delta.gone
    assert rules(delta.left) == len(delta.left) == len(ready[OTHER.id].flows)
    assert not program.held_sessions and program.filters.isdisjoint(before)
    assert is_as_wanted(program, second)


def test_rules_that_changed_while_they_came_change_where_they_are() -> None:
    program, first = start(having("one"))
    second = ResolvedWorld(having("one", wanted=OTHER), first)
    program.update(second, held=program.find_ahead(second))
    last = replace(OTHER, egress=OTHER.egress[:-1])
    third = ResolvedWorld(having("one", wanted=last), second)
    delta = program.update(third, ready={OTHER.id: come(OTHER)})

    assert rules(delta.gone) == len(delta.gone) == 2
    assert is_as_wanted(program, third)


def test_rules_that_came_for_a_session_that_has_gone_are_left() -> None:
    program, first = start(having("one", "plain"))
    second = ResolvedWorld(having("one", "plain", wanted=OTHER), first)
    program.update(second, held=program.find_ahead(second))
    third, ready = ResolvedWorld(having("plain", wanted=OTHER), second), come(OTHER)
    delta = program.update(third, ready={OTHER.id: ready})

    assert delta.left == ready.flows
    assert is_as_wanted(program, third)


def test_a_new_session_waits_for_its_rules_and_no_other_does() -> None:
    program, first = start(having())
    second = ResolvedWorld(having("one", "plain"), first)
    held = program.find_ahead(second)
    assert held.waiting == {ONE.id: LONG.id} and not held.filters
    program.update(second, held=held)
    assert program.held_sessions == {ONE.id}
    assert is_as_wanted(program, ResolvedWorld(having("plain")))
    again = program.find_ahead(second)
    assert again == held and program.follows(second, again)
    ready = {LONG.id: come(LONG)}
    delta = program.update(second, held=held.without(ready), ready=ready)

    assert delta.put and not rules(delta.put) and not delta.left
    assert not program.held_sessions
    assert is_as_wanted(program, second)


def test_a_session_that_makes_copies_waits_for_nothing() -> None:
    """Its filter has no rules here yet; they are sent at once, and it goes on until they are."""
    plain = replace(ONE, filter="all")
    first = replace(having("one"), sessions=(plain,))
    program, resolved = start(first)

    assert not program.find_ahead(ResolvedWorld(having("one"), resolved))


@pytest.mark.parametrize("wanted", [replace(LONG, egress=LONG.egress[:9]), None])
def test_few_rules_are_not_waited_for(wanted: Filter | None) -> None:
    program, first = start(having(wanted=wanted or LONG))
    second = ResolvedWorld(having("one" if wanted else "plain", wanted=wanted or LONG), first)

    assert not program.find_ahead(second)


def test_on_a_bridge_with_links_no_session_waits() -> None:
    """Other bridges may rely on its flows."""
    db = vm("db", at(S2, 1), 0x020000000002)
    linked = world(WEB, db, cable(at(S1, 9), at(S2, 9)), IDS, LONG, ONE, PLAIN)
    program, first = start(having(of=linked))

    assert not program.find_ahead(ResolvedWorld(having("one", of=linked), first))


def test_what_is_held_is_compiled_again_like_all_else_when_ports_have_moved() -> None:
    program, first = start(having("one"))
    program.update(ResolvedWorld(having("one", wanted=OTHER), first))
    other: Session = ONE
    moved = replace(
        having(other.id, wanted=replace(OTHER, edition=2)),
        placements={**ALL.placements, WEB.port.id: at(S1, 5)},
    )
    unrelated = ResolvedWorld(moved)
    held = program.find_ahead(unrelated)
    assert held.filters == {LONG.id: OTHER}
    program.update(unrelated, held=held)
    assert program.held_sessions == {ONE.id}
    ready = {LONG.id: come(replace(OTHER, edition=2))}
    program.update(unrelated, held=held.without(ready), ready=ready)

    assert is_as_wanted(program, unrelated)

"""A session that has ended, and of which a bridge was not told yet, keeps the ways of its copies.

Only what another bridge may still send for it is delivered, and only what it may get.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import Program, compile_bridge
from flows.model import Dpid, World
from flows.openflow import Flow
from flows.pipeline import START
from flows.resolve import ResolvedWorld
from tests.flows.hand_made import S1, S2, at, cable, compile_all, tap, vm, watch, world
from tests.generators.random_worlds import random_world

WEB, DB = vm("web", at(S1, 1), 0x020000000001), vm("db", at(S2, 1), 0x020000000002)
SOC, LINK = tap("soc", at(S2, 2)), cable(at(S1, 9), at(S2, 9))


def fading(of: World) -> World:
    """All sessions have ended, and no bridge was told."""
    ended = tuple(replace(session, enabled=False) for session in of.sessions)
    return replace(of, sessions=ended, fading=frozenset(s.id for s in of.sessions if s.enabled))


def ended(of: World) -> World:
    """All sessions have ended, and every bridge was told."""
    return replace(fading(of), fading=frozenset())


def ways(flows: tuple[Flow, ...]) -> set[Flow]:
    return {flow for flow in flows if flow.priority == START["transport"] and flow.table == 0}


def test_only_the_way_of_its_copies_is_left() -> None:
    having = world(WEB, DB, SOC, LINK, watch("one", "web", "db", to="soc"))
    wanted, left, without = (compile_all(of) for of in (having, fading(having), ended(having)))
    assert len(ways(wanted[S2])) == 1
    assert set(left[S2]) - set(without[S2]) == ways(wanted[S2])
    assert set(left[S1]) == set(without[S1])


@pytest.mark.parametrize(
    "having",
    [
        world(WEB, DB, tap("soc", at(S2, 2), tenant="blue"), LINK, watch("one", "web", to="soc")),
        world(WEB, DB, SOC, LINK, watch("one", "web", to="soc", tenant="blue")),
        world(WEB, DB, SOC, watch("one", "web", to="soc")),
        world(WEB, DB, tap("soc", None), LINK, watch("one", "web", to="soc")),
    ],
    ids=["another tenant's sensor", "another tenant's port", "no link", "no sensor"],
)
def test_no_way_is_left_for_what_it_may_not_get(having: World) -> None:
    assert compile_all(fading(having)) == compile_all(ended(having))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**63))
def test_ways_are_those_that_its_copies_took(seed: int) -> None:
    """With their tags; and nothing else is left."""
    having = random_world(Random(seed))
    for dpid in having.dpids:
        wanted, left, without = (
            compile_bridge(dpid, ResolvedWorld(of))
            for of in (having, fading(having), ended(having))
        )
        assert ways(left) == ways(wanted)
        assert set(left) - set(without) == ways(wanted)
        assert set(without) <= set(left)


@pytest.mark.parametrize("first", [S1, S2])
def test_it_goes_once_the_bridges_were_told(first: Dpid) -> None:
    having = world(WEB, DB, SOC, LINK, watch("one", "web", to="soc"))
    resolved = ResolvedWorld(having)
    program = Program(first)
    program.update(resolved)
    for of in (fading(having), ended(having)):
        resolved = ResolvedWorld(of, resolved)
        assert resolved.concerns(ResolvedWorld(having), first)
        program.update(resolved)
        assert {f.mark for f in program.flows} == {f.mark for f in compile_bridge(first, resolved)}

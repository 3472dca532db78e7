"""Copies by a way that a bridge which is away does not have: they are lost, and counted so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.compile import Program, leads_nowhere
from flows.model import CopyWay, Dpid, PortId, TenantName, World
from flows.plan import lost_meter
from flows.resolve import BridgeView, ResolvedWorld
from tests.flows.hand_made import S1, S2, S3, at, cable, tap, vm, watch, world

WEB, DB = vm("web", at(S1, 1), 0x020000000001), vm("db", at(S3, 1), 0x020000000002)
CHAIN = (cable(at(S1, 9), at(S2, 8)), cable(at(S2, 9), at(S3, 8)))
SOC, RED = PortId("soc"), TenantName("red")
HAVING = world(WEB, DB, tap("soc", at(S3, 2)), *CHAIN, watch("one", "web", "db", to="soc"))
NUMBER = HAVING.numbers.session[HAVING.sessions[0].id]


def loses(of: World, dpid: Dpid) -> bool:
    """Whether a bridge counts all copies of the session as lost."""
    resolved = ResolvedWorld(of)
    program = Program(dpid)
    program.has_meters = True
    program.update(resolved)
    nowhere = leads_nowhere(BridgeView(dpid, resolved), resolved.sessions[of.sessions[0].id])
    assert (lost_meter(NUMBER).number in program.meters) == nowhere
    return nowhere


@pytest.mark.parametrize("away", [S2, S3])
@pytest.mark.parametrize(
    ("ways", "is_lost"),
    [
        ({CopyWay(SOC, None, RED)}, False),
        ({CopyWay(SOC, 7, RED)}, True),
        ({CopyWay(SOC, None, TenantName("blue"))}, True),
        ({CopyWay(PortId("ids"), None, RED)}, True),
        (set(), True),
    ],
)
def test_copies_are_lost_that_a_bridge_on_the_way_does_not_know_of(
    away: Dpid, ways: set[CopyWay], is_lost: bool
) -> None:
    having = replace(HAVING, known_ways={away: frozenset(ways)})
    assert loses(having, S1) == is_lost
    assert not loses(having, S3), "its own copies cross no bridge"


@pytest.mark.parametrize("known", [{}, {S1: frozenset()}, {Dpid(9): frozenset()}])
def test_other_bridges_do_not_matter(known: dict[Dpid, frozenset[CopyWay]]) -> None:
    assert not loses(replace(HAVING, known_ways=known), S1)


def test_copies_are_made_again_when_the_bridge_is_back() -> None:
    program = Program(S1)
    program.has_meters = True
    resolved = ResolvedWorld(HAVING)
    program.update(resolved)
    whole = {flow.mark for flow in program.flows}
    for known in ({S3: frozenset[CopyWay]()}, {}):
        resolved = ResolvedWorld(replace(HAVING, known_ways=known), resolved)
        program.update(resolved)
        assert (lost_meter(NUMBER).number in program.meters) == bool(known)
    assert {flow.mark for flow in program.flows} == whole


def test_a_bridge_that_goes_away_with_all_ways_costs_others_nothing() -> None:
    before = ResolvedWorld(HAVING)
    for known, changed in (
        ({S2: frozenset({CopyWay(SOC, None, RED)})}, False),
        ({S2: frozenset[CopyWay]()}, True),
        ({}, True),
    ):
        resolved = ResolvedWorld(replace(HAVING, known_ways=known), before)
        assert bool(resolved.changed_since(before, S1)) == changed
        before = resolved

"""The comparison with the contract says no: each kind of damage to the flows is noticed."""

from __future__ import annotations

from random import Random

import pytest

from flows.explain import Interpreter
from flows.model import Dpid, World
from flows.semantics import LearnedAddresses
from tests.arrivals import Arrivals
from tests.damage import DAMAGES, Damage, Flows
from tests.flows.hand_made import compile_all
from tests.generators.random_worlds import random_packets, random_world

WORLDS = 1000
"""Worlds in which a damage may go unnoticed (the flow served nobody) before the oracle is blind."""


def is_noticed(rng: Random, world: World, flows: dict[Dpid, Flows]) -> bool:
    bridges, arrivals = Interpreter(flows, world.links), Arrivals(world)
    learned: LearnedAddresses = {}
    for sent in random_packets(rng, world, 30):
        want, _, learned = arrivals.expected(sent, learned)
        if arrivals.seen(bridges.send(world.placements[sent.sender.id], sent.frame)) != want:
            return True
    return False


def damage_one(rng: Random, damage: Damage, world: World) -> dict[Dpid, Flows] | None:
    """The flows of a world, one of them damaged; None when there is nothing to damage."""
    flows: dict[Dpid, Flows] = dict(compile_all(world))
    victims = [(dpid, flow) for dpid, of in flows.items() for flow in of if damage.hurts(flow)]
    if not victims:
        return None
    dpid, victim = rng.choice(victims)
    return flows | {dpid: damage.one(flows[dpid], victim)}


@pytest.mark.parametrize("kind", DAMAGES)
def test_one_damaged_flow_is_noticed(kind: str) -> None:
    tried = 0
    for seed in range(WORLDS):
        rng = Random(f"{kind} {seed}")
        world = random_world(rng, bridges=2 + seed % 2)
        flows = damage_one(rng, DAMAGES[kind], world)
        if flows is not None:
            tried += 1
            if is_noticed(rng, world, flows):
                return
    pytest.fail(f"{kind}: {tried} damaged worlds, and no packet told the difference")

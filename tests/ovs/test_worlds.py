"""Random worlds on real Open vSwitch are exact, and damage is always detected."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from random import Random

import pytest

from flows.explain import Interpreter
from flows.model import World
from flows.openflow import OWNER, OWNER_MASK, OWNER_SHIFT
from flows.semantics import LearnedAddresses
from tests.arrivals import Arrivals
from tests.damage import DAMAGES
from tests.flows.hand_made import compile_all
from tests.generators.random_worlds import random_packets, random_world
from tests.ovs import worlds
from tests.ovs.bridge_ring import BridgeRing
from tests.ovs.lab import Lab, LabError, ofctl, purge_cache
from tests.ovs.worlds import PACKETS, WorldsResult, damage_all, run_world

WORLDS, SEED = 25, 4200
Follow = Callable[[BridgeRing, World, Callable[[], object]], None]


@pytest.fixture(scope="module")
def ring() -> Iterator[BridgeRing]:
    with Lab() as lab:
        yield BridgeRing(lab)


def test_random_worlds_are_exact(ring: BridgeRing) -> None:
    result = WorldsResult()
    for number in range(WORLDS):
        run_world(ring, SEED + number, result)
    assert result.is_clean, "\n".join(result.failures[:3])
    assert result.worlds == WORLDS
    assert result.copies > 5 * WORLDS
    assert result.shed > 0


def test_a_cap_whose_losses_nobody_counts_is_noticed(
    ring: BridgeRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring, "metered", lambda meters: 0)
    result = WorldsResult()
    for number in range(WORLDS):
        run_world(ring, SEED + number, result)
        if result.shed:
            break
    assert not result.is_clean
    assert "under a cap 0 were counted" in result.failures[0]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_world_is_not_exact(ring: BridgeRing, kind: str) -> None:
    result = WorldsResult()
    run_world(ring, telling_seed(kind), result, damage_all(kind))
    assert result.missing + result.extra > 0, kind
    assert len(result.failures) > 0
    assert "by Open vSwitch" in result.failures[0], result.failures[0]


def follow_not(ring: BridgeRing, world: World, meanwhile: Callable[[], object]) -> None:
    """Do not apply a change."""
    meanwhile()


def follow_roughly(ring: BridgeRing, world: World, meanwhile: Callable[[], object]) -> None:
    """Apply a change by removing all flows first."""
    for name in ring.names.values():
        ofctl("del-flows", name, f"cookie={OWNER << OWNER_SHIFT:#x}/{OWNER_MASK:#x}")
    purge_cache()
    meanwhile()
    ring.lab.flush()
    ring.install(world)


@pytest.mark.parametrize("follow", [follow_not, follow_roughly])
def test_a_change_that_is_not_followed_well_is_noticed(
    ring: BridgeRing, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring, "change", partial(follow, ring))
    result = WorldsResult()
    for number in range(20):
        run_world(ring, SEED + number, result)
        if result.missing + result.extra:
            break
    assert result.missing + result.extra > 0


def telling_seed(kind: str) -> int:
    """The seed of a world in which this damage changes the result of the interpreter."""
    for seed in range(1000):
        rng = Random(seed)
        world = random_world(rng)
        whole = compile_all(world)
        flows = {dpid: DAMAGES[kind].all(of) for dpid, of in whole.items()}
        if flows == {dpid: list(of) for dpid, of in whole.items()}:
            continue
        bridges = Interpreter(flows, world.links, world.datapaths, world.segmenters)
        arrivals = Arrivals(world)
        learned: LearnedAddresses = {}
        for sent in random_packets(rng, world, PACKETS):
            want, _, learned = arrivals.expected(sent, learned)
            if arrivals.seen(bridges.send(world.placements[sent.sender.id], sent.frame)) != want:
                return seed
    pytest.fail(f"no world tells that {kind} happened")


@pytest.mark.parametrize(("broken", "is_hopeless"), [((), False), ((2,), False), ((2, 3), True)])
def test_a_world_whose_lab_breaks_down_is_played_again_in_another_once(
    monkeypatch: pytest.MonkeyPatch, broken: tuple[int, ...], is_hopeless: bool
) -> None:
    played: list[int] = []

    def playing(ring: object, seed: int, result: WorldsResult, damage: object) -> None:
        result.worlds += 1
        played.append(seed)
        if len(played) in broken:
            raise LabError("a marker did not arrive")

    monkeypatch.setattr(worlds, "run_world", playing)
    monkeypatch.setattr(worlds, "BridgeRing", lambda lab: lab)
    monkeypatch.setattr(sys, "argv", ["worlds", "--worlds", "4", "--seed", "5"])
    if is_hopeless:
        with pytest.raises(LabError):
            worlds.main()
        assert played == [5, 6, 6]
    else:
        assert worlds.main() == 0
        assert played == sorted([5, 6, 7, 8] + [6] * len(broken))

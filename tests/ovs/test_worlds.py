"""Random worlds on real Open vSwitch are exact, and a damaged one is never taken for exact."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from random import Random

import pytest

from flows.openflow.cookie import OWNER, OWNER_MASK, OWNER_SHIFT
from flows.semantics.meaning import Learned
from flows.explain.trace import Interpreter
from flows.model.world import World
from tests.arrivals import Arrivals
from tests.damage import DAMAGES
from tests.flows.hand_made import compile_all
from tests.ovs import worlds
from tests.ovs.lab import Lab, LabError, ofctl, purge_cache
from tests.ovs.stage import Stage
from tests.ovs.worlds import PACKETS, Tally, play, spoil
from tests.random_worlds import random_packets, random_world

WORLDS, SEED = 25, 4200
Follow = Callable[[Stage, World, Callable[[], object]], None]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Lab() as lab:
        yield Stage(lab)


def test_random_worlds_are_exact(stage: Stage) -> None:
    tally = Tally()
    for number in range(WORLDS):
        play(stage, SEED + number, tally)
    assert tally.is_clean, "\n".join(tally.failures[:3])
    assert tally.worlds == WORLDS
    assert tally.copies > 5 * WORLDS
    assert tally.shed > 0


def test_a_cap_whose_losses_nobody_counts_is_noticed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "metered", lambda meters: 0)
    tally = Tally()
    for number in range(WORLDS):
        play(stage, SEED + number, tally)
        if tally.shed:
            break
    assert not tally.is_clean
    assert "under a cap 0 were counted" in tally.failures[0]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_world_is_not_exact(stage: Stage, kind: str) -> None:
    tally = Tally()
    play(stage, telling_seed(kind), tally, spoil(kind))
    assert tally.missing + tally.extra > 0, kind
    assert len(tally.failures) > 0
    assert "by Open vSwitch" in tally.failures[0], tally.failures[0]


def follow_not(stage: Stage, world: World, meanwhile: Callable[[], object]) -> None:
    """Do not follow a change."""
    meanwhile()


def follow_roughly(stage: Stage, world: World, meanwhile: Callable[[], object]) -> None:
    """Follow a change by taking everything away first."""
    for name in stage.names.values():
        ofctl("del-flows", name, f"cookie={OWNER << OWNER_SHIFT:#x}/{OWNER_MASK:#x}")
    purge_cache()
    meanwhile()
    stage.lab.flush()
    stage.install(world)


@pytest.mark.parametrize("follow", [follow_not, follow_roughly])
def test_a_change_that_is_not_followed_well_is_noticed(
    stage: Stage, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "change", partial(follow, stage))
    tally = Tally()
    for number in range(20):
        play(stage, SEED + number, tally)
        if not tally.is_clean:
            break
    assert tally.missing + tally.extra > 0


def telling_seed(kind: str) -> int:
    """A world in which the interpreter sees that this damage matters, so real bridges must too."""
    for seed in range(1000):
        rng = Random(seed)
        world = random_world(rng)
        whole = compile_all(world)
        flows = {dpid: DAMAGES[kind].all(of) for dpid, of in whole.items()}
        if flows == {dpid: list(of) for dpid, of in whole.items()}:
            continue
        bridges, arrivals = Interpreter(flows, world.links), Arrivals(world)
        learned: Learned = {}
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

    def playing(stage: object, seed: int, tally: Tally, damage: object) -> None:
        tally.worlds += 1
        played.append(seed)
        if len(played) in broken:
            raise LabError("a marker did not arrive")

    monkeypatch.setattr(worlds, "play", playing)
    monkeypatch.setattr(worlds, "Stage", lambda lab: lab)
    monkeypatch.setattr(sys, "argv", ["worlds", "--worlds", "4", "--seed", "5"])
    if is_hopeless:
        with pytest.raises(LabError):
            worlds.main()
        assert played == [5, 6, 6]
    else:
        assert worlds.main() == 0
        assert played == sorted([5, 6, 7, 8] + [6] * len(broken))

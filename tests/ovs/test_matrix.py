"""The whole test matrix on real Open vSwitch, and that it detects damaged flows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from flows.model import Dpid
from flows.openflow import Flow
from tests.arrivals import Frames
from tests.damage import DAMAGES
from tests.matrix import seen
from tests.matrix.plays import COPY_SCENES, RIVALRIES, copy_scene, rival_scene, scenes
from tests.matrix.scenes import Scene
from tests.ovs.bridge_ring import BridgeRing, Damage
from tests.ovs.lab import Lab
from tests.ovs.matrix import Difference, build_ring, explain, run_scene, run_scenes
from tests.ovs.worlds import damage_all

COPIES, RIVALS = copy_scene(COPY_SCENES[5]), rival_scene(RIVALRIES[1])


@pytest.fixture(scope="module")
def ring() -> Iterator[BridgeRing]:
    with Lab() as lab:
        yield build_ring(lab)


def test_every_cell_has_the_copies_that_it_should_have(ring: BridgeRing) -> None:
    played, failures = run_scenes(ring, scenes())
    assert not failures, "\n".join(failures[:3])
    assert (played.missing, played.extra) == (0, 0)
    kept = seen.kept()
    assert kept is not None
    assert (str(kept), kept.digest) == (str(played), played.digest)


@pytest.mark.parametrize(
    ("scene", "damage"),
    [
        (COPIES, lambda: damage_one("copy-lost")),
        (COPIES, lambda: damage_one("rule-forgotten")),
        (RIVALS, lambda: damage_all("taken-forgotten")),
    ],
)
def test_damage_is_noticed(ring: BridgeRing, scene: Scene, damage: Callable[[], Damage]) -> None:
    wrong = run_scene(ring, scene, damage())
    assert wrong
    assert f"scene: {scene.name}" in explain(scene, wrong)
    assert " of [" in explain(scene, wrong)


def test_a_lost_flow_loses_copies_of_one_session_only(ring: BridgeRing) -> None:
    wrong: Difference = run_scene(ring, COPIES, damage_one("copy-lost"))
    lost: Frames = wrong.missing
    assert not wrong.extra
    assert len({place for place, _ in lost}) == 1


def damage_one(kind: str) -> Damage:
    """Damage the first flow of a kind on the first bridge that has one."""
    done: list[Dpid] = []

    def damage(dpid: Dpid, flows: Sequence[Flow]) -> Sequence[Flow]:
        victim = next((flow for flow in flows if DAMAGES[kind].hurts(flow)), None)
        if victim is None or done:
            return flows
        done.append(dpid)
        return DAMAGES[kind].one(flows, victim)

    return damage

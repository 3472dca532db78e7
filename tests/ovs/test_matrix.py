"""The whole test matrix on real Open vSwitch, and that it notices what is damaged there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from flows.openflow.flow import Flow
from flows.model.session import Dpid
from tests.arrivals import Frames
from tests.damage import DAMAGES
from tests.matrix import seen
from tests.matrix.plays import COPY_SCENES, RIVALRIES, copy_scene, rival_scene, scenes
from tests.matrix.scenes import Scene
from tests.ovs.lab import Lab
from tests.ovs.matrix import Wrong, build, explain, play, play_all
from tests.ovs.stage import Damage, Stage
from tests.ovs.worlds import spoil

COPIES, RIVALS = copy_scene(COPY_SCENES[5]), rival_scene(RIVALRIES[1])


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Lab() as lab:
        yield build(lab)


def test_every_cell_has_the_copies_that_it_should_have(stage: Stage) -> None:
    played, failures = play_all(stage, scenes())
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
        (RIVALS, lambda: spoil("taken-forgotten")),
    ],
)
def test_damage_is_noticed(stage: Stage, scene: Scene, damage: Callable[[], Damage]) -> None:
    wrong = play(stage, scene, damage())
    assert wrong
    assert f"scene: {scene.name}" in explain(scene, wrong)
    assert " of [" in explain(scene, wrong)


def test_a_lost_flow_loses_copies_of_one_session_only(stage: Stage) -> None:
    wrong: Wrong = play(stage, COPIES, damage_one("copy-lost"))
    lost: Frames = wrong.missing
    assert not wrong.extra
    assert len({place for place, _ in lost}) == 1


def damage_one(kind: str) -> Damage:
    """Damage the first flow of a kind on the first bridge that has one."""
    done: list[Dpid] = []

    def spoil(dpid: Dpid, flows: Sequence[Flow]) -> Sequence[Flow]:
        victim = next((flow for flow in flows if DAMAGES[kind].hurts(flow)), None)
        if victim is None or done:
            return flows
        done.append(dpid)
        return DAMAGES[kind].one(flows, victim)

    return spoil

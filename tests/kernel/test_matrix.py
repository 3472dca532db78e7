"""The whole test matrix on the kernel datapath."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.matrix.cells import SensorPath
from tests.matrix.plays import COPY_SCENES, RIVALRIES, Group, Rivalry, copy_scene, rival_scene
from tests.ovs.bridge_ring import BridgeRing
from tests.ovs.lab import Lab
from tests.ovs.matrix import build_ring, explain, run_scene


@pytest.fixture(scope="module")
def ring() -> Iterator[BridgeRing]:
    with Lab() as lab:
        yield build_ring(lab)


@pytest.mark.parametrize("groups", COPY_SCENES, ids=lambda groups: name_of(*(p for p, _ in groups)))
def test_copies_of_every_request_are_exact(ring: BridgeRing, groups: tuple[Group, ...]) -> None:
    scene = copy_scene(groups)
    wrong = run_scene(ring, scene)
    assert not wrong, explain(scene, wrong)


@pytest.mark.parametrize("rivalry", RIVALRIES, ids=lambda rivalry: rivals_of(rivalry))
def test_exclusive_sessions_are_exact(ring: BridgeRing, rivalry: Rivalry) -> None:
    scene = rival_scene(rivalry)
    wrong = run_scene(ring, scene)
    assert not wrong, explain(scene, wrong)


def name_of(*paths: SensorPath) -> str:
    """The paths of a scene, each once."""
    return ", ".join(dict.fromkeys(path.name for path in paths))


def rivals_of(rivalry: Rivalry) -> str:
    """The path of a scene with rivals, what the rival watches, and when it is asked."""
    when = "first" if rivalry.is_first else "last"
    return f"{rivalry.path.name}, {rivalry.rival.value}, {when}"

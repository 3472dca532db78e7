"""On the kernel datapath, too, exactly the copies of the contract are made: worlds, scenes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.devices import PairEnd, pair_name
from tests.generators import random_worlds
from tests.matrix import scenes
from tests.matrix.plays import COPY_SCENES, RIVALRIES, copy_scene, rival_scene
from tests.matrix.scenes import Scene
from tests.ovs.bridge_ring import BridgeRing
from tests.ovs.lab import Lab, dump_megaflows
from tests.ovs.matrix import explain, run_scene
from tests.ovs.worlds import WorldsResult, damage_all, run_world

SEEDS = (1, 3, 5, 6)
SCENES = {
    "tap ports": lambda: copy_scene(COPY_SCENES[0]),
    "vxlan, cut": lambda: copy_scene(COPY_SCENES[5]),
    "rivals": lambda: rival_scene(RIVALRIES[0]),
}


@pytest.fixture(scope="module")
def ring() -> Iterator[BridgeRing]:
    with Lab() as lab:
        yield BridgeRing(lab, (*random_worlds.SLOTS, *scenes.SLOTS))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_world_is_exact(ring: BridgeRing, seed: int) -> None:
    result = WorldsResult()
    run_world(ring, seed, result)
    assert result.is_clean, "\n".join(result.failures[:3])
    assert result.packets > 0


def test_the_kernel_forwards_the_copies_itself(ring: BridgeRing) -> None:
    """Packets that pass ovs-vswitchd, as those with too many outputs do, are slow."""
    run_world(ring, SEEDS[0], WorldsResult())
    megaflows = dump_megaflows()
    assert "actions:" in megaflows
    assert "userspace(" not in megaflows


def test_a_damaged_world_is_noticed(ring: BridgeRing) -> None:
    result = WorldsResult()
    run_world(ring, SEEDS[0], result, damage_all("copy-lost"))
    assert result.missing > 0


@pytest.mark.parametrize("name", SCENES)
def test_a_scene_of_the_matrix_is_exact(ring: BridgeRing, name: str) -> None:
    scene: Scene = SCENES[name]()
    wrong = run_scene(ring, scene)
    assert not wrong, explain(scene, wrong)


def test_what_is_truncated_passes_a_segmenting_pair(ring: BridgeRing) -> None:
    """Or worlds and scenes would say nothing about bridges that are prepared."""
    before = frames_in_pairs(ring)
    run_scene(ring, SCENES["vxlan, cut"]())
    assert frames_in_pairs(ring) > before


def frames_in_pairs(ring: BridgeRing) -> int:
    """How many frames the segmenting pairs of all bridges have carried."""
    devices = [Path("/sys/class/net", pair_name(dpid, PairEnd.BACK)) for dpid in ring.names]
    return sum(int((each / "statistics/rx_packets").read_text()) for each in devices)

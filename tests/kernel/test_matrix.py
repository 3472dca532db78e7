"""The whole test matrix on the kernel datapath."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.arrivals import Frames, Remote
from tests.matrix.cells import SensorPath
from tests.matrix.plays import COPY_SCENES, RIVALRIES, Group, Rivalry, copy_scene, rival_scene
from tests.ovs.bridge_ring import BridgeRing
from tests.ovs.lab import Lab
from tests.ovs.matrix import build_ring, explain, run_scene

NO_COPIES = ("gre over IPv6", "erspan2 over IPv6", "erspan3 over IPv6")
"""Paths on which the kernel loses every copy: its GRE devices are for one family of addresses."""


@pytest.fixture(scope="module")
def ring() -> Iterator[BridgeRing]:
    with Lab() as lab:
        yield build_ring(lab)


@pytest.mark.parametrize("groups", COPY_SCENES, ids=lambda groups: name_of(*(p for p, _ in groups)))
def test_copies_of_every_request_are_exact(ring: BridgeRing, groups: tuple[Group, ...]) -> None:
    scene = copy_scene(groups)
    wrong = run_scene(ring, scene)
    if not any(path.name in NO_COPIES for path, _ in groups):
        assert not wrong, explain(scene, wrong)
        return
    assert wrong.missing, f"this holds now: take {name_of(*(p for p, _ in groups))} off NO_COPIES"
    assert not wrong.extra, explain(scene, wrong)
    assert are_over_ipv6(wrong.missing), explain(scene, wrong)


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


def are_over_ipv6(frames: Frames) -> bool:
    """Whether only copies to IPv6 addresses are among these."""
    return all(isinstance(place, Remote) and ":" in place.address for place, _ in frames)

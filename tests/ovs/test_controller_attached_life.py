"""Managers of an attached bridge delete ports, make them anew and change VLANs: each is noticed at
once, copies are whole again, and none goes to another tenant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ovs.attached_cloud import (
    TAP,
    AttachedCloud,
    build_attached_cloud,
    inventory,
    make_collectors,
)
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import MARKER_COOKIE, Lab, ofctl, vsctl
from tests.ovs.owner_life import EVENTS, ONLY_WEB, OTHER, TWO, OwnersLife
from tests.ovs.traffic import FRAMES_PER_S, NUMBERED
from tests.ovs.waiting import wait_for

SOON_S = 10.0
"""On a machine that is busy with other things; bench/bench_owner_life.py measures."""
LOST = 40
"""So many frames at least are not copied, on purpose."""


@pytest.fixture
def cloud(lab: Lab) -> AttachedCloud:
    built = build_attached_cloud(lab)
    built.attach()
    return built


@pytest.fixture
def life(cloud: AttachedCloud, tmp_path: Path) -> Iterator[OwnersLife]:
    with ControllerProcess(tmp_path, inventory()) as process:
        process.start(TAP)
        make_collectors(process)
        yield OwnersLife(cloud, process)
        assert "Traceback" not in process.log()


@pytest.mark.parametrize("event", EVENTS)
def test_copies_are_whole_again_after_an_event_in_the_life_of_the_owner(
    life: OwnersLife, event: str
) -> None:
    with life.running():
        for _ in range(2):
            outcome = EVENTS[event](life)
            print(f"{event}: {outcome}")
            assert outcome.of_web.seconds < SOON_S
            assert outcome.of_web.repeated == outcome.of_app.repeated == 0
            assert event not in ONLY_WEB or not outcome.of_app.frames
    wait_for(lambda: vsctl("--bare", "--columns=name", "list", "Mirror").split(), _are_three)


def test_the_measurement_sees_copies_that_are_missing(life: OwnersLife) -> None:
    fence = f"cookie={MARKER_COOKIE:#x}"

    def lose() -> None:
        begun = life.traffic.now(life.app)
        ofctl("add-flow", TAP, f"{fence},priority=65535,dl_type={NUMBERED:#x},actions=drop")
        life.traffic.wait_until_past(life.app, life.cloud.at["red-db"], begun + LOST)
        ofctl("del-flows", TAP, f"{fence}/-1")

    with life.running():
        outcome = life.measure(lose)
    for gap in (outcome.of_web, outcome.of_app):
        assert gap.frames > LOST // 2 and gap.seconds > LOST / 2 / FRAMES_PER_S, outcome
    life.check_tenants()
    life.cloud.tap_at[TWO], life.cloud.tap_at[OTHER] = (
        life.cloud.tap_at[name] for name in (OTHER, TWO)
    )
    with pytest.raises(AssertionError, match="other tenant"):
        life.check_tenants()


def _are_three(names: list[str]) -> bool:
    """One for each session: Mirrors of former ports are gone."""
    return len(names) == 3

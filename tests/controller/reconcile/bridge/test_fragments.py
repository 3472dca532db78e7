"""First fragments match their ports on every bridge of ours; a switch that refuses says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.reconcile.bridge import Depth
from controller.status import State
from tests.controller.rig import Rig
from tests.ovs.waiting import wait_for

SYNC_S = 20.0
NORMAL, MATCH = 0, 3


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path)
    yield built
    built.close()


def connect(rig: Rig) -> None:
    for dpid in (1, 2, 3):
        rig.connect(dpid)
    wait_for(lambda: rig.reconciler.sync(SYNC_S), bool)


def test_it_is_set_when_a_bridge_connects_and_again_when_it_was_changed(rig: Rig) -> None:
    connect(rig)
    assert [model.config for model in rig.models.values()] == [(MATCH, 128)] * 3
    rig.models[1].config = (NORMAL, 128)
    rig.writers.recheck(Depth.COOKIES)
    wait_for(lambda: rig.models[1].config, lambda seen: seen == (MATCH, 128))


def test_a_foreign_bridge_is_left_alone(rig: Rig) -> None:
    rig.foreign = {3}
    connect(rig)
    assert rig.models[3].config == (NORMAL, 128)


def test_a_switch_that_does_not_do_it_is_degraded(rig: Rig) -> None:
    rig.models[2].faults.takes_fragments = False
    connect(rig)
    seen = {each.dpid: each for each in rig.inspector.bridges()}
    assert seen[1].state is State.ACTIVE
    assert seen[2].state is State.DEGRADED
    assert "nx-match" in " ".join(seen[2].reasons)

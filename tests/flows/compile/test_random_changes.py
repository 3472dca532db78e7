"""What changes in random worlds, and that each kind of change really happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from flows.model import PortKind, World
from tests.generators.random_changes import changed_world
from tests.generators.random_worlds import random_world

SEEDS, LEAST = range(900), 3
EXPECTED = [
    *(f"a {kind.value} port {what}" for kind in PortKind for what in ("comes", "goes", "moves")),
    "a workload is declared", "a workload is declared no more",
    "a port is where another was", "a collector has other sensors", "a collector has another tag",
    "a session has gone", "a session is other", "a filter has other rules", "a sensor's health",
]  # fmt: skip


def what_happens(old: World, new: World) -> Iterator[str]:
    for port in (*old.ports, *(p for p in new.ports if p.id not in old.port_by_id)):
        one, other = old.placements.get(port.id), new.placements.get(port.id)
        if one != other:
            what = "comes" if one is None else "goes" if other is None else "moves"
            yield f"a {port.kind.value} port {what}"
        before = None if other is None else old.port_by_placement.get(other)
        if before is not None and before.id != port.id:
            yield "a port is where another was"
    if new.port_by_id.keys() - old.port_by_id.keys():
        yield "a workload is declared"
    if old.port_by_id.keys() - new.port_by_id.keys():
        yield "a workload is declared no more"
    for collector in old.collectors:
        then = new.collector_by_id[collector.id]
        if then.sensors != collector.sensors:
            yield "a collector has other sensors"
        if then.tenant_tag != collector.tenant_tag:
            yield "a collector has another tag"
    if old.session_by_id.keys() - new.session_by_id.keys():
        yield "a session has gone"
    if any(old.session_by_id.get(s.id, s) != s for s in new.sessions):
        yield "a session is other"
    if old.filters != new.filters:
        yield "a filter has other rules"
    if old.down != new.down:
        yield "a sensor's health"


@pytest.fixture(scope="module")
def happened() -> Counter[str]:
    found: Counter[str] = Counter()
    for seed in SEEDS:
        rng = Random(seed)
        world = random_world(rng)
        found.update(what_happens(world, changed_world(rng, world)))
    return found


@pytest.mark.parametrize("thing", EXPECTED)
def test_it_happens_to_random_worlds(happened: Counter[str], thing: str) -> None:
    assert happened[thing] >= LEAST


def test_no_tap_port_comes_where_a_workload_was_before() -> None:
    for seed in SEEDS:
        rng = Random(seed)
        world = random_world(rng)
        other = changed_world(rng, world)
        for place, port in other.port_by_placement.items():
            assert world.port_by_placement.get(place, port).kind is port.kind

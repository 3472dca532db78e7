"""A beacon on each copy path arrives at its sensor exactly as a copy would, and nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from controller.southbound.openflow import open_management
from flows.beacon import Beacon
from flows.compile import CopyPath, Program, copy_paths
from flows.model import Dpid, World
from flows.resolve import ResolvedSession, ResolvedWorld
from flows.semantics import copied_frame
from tests.arrivals import Arrivals, Frames, Remote
from tests.generators.random_worlds import random_world
from tests.ovs.bridge_ring import BridgeRing
from tests.ovs.lab import Lab

WORLDS, SEED = 25, 7300
SHORT, LONG = 100, 1500


@pytest.fixture(scope="module")
def ring() -> Iterator[BridgeRing]:
    with Lab() as lab:
        yield BridgeRing(lab)


def paths_of(resolved: ResolvedWorld) -> Iterator[tuple[Dpid, ResolvedSession, CopyPath]]:
    """Every copy path of every session on every bridge that serves it."""
    for dpid in resolved.world.dpids:
        program = Program(dpid)
        program.update(resolved)
        for resolved_session in resolved.served:
            if program.serves(resolved_session.session.id):
                for path in copy_paths(dpid, resolved, resolved_session):
                    yield dpid, resolved_session, path


def expected(
    world: World, resolved_session: ResolvedSession, path: CopyPath, dpid: Dpid, frame: bytes
) -> Frames:
    """The copy that a session makes of a frame of that network, at the sensor of the path."""
    arrivals = Arrivals(replace(world, sessions=()))  # each sensor of a pool is a place
    [sender, *_] = [
        port for port in resolved_session.watched if path.network in (None, port.network)
    ]
    copy = copied_frame(frame, resolved_session.session, sender, dpid, world)
    is_sent = path.arriving(len(frame)) > 0
    return Counter(
        {(arrivals._at(resolved_session.session, path.sensor, world), copy): 1} if is_sent else {}
    )


def sent_and_seen(ring: BridgeRing, world: World) -> tuple[Frames, Frames, int]:
    """The expected and received frames for two beacons on each path, and the number of paths."""
    resolved = ResolvedWorld(world)
    want: Frames = Counter()
    count = 0
    for dpid, resolved_session, path in paths_of(resolved):
        count += 1
        frames = [
            Beacon(count, dpid, path.position, 0, n, 2, length).frame()
            for n, length in ((1, SHORT), (2, LONG))
        ]
        with open_management(ring.names[dpid]) as switch:
            switch.send(frames, path.actions)
        for frame in frames:
            want += expected(world, resolved_session, path, dpid, frame)
    ring.lab.flush()
    seen = [(where, frame) for where, end in ring.ends.items() for frame in end.receive_all()]
    tunnelled = [(Remote(c.delivery, c.address, c.key), c.frame) for c in ring.underlay.arrived()]
    return want, Counter([*seen, *tunnelled]), count


def test_each_copy_path_of_random_worlds_ends_at_its_sensor_and_nowhere_else(
    ring: BridgeRing,
) -> None:
    count = 0
    for number in range(WORLDS):
        world = random_world(Random(SEED + number))
        ring.install(world)
        want, seen, paths = sent_and_seen(ring, world)
        assert seen == want, f"seed {SEED + number}: missing {want - seen}, extra {seen - want}"
        count += paths
    assert count > 2 * WORLDS


def test_a_copy_path_that_ends_elsewhere_is_detected(ring: BridgeRing) -> None:
    seed = SEED
    while not any(paths_of(ResolvedWorld(random_world(Random(seed))))):
        seed += 1
    world = random_world(Random(seed))
    ring.install(world, lambda dpid, flows: [])
    want, seen, _ = sent_and_seen(ring, world)
    assert want
    assert not seen

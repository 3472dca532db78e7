"""A frame of ours on each way of copies comes out at that sensor as a copy would, nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from controller.southbound.openflow.management import open_management
from flows.beacon.beacon import Beacon
from flows.compile import CopyWay, Program, Standing, Survey, copy_ways
from flows.semantics.meaning import copied_frame
from flows.model.session import Dpid
from flows.model.world import World
from tests.arrivals import Arrivals, Frames, Remote
from tests.ovs.lab import Lab
from tests.ovs.stage import Stage
from tests.random_worlds import random_world

WORLDS, SEED = 25, 7300
SHORT, LONG = 100, 1500


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Lab() as lab:
        yield Stage(lab)


def ways_of(survey: Survey) -> Iterator[tuple[Dpid, Standing, CopyWay]]:
    """Every way of every session out of every bridge that serves it."""
    for dpid in survey.world.dpids:
        program = Program(dpid)
        program.update(survey)
        for standing in survey.served:
            if program.serves(standing.session.id):
                for way in copy_ways(dpid, survey, standing):
                    yield dpid, standing, way


def expected(world: World, standing: Standing, way: CopyWay, dpid: Dpid, frame: bytes) -> Frames:
    """What a session's copy of a frame of that network is, at the sensor of the way."""
    arrivals = Arrivals(replace(world, sessions=()))  # here each sensor of a pool is a place
    [sender, *_] = [port for port in standing.watched if way.network in (None, port.network)]
    copy = copied_frame(frame, standing.session, sender, dpid, world)
    is_sent = way.arriving(len(frame)) > 0
    return Counter(
        {(arrivals._at(standing.session, way.sensor, world), copy): 1} if is_sent else {}
    )


def sent_and_seen(stage: Stage, world: World) -> tuple[Frames, Frames, int]:
    """What should come out for two frames on each way, what does, and how many ways there are."""
    survey = Survey(world)
    want: Frames = Counter()
    count = 0
    for dpid, standing, way in ways_of(survey):
        count += 1
        frames = [
            Beacon(count, dpid, way.position, 0, n, 2, length).frame()
            for n, length in ((1, SHORT), (2, LONG))
        ]
        with open_management(stage.names[dpid]) as switch:
            switch.send(frames, way.actions)
        for frame in frames:
            want += expected(world, standing, way, dpid, frame)
    stage.lab.flush()
    seen = [(where, frame) for where, end in stage.ends.items() for frame in end.receive_all()]
    tunnelled = [(Remote(c.delivery, c.address, c.key), c.frame) for c in stage.underlay.arrived()]
    return want, Counter([*seen, *tunnelled]), count


def test_each_way_of_random_worlds_leads_to_its_sensor_and_nowhere_else(stage: Stage) -> None:
    count = 0
    for number in range(WORLDS):
        world = random_world(Random(SEED + number))
        stage.install(world)
        want, seen, ways = sent_and_seen(stage, world)
        assert seen == want, f"seed {SEED + number}: missing {want - seen}, extra {seen - want}"
        count += ways
    assert count > 2 * WORLDS


def test_a_way_that_leads_elsewhere_is_seen(stage: Stage) -> None:
    seed = SEED
    while not any(ways_of(Survey(random_world(Random(seed))))):
        seed += 1
    world = random_world(Random(seed))
    stage.install(world, lambda dpid, flows: [])
    want, seen, _ = sent_and_seen(stage, world)
    assert want
    assert not seen

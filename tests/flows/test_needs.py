"""Which sessions need a flow, held against what the compiler makes with and without a session."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from flows.compile import Needs, Program, Survey
from flows.openflow.flow import PRODUCTION, Flow
from flows.model.session import Dpid, Mode, TagMode
from flows.pipeline.tables import START
from flows.model.world import World
from tests.random_worlds import random_world

SEEDS = range(150)


def plain_tags(of: World) -> World:
    """The same without tags that copies wear because of other sessions."""
    return replace(
        of,
        collectors=tuple(
            replace(c, tenant_tag=TagMode.NONE) if c.tenant_tag is TagMode.AUTO else c
            for c in of.collectors
        ),
    )


def compiled(of: World, dpid: Dpid) -> tuple[set[Flow], Needs]:
    program, survey = Program(dpid), Survey(of)
    program.has_meters = True
    program.update(survey)
    return set(program.flows), Needs(dpid, survey, program.served)


@pytest.mark.parametrize("chunk", range(5))
def test_what_a_bridge_has_because_of_a_session_is_needed_by_it(chunk: int) -> None:
    checked = 0
    for seed in SEEDS[chunk::5]:
        of = plain_tags(random_world(Random(seed)))
        for dpid in of.dpids:
            flows, needs = compiled(of, dpid)
            for standing in Survey(of).served:
                session = standing.session
                left = tuple(s for s in of.sessions if s.id != session.id)
                number = of.numbers.session[session.id]
                for flow in flows - compiled(replace(of, sessions=left), dpid)[0]:
                    if flow.table == START.number and not standing.is_far:
                        continue  # a way for copies that nobody will make
                    checked += 1
                    found = needs.of(flow)
                    is_rival = session.mode is Mode.EXCLUSIVE  # others are asked because of it
                    assert number in found or (is_rival and found), f"seed {seed}: {flow}"
    assert checked > 500


@pytest.mark.parametrize("chunk", range(5))
def test_a_flow_of_sessions_is_there_because_of_those_who_need_it(chunk: int) -> None:
    checked = 0
    for seed in SEEDS[chunk::5]:
        of = plain_tags(random_world(Random(seed)))
        frame = [compiled(replace(of, sessions=()), dpid)[0] for dpid in of.dpids]
        for dpid, without in zip(of.dpids, frame, strict=True):
            flows, needs = compiled(of, dpid)
            for numbers in {needs.of(flow) for flow in flows - without}:
                names = {s for s, n in of.numbers.session.items() if n in numbers}
                left = tuple(s for s in of.sessions if s.id not in names)
                others, _ = compiled(replace(of, sessions=left), dpid)
                for flow in flows - without:
                    is_way = flow.table == START.number  # which sessions of the bridge have, too
                    if needs.of(flow) == numbers and flow.owner == PRODUCTION and not is_way:
                        checked += 1
                        assert flow not in others, f"seed {seed}: {sorted(names)}, {flow}"
    assert checked > 500

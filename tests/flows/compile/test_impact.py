"""The impact of a flow, compared with the flows that are compiled with and without sessions."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from flows.compile import Impact, Program
from flows.model import Dpid, Mode, TagMode, World
from flows.openflow import PRODUCTION, Flow
from flows.pipeline import START
from flows.resolve import ResolvedWorld
from tests.generators.random_worlds import random_world

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


def compiled(of: World, dpid: Dpid) -> tuple[set[Flow], Impact]:
    program, resolved = Program(dpid), ResolvedWorld(of)
    program.has_meters = True
    program.update(resolved)
    return set(program.flows), Impact(dpid, resolved, program.served)


@pytest.mark.parametrize("chunk", range(5))
def test_flows_that_exist_because_of_a_session_affect_it(chunk: int) -> None:
    checked = 0
    for seed in SEEDS[chunk::5]:
        of = plain_tags(random_world(Random(seed)))
        for dpid in of.dpids:
            flows, impact = compiled(of, dpid)
            for resolved_session in ResolvedWorld(of).served:
                session = resolved_session.session
                left = tuple(s for s in of.sessions if s.id != session.id)
                number = of.numbers.session[session.id]
                for flow in flows - compiled(replace(of, sessions=left), dpid)[0]:
                    if flow.table == START.number and not resolved_session.is_far:
                        continue  # transport for copies that no bridge makes
                    checked += 1
                    found = impact.affected_sessions(flow)
                    # an exclusive session also adds flows of the sessions that compete with it
                    is_exclusive = session.mode is Mode.EXCLUSIVE
                    assert number in found or (is_exclusive and found), f"seed {seed}: {flow}"
    assert checked > 500


@pytest.mark.parametrize("chunk", range(5))
def test_a_flow_exists_because_of_the_sessions_that_it_affects(chunk: int) -> None:
    checked = 0
    for seed in SEEDS[chunk::5]:
        of = plain_tags(random_world(Random(seed)))
        fixed = [compiled(replace(of, sessions=()), dpid)[0] for dpid in of.dpids]
        for dpid, without in zip(of.dpids, fixed, strict=True):
            flows, impact = compiled(of, dpid)
            for numbers in {impact.affected_sessions(flow) for flow in flows - without}:
                names = {s for s, n in of.numbers.session.items() if n in numbers}
                left = tuple(s for s in of.sessions if s.id not in names)
                others, _ = compiled(replace(of, sessions=left), dpid)
                for flow in flows - without:
                    is_transport = flow.table == START.number  # other sessions may use it, too
                    if (
                        impact.affected_sessions(flow) == numbers
                        and flow.owner == PRODUCTION
                        and not is_transport
                    ):
                        checked += 1
                        assert flow not in others, f"seed {seed}: {sorted(names)}, {flow}"
    assert checked > 500

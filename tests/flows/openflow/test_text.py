"""The canonical text of flows reads back, and nothing else is taken for one."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flows.compile import compile_bridge
from flows.errors import CloudtapError, InvalidFlow
from flows.openflow import FIELDS
from flows.openflow.text import parse_actions, parse_flow
from flows.resolve import ResolvedWorld
from tests.generators.random_worlds import random_world

HEAD = "cookie=0xc7a0000000000000,table=0,priority=100"
SOME = (
    "cookie=0xc7a00000518be521,table=0,priority=100,in_port=3,actions=load:0x1->NXM_NX_REG1[0..19]"
)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**63))
def test_every_flow_reads_back(seed: int) -> None:
    world = random_world(Random(seed))
    resolved = ResolvedWorld(world)
    for dpid in world.dpids:
        for flow in compile_bridge(dpid, resolved):
            read = parse_flow(str(flow), flow.why)
            assert read == flow
            assert read.cookie == flow.cookie


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_field_reads_back(data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(FIELDS))
    mask = data.draw(st.integers(1, field.full))
    term = field.masked(data.draw(st.integers(0, field.full)) & mask, mask)
    flow = parse_flow(f"{HEAD},{term},actions=drop")
    assert flow.match.terms == (term,)
    assert str(flow.match) == str(term)


@settings(max_examples=300, deadline=None)
@given(st.text())
@example("")
@example(f"{HEAD},actions=")
@example(f"{HEAD},actions=output:x")
@example(f"{HEAD},actions=output:")
@example(f"{HEAD},actions=resubmit(,)")
@example(f"{HEAD},actions=clone(output:1")
@example(f"{HEAD},actions=set_field:99999->vlan_pcp")
@example(f"{HEAD},eth_src=02:00,actions=drop")
@example(f"{HEAD},ip_src=10.0.0,actions=drop")
@example(f"{HEAD},ip_src=ten,actions=drop")
@example(f"{HEAD},ip_src=fd00::1,actions=drop")
@example(f"{HEAD},tcp_dst=70000,actions=drop")
@example(f"{HEAD},vlan_vid=0x1000/0,actions=drop")
@example(f"{HEAD},in_port=-1,actions=drop")
@example(f"{HEAD},in_port=0x1,actions=drop")
@example(f"{HEAD},eth_type=0x800,in_port=1,actions=drop")
@example(f"{HEAD},in_port=1,in_port=2,actions=drop")
@example("cookie=5,table=-1,priority=100,actions=drop")
@example("cookie=-5,table=1,priority=100,actions=drop")
@example("cookie=5,table=1,priority=65536,actions=drop")
def test_garbage_is_an_invalid_flow_and_nothing_worse(text: str) -> None:
    with pytest.raises(InvalidFlow):
        parse_flow(text)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SOME) - 1), st.characters())
def test_a_damaged_flow_is_refused_or_read_as_it_stands(at: int, char: str) -> None:
    damaged = SOME[:at] + char + SOME[at + 1 :]
    try:
        flow = parse_flow(damaged)
    except CloudtapError as error:
        assert isinstance(error, InvalidFlow), error
    else:
        assert str(flow).partition(",")[2] == damaged.partition(",")[2]


@pytest.mark.parametrize("text", ["strip_vlan", "output:1,,output:2", "load:1->NXM_NX_REG1[0..19]"])
def test_an_action_that_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(InvalidFlow, match="not an action of ours"):
        parse_actions(text)

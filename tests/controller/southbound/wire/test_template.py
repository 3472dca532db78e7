"""Encoding from templates gives the same bytes as plain encoding."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.southbound import WireError
from controller.southbound.wire import (
    FlowTemplates,
    encode_bundle_add,
    encode_flow_add,
    encode_message,
    scan_flow_stats,
)
from controller.southbound.wire.template import TEMPLATES_MAX
from flows.compile import compile_bridge
from flows.openflow import IP_SRC, Clone, Flow, Match, Metered, Output, make_cookie
from flows.plan import mark_of
from flows.resolve import ResolvedWorld
from tests.controller.southbound.wire.test_decode import entry, matches, reply
from tests.generators.random_worlds import random_world


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**63))
def test_every_compiled_flow_of_random_worlds_is_encoded_the_same_both_ways(seed: int) -> None:
    rng = Random(seed)
    templates = FlowTemplates()
    for world in (random_world(rng), random_world(rng)):
        resolved = ResolvedWorld(world)
        for dpid in world.dpids:
            for flow in compile_bridge(dpid, resolved):
                xid, bundle = rng.getrandbits(32), rng.getrandbits(32)
                plain = encode_bundle_add(bundle, encode_flow_add(flow, xid))
                assert templates.encode(flow, xid, bundle) == plain, flow


@given(st.lists(st.tuples(matches(), st.sampled_from((0, 1, 3, 32, 33)), st.booleans())))
def test_any_match_is_encoded_the_same_both_ways(flows: list[tuple[Match, int, bool]]) -> None:
    templates = FlowTemplates()
    for number, (match, outputs, is_metered) in enumerate(flows):
        actions = (*[Metered(number)] * is_metered, *(Output(number),) * outputs)
        flow = Flow(3, 44, match, actions, 9, "test")
        assert templates.encode(flow, 5, 6) == encode_bundle_add(6, encode_flow_add(flow, 5))


def test_a_flow_that_cannot_be_encoded_is_refused_by_name_with_templates_too() -> None:
    templates = FlowTemplates()
    for actions in ((Output(1),) * 4095, (Output(1 << 32),), (Clone((Output(1),) * 5000),)):
        with pytest.raises(WireError, match=r"\(test\) cannot be sent"):
            templates.encode(Flow(3, 44, Match(), actions, 9, "test"), 5, 6)


def test_the_number_of_templates_is_bounded() -> None:
    templates = FlowTemplates()
    for mask in range(1, TEMPLATES_MAX + 10):
        flow = Flow(3, 44, Match.of(IP_SRC.masked(0, mask)), (), 9, "test")
        assert templates.encode(flow, 5, 6) == encode_bundle_add(6, encode_flow_add(flow, 5))
    assert len(templates._templates) == TEMPLATES_MAX


def test_rules_of_a_filter_share_templates_whatever_their_priorities() -> None:
    templates = FlowTemplates()
    for priority in (0, 1, 44, 0xFFFF):
        for address in (0, 1, 0xFFFFFFFF):
            flow = Flow(3, priority, Match.of(IP_SRC.eq(address)), (), 9, "test")
            assert templates.encode(flow, 5, 6) == encode_bundle_add(6, encode_flow_add(flow, 5))
    assert len(templates._templates) == 1


def test_a_scan_decodes_only_what_is_not_wanted() -> None:
    cookies = [make_cookie(1, n) for n in range(3)]
    message = reply(*(entry(b"", cookie) for cookie in (*cookies, cookies[0])))
    wanted = {(3, 44, cookie) for cookie in cookies[:2]}
    found: set[tuple[int, int, int]] = set()

    others = scan_flow_stats(message, wanted, found)

    assert found == wanted
    assert [flow.cookie for flow in others] == [cookies[2], cookies[0]], (
        "the second one with a mark too"
    )
    assert mark_of(others[0].installed()) == (3, 44, cookies[2])


@given(st.binary(max_size=200))
def test_a_scan_of_random_bytes_is_never_more_than_a_wire_error(noise: bytes) -> None:
    try:
        scan_flow_stats(encode_message(19, 5, noise), {(0, 0, 0)}, set())
    except WireError:
        return


def test_a_scan_of_a_truncated_message_is_refused() -> None:
    message = reply(entry(b"", 1))
    for end in range(17, len(message)):
        with pytest.raises(WireError):
            scan_flow_stats(message[:end], {(3, 44, 1)}, set())

"""Instructions are decoded to what was encoded; others raise a WireError."""

from __future__ import annotations

from random import Random
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.southbound import WireError
from controller.southbound.wire import (
    decode_flow_stats,
    decode_instructions,
    encode_actions,
    encode_flow_add,
    encode_instructions,
    show_instructions,
)
from controller.southbound.wire.action_decode import DEPTH_MAX, TEXT_MAX, decode_actions
from controller.southbound.wire.flow import (
    APPLY_ACTIONS,
    FLOW_MOD_SIZE,
    METER_INSTRUCTION,
)
from controller.southbound.wire.match import decode_match
from flows.compile import compile_bridge
from flows.openflow import (
    Action,
    Clone,
    Flow,
    Match,
    Metered,
    Output,
    object_of,
    show_actions,
)
from flows.openflow.text import parse_actions
from flows.resolve import ResolvedWorld
from tests.controller.southbound.wire.test_decode import entry, matches, reply
from tests.generators.random_actions import LISTS, SIMPLE
from tests.generators.random_worlds import random_world

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(PATIENT, max_examples=300)
MAX_LEN = bytes.fromhex("00040018000000000000001000000005ffff000000000000")
GROUP = bytes.fromhex("00040010000000000016000800000007")
GOTO = bytes.fromhex("0001000805000000")


def instructions_of(*actions: Action) -> bytes:
    return encode_instructions(Flow(3, 44, Match(), actions, 9, "test"))


def read_back(flow: Flow) -> Flow:
    """The flow that is decoded from the report of a switch with this one."""
    message = encode_flow_add(flow, 5)
    start = FLOW_MOD_SIZE
    length = int.from_bytes(message[start + 2 : start + 4], "big")
    does = message[start + (length + 7 & ~7) :]
    assert does == encode_instructions(flow)
    (found,) = decode_flow_stats(reply(entry(message[start + 4 : start + length], 5, does)))
    match, actions = decode_match(found.terms), decode_instructions(found.instructions)
    assert match is not None
    return Flow(flow.table, flow.priority, match, actions, object_of(flow.cookie), flow.why)


def test_every_kind_of_action_is_tried() -> None:
    assert {*SIMPLE, Clone, Metered} == set(get_args(Action))


@PATIENT
@given(matches(), LISTS)
def test_a_flow_that_was_encoded_is_decoded_to_itself(
    match: Match, actions: tuple[Action, ...]
) -> None:
    flow = Flow(3, 44, match, actions, 9, "test")
    found = read_back(flow)
    assert (found, found.cookie) == (flow, flow.cookie)


@settings(PATIENT, max_examples=60)
@given(st.integers(0, 2**63))
def test_every_compiled_flow_of_random_worlds_is_decoded_to_itself(seed: int) -> None:
    resolved = ResolvedWorld(random_world(Random(seed)))
    for dpid in resolved.world.dpids:
        for flow in compile_bridge(dpid, resolved):
            found = read_back(flow)
            assert (found, found.cookie) == (flow, flow.cookie)


@PATIENT
@given(LISTS.filter(bool))
def test_instructions_are_shown_as_canonical_text(actions: tuple[Action, ...]) -> None:
    does = instructions_of(*actions)
    assert show_instructions(does) in (show_actions(actions), f"{show_actions(actions)[:400]}...")
    assert decode_instructions(instructions_of(*parse_actions(show_actions(actions)))) == actions


@MANY
@given(LISTS.filter(bool), st.data())
def test_one_changed_byte_is_never_decoded_to_the_same_actions(
    actions: tuple[Action, ...], data: st.DataObject
) -> None:
    does = bytearray(instructions_of(*actions))
    does[data.draw(st.integers(0, len(does) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_instructions(bytes(does))
    except WireError:
        return
    assert found != actions
    assert instructions_of(*found) == does


@PATIENT
@given(LISTS.filter(bool), st.data())
def test_truncated_or_longer_instructions_are_refused(
    actions: tuple[Action, ...], data: st.DataObject
) -> None:
    does = instructions_of(*actions)
    end = data.draw(st.integers(1, len(does) - 1))
    is_whole_meter = isinstance(actions[0], Metered) and end == METER_INSTRUCTION.size
    if not is_whole_meter:
        with pytest.raises(WireError):
            decode_instructions(does[:end])
    with pytest.raises(WireError):
        decode_instructions(does + data.draw(st.binary(min_size=1, max_size=40)))


@PATIENT
@given(st.binary(max_size=200))
def test_random_bytes_are_never_more_than_a_wire_error(noise: bytes) -> None:
    for data in (noise, APPLY_ACTIONS.pack(4, 8 + len(noise)) + noise):
        assert show_instructions(data)
        try:
            found = decode_instructions(data)
        except WireError:
            continue
        assert instructions_of(*found) == data


HEADS = st.sampled_from((0, 17, 18, 22, 25)).map(lambda kind: kind.to_bytes(2, "big"))
SUBTYPES = st.sampled_from((6, 7, 10, 14, 39, 42, 45, 49, 16, 1))


@st.composite
def likely_actions(draw: st.DrawFn) -> bytes:
    """Bytes with the head of an action and any body, of any length that is a multiple of 8."""
    body = draw(st.binary(min_size=4, max_size=100))
    body += bytes(-(4 + len(body)) % 8)
    if draw(st.booleans()):
        return draw(HEADS) + (4 + len(body)).to_bytes(2, "big") + body
    subtype = (0x2320).to_bytes(4, "big") + draw(SUBTYPES).to_bytes(2, "big")
    rest = draw(likely_actions()) if draw(st.booleans()) else body
    whole = subtype + bytes(6) + rest
    return b"\xff\xff" + (4 + len(whole)).to_bytes(2, "big") + whole


@MANY
@given(st.lists(likely_actions(), max_size=4))
def test_random_actions_are_never_more_than_a_wire_error(actions: list[bytes]) -> None:
    data = b"".join(actions)
    try:
        found = decode_actions(data)
    except WireError:
        return
    assert encode_actions(found) == data


@MANY
@given(matches(), LISTS, st.data())
def test_a_changed_flow_entry_is_never_more_than_a_wire_error(
    match: Match, actions: tuple[Action, ...], data: st.DataObject
) -> None:
    message = encode_flow_add(Flow(3, 44, match, actions, 9, "test"), 5)
    start = FLOW_MOD_SIZE
    length = int.from_bytes(message[start + 2 : start + 4], "big")
    does = message[start + (length + 7 & ~7) :]
    whole = bytearray(reply(entry(message[start + 4 : start + length], 5, does)))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(16, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        for found in decode_flow_stats(bytes(whole)):
            found.installed()
            decode_instructions(found.instructions)
    except WireError:
        return


def nested(depth: int) -> bytes:
    """A clone in a clone in a clone."""
    data = b""
    for _ in range(depth):
        data = b"\xff\xff" + (16 + len(data)).to_bytes(2, "big") + b"\0\0\x23\x20\0\x2a" + data
        data = data[:10] + bytes(6) + data[10:]
    return data


def test_too_deeply_nested_clones_are_refused() -> None:
    assert len(decode_actions(nested(DEPTH_MAX))) == 1
    for depth in (DEPTH_MAX + 1, 4000):
        with pytest.raises(WireError, match="nested deeper"):
            decode_actions(nested(depth))


@pytest.mark.parametrize(
    ("does", "words"),
    [
        (GROUP, "there is no action 22 among ours (0004"),
        (MAX_LEN, "actions have numbers or padding that ours have not (0004"),
        (GOTO, "an instruction is not one of ours (0001"),
        (instructions_of(Output(1)) + GOTO, "an instruction is not one of ours"),
        (bytes.fromhex("000400100000000000000008000000"), "an instruction is not one of ours"),
        (bytes.fromhex("00040010000000000012000400000000"), "an impossible length at byte 0"),
        (b"", "drop"),
        (instructions_of(Output(7), Clone((Output(8, 64),))), "output:7,clone(output(port=8,max"),
    ],
)
def test_instructions_are_shown_to_people(does: bytes, words: str) -> None:
    assert words in show_instructions(does)


def test_a_long_list_is_truncated_when_shown() -> None:
    shown = show_instructions(instructions_of(*[Output(n) for n in range(500)]))
    assert len(shown) == TEXT_MAX + 3 and shown.endswith("...")

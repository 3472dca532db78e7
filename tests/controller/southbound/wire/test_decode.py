"""Everything that is encoded can be decoded, and random bytes raise nothing but a WireError."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.southbound import WireError
from controller.southbound.wire import (
    ONF,
    Aggregate,
    MeterCommand,
    decode_aggregate,
    decode_error,
    decode_flow_stats,
    decode_meter_config,
    decode_meter_features,
    decode_meter_stats,
    encode_bundle_add,
    encode_flow_add,
    encode_message,
    encode_meter_mod,
    is_last_part,
)
from controller.southbound.wire.action_decode import decode_actions
from controller.southbound.wire.error import CODE_NAMES, REASONS
from controller.southbound.wire.flow import FLOW_ENTRY
from controller.southbound.wire.header import HEADER
from controller.southbound.wire.match import decode_match, encode_match
from controller.southbound.wire.message import (
    decode_bundle_reply,
    decode_config,
    decode_port_status,
    decode_role_reply,
)
from controller.southbound.wire.packet_out import decode_port_stats
from flows.model import RATES, Rate, RateUnit
from flows.openflow import (
    FIELDS,
    IN_PORT,
    Field,
    Flow,
    Match,
    MeterCount,
    Output,
    PacketCount,
    Term,
)
from flows.plan import Meter

XID = 0xC7000005


@st.composite
def terms(draw: st.DrawFn, what: Field) -> Term:
    mask = draw(st.just(what.full) | st.integers(1, what.full))
    return Term(what, draw(st.integers(0, what.full)) & mask, mask)


@st.composite
def matches(draw: st.DrawFn) -> Match:
    chosen = draw(st.lists(st.sampled_from(FIELDS), unique=True, max_size=12))
    return Match.of(*(draw(terms(what)) for what in chosen))


def entry(terms: bytes, cookie: int = 5, instructions: bytes = b"") -> bytes:
    match = struct.pack("!HH", 1, 4 + len(terms)) + terms + bytes(-(4 + len(terms)) % 8)
    length = FLOW_ENTRY.size + len(match) + len(instructions)
    numbers = (3, 1, 2, 44, 0, 0, 0, cookie, 1000, 64000)
    return FLOW_ENTRY.pack(length, *numbers) + match + instructions


def reply(*entries: bytes, flags: int = 0) -> bytes:
    return encode_message(19, XID, struct.pack("!HH4x", 1, flags) + b"".join(entries))


@given(matches())
def test_a_match_that_was_encoded_is_decoded_to_itself(match: Match) -> None:
    body = encode_match(match)
    length = struct.unpack_from("!HH", body)[1]
    assert len(body) % 8 == 0
    assert decode_match(body[4:length]) == match


@given(st.binary(max_size=80))
def test_bytes_that_are_not_a_match_of_ours_are_not_decoded(data: bytes) -> None:
    found = decode_match(data)
    if found is not None:
        assert decode_match(encode_match(found)[4 : 4 + len(data)]) is not None


def test_a_field_that_we_never_send_is_not_decoded() -> None:
    metadata = bytes.fromhex("80000408") + bytes(8)
    in_port = encode_match(Match.of(IN_PORT.eq(1)))[4:12]
    for foreign in (metadata, in_port + metadata, in_port + in_port, in_port[:-1], b"\x80"):
        assert decode_match(foreign) is None
    (found,) = decode_flow_stats(reply(entry(metadata)))
    assert found.installed().match is None
    assert found.installed().cookie == 5


@given(st.lists(st.tuples(matches(), st.integers(0, (1 << 64) - 1)), max_size=5))
def test_statistics_are_decoded(flows: list[tuple[Match, int]]) -> None:
    bodies = []
    for match, cookie in flows:
        whole = encode_match(match)
        bodies.append(entry(whole[4 : struct.unpack_from("!HH", whole)[1]], cookie, bytes(8)))
    found = [flow.installed() for flow in decode_flow_stats(reply(*bodies))]
    assert [(flow.match, flow.cookie) for flow in found] == flows
    assert all((f.table, f.priority, f.packets, f.bytes) == (3, 44, 1000, 64000) for f in found)


@given(st.data())
def test_truncated_statistics_are_refused(data: st.DataObject) -> None:
    whole = reply(entry(b"", 1), entry(bytes.fromhex("8000000400000001"), 2))
    end = data.draw(st.integers(17, len(whole) - 1))
    try:
        found = list(decode_flow_stats(whole[:end]))
    except WireError:
        return
    assert len(found) < 2


@given(st.binary(max_size=300))
def test_random_bytes_are_never_more_than_a_wire_error(noise: bytes) -> None:
    message = encode_message(19, XID, noise)
    for decode in (lambda m: list(decode_flow_stats(m)), decode_aggregate, decode_error):
        try:
            decode(message)
        except WireError:
            continue


def test_an_aggregate_is_decoded() -> None:
    body = struct.pack("!HH4xQQI4x", 2, 0, 10, 640, 3)
    assert decode_aggregate(encode_message(19, XID, body)) == Aggregate(3, 10, 640)
    assert is_last_part(reply()) and not is_last_part(reply(flags=1))


def error(kind: int, code: int, quoted: bytes) -> bytes:
    return encode_message(1, XID, struct.pack("!HH", kind, code) + quoted)


def test_an_error_names_the_flow_the_code_and_the_reason() -> None:
    flow = Flow(1, 2, Match(), (Output(5),), 77, "test")
    message = encode_flow_add(flow, XID)
    for quoted in (message, message[:64], encode_bundle_add(9, message)):
        said = decode_error(error(2, 4, quoted))
        assert (said.xid, said.cookie, said.name) == (XID, flow.cookie, "OFPBAC_BAD_OUT_PORT")
        expected = "the switch has no port with this number to send to (OFPBAC_BAD_OUT_PORT)"
        assert str(said) == expected
    assert decode_error(error(2, 4, message[:10])).cookie is None


def test_errors_of_bundles_and_unknown_errors_are_named_too() -> None:
    bundle = encode_message(1, XID, struct.pack("!HHI", 0xFFFF, 2313, ONF))
    assert decode_error(bundle).name == "OFPBFC_MSG_FAILED"
    assert str(decode_error(error(77, 8, b""))) == "the switch refused it (error type 0x4d, code 8)"
    with pytest.raises(WireError, match="cut off"):
        decode_error(encode_message(1, XID, b"\0"))


def test_every_reason_belongs_to_a_name_of_the_specification() -> None:
    assert set(REASONS) <= set(CODE_NAMES.values())


METERS = [
    Meter(40_001, Rate(RateUnit.KBPS, 200_000)),
    Meter(40_002, Rate(RateUnit.PPS, 1)),
    Meter(65_000, Rate(RateUnit.PPS, RATES.stop - 1)),
]


def meters_reply(*entries: bytes) -> bytes:
    return encode_message(19, XID, struct.pack("!HH4x", 10, 0) + b"".join(entries))


@pytest.mark.parametrize("meter", METERS, ids=str)
def test_a_meter_that_was_encoded_is_decoded_to_itself(meter: Meter) -> None:
    sent = encode_meter_mod(MeterCommand.ADD, meter, XID)
    _, flags, number = struct.unpack_from("!HHI", sent, 8)
    entry = struct.pack("!HHI", len(sent) - 8, flags, number) + sent[16:]
    assert dict(decode_meter_config(meters_reply(entry, entry))) == {meter.number: meter}


def test_a_meter_with_another_burst_or_rate_is_not_ours() -> None:
    for rate, burst in ((2_000, 257), (0, 256)):
        entry = struct.pack("!HHIHHII4x", 24, 13, 40_001, 1, 16, rate, burst)
        assert dict(decode_meter_config(meters_reply(entry))) == {40_001: None}


def test_the_drops_of_all_bands_of_a_meter_are_added() -> None:
    head = struct.pack("!IH6xIQQII", 40_001, 40 + 32, 1, 900, 9_000, 5, 0)
    entry = head + struct.pack("!QQQQ", 7, 700, 3, 300)
    assert dict(decode_meter_stats(meters_reply(entry))) == {
        40_001: MeterCount(PacketCount(900, 9_000), PacketCount(10, 1000))
    }


@pytest.mark.parametrize(
    "decode",
    [decode_meter_config, decode_meter_stats],
    ids=["meters", "counters"],
)
@pytest.mark.parametrize("body", [b"\0", b"\0" * 40, b"\xff" * 40])
def test_random_meter_replies_are_a_wire_error(
    decode: Callable[[bytes], Iterator[object]], body: bytes
) -> None:
    with pytest.raises(WireError):
        list(decode(meters_reply(body)))


def test_a_switch_without_drop_bands_has_no_meters() -> None:
    def features(most: int, bands: int, bands_each: int) -> int:
        body = struct.pack("!IIIBB2x", most, bands, 0xF, bands_each, 0)
        return decode_meter_features(meters_reply(body))

    assert features(262_144, 1 << 1, 8) == 262_144
    assert features(262_144, 1 << 2, 8) == features(0, 1 << 1, 8) == features(9, 1 << 1, 0) == 0
    with pytest.raises(WireError):
        decode_meter_features(meters_reply(b"\0" * 8))


@pytest.mark.parametrize(
    "decode",
    [
        decode_aggregate,
        decode_actions,
        decode_bundle_reply,
        decode_config,
        decode_error,
        decode_meter_features,
        decode_port_status,
        lambda message: list(decode_port_stats(message)),
        decode_role_reply,
        lambda message: list(decode_flow_stats(message)),
        lambda message: list(decode_meter_config(message)),
        lambda message: list(decode_meter_stats(message)),
    ],
)
def test_a_message_that_is_cut_off_is_refused_in_words(decode: Callable[[bytes], object]) -> None:
    whole = HEADER.pack(4, 19, 60, 1) + bytes(range(1, 53))
    sentences = []
    for length in range(HEADER.size, len(whole)):
        try:
            decode(whole[:length])
        except WireError as problem:
            sentences.append(str(problem))
    assert sentences
    assert not [s for s in sentences if "unpack" in s or "buffer" in s or "not a valid" in s]

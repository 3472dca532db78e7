"""What the OpenFlow libraries see of messages: only what they decode without harm."""

from __future__ import annotations

import importlib
import logging
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.runtime import ryu_import_hook
from controller.runtime.message_check import (
    DECODED_VERSIONS,
    READ_TYPES,
    HandshakeStage,
    MalformedMessage,
    check,
    decoded_version,
    for_library,
)
from flows.openflow import FROM_SWITCHES, MessageType
from tests.generators.switch_messages import hellos, message, switch_messages

MALFORMED = {
    "a hello element of length 0": message(0, "00020000 00000000"),
    "a hello element shorter than its header": message(0, "00010003 00000000", 5),
    "a hello element that is longer than the hello": message(0, "00010010 00000000"),
    "a hello that ends inside an element": message(0, "0001"),
    "a bitmap of versions that is no whole number of words": message(
        0, "00010005 1000000000000000"
    ),
    "a hello of 60 kB": message(0, b"\0\1\0\x08\0\0\0\x10" * 7500),
    "a flow-mod": message(14, bytes(48)),
    "a features request": message(5),
    "a type that does not exist": message(99),
    "a features reply that is too short": message(6, bytes(8)),
    "a port status that is too long": message(12, bytes(80)),
    "an error without a code": message(1, "0001"),
    "a port status without a reason": message(12, b"\3" + bytes(71)),
    "a multipart reply without a type": message(19),
    "another version after the hello": message(2, version=1),
    "version 0": message(0, version=0),
    "a header with another length": message(2)[:2] + b"\0\x07" + message(2)[4:],
}


GREETING, DESCRIBING, READY = HandshakeStage
BEFORE = [message(kind, bytes(72)) for kind in sorted(FROM_SWITCHES - {0, 1, 2, 3})]
"""What switches send, but not before their hello."""


@pytest.mark.parametrize("stage", HandshakeStage)
@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_what_no_switch_may_send_is_refused(data: bytes, stage: HandshakeStage) -> None:
    with pytest.raises(MalformedMessage):
        check(data, stage)


@pytest.mark.parametrize("data", BEFORE)
def test_what_switches_send_later_is_refused_before_their_hello(data: bytes) -> None:
    with pytest.raises(MalformedMessage, match="before its hello"):
        check(data, GREETING)


@pytest.mark.parametrize("kind", [4, 8, 10, 11, 21, 23, 25, 27])
def test_what_nobody_asked_for_is_ignored(kind: int) -> None:
    assert check(message(kind, bytes(32)), DESCRIBING) is None
    assert check(message(kind, bytes(32)), READY) is None


@pytest.mark.parametrize("multipart_type", [0, 1, 7, 12])
def test_a_multipart_reply_that_the_library_did_not_ask_for_is_ignored(multipart_type: int) -> None:
    """Descriptions of groups and the like, whose inner lengths may be 0."""
    described = message(19, struct.pack("!HH4x", multipart_type, 0) + bytes(16))
    assert check(described, DESCRIBING) is None


@pytest.mark.parametrize("version", [1, 2, 3, 5, 6, 255])
@pytest.mark.parametrize("stage", HandshakeStage)
def test_an_error_of_another_version_is_ignored(version: int, stage: HandshakeStage) -> None:
    """A switch that refuses our hello may say so in the version that it prefers."""
    assert check(message(1, "00000000", version), stage) is None


@pytest.mark.parametrize("version", range(1, 256))
def test_a_hello_of_any_version_is_decoded_by_the_newest_decoder_up_to_it(version: int) -> None:
    known = decoded_version(version)
    assert check(message(0, version=version), GREETING) is MessageType.HELLO
    assert for_library(message(0, version=version)) == message(0, version=known)
    assert known in DECODED_VERSIONS and known <= version
    assert not any(known < other <= version for other in DECODED_VERSIONS)


@pytest.mark.parametrize(
    ("data", "stage"),
    [
        (message(0), GREETING),
        (message(0, "0001000800000010"), GREETING),
        (message(0, "0001000800000030", 5), GREETING),
        (message(2, bytes(200)), GREETING),
        (message(3), READY),
        (message(6, bytes(24)), DESCRIBING),
        (message(19, struct.pack("!HH4x", 13, 0)), DESCRIBING),
        (message(1, "00000000"), READY),
        (message(12, bytes(72)), READY),
    ],
)
def test_what_switches_send_is_taken(data: bytes, stage: HandshakeStage) -> None:
    assert check(data, stage) == data[1]
    assert for_library(data) == data


def test_of_a_hello_the_library_gets_the_versions_alone() -> None:
    """It takes padding for an element of length 0, and never ends."""
    padded = message(0, "00070004 00000000 0001000c 00000010 00000001 00000000")
    assert for_library(padded) == message(0, "00010008 00000010")
    assert for_library(message(0, "00070004 00000000")) == message(0)


def test_of_descriptions_of_ports_the_library_gets_none() -> None:
    head = struct.pack("!HH4x", 13, 1)
    assert for_library(message(19, head + bytes(64))) == message(19, head)


@pytest.fixture(scope="module", params=["ryu", "os_ken"])
def decode(request: pytest.FixtureRequest) -> Any:
    """The decoder of a library; it logs what it cannot decode."""
    ryu_import_hook.install()
    for version in ("1_0", "1_2", "1_3", "1_4"):
        importlib.import_module(f"{request.param}.ofproto.ofproto_v{version}_parser")
    return importlib.import_module(f"{request.param}.ofproto.ofproto_parser").msg


def decode_what_is_taken(decode: Any, data: bytes, stage: HandshakeStage) -> None:
    """Decode it as the dispatcher does; the library neither raises nor complains."""
    complaints: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = complaints.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        if check(data, stage) in (READ_TYPES[GREETING] | READ_TYPES[DESCRIBING]):
            part = for_library(data)
            decode(None, part[0], part[1], len(part), 1, part)
    except MalformedMessage:
        pass
    finally:
        logging.getLogger().removeHandler(handler)
    assert complaints == []


@given(st.one_of(hellos(), switch_messages()), st.sampled_from(HandshakeStage))
def test_whatever_the_check_lets_through_the_libraries_decode(
    decode: Any, data: bytes, stage: HandshakeStage
) -> None:
    decode_what_is_taken(decode, data, stage)


@pytest.mark.parametrize("version", range(256))
def test_the_libraries_decode_a_hello_of_every_version(decode: Any, version: int) -> None:
    for body in ("", "0001000800000010", "00070004 00000000 0001000c 00000010 00000001 00000000"):
        decode_what_is_taken(decode, message(0, body, version), GREETING)
    for kind in range(32):
        decode_what_is_taken(decode, message(kind, bytes(24), version), DESCRIBING)


def test_the_libraries_would_hang_without_the_check() -> None:
    """Why it is there: the decoder adds a length of 0 for ever."""
    with pytest.raises(MalformedMessage, match="length 0"):
        check(message(0, "0001000800000010 0002000000000000"), GREETING)

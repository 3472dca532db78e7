"""Decides which messages of a switch are taken at each stage of its connection, and in what form.

The OpenFlow library trusts the lengths inside a message: a hello element of length 0 keeps its
decoder in a loop for ever, and with it the event loop. It does not skip the padding of elements
either, so four bytes of padding are such an element; and a version that it has no decoder for is an
exception. So it gets only the types that it has to decode, and of these only messages whose inner
lengths are right (OpenFlow 1.3.5, section 7); of a hello one element, and of descriptions of ports
none.
"""

import struct
from enum import Enum

from flows.openflow import (
    FROM_SWITCHES,
    MESSAGE_HEADER,
    MULTIPART_PORT_DESC,
    OPENFLOW_VERSION,
    MessageType,
)


class HandshakeStage(Enum):
    """How far the OpenFlow handshake of a connection is."""

    GREETING = "before its hello"
    DESCRIBING = "before it has told its features and ports"
    READY = "after its handshake"


ALLOWED_TYPES = {
    HandshakeStage.GREETING: frozenset(
        {
            MessageType.HELLO,
            MessageType.ERROR,
            MessageType.ECHO_REQUEST,
            MessageType.ECHO_REPLY,
        }
    ),
    HandshakeStage.DESCRIBING: FROM_SWITCHES,
    HandshakeStage.READY: FROM_SWITCHES,
}
"""What a switch may send at each stage; any other message ends the connection."""
READ_TYPES = {
    HandshakeStage.GREETING: frozenset(
        {MessageType.HELLO, MessageType.ECHO_REQUEST, MessageType.ECHO_REPLY}
    ),
    HandshakeStage.DESCRIBING: frozenset(
        {
            MessageType.ECHO_REQUEST,
            MessageType.ECHO_REPLY,
            MessageType.FEATURES_REPLY,
            MessageType.MULTIPART_REPLY,
        }
    ),
    HandshakeStage.READY: frozenset(
        {
            MessageType.ERROR,
            MessageType.ECHO_REQUEST,
            MessageType.ECHO_REPLY,
            MessageType.PORT_STATUS,
        }
    ),
}
"""What somebody here reads of it, unless it answers a request of our own; the rest is ignored."""
ANY_VERSION = frozenset({MessageType.HELLO, MessageType.ERROR})
"""Messages that may have another version than 1.3: the versions are not agreed on yet."""
PORT_REASONS = range(3)
"""Added, deleted, modified."""
DECODED_VERSIONS = (1, 3, 4, 5)
"""The versions that both libraries have a decoder for."""
HELLO_BYTES_MAX = 1024
"""The longest hello: that of Open vSwitch has 16 bytes."""
MESSAGE_BYTES_MIN = MESSAGE_HEADER.size

_EXACT = {MessageType.FEATURES_REPLY: 32, MessageType.PORT_STATUS: 80}
"""Lengths of messages that have one, in bytes."""
_LEAST = {MessageType.ERROR: 12, MessageType.MULTIPART_REPLY: 16}
_ELEMENT, _BITMAP_ELEMENT = struct.Struct("!HH"), struct.Struct("!HHI")
_VERSION_BITMAP = 1


class MalformedMessage(Exception):
    """A message that no switch may send; the text says what is wrong with it."""


def check(message: bytes | bytearray, stage: HandshakeStage) -> MessageType | None:
    """The type of a message that somebody here reads; None when it is ignored.

    Raises:
        MalformedMessage: no switch may send it at this stage.
    """
    version, number, length, _ = MESSAGE_HEADER.unpack_from(message)
    if length != len(message):
        raise MalformedMessage(f"the header of a message says that it has {length} bytes")
    if version == 0:
        raise MalformedMessage("a message has version 0")
    try:
        kind = MessageType(number)
    except ValueError:
        raise MalformedMessage(f"there are no messages of type {number}") from None
    if kind not in FROM_SWITCHES:
        raise MalformedMessage(f"only controllers send messages of type {number}")
    if kind not in ALLOWED_TYPES[stage]:
        raise MalformedMessage(f"a message of type {number} came {stage.value}")
    if kind is MessageType.HELLO:
        _read_hello(message)
    elif version != OPENFLOW_VERSION:
        if kind not in ANY_VERSION:
            raise MalformedMessage(
                f"a message of type {number} has version {version}, not {OPENFLOW_VERSION}"
            )
        return None
    exact, least = _EXACT.get(kind), _LEAST.get(kind, 0)
    if (exact is not None and length != exact) or length < least:
        raise MalformedMessage(f"a message of type {number} has {length} bytes")
    if kind is MessageType.PORT_STATUS and message[MESSAGE_HEADER.size] not in PORT_REASONS:
        raise MalformedMessage("a port status has no reason that exists")
    if kind not in READ_TYPES[stage]:
        return None
    is_multipart = kind is MessageType.MULTIPART_REPLY
    if is_multipart and _first_field(message) != MULTIPART_PORT_DESC:
        return None  # the library asks for no other one
    return kind


def for_library(message: bytes | bytearray) -> bytearray:
    """What the library decodes of a message that ``check`` has passed; its version is known."""
    version, kind, _, _ = MESSAGE_HEADER.unpack_from(message)
    whole = bytearray(message)
    if kind == MessageType.HELLO:
        whole = bytearray(message[: MESSAGE_HEADER.size])
        versions = _read_hello(message)
        if versions is not None:
            whole += _BITMAP_ELEMENT.pack(_VERSION_BITMAP, _BITMAP_ELEMENT.size, versions)
    elif kind == MessageType.MULTIPART_REPLY:
        del whole[_LEAST[MessageType.MULTIPART_REPLY] :]
    whole[0] = decoded_version(version)
    struct.pack_into("!H", whole, 2, len(whole))
    return whole


def decoded_version(version: int) -> int:
    """The newest version up to this one that both libraries decode; hellos differ in no other."""
    return max(known for known in DECODED_VERSIONS if known <= version)


def _read_hello(message: bytes | bytearray) -> int | None:
    """The versions below 32 that a hello offers, as a bitmap; None if it lists none.

    Raises:
        MalformedMessage: an element does not lie inside the message.
    """
    if len(message) > HELLO_BYTES_MAX:
        raise MalformedMessage(f"a hello has {len(message)} bytes")
    versions: int | None = None
    at = MESSAGE_HEADER.size
    while at < len(message):
        if at + _ELEMENT.size > len(message):
            raise MalformedMessage("a hello ends inside the header of an element")
        kind, length = _ELEMENT.unpack_from(message, at)
        if length < _ELEMENT.size or at + length > len(message):
            raise MalformedMessage(f"an element of a hello has length {length}")
        if kind == _VERSION_BITMAP:
            if length % 4:
                raise MalformedMessage(f"the versions of a hello have length {length}")
            if length > _ELEMENT.size and versions is None:
                versions = int.from_bytes(message[at + 4 : at + 8], "big")
        at += (length + 7) // 8 * 8
    return versions


def _first_field(message: bytes | bytearray) -> int:
    """The 16 bits behind the header: the type of an error, or of a multipart message."""
    start = MESSAGE_HEADER.size
    return int.from_bytes(message[start : start + 2], "big")

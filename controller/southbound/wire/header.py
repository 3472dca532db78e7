"""The OpenFlow 1.3 header, message types and experimenter ids, and the head of multipart messages.

Source: OpenFlow Switch Specification 1.3.5, sections 7.1 and 7.3.5.
"""

from __future__ import annotations

from struct import Struct

from controller.southbound.errors import WireError
from flows.openflow import MESSAGE_HEADER, OPENFLOW_VERSION, MessageType

VERSION = OPENFLOW_VERSION
HEADER = MESSAGE_HEADER
LENGTH_MAX = 0xFFFF
"""Lengths of messages and actions are 16-bit numbers."""

HELLO, ERROR = MessageType.HELLO, MessageType.ERROR
ECHO_REQUEST, ECHO_REPLY = MessageType.ECHO_REQUEST, MessageType.ECHO_REPLY
EXPERIMENTER = MessageType.EXPERIMENTER
FEATURES_REQUEST, FEATURES_REPLY = MessageType.FEATURES_REQUEST, MessageType.FEATURES_REPLY
PORT_STATUS = MessageType.PORT_STATUS
PACKET_OUT, FLOW_MOD = MessageType.PACKET_OUT, MessageType.FLOW_MOD
MULTIPART_REQUEST, MULTIPART_REPLY = MessageType.MULTIPART_REQUEST, MessageType.MULTIPART_REPLY
BARRIER_REQUEST, BARRIER_REPLY = MessageType.BARRIER_REQUEST, MessageType.BARRIER_REPLY
ROLE_REQUEST, ROLE_REPLY = MessageType.ROLE_REQUEST, MessageType.ROLE_REPLY
METER_MOD = MessageType.METER_MOD

NICIRA, ONF = 0x00002320, 0x4F4E4600
"""Experimenter ids."""

NO_BUFFER = ANY_PORT = ANY_GROUP = 0xFFFFFFFF

MULTIPART_HEAD = Struct("!HH4x")
"""Multipart type and flags; it follows the header."""
REPLY_MORE = 1
"""Flag of a multipart reply: more replies to the same request follow (OFPMPF_REPLY_MORE)."""


def encode_message(kind: int, xid: int, body: bytes = b"") -> bytes:
    """Any OpenFlow 1.3 message.

    Raises:
        WireError: it is longer than the 65535 bytes that a message may have.
    """
    length = HEADER.size + len(body)
    if length > LENGTH_MAX:
        raise WireError(f"the message is {length} bytes long, at most {LENGTH_MAX} are possible")
    return HEADER.pack(VERSION, kind, length, xid) + body


def is_last_part(message: bytes) -> bool:
    """Whether a multipart reply is the last one to its request."""
    return not MULTIPART_HEAD.unpack_from(message, HEADER.size)[1] & REPLY_MORE

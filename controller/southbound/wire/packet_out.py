"""Frames that we have a switch send, and how many frames each of its ports has sent.

Layouts: OpenFlow Switch Specification 1.3.5, sections 7.3.7 (packet out) and 7.3.5.6 (port
statistics).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct, error

from controller.southbound.errors import WireError
from controller.southbound.wire.flow import (
    ANY_PORT,
    HEADER,
    MULTIPART_HEAD,
    MULTIPART_REQUEST,
    NO_BUFFER,
    encode_message,
)
from controller.status.values import Copies

PACKET_OUT = 13
PACKET_OUT_BODY = Struct("!IIH6x")
FROM_CONTROLLER = 0xFFFFFFFD
"""The port by which a frame of ours seems to come in: none of the switch's own."""
PORT_STATS = 4
PORT_REQUEST = Struct("!I4x")
PORT_ENTRY = Struct("!I4x12QII")
UNKNOWN = (1 << 64) - 1
"""What a switch says that does not count."""


def encode_packet_out(xid: int, actions: bytes, frame: bytes) -> bytes:
    """Have the switch do encoded ``actions`` on a frame, as if it had come in just now.

    Raises:
        WireError: both together do not fit into one message.
    """
    body = PACKET_OUT_BODY.pack(NO_BUFFER, FROM_CONTROLLER, len(actions))
    return encode_message(PACKET_OUT, xid, body + actions + frame)


def encode_port_stats_request(xid: int) -> bytes:
    """Ask what every port has counted."""
    head = MULTIPART_HEAD.pack(PORT_STATS, 0)
    return encode_message(MULTIPART_REQUEST, xid, head + PORT_REQUEST.pack(ANY_PORT))


def decode_sent(message: bytes) -> Iterator[tuple[int, Copies]]:
    """What each port of one port-stats reply has sent; ports that do not count are left out.

    Raises:
        WireError: the message is cut off.
    """
    at = HEADER.size + MULTIPART_HEAD.size
    try:
        while at < len(message):
            port, _, packets, _, size, *_ = PORT_ENTRY.unpack_from(message, at)
            if UNKNOWN not in (packets, size):
                yield port, Copies(packets, size)
            at += PORT_ENTRY.size
    except error as problem:
        raise WireError(f"port statistics are cut off at byte {at}: {problem}") from problem

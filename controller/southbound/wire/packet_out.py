"""Packet-out and port-stats messages: frames that a switch sends, and what each port has counted.

Layouts: OpenFlow Switch Specification 1.3.5, sections 7.3.7 (packet-out) and 7.3.5.6 (port
statistics).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct, error

from controller.southbound.errors import WireError
from controller.southbound.ports import PortCount
from controller.southbound.wire.header import (
    ANY_PORT,
    HEADER,
    MULTIPART_HEAD,
    MULTIPART_REQUEST,
    NO_BUFFER,
    PACKET_OUT,
    encode_message,
)
from flows.openflow import PacketCount

PACKET_OUT_BODY = Struct("!IIH6x")
FROM_CONTROLLER = 0xFFFFFFFD
"""OFPP_CONTROLLER, the in_port of a packet-out: no port of the switch itself."""
PORT_STATS = 4
PORT_REQUEST = Struct("!I4x")
PORT_ENTRY = Struct("!I4x12QII")


def encode_packet_out(xid: int, actions: bytes, frame: bytes) -> bytes:
    """The packet-out that executes encoded ``actions`` on a frame.

    Raises:
        WireError: actions and frame do not fit into one message.
    """
    body = PACKET_OUT_BODY.pack(NO_BUFFER, FROM_CONTROLLER, len(actions))
    return encode_message(PACKET_OUT, xid, body + actions + frame)


def encode_port_stats_request(xid: int, port: int = ANY_PORT) -> bytes:
    """The request for the statistics of one port, or of every one."""
    head = MULTIPART_HEAD.pack(PORT_STATS, 0)
    return encode_message(MULTIPART_REQUEST, xid, head + PORT_REQUEST.pack(port))


def decode_port_stats(message: bytes) -> Iterator[tuple[int, PortCount]]:
    """The counters of each port of one port-stats reply; ports without counters are left out.

    Raises:
        WireError: the message is cut off.
    """
    at = HEADER.size + MULTIPART_HEAD.size
    try:
        while at < len(message):
            port, *counts = PORT_ENTRY.unpack_from(message, at)
            arrived, packets, taken, size, _, lost, *_ = counts
            sent, received = PacketCount(packets, size), PacketCount(arrived, taken)
            if sent.is_possible:
                is_counted = PacketCount(lost, 0).is_possible
                yield port, PortCount(sent, received, lost if is_counted else None)
            at += PORT_ENTRY.size
    except error as problem:
        raise WireError(f"port statistics are cut off at byte {at}") from problem

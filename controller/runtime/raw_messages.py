"""Messages as bytes, past the library's encoder and decoder.

Requests of our own carry transaction ids whose top byte is OWN_XID. What a switch sends back under
such an id goes to the registered callback as it came; the library never decodes it. All else takes
the library's way, as events. Reason: the library decodes about 18,000 flows a second of CPU time,
which would stall the process for seconds. It asks each new switch for its ports, too, and decodes
them as slowly; nobody needs them from it.
"""

import struct
from collections.abc import Callable
from typing import Any

from controller.runtime import library
from controller.runtime.backpressure import FloodGuard

OWN_XID = 0xC7
"""Top byte of the transaction ids of our own requests."""

HEADER = struct.Struct("!BBHI")
"""Header: version, type, length of the message in bytes, transaction id (OpenFlow 1.3.5, 7.1)."""

# types that a switch sends of its own accord, with ids of its own choosing: hello, echo request,
# packet in, flow removed, port status
UNASKED = frozenset({0, 2, 10, 11, 12})

SEND_BYTES = 1 << 17
"""At most this much in one send: each has the library's time limit (5 s) for itself."""

MULTIPART_REPLY = 19
MULTIPART = struct.Struct("!8xHH4x")
"""Header of a part of a long answer: what it is, and whether more parts follow."""
PORT_DESCRIPTIONS = 13

RawCallback = Callable[[Any, bytes], None]

_callbacks: list[RawCallback] = []


def own_xid(number: int) -> int:
    """The transaction id of our request with this number (counted modulo 2**24)."""
    return OWN_XID << 24 | number & 0xFFFFFF


def listen_raw(callback: RawCallback) -> None:
    """Have callback(datapath, message) called for each answer to a request of our own.

    It runs in the thread that receives from that switch: it must be quick and must not wait for the
    same switch. `datapath.id` is None until the switch told its features.
    """
    _callbacks.append(callback)


def send(datapath: Any, data: bytes) -> bool:
    """Queue whole OpenFlow messages, any number of them one after the other, for a switch.

    Blocks while the switch takes nothing, for seconds at most. False if the connection is over;
    True says nothing about arrival: end with a barrier.
    """
    try:
        return all(datapath.send(part) for part in parts(data))
    except AttributeError:
        # the library drops its queue when the connection ends, also between look and use
        if datapath.send_q is None:
            return False
        raise


def parts(data: bytes) -> list[bytes]:
    """Cut messages into sends of about SEND_BYTES, only between two messages."""
    if len(data) <= SEND_BYTES:
        return [data]
    cuts, start, position = [], 0, 0
    while position < len(data):
        length = HEADER.unpack_from(data, position)[2]
        if position + length - start > SEND_BYTES and position > start:
            cuts.append(data[start:position])
            start = position
        position += length
    cuts.append(data[start:])
    return cuts


def without_ports(message: bytearray) -> bytearray:
    """A part of a list of ports with none in it; any other message as it is."""
    if len(message) < MULTIPART.size or MULTIPART.unpack_from(message)[0] != PORT_DESCRIPTIONS:
        return message
    part = message[: MULTIPART.size]
    struct.pack_into("!H", part, 2, len(part))
    return part


def install(guard: Callable[[RawCallback], RawCallback]) -> None:
    """Put the hook into the library; guard keeps a failing callback from ending the connection."""
    decode, floods = library.ofproto_parser.msg, FloodGuard()

    def divert(
        datapath: Any, version: int, kind: int, length: int, xid: int, message: bytearray
    ) -> Any:
        if xid >> 24 != OWN_XID or kind in UNASKED:
            if not floods.is_welcome(datapath):
                return None
            if kind == MULTIPART_REPLY:
                message = without_ports(message)
            return decode(datapath, version, kind, len(message), xid, message)
        whole = bytes(message)
        for callback in _callbacks:
            guard(callback)(datapath, whole)
        return None  # the library makes no event of it

    def next_xid(datapath: Any, message: Any) -> int:
        # the library counts from a random start: keep its ids apart from ours
        datapath.xid = (datapath.xid + 1) & 0xFFFFFF
        message.set_xid(datapath.xid)
        return int(datapath.xid)

    library.ofproto_parser.msg = divert
    library.controller.Datapath.set_xid = next_xid

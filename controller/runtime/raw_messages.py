"""Sends and receives OpenFlow messages as bytes, without the library's encoder and decoder.

The transaction ids of our own requests have the top byte OWN_XID. Answers with such an id go to the
registered callbacks as bytes, and so do reports of ports and errors; the library never decodes
them. Reason: the library decodes about 18,000 flows per second of processor time, which would stall
the process for seconds. It also requests the ports of each new switch and decodes them as slowly;
nobody uses the result. It sees only what its handshake needs: hello, features reply, and an empty
description of ports.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from controller.runtime import library
from controller.runtime.backpressure import MessageRateLimit
from controller.runtime.message_check import HandshakeStage, check, decoded_version, for_library
from flows.openflow import (
    MESSAGE_HEADER,
    OPENFLOW_VERSION,
    OWN_XID,
    UNASKED,
    XID_BITS,
    MessageType,
)

SEND_BYTES = 1 << 17
"""The size of one send in bytes, at most: the timeout of the library (5 s) is for each send."""

_ERROR_HEAD = struct.Struct("!HH")

RawCallback = Callable[[Any, bytes], Any]
ErrorCallback = Callable[[Any, int, int], None]


@dataclass
class _Callbacks:
    answers: list[RawCallback] = field(default_factory=list)
    ports: list[RawCallback] = field(default_factory=list)
    errors: list[ErrorCallback] = field(default_factory=list)


_callbacks = _Callbacks()


def own_xid(number: int) -> int:
    """The transaction id of our request with this number (modulo 2**24)."""
    return OWN_XID << XID_BITS | number & 0xFFFFFF


def listen_raw(callback: RawCallback) -> None:
    """Call callback(datapath, message) for each answer to a request of our own.

    It returns False if nobody waits for that answer: then it counts as one that nobody asked for.
    It runs in the thread that receives from that switch: it must be quick and must not wait for the
    same switch. ``datapath.id`` is None until the features reply was received.
    """
    _callbacks.answers.append(callback)


def listen_port_status(callback: RawCallback) -> None:
    """Call callback(datapath, message) for each report that a port came, went or changed.

    The message has the right length (OpenFlow 1.3.5, section 7.4.3). The rules of ``listen_raw``
    hold.
    """
    _callbacks.ports.append(callback)


def listen_errors(callback: ErrorCallback) -> None:
    """Call callback(datapath, type, code) for each error that belongs to no request of our own."""
    _callbacks.errors.append(callback)


def send(datapath: Any, data: bytes) -> bool:
    """Queue one or more whole OpenFlow messages for a switch.

    Blocks while the switch reads nothing, for seconds at most. False if the connection is over.
    True does not mean that they have arrived: send a barrier request to know.
    """
    try:
        return all(datapath.send(part) for part in split(data))
    except AttributeError:
        # the library removes its queue when the connection ends, also between its check and its use
        if datapath.send_q is None:
            return False
        raise


def split(data: bytes) -> list[bytes]:
    """Split messages into sends of about SEND_BYTES, only between two messages."""
    if len(data) <= SEND_BYTES:
        return [data]
    sends, start, position = [], 0, 0
    while position < len(data):
        length = MESSAGE_HEADER.unpack_from(data, position)[2]
        if position + length - start > SEND_BYTES and position > start:
            sends.append(data[start:position])
            start = position
        position += length
    sends.append(data[start:])
    return sends


class Dispatcher:
    """Checks each message of the switches and passes it to who reads it.

    ``guard`` keeps a failing callback from ending the connection.
    """

    def __init__(
        self, guard: Callable[[Callable[..., Any]], Callable[..., Any]], limit: MessageRateLimit
    ) -> None:
        self._guard, self._limit = guard, limit

    def take(self, datapath: Any, message: bytes) -> bool:
        """Take one whole message; False if its switch was cut off.

        Raises:
            MalformedMessage: no switch may send it.
        """
        stage = _stage_of(datapath)
        kind = check(message, stage)
        number, xid = message[1], MESSAGE_HEADER.unpack_from(message)[3]
        if xid >> XID_BITS == OWN_XID and number not in UNASKED and stage is HandshakeStage.READY:
            answers = [self._guard(call)(datapath, message) for call in _callbacks.answers]
            is_wanted = any(answer is not False for answer in answers)
            return is_wanted or self._limit.is_allowed(datapath)
        if not self._limit.is_allowed(datapath):
            return False
        match kind:
            case None:
                pass
            case MessageType.PORT_STATUS:
                for callback in _callbacks.ports:
                    self._guard(callback)(datapath, message)
            case MessageType.ERROR:
                error = _ERROR_HEAD.unpack_from(message, MESSAGE_HEADER.size)
                for report in _callbacks.errors:
                    self._guard(report)(datapath, *error)
            case MessageType.ECHO_REQUEST:
                send(datapath, _echo_reply(message))
            case MessageType.ECHO_REPLY:
                datapath.acknowledge_echo_reply(xid)
            case _:
                self._let_library_handle(datapath, kind, message)
        return True

    def _let_library_handle(self, datapath: Any, kind: MessageType, message: bytes) -> None:
        if kind is MessageType.FEATURES_REPLY and datapath.id is not None:
            return  # told already: the name of a connection never changes
        if kind is MessageType.MULTIPART_REPLY and datapath.id is None:
            return  # its features come first
        part = for_library(message)
        version, number, length, xid = MESSAGE_HEADER.unpack_from(part)
        decode = library.ofproto_parser.msg
        decoded = decode(datapath, decoded_version(version), number, length, xid, part)
        event, brick = library.ofp_event.ofp_msg_to_ev(decoded), datapath.ofp_brick
        brick.send_event_to_observers(event, datapath.state)
        for handler in brick.get_handlers(event):
            if datapath.state in handler.callers[event.__class__].dispatchers:
                handler(event)


def use_own_transaction_ids(datapath_class: Any) -> None:
    """Keep the transaction ids of the library, which starts at a random one, out of our range."""

    def next_xid(datapath: Any, message: Any) -> int:
        datapath.xid = (datapath.xid + 1) & 0xFFFFFF
        message.set_xid(datapath.xid)
        return int(datapath.xid)

    datapath_class.set_xid = next_xid


def _echo_reply(request: bytes) -> bytes:
    reply = bytearray(request)
    reply[0], reply[1] = OPENFLOW_VERSION, MessageType.ECHO_REPLY
    return bytes(reply)


def _stage_of(datapath: Any) -> HandshakeStage:
    match datapath.state:
        case library.handler.HANDSHAKE_DISPATCHER:
            return HandshakeStage.GREETING
        case library.handler.CONFIG_DISPATCHER:
            return HandshakeStage.DESCRIBING
        case _:
            return HandshakeStage.READY

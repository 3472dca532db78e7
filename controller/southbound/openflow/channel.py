"""Requests to one switch and the answers to them, over any carrier of bytes: one at a time.

Whoever carries the bytes gives ``send`` and calls ``on_message`` for each answer; nothing here
knows a controller framework. Requests are told apart by transaction ids with the top byte OWN_XID.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import Empty, Queue

from controller.southbound.errors import Displaced, SwitchGone, SwitchRefused, SwitchTimeout
from controller.southbound.wire.flow import HEADER, MULTIPART_REPLY, is_last_part
from controller.southbound.wire.error import SwitchError, decode_error
from controller.southbound.wire.message import (
    BARRIER_REPLY,
    ERROR,
    GENERATION_MASK,
    ROLE_REPLY,
    Role,
    decode_role_reply,
    encode_barrier,
    encode_role_request,
)
from flows.model.session import Dpid

OWN_XID = 0xC7
XID_BITS = 24
XID_MASK = (1 << XID_BITS) - 1
TIMEOUT_S = 10.0
WAITING_BYTES = 1 << 26
"""Answers that wait to be looked at; those of 250,000 flows are about as long."""
NOT_MASTER = "OFPBRC_IS_SLAVE"
"""How a switch refuses changes by a controller that another one has displaced."""
ANSWER_BYTES = 1 << 28
"""The answer to one request; that of 1,000,000 flows is about as long."""


class Exchange:
    """What all requests have in common; whoever makes one holds ``_lock`` until it is answered.

    ``send`` takes whole messages and returns False once the connection is over. A request ends
    with SwitchTimeout when nothing has come for ``timeout_s`` seconds. ``hang_up`` ends the
    connection, and is told why in a sentence: the switch answers more than anybody can hold.
    """

    def __init__(
        self,
        dpid: Dpid,
        name: str,
        send: Callable[[bytes], bool],
        timeout_s: float = TIMEOUT_S,
        hang_up: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._dpid, self.name = dpid, name
        self._send_bytes, self._timeout_s, self._hang_up = send, timeout_s, hang_up
        self._lock = threading.Lock()
        self._inbox: Queue[bytes | None] = Queue()
        self._came = self._taken = self._answer_began = 0  # bytes
        self._window = (0, 0)
        self._next_xid = 1
        self._is_gone = False
        self._doing = "connect"

    @property
    def dpid(self) -> Dpid:
        """Its datapath id."""
        return self._dpid

    @property
    def waiting(self) -> int:
        """Answers that have come and were not looked at yet."""
        return self._inbox.qsize()

    def lead(self) -> bool:
        """Become the one controller that may change the switch, unless it is that already.

        True when another one had displaced this one.

        Raises:
            SwitchRefused: another one takes over at the same time.
        """
        with self._lock:
            before, generation = self._ask_for(Role.NOCHANGE)
            if before is not Role.MASTER:
                self._ask_for(Role.MASTER, (generation + 1) & GENERATION_MASK)
        return before is Role.SLAVE

    def on_message(self, message: bytes) -> None:
        """Take an answer from the connection's thread; never blocks, drops what is too late."""
        first, count = self._window
        if self._is_gone or (HEADER.unpack_from(message)[3] - first) & XID_MASK >= count:
            return
        self._came += len(message)
        if self._came - self._answer_began > ANSWER_BYTES:
            self._isolate(f"answered with more than {ANSWER_BYTES >> 20} MB")
        elif self._came - self._taken > WAITING_BYTES:
            self._isolate(f"answered {WAITING_BYTES >> 20} MB faster than they could be read")
        else:
            self._inbox.put(message)

    def on_disconnect(self) -> None:
        """The connection is over: whoever waits learns it at once, and nobody waits again."""
        self._is_gone = True
        self._inbox.put(None)

    def _isolate(self, what: str) -> None:
        """End the connection, so that this switch alone suffers from what it does."""
        self.on_disconnect()
        self._hang_up(
            f"bridge {self.name!r} {what} when it was asked to {self._doing}; "
            "see what its host's ovs-vswitchd logs"
        )

    def _multipart(self, what: str, request: Callable[[int], bytes]) -> Iterator[bytes]:
        self._begin(what, 1)
        self._send(request(self._xid(0)))
        while True:
            message = self._receive()
            if message[1] == ERROR:
                raise SwitchRefused(self.name, what, str(decode_error(message)))
            if message[1] == MULTIPART_REPLY:
                yield message
                if is_last_part(message):
                    return

    def _ask_for(self, role: Role, generation: int = 0) -> tuple[Role, int]:
        what = "let this controller lead"
        self._begin(what, 1)
        self._send(encode_role_request(self._xid(0), role, generation))
        while True:
            message = self._receive()
            if message[1] == ERROR:
                raise SwitchRefused(self.name, what, str(decode_error(message)))
            if message[1] == ROLE_REPLY:
                return decode_role_reply(message)

    def _until_barrier(self, offset: int, data: bytes) -> list[SwitchError]:
        """Send ``data`` and a barrier; the errors that came before the barrier's reply.

        Raises:
            Displaced: another controller leads the switch now; what was refused is not done.
        """
        self._send(data + encode_barrier(self._xid(offset)))
        errors: list[SwitchError] = []
        while True:
            message = self._receive()
            if message[1] == ERROR:
                errors.append(decode_error(message))
            elif message[1] == BARRIER_REPLY and self._offset_of(message) == offset:
                if any(problem.name == NOT_MASTER for problem in errors):
                    raise Displaced(self.name)
                return errors

    def _begin(self, what: str, count: int) -> None:
        """Reserve ``count`` transaction ids, and forget what came too late for earlier ones."""
        self._doing = what
        self._window = (self._next_xid, count)
        self._next_xid = (self._next_xid + count) & XID_MASK
        while not self._inbox.empty():
            late = self._inbox.get_nowait()
            self._taken += len(late or b"")
        self._answer_began = self._came
        if self._is_gone:
            raise SwitchGone(self.name, what)

    def _reserve(self, count: int) -> None:
        """Reserve so many more transaction ids for the request that is under way."""
        first, before = self._window
        self._window = (first, before + count)
        self._next_xid = (self._next_xid + count) & XID_MASK

    def _xid(self, offset: int) -> int:
        return OWN_XID << XID_BITS | (self._window[0] + offset) & XID_MASK

    def _offset(self, xid: int) -> int:
        return (xid - self._window[0]) & XID_MASK

    def _offset_of(self, message: bytes) -> int:
        return self._offset(HEADER.unpack_from(message)[3])

    def _send(self, data: bytes) -> None:
        if not self._send_bytes(data):
            raise SwitchGone(self.name, self._doing)

    def _receive(self) -> bytes:
        """The next answer to the request that is under way."""
        while True:
            try:
                message = self._inbox.get(timeout=self._timeout_s)
            except Empty:
                raise SwitchTimeout(self.name, self._doing, self._timeout_s) from None
            self._taken += len(message or b"")
            if message is None:
                raise SwitchGone(self.name, self._doing)
            if self._offset_of(message) < self._window[1]:
                return message

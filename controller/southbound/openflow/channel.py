"""Sends requests to one switch and matches the answers to them, over any transport of bytes.

One request is under way at a time. The transport provides ``send`` and calls ``on_message`` for
each answer, so this module needs no controller framework. The top byte of the transaction ids
(xids) of all requests is OWN_XID.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from queue import Empty, Queue

from controller.southbound.errors import (
    Displaced,
    SwitchGone,
    SwitchRefused,
    SwitchTimeout,
    WireError,
)
from controller.southbound.wire import (
    BARRIER_REPLY,
    ERROR,
    HEADER,
    MULTIPART_REPLY,
    ROLE_REPLY,
    ErrorMessage,
    Role,
    decode_error,
    decode_role_reply,
    encode_barrier,
    encode_role_request,
    is_last_part,
)
from flows.openflow import OWN_XID, XID_BITS

XID_MASK = (1 << XID_BITS) - 1
TIMEOUT_S = 10.0
WAITING_BYTES = 1 << 26
"""Limit of answers received and not read yet, in bytes; those of 250,000 flows take about that."""
ANSWER_BYTES = 1 << 28
"""Limit of the answer to one request, in bytes; that of 1,000,000 flows takes about that."""
PORTS_BYTES = 1 << 23
"""The same for a list of ports, which is asked of strangers as well; 65,279 ports take 4 MB."""
MESSAGE_COST_BYTES = 100
"""What a message takes in memory besides its bytes."""
ANSWER_S = 20.0
"""How long a whole answer may be waited for, in seconds, however many parts it has."""
ANSWER_BYTES_PER_S = 1 << 18
"""A longer answer may take longer: it comes at least at this rate."""
NOT_MASTER = "OFPBRC_IS_SLAVE"
"""The error by which a switch refuses changes from a controller that is no longer its master."""


class Channel:
    """The requests to one switch; whoever makes one holds ``lock`` until it is answered.

    ``send`` takes whole messages and returns False once the connection is over. A request raises
    SwitchTimeout if nothing arrives for ``timeout_s`` seconds. ``disconnect`` ends the connection
    to a switch that exceeds the limits above; its argument is the reason, in a sentence.
    ``is_behind`` tells whether the switch has sent something that was not read yet. ``name`` is
    that of the bridge, for errors.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[bytes], bool],
        timeout_s: float = TIMEOUT_S,
        disconnect: Callable[[str], None] = lambda why: None,
        is_behind: Callable[[], bool] = lambda: False,
    ) -> None:
        self._name, self._is_behind = name, is_behind
        self.lock = threading.Lock()
        self._send, self._timeout_s, self._disconnect = send, timeout_s, disconnect
        self._inbox: Queue[bytes | None] = Queue()
        self._received = self._read = self._answer_start = 0  # bytes
        self._answer_max = ANSWER_BYTES
        self._waited_s, self._most_s = 0.0, math.inf
        self._window = (0, 0)
        """First transaction id and number of ids of the request, replaced as one value: the
        connection's thread reads it without the lock."""
        self._next_xid = 1
        self._is_closed = False
        self._request = "connect"

    @property
    def name(self) -> str:
        """The name of the bridge, for errors."""
        return self._name

    def rename(self, name: str) -> None:
        """Set the name of the bridge."""
        self._name = name

    @property
    def waiting(self) -> int:
        """How many answers were received and not read yet."""
        return self._inbox.qsize()

    @property
    def request(self) -> str:
        """The request that is under way, as a verb phrase for errors."""
        return self._request

    def on_message(self, message: bytes) -> bool:
        """Take an answer, in the thread of the connection; never blocks.

        False if nobody waits for it: a late answer, or one to no request at all.
        """
        first, count = self._window
        if self._is_closed or (HEADER.unpack_from(message)[3] - first) & XID_MASK >= count:
            return False
        self._received += len(message) + MESSAGE_COST_BYTES
        if self._received - self._answer_start > self._answer_max:
            self.refuse(f"answered with more than {self._answer_max >> 20} MB")
        elif self._received - self._read > WAITING_BYTES:
            self.refuse(f"answered {WAITING_BYTES >> 20} MB faster than they could be read")
        else:
            self._inbox.put(message)
        return True

    def on_disconnect(self) -> None:
        """The connection is over: requests under way and all later ones raise SwitchGone."""
        self._is_closed = True
        self._inbox.put(None)

    def begin(
        self,
        request: str,
        xids: int,
        most_bytes: int | None = None,
        most_s: float = math.inf,
    ) -> None:
        """Start a request: reserve ``xids`` transaction ids, discard late answers to earlier ones.

        ``most_bytes`` limits the answer; None stands for ANSWER_BYTES. ``most_s`` limits how long
        all of the answer is waited for, in seconds.

        Raises:
            SwitchGone: the connection is over.
        """
        self._request = request
        self._window = (self._next_xid, xids)
        self._next_xid = (self._next_xid + xids) & XID_MASK
        while not self._inbox.empty():
            late = self._inbox.get_nowait()
            self._read += _cost(late)
        self._answer_start, self._waited_s, self._most_s = self._received, 0.0, most_s
        self._answer_max = ANSWER_BYTES if most_bytes is None else most_bytes
        if self._is_closed:
            raise SwitchGone(self._name, request)

    def reserve(self, xids: int) -> None:
        """Reserve more transaction ids for the request that is under way."""
        first, before = self._window
        self._window = (first, before + xids)
        self._next_xid = (self._next_xid + xids) & XID_MASK

    def xid(self, offset: int) -> int:
        """The transaction id with this offset in the request that is under way."""
        return OWN_XID << XID_BITS | (self._window[0] + offset) & XID_MASK

    def offset(self, xid: int) -> int:
        """The offset of a transaction id in the request that is under way."""
        return (xid - self._window[0]) & XID_MASK

    def send(self, data: bytes) -> None:
        """Send whole messages.

        Raises:
            SwitchGone: the connection is over.
        """
        if not self._send(data):
            raise SwitchGone(self._name, self._request)

    def try_send(self, data: bytes) -> None:
        """Send whole messages if the connection is not over."""
        self._send(data)

    def multipart(
        self, request: str, encode: Callable[[int], bytes], most_bytes: int | None = None
    ) -> Iterator[bytes]:
        """Send the multipart request that ``encode`` makes for a transaction id; its replies.

        ``most_bytes`` limits all of them together; see ``begin``.

        Raises:
            SwitchRefused: the switch answers with an error.
        """
        self.begin(request, 1, most_bytes)
        self.send(encode(self.xid(0)))
        while True:
            message = self._receive()
            if message[1] == ERROR:
                raise SwitchRefused(self._name, request, str(decode_error(message)))
            if message[1] == MULTIPART_REPLY:
                yield message
                if is_last_part(message):
                    return

    def multipart_of_one(self, request: str, encode: Callable[[int], bytes]) -> bytes:
        """The same for a request that has one reply.

        Raises:
            WireError: it has several.
        """
        first, *others = islice(self.multipart(request, encode), 2)
        if others:
            raise WireError(f"bridge {self._name!r} answers in parts when asked to {request}")
        return first

    def ask(self, request: str, encode: Callable[[int], bytes], answer: int) -> bytes:
        """Send the request that ``encode`` makes for a transaction id; its one reply of a type.

        Raises:
            SwitchRefused: the switch answers with an error.
        """
        self.begin(request, 1)
        self.send(encode(self.xid(0)))
        while True:
            message = self._receive()
            if message[1] == ERROR:
                raise SwitchRefused(self._name, request, str(decode_error(message)))
            if message[1] == answer:
                return message

    def request_role(self, role: Role, generation: int = 0) -> tuple[Role, int]:
        """Request a role; the role of this connection, and the generation id of the last master.

        Raises:
            SwitchRefused: the switch answers with an error.
        """

        def encode(xid: int) -> bytes:
            return encode_role_request(xid, role, generation)

        return decode_role_reply(self.ask("let this controller lead", encode, ROLE_REPLY))

    def send_with_barrier(
        self, offset: int, data: bytes, replies: list[bytes] | None = None
    ) -> list[ErrorMessage]:
        """Send ``data`` and a barrier request; the errors received before the barrier reply.

        ``offset`` is that of the barrier's transaction id. Multipart replies are added to
        ``replies``.

        Raises:
            Displaced: another controller is master now; what was refused is not done.
        """
        self.send(data + encode_barrier(self.xid(offset)))
        errors: list[ErrorMessage] = []
        while True:
            message = self._receive()
            if message[1] == ERROR:
                errors.append(decode_error(message))
            elif message[1] == MULTIPART_REPLY and replies is not None:
                replies.append(message)
            elif message[1] == BARRIER_REPLY and self._offset_of(message) == offset:
                if any(problem.name == NOT_MASTER for problem in errors):
                    raise Displaced(self._name)
                return errors

    def refuse(self, reason: str) -> None:
        """End the connection of a switch that exceeds a limit: no other switch is affected."""
        self.on_disconnect()
        self._disconnect(
            f"bridge {self._name!r} {reason} when it was asked to {self._request}; "
            "see what its host's ovs-vswitchd logs"
        )

    def _offset_of(self, message: bytes) -> int:
        return self.offset(HEADER.unpack_from(message)[3])

    def _receive(self) -> bytes:
        """The next answer to the request that is under way.

        A whole answer has a deadline, too: only the time counts in which nothing was there to read,
        so a busy controller blames no switch.
        """
        while True:
            message = self._next_message()
            self._read += _cost(message)
            if message is None:
                raise SwitchGone(self._name, self._request)
            if self._offset_of(message) < self._window[1]:
                return message

    def _next_message(self) -> bytes | None:
        with suppress(Empty):
            return self._inbox.get_nowait()
        allowed_s = ANSWER_S + (self._received - self._answer_start) / ANSWER_BYTES_PER_S
        began, left_s = time.monotonic(), max(0.0, allowed_s - self._waited_s)
        timeout_s = max(0.0, min(self._timeout_s, self._most_s - self._waited_s))
        try:
            return self._get(min(timeout_s, left_s))
        except Empty:
            if left_s > timeout_s:
                raise SwitchTimeout(
                    self._name, self._request, min(self._timeout_s, self._most_s)
                ) from None
            self.refuse(f"did not end its answer within {allowed_s:.0f} s")
            return None
        finally:
            self._waited_s += time.monotonic() - began

    def _get(self, timeout_s: float) -> bytes | None:
        """The next message; for as long again if something came meanwhile that was not read yet.

        Only once: whoever sends without end what nobody asked for delays no one for ever.

        Raises:
            Empty: there is none.
        """
        try:
            return self._inbox.get(timeout=timeout_s)
        except Empty:
            if timeout_s < self._timeout_s or not self._is_behind():
                raise
        return self._inbox.get(timeout=timeout_s)


def _cost(message: bytes | None) -> int:
    """What a message in the inbox counts for, in bytes."""
    return 0 if message is None else len(message) + MESSAGE_COST_BYTES

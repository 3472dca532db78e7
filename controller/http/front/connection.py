"""One connection of a client: parses its requests (h11), with a deadline for every phase."""

from __future__ import annotations

import asyncio
import json
import re
import select
import socket
import struct
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from typing import Protocol

import h11
import structlog

from controller.http.front.answer import HttpAnswer, Refusal, too_busy
from controller.http.front.dispatch import WholeRequest
from controller.http.front.head import (
    MAX_HEAD,
    RequestHead,
    check_head,
    too_long_body,
    too_long_head,
)
from controller.http.lanes import lane_of
from controller.http.reason_phrases import REASON_PHRASES
from controller.http.settings import FrontSettings

CHUNKS_FREE, MEAN_CHUNK_BYTES = 1024, 64
"""So many chunks of a chunked body may have any size; of more, the mean size must be at least this,
in bytes. Each costs more time than a byte."""
PIECE = 64 * 1024
"""Answers are handed to the kernel in pieces of this size, in bytes."""
LINGER_S, LINGER_BYTES = 2.0, 1 << 20
"""After a refusal what still arrives is dropped, so long and so much: a reset would destroy the
answer on its way."""
STALLED_S = 1.0
"""A client that has not taken its answer after so long reads slowly, in seconds."""

log = structlog.get_logger("controller.http.front")

NOT_HTTP_MAX = 200
"""Characters of what the parser says of a bad request that are passed on."""
_PYTHON_BYTES = re.compile(r"""(?:bytearray\()?b('[^']*'|"[^"]*")\)?""")
_CHUNK_SIZE_MAX = (1 << 63) - 1
_ALWAYS = (("Server", "cloudtap"), ("X-Content-Type-Options", "nosniff"))


class ConnectionPhase(Enum):
    """What a connection is doing; the lower the value, the sooner it is dropped."""

    IDLE = 0
    """No byte of a request has arrived."""
    HEAD = 1
    BODY = 2
    WRITING = 3
    """The answer is on its way to the client."""
    WAITING = 4
    """The controller works on the request."""
    CLOSING = 5


class Host(Protocol):
    """What a connection needs of the server."""

    @property
    def settings(self) -> FrontSettings:
        """Limits and secrets."""
        ...

    @property
    def buffer(self) -> memoryview:
        """Where all connections receive."""
        ...

    @property
    def is_stopping(self) -> bool:
        """Whether no request is taken any more."""
        ...

    def ask(self, request: WholeRequest) -> asyncio.Future[HttpAnswer]:
        """Pass a request to the controller."""
        ...

    def may_wait(self, client: str, head: RequestHead) -> bool:
        """Whether one more request of this client may wait for the controller."""
        ...

    def reserve(self, client: str, count: int) -> bool:
        """Take so many bytes of memory for a body; give them back as a negative count."""
        ...

    def make_room_for_answer(self, size: int) -> None:
        """Drop clients that do not take their answers, if an answer of this size needs it."""
        ...

    def refused(self, status: int) -> None:
        """A request was refused."""
        ...

    def left(self, connection: Connection) -> None:
        """The connection has ended."""
        ...


class Connection(asyncio.BufferedProtocol):
    """From accept to close; several requests one after the other."""

    def __init__(self, host: Host, client: str, address: str) -> None:
        self._host, self.client, self.address = host, client, address
        self._loop = asyncio.get_running_loop()
        self.phase, self.since = ConnectionPhase.IDLE, self._loop.time()
        self._transport: asyncio.Transport | None = None
        self._local_address: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._http = h11.Connection(h11.SERVER, MAX_HEAD)
        self._head: RequestHead | None = None
        self._was_served = False
        """Whether the API has answered a request of this connection, other than for health."""
        self._wants_no_body = False
        """Whether the request is HEAD, also if it is refused."""
        self._body: list[bytes] = []
        self._reserved = self._size = self._chunks = self._dropped = 0
        self._rest: list[memoryview] = []
        """What of the answer is not handed to the kernel yet, last part first."""
        self._can_write = True

    # --- what asyncio calls ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is ready, TLS included."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        name = transport.get_extra_info("sockname")
        self._local_address = name[0] if isinstance(name, tuple) else None
        # without TLS no more is written before the kernel has taken all: see _finish
        transport.set_write_buffer_limits(high=0 if transport.can_write_eof() else PIECE)
        self._enter(ConnectionPhase.IDLE, self._host.settings.request_seconds)

    def get_buffer(self, sizehint: int) -> memoryview:
        """The shared buffer: what arrives is consumed before anything else runs."""
        return self._host.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have arrived."""
        if self.phase is ConnectionPhase.CLOSING:
            self._dropped += nbytes
            if self._dropped > LINGER_BYTES:
                self.drop()
            return
        if self.phase is ConnectionPhase.IDLE:
            self._enter(ConnectionPhase.HEAD, self._host.settings.request_seconds)
        self._http.receive_data(bytes(self._host.buffer[:nbytes]))
        self._read_events()

    def eof_received(self) -> bool:
        """The client sends no more; it may wait for an answer still, except over TLS."""
        is_half_open = self._transport is not None and self._transport.can_write_eof()
        if is_half_open and self.phase in (ConnectionPhase.WAITING, ConnectionPhase.WRITING):
            return True
        if self.phase is not ConnectionPhase.CLOSING:
            self.drop()
        return False  # what is not sent yet is sent, then the transport closes

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        self._can_write = False

    def resume_writing(self) -> None:
        """The client has read something."""
        self._can_write = True
        self._write_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._forget_request()
        self._rest.clear()
        if self._timer is not None:
            self._timer.cancel()
        self.phase = ConnectionPhase.CLOSING
        self._host.left(self)

    # --- what the server calls ------------------------------------------------------------------

    def drop(self) -> None:
        """End the connection at once."""
        self.phase = ConnectionPhase.CLOSING
        self._rest.clear()
        if self._transport is not None:
            # a reset: the kernel keeps nothing for a client that does not read
            with suppress(OSError):  # the socket is closed already
                if (connection := self._socket) is not None:
                    linger = struct.pack("ii", 1, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()

    @property
    def unsent(self) -> int:
        """Bytes of the answer that are not with the kernel yet."""
        waiting = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return waiting + sum(map(len, self._rest))

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Who is dropped first is lowest: who was never served, then by phase, then the oldest."""
        return self._was_served, self.phase.value, self.since

    def has_unread(self) -> bool:
        """Whether bytes of the client wait in the kernel: it is not as idle as it looks."""
        connection = self._socket
        if connection is None or connection.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    @property
    def _socket(self) -> TransportSocket | None:
        """The socket; None before there is a transport, and when a TLS transport has lost it."""
        if self._transport is None:
            return None
        found: TransportSocket | None = self._transport.get_extra_info("socket")
        return found

    @property
    def may_be_dropped(self) -> bool:
        """Whether another connection may take its place."""
        if self.phase is ConnectionPhase.WRITING:
            return self._loop.time() - self.since > STALLED_S
        return self.phase in (ConnectionPhase.IDLE, ConnectionPhase.HEAD, ConnectionPhase.BODY)

    # --- a request ------------------------------------------------------------------------------

    def _read_events(self) -> None:
        try:
            while self.phase in (ConnectionPhase.IDLE, ConnectionPhase.HEAD, ConnectionPhase.BODY):
                if not self._read_event():
                    return
        except Refusal as refusal:
            self._refuse(refusal)
        except h11.RemoteProtocolError as error:
            self._refuse(_refusal_of(error))

    def _read_event(self) -> bool:
        """Handle the next event of the parser; False if it needs more bytes."""
        event = self._http.next_event()
        if isinstance(event, h11.Request):
            self._begin(event)
        elif isinstance(event, h11.Data):
            self._take(event)
        elif isinstance(event, h11.EndOfMessage):
            self._submit()
        elif event is h11.NEED_DATA:
            self._check_chunk()
            if self._head is not None and self._http.they_are_waiting_for_100_continue:
                self._send(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
            return False
        else:  # PAUSED, ConnectionClosed
            return False
        return True

    def _begin(self, request: h11.Request) -> None:
        self._wants_no_body = request.method == b"HEAD"
        self._head = check_head(request, self._host.settings, self._local_address)
        self.phase = ConnectionPhase.BODY  # the deadline is that of the whole request

    def _take(self, data: h11.Data) -> None:
        assert self._head is not None
        self._check_chunk()
        self._chunks += data.chunk_start
        count = len(data.data)
        self._size += count
        if self._size > self._head.max_body:
            raise too_long_body(self._head.max_body)
        if self._chunks > CHUNKS_FREE + self._size // MEAN_CHUNK_BYTES:
            raise Refusal(HTTPStatus.BAD_REQUEST, "bad-request", "the chunks are too small")
        if not self._host.reserve(self.client, count):
            raise too_busy("too many large requests arrive at this moment: try again")
        self._reserved += count
        self._body.append(bytes(data.data))

    def _check_chunk(self) -> None:
        """Refuse a chunk by the size that it announces (h11 keeps that to itself)."""
        size = getattr(self._http._reader, "_bytes_in_chunk", 0)
        if size > _CHUNK_SIZE_MAX:
            raise Refusal(HTTPStatus.BAD_REQUEST, "bad-request", "a chunk size is not a length")
        if self._head is not None and size > self._head.max_body:
            raise too_long_body(self._head.max_body)

    def _submit(self) -> None:
        assert self._head is not None and self._transport is not None
        if not self._host.may_wait(self.client, self._head):
            raise too_busy("too many requests of this client wait for an answer: try again")
        self._transport.pause_reading()
        self._enter(
            ConnectionPhase.WAITING, lane_of(self._head.path, self._head.method).answer_seconds
        )
        request = WholeRequest(self._head, b"".join(self._body), self.client, self.address)
        self._body.clear()
        self._host.ask(request).add_done_callback(self._answer)

    def _answer(self, future: asyncio.Future[HttpAnswer]) -> None:
        if self.phase is ConnectionPhase.WAITING:
            answer = future.result()
            assert self._head is not None
            if answer.status < HTTPStatus.BAD_REQUEST and not self._head.is_health:
                self._was_served = True
            try:
                self._respond(answer)
            except h11.LocalProtocolError as error:
                log.error("answer is not HTTP", client=self.address, reason=str(error))
                self.drop()

    # --- an answer ------------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal) -> None:
        """Answer, and close: what the client goes on to send is of no use."""
        if self._http.our_state is not h11.SEND_RESPONSE and self._http.our_state is not h11.IDLE:
            self.drop()
            return
        self._host.refused(refusal.answer.status)
        self._respond(refusal.answer, closes=True)

    def _respond(self, answer: HttpAnswer, *, closes: bool = False) -> None:
        self._forget_request()
        self._enter(ConnectionPhase.WRITING, self._host.settings.request_seconds)
        names = {name.lower() for name, _ in answer.headers}
        headers = [(n, v) for n, v in answer.headers if n.lower() not in ("server", "connection")]
        headers += [*_ALWAYS, ("Date", formatdate(usegmt=True))]
        if "cache-control" not in names:
            headers.append(("Cache-Control", "no-store"))
        has_body = answer.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
        if has_body and "content-length" not in names:
            headers.append(("Content-Length", str(len(answer.body))))
        if closes:
            headers.append(("Connection", "close"))
        reason = REASON_PHRASES.get(answer.status, "")
        sent = self._http.send(
            h11.Response(status_code=answer.status, headers=headers, reason=reason)
        )
        parts = [sent, None, None]
        if has_body and not self._wants_no_body:
            self._host.make_room_for_answer(len(answer.body))
            parts[1] = self._http.send(h11.Data(data=answer.body))
        parts[2] = self._http.send(h11.EndOfMessage())
        if len(answer.body) <= PIECE:
            parts = [b"".join(part for part in parts if part)]  # one segment
        self._rest = [memoryview(part) for part in reversed(parts) if part]
        self._write_on()

    def _write_on(self) -> None:
        assert self._transport is not None
        if self.phase is not ConnectionPhase.WRITING or not self._can_write:
            return
        if self._transport.is_closing():  # the client has gone: connection_lost follows
            return
        if not self._rest:
            self._finish()
            return
        part = self._rest.pop()
        if len(part) > PIECE:
            self._rest.append(part[PIECE:])
        self._send(part[:PIECE])
        if self._rest:  # in the next turn it is known whether the client has gone
            self._loop.call_soon(self._write_on)
        else:
            self._write_on()

    def _finish(self) -> None:
        """The answer is with the kernel: the next request, or the end."""
        assert self._transport is not None
        is_done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if is_done and not self._host.is_stopping:
            self._http.start_next_cycle()
            self._wants_no_body = False
            is_next = bool(self._http.trailing_data[0])
            self._enter(
                ConnectionPhase.HEAD if is_next else ConnectionPhase.IDLE,
                self._host.settings.request_seconds,
            )
            self._transport.resume_reading()
            self._read_events()
            return
        self._enter(ConnectionPhase.CLOSING, LINGER_S)
        if not self._transport.can_write_eof() or (connection := self._socket) is None:
            self._transport.close()
            return
        # the kernel has all, so there is nothing that asyncio would have to send before; its own
        # write_eof raises in a callback if the client has reset the connection meanwhile
        try:
            connection.shutdown(socket.SHUT_WR)
        except OSError:  # the client has reset the connection
            self.drop()
            return
        self._transport.resume_reading()

    # --- what all phases share ------------------------------------------------------------------

    def _enter(self, phase: ConnectionPhase, seconds: float) -> None:
        self.phase, self.since = phase, self._loop.time()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._on_deadline)

    def _on_deadline(self) -> None:
        actions: dict[ConnectionPhase, Callable[[], None]] = {
            ConnectionPhase.HEAD: self._refuse_late,
            ConnectionPhase.BODY: self._refuse_late,
            ConnectionPhase.WAITING: self._give_up,
        }
        actions.get(self.phase, self.drop)()

    def _refuse_late(self) -> None:
        seconds = self._host.settings.request_seconds
        sentence = f"a request must arrive within {seconds:g} seconds"
        self._refuse(Refusal(HTTPStatus.REQUEST_TIMEOUT, "too-slow", sentence))

    def _give_up(self) -> None:
        assert self._head is not None
        lane = lane_of(self._head.path, self._head.method)
        sentence = f"the controller has not answered for {lane.answer_seconds:g} seconds"
        if not self._head.is_health:
            late = Refusal(HTTPStatus.GATEWAY_TIMEOUT, "controller-silent", sentence)
            self._respond(late.answer, closes=True)
            return
        body = json.dumps({"alive": False, "reason": sentence}).encode()
        headers = (("Content-Type", "application/json"),)
        self._respond(HttpAnswer(HTTPStatus.SERVICE_UNAVAILABLE, headers, body), closes=True)

    def _send(self, data: bytes | memoryview | None) -> None:
        if self._transport is not None and data:
            self._transport.write(data)

    def _forget_request(self) -> None:
        self._body.clear()
        self._host.reserve(self.client, -self._reserved)
        self._head, self._reserved, self._size, self._chunks = None, 0, 0, 0


def _refusal_of(error: h11.RemoteProtocolError) -> Refusal:
    if error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        return too_long_head()
    status = HTTPStatus(error.error_status_hint)
    words = _PYTHON_BYTES.sub(r"\1", str(error)[:NOT_HTTP_MAX])
    return Refusal(status, "bad-request", f"this is not HTTP: {words}")

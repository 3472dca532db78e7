"""Messages between two processes over a stream socket: a JSON object and bytes, of bounded size.

On the wire: the length of the object and of the bytes (32 bits each, network byte order), then
both. Whoever receives checks the lengths before it allocates memory for them.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.process.time_slices import Yielder

MESSAGE_LENGTHS = struct.Struct("!II")
"""Lengths of the JSON object and of the bytes, in bytes."""
SEND_TIMEOUT_S = 30.0
"""How long a peer may read nothing before it counts as gone, in seconds."""
_CHUNK = 1 << 16


class PeerGone(Exception):
    """The other process has closed its end, reads nothing, or sends what is not a message."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: ``head`` is a JSON object, ``body`` any bytes."""

    head: Mapping[str, Any]
    body: bytes = b""

    def packed(self, max_bytes: int) -> bytes:
        """The whole message as it is sent.

        Raises:
            ValueError: head or body is longer than ``max_bytes``.
        """
        return self.packed_head(max_bytes) + self.body

    def packed_head(self, max_bytes: int) -> bytes:
        """What is sent before the body: lengths and head.

        Raises:
            ValueError: head or body is longer than ``max_bytes``.
        """
        head = json.dumps(self.head, separators=(",", ":")).encode()
        if max(len(head), len(self.body)) > max_bytes:
            raise ValueError(f"a message of {len(head)} + {len(self.body)} bytes is too long")
        return MESSAGE_LENGTHS.pack(len(head), len(self.body)) + head


def read_lengths(data: bytes, max_bytes: int) -> tuple[int, int]:
    """The lengths of head and body that MESSAGE_LENGTHS.size bytes tell.

    Raises:
        PeerGone: one is longer than ``max_bytes``, or there are fewer bytes.
    """
    if len(data) < MESSAGE_LENGTHS.size:
        raise PeerGone("it ended inside a message")
    head, body = MESSAGE_LENGTHS.unpack(data)
    if max(head, body) > max_bytes:
        raise PeerGone(f"it sent a message of {head} + {body} bytes, more than {max_bytes}")
    return head, body


def read_head(data: bytes) -> Mapping[str, Any]:
    """The JSON object of a message.

    Raises:
        PeerGone: it is not a JSON object.
    """
    try:
        head = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PeerGone("it sent what is not JSON") from error
    if not isinstance(head, dict):
        raise PeerGone("it sent what is not a JSON object")
    return head


class MessageSocket:
    """Sends and receives messages on a connected stream socket.

    Any thread may send; one thread receives. Under green threads both let others run.
    """

    def __init__(self, connection: socket.socket, max_bytes: int) -> None:
        self._socket, self._max_bytes = connection, max_bytes
        self._socket.settimeout(SEND_TIMEOUT_S)
        self._send_lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Send a message whole, after those that other threads send.

        Raises:
            PeerGone: the peer has gone, or has read nothing for SEND_TIMEOUT_S.
            ValueError: the message is too long; nothing is sent.
        """
        first = message.packed_head(self._max_bytes)
        with self._send_lock:
            try:
                self._socket.sendall(first)
                if message.body:
                    self._socket.sendall(message.body)
            except OSError as error:
                self.end()  # a part may have been sent
                raise PeerGone(f"nothing can be sent to it: {error}") from error

    def receive(self) -> Message | None:
        """Wait for the next message; None at the end of the connection.

        Raises:
            PeerGone: the connection ends inside a message, or that is not one.
        """
        lengths = self._read(MESSAGE_LENGTHS.size)
        if not lengths:
            return None
        head, body = read_lengths(lengths, self._max_bytes)
        parts = self._read(head), self._read(body)
        if len(parts[0]) < head or len(parts[1]) < body:
            raise PeerGone("it ended inside a message")
        return Message(read_head(parts[0]), parts[1])

    def end(self) -> None:
        """End the connection; who receives gets None. Any number of times, from any thread."""
        with contextlib.suppress(OSError):  # ended by either side before
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection and close the socket, in the thread that receives.

        While a green thread waits for a socket, another one that closes it does not wake it.
        """
        self.end()
        self._socket.close()

    def _read(self, count: int) -> bytes:
        """So many bytes, or none at the end of the connection, or fewer if it ends inside."""
        parts: list[bytes] = []
        missing, yielder = count, Yielder()
        while missing:
            yielder.pause()  # a green socket lets others run only when there is nothing to read
            try:
                part = self._socket.recv(min(missing, _CHUNK))
            except TimeoutError:
                continue
            except (OSError, EOFError):  # EOFError: closed by another green thread
                part = b""
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

"""Splits a byte stream into JSON objects of bounded size, before any JSON parser sees them.

OVSDB (RFC 7047) writes one JSON object after the other, without a length or a delimiter. The end of
an object is where its braces balance; braces inside strings do not count. Each byte is looked at
once, by the regular expressions of the standard library, whatever the peer sends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from controller.databases.errors import BadPeer

OVSDB_MESSAGE_MAX = 64 << 20
"""The longest message in bytes: some 200,000 interfaces with all that is asked for."""
STRING_MAX = 4 << 20
"""The longest string in a message, in bytes."""
VALUES_MAX = 8 << 20
"""The most values (commas, in fact) in a message: each costs memory once it is parsed."""
NESTING_MAX = 32
"""The deepest nesting of objects; OVSDB needs 6."""

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_OUTSIDE = re.compile(rb'[^"{}]*(?:' + _STRING + rb'[^"{}]*)*', re.DOTALL)
"""Everything until the next brace, or until a string that does not end here.

No two parts can match the same bytes, so what does not match costs no more than what does.
"""
_INSIDE = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
"""The rest of a string, without its end."""
_QUOTE, _OPEN, _CLOSE = b'"{}'
_BLANKS = re.compile(rb"[ \t\r\n]*")


class JsonSplitter:
    """Takes chunks of bytes, gives the JSON objects that they complete."""

    def __init__(self, max_message: int = OVSDB_MESSAGE_MAX, max_string: int = STRING_MAX) -> None:
        self._max_message, self._max_string = max_message, max_string
        self._buffer = bytearray()
        self._begin = self._position = self._depth = 0
        self._string_at: int | None = None

    @property
    def waiting(self) -> int:
        """The bytes of a message that is not complete."""
        return len(self._buffer)

    def feed(self, chunk: bytes) -> Iterator[dict[str, Any]]:
        """The objects that are complete with this chunk.

        Raises:
            BadPeer: the stream is no sequence of JSON objects, or exceeds a limit.
        """
        self._buffer += chunk
        while (end := self._find_end()) is not None:
            message = bytes(self._buffer[self._begin : end])
            self._begin = self._position = end
            yield parse(message)
        del self._buffer[: self._begin]
        self._position -= self._begin
        if self._string_at is not None:
            self._string_at -= self._begin
        self._begin = 0
        if len(self._buffer) > self._max_message:
            raise BadPeer(f"it sent a message of more than {self._max_message >> 20} MiB")

    def _find_end(self) -> int | None:
        """The length of the first message; None while it is not complete."""
        buffer, length = self._buffer, len(self._buffer)
        if self._position == self._begin:
            found = _BLANKS.match(buffer, self._begin)
            self._begin = self._position = found.end() if found else self._begin
            if self._begin < length and buffer[self._begin] != _OPEN:
                raise BadPeer("it sent what is not a JSON object")
        while self._position < length:
            if self._string_at is not None:
                if not self._skip_string():
                    return None
                continue
            found = _OUTSIDE.match(buffer, self._position)
            self._position = found.end() if found else self._position
            if self._position >= length:
                return None
            byte = buffer[self._position]
            if byte == _QUOTE:
                self._string_at = self._position
                self._position += 1
                continue
            self._position += 1
            self._depth += 1 if byte == _OPEN else -1
            if self._depth > NESTING_MAX:
                raise BadPeer(f"it sent objects that are nested more than {NESTING_MAX} times")
            if self._depth == 0:
                return self._position
        return None

    def _skip_string(self) -> bool:
        """Go to the end of the string; False if it is yet to come."""
        assert self._string_at is not None
        buffer = self._buffer
        found = _INSIDE.match(buffer, self._position)
        self._position = found.end() if found else self._position
        if self._position - self._string_at > self._max_string:
            raise BadPeer(f"it sent a string of more than {self._max_string >> 20} MiB")
        if self._position == len(buffer) or buffer[self._position] != _QUOTE:
            return False  # at the end, or at a backslash whose second byte is yet to come
        self._position, self._string_at = self._position + 1, None
        return True


def parse(message: bytes) -> dict[str, Any]:
    """One JSON object.

    Raises:
        BadPeer: it is not JSON, or has more values than are accepted.
    """
    if message.count(b",") > VALUES_MAX:
        raise BadPeer(f"it sent a message of more than {VALUES_MAX:,} values")
    try:
        found = json.loads(message, parse_constant=_refuse_constant)
    except RecursionError as problem:
        raise BadPeer("it sent lists that are nested too deep") from problem
    except UnicodeDecodeError as problem:
        raise BadPeer("it sent text that is not UTF-8") from problem
    except json.JSONDecodeError as problem:
        raise BadPeer("it sent what is not JSON") from problem
    except ValueError as problem:  # sys.set_int_max_str_digits
        raise BadPeer("it sent a number with too many digits") from problem
    if not isinstance(found, dict):
        raise BadPeer("it sent what is not a JSON object")
    return found


def _refuse_constant(text: str) -> Any:
    raise BadPeer(f"it sent {text}, which is not JSON")

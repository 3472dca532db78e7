"""Looks at JSON text before it is parsed: the parser is one call, during which nothing else runs.

What no request needs is refused here, in small steps: objects with many keys, long lists, texts and
numbers, deep nesting. What is left is parsed in short stretches.
"""

from __future__ import annotations

import re

from controller.process import Yielder

JSON_KEYS_MAX = 64
"""Most keys of one object."""
JSON_ELEMENTS_MAX = 100_000
"""Most elements of one list."""
JSON_DEPTH_MAX = 32
"""How deep objects and lists may be nested."""
JSON_TEXT_MAX = 256 * 1024
"""Longest text, in characters as it is written."""
JSON_STRETCH_MAX = 1024 * 1024
"""Most characters from the end of one object to that of the next: only objects are steps of the
parser."""
JSON_PLAIN_MAX = 4096
"""Most characters between texts, brackets and commas: of one number, with the white space."""
JSON_PIECE = 16 * 1024
"""Characters that are looked at before other threads may run."""

_PLAIN = re.compile(r'[^"{}\[\],]*')
_TEXT = re.compile(r'(?:[^"\\]+|\\.)*+', re.DOTALL)


class Disproportionate(ValueError):
    """The text has something that no request needs; the sentence says what."""


def check_proportions(text: str, yielder: Yielder) -> None:
    """Check the proportions of a text that may be JSON; the parser finds out whether it is.

    Raises:
        Disproportionate: the text exceeds one of the limits above.
    """
    counts: list[tuple[str, int]] = []
    kind, count, at, end = "", 0, 0, len(text)
    stepped = 0
    while at < end:
        yielder.pause()
        start, at = at, _skip(_PLAIN, text, at, JSON_PLAIN_MAX)
        if at == end:
            return
        if at - stepped > JSON_STRETCH_MAX:
            raise Disproportionate(f"more than {JSON_STRETCH_MAX} characters hold no whole object")
        if at - start > JSON_PLAIN_MAX:
            raise Disproportionate(
                f"a number or white space has more than {JSON_PLAIN_MAX} characters"
            )
        mark, at = text[at], at + 1
        if mark == '"':
            at = _text_end(text, at, yielder)
        elif mark in "{[":
            counts.append((kind, count))
            kind, count = mark, 0
            if len(counts) > JSON_DEPTH_MAX:
                raise Disproportionate("it is nested too deep")
        elif mark == ",":
            count += 1
            if kind == "{" and count >= JSON_KEYS_MAX:
                raise Disproportionate(f"an object has more than {JSON_KEYS_MAX} keys")
            if count >= JSON_ELEMENTS_MAX:
                raise Disproportionate(f"a list has more than {JSON_ELEMENTS_MAX} elements")
        else:
            stepped = at if mark == "}" else stepped
            kind, count = counts.pop() if counts else ("", 0)


def _text_end(text: str, start: int, yielder: Yielder) -> int:
    """Where the text ends that begins at ``start``, behind its quotation mark."""
    at = start
    while at < len(text):
        at = _skip(_TEXT, text, at, JSON_PIECE)
        if at - start > JSON_TEXT_MAX:
            raise Disproportionate(f"a text has more than {JSON_TEXT_MAX} characters")
        if at < len(text) and text[at] == '"':
            return at + 1
        if at < len(text) and text[at] == "\\":  # the piece ends inside of an escape sequence
            at += 2
        yielder.pause()
    return at


def _skip(what: re.Pattern[str], text: str, at: int, most: int) -> int:
    """The end of what begins here; of a little more than ``most`` characters at most."""
    found = what.match(text, at, min(len(text), at + most + 1))
    assert found is not None, "both match nothing, too"
    return found.end()

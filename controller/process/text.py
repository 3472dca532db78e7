"""Text of others where people look: control characters shown, not obeyed by a terminal.

Names of bridges, ports and files, and errors of switches and databases, are what somebody else
wrote. An escape sequence in them could recolour, overwrite or forge lines of a terminal or a log.
"""

from __future__ import annotations


def visible(text: str) -> str:
    """The text with everything that is not printable as an escape like ``\\x1b``.

    Covers control characters of ASCII and Latin-1, line ends, marks that change the direction of
    text (U+202E), characters without width, and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def visible_lines(text: str) -> str:
    """The same for a text of several lines: its line ends stay."""
    return "\n".join(visible(line) for line in text.split("\n"))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

"""Why a database is not listened to: its bytes, its messages or its rows are not acceptable."""

from __future__ import annotations


class BadPeer(Exception):
    """A database sends what no ovsdb-server sends, or more than is accepted; a clause says what.

    The connection is closed, and tried again only after a long pause.
    """


class BadValue(Exception):
    """A value of one row cannot be used; a clause says why. Other rows are not affected."""


def shown(text: str, most: int = 60) -> str:
    """A string of a peer for people: quoted, escaped to printable ASCII, cut after ``most``."""
    quoted = ascii(text[:most])
    return quoted if len(text) <= most else f"{quoted}... ({len(text):,} characters)"

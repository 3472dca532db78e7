"""The cookie of a flow: whose it is, and a digest that tells it apart from others."""

from __future__ import annotations

from typing import NewType

Cookie = NewType("Cookie", int)

OWNER = 0xC7A
"""The top 12 bits of every cookie of ours: no flow without them is ever touched."""
OWNER_SHIFT, OBJECT_SHIFT = 52, 32
OWNER_MASK = 0xFFF << OWNER_SHIFT
OBJECT_MASK = 0xFFFFF << OBJECT_SHIFT
OBJECT_MAX = 0xFFFFF
DIGEST_MASK = 0xFFFFFFFF
PRODUCTION = 0
"""Object of flows that no session owns."""
LEARNED_OBJECT = OBJECT_MAX
"""Object of flows that the switch itself learns; they are ours, but in no plan."""


def make_cookie(owner: int, digest: int) -> Cookie:
    """Put our mark, an object number (20 bits) and a digest (32 bits) into one cookie."""
    return Cookie(OWNER << OWNER_SHIFT | owner << OBJECT_SHIFT | digest)


def is_ours(cookie: int) -> bool:
    """Whether a flow with this cookie was made by us (or learned by one of our flows)."""
    return cookie >> OWNER_SHIFT == OWNER


def object_of(cookie: int) -> int:
    """The object number inside a cookie of ours."""
    return (cookie & OBJECT_MASK) >> OBJECT_SHIFT

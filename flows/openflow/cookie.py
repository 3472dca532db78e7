"""Cookies of flows: our mark (12 bits), an object number (20 bits) and a digest (32 bits)."""

from __future__ import annotations

from typing import NewType

Cookie = NewType("Cookie", int)

OWNER = 0xC7A
"""The top 12 bits of our cookies; flows without them belong to others and are never changed."""
OWNER_SHIFT, OBJECT_SHIFT = 52, 32
OWNER_MASK = 0xFFF << OWNER_SHIFT
OBJECT_MASK = 0xFFFFF << OBJECT_SHIFT
OBJECT_MAX = 0xFFFFF
DIGEST_MASK = 0xFFFFFFFF
PRODUCTION = 0
"""Object of flows that no session owns."""
LEARNED_OBJECT = OBJECT_MAX
"""Object of flows that the switch learns itself; they are ours, but no plan contains them."""
EPOCH_OBJECT = OBJECT_MAX - 1
"""Object of the flow that marks an epoch of a bridge's megaflows; it is no part of what a bridge
should do, so that plans which are compared with the switch leave it alone."""
UNPLANNED_OBJECTS = frozenset({LEARNED_OBJECT, EPOCH_OBJECT})


def make_cookie(owner: int, digest: int) -> Cookie:
    """Put our mark, an object number (20 bits) and a digest (32 bits) into one cookie."""
    return Cookie(OWNER << OWNER_SHIFT | owner << OBJECT_SHIFT | digest)


def is_ours(cookie: int) -> bool:
    """Whether a flow with this cookie was made by us (or learned by one of our flows)."""
    return cookie >> OWNER_SHIFT == OWNER


def object_of(cookie: int) -> int:
    """The object number inside a cookie of ours."""
    return (cookie & OBJECT_MASK) >> OBJECT_SHIFT

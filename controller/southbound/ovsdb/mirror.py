"""Mirrors, by which a tap bridge of ours gets copies of what ports of another bridge send and get.

A Mirror is never changed: one that selects other ports is another one, with another name.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from controller.databases import MIRROR_NAME
from flows.model import Dpid, MirrorKey

MirrorId = tuple[Dpid, MirrorKey]
"""What identifies a Mirror of ours: the tap bridge that it sends to, and what it selects."""


@dataclass(frozen=True, slots=True)
class MirrorDemand:
    """The Mirrors of ours that are to send to one tap bridge.

    Those in ``wanted`` are made, and those in ``unwanted`` removed; if it is None, all that are not
    wanted. One in neither set is left as it is: flows may still use it. Remains of a Mirror, and
    one that was altered, copy something else than what they are named for: they are removed in any
    case, and made again if they are wanted.
    """

    wanted: frozenset[MirrorKey] = frozenset()
    unwanted: frozenset[MirrorKey] | None = frozenset()

    def has_no_use_for(self, key: MirrorKey) -> bool:
        """Whether a Mirror of ours that is as we made it is to be removed."""
        if self.unwanted is None:
            return key not in self.wanted
        return key in self.unwanted - self.wanted


def mirror_name(tap: Dpid, key: MirrorKey) -> str:
    """The name of a Mirror, and of its patch port: ``ctm`` and 12 hexadecimal digits of a digest of
    the tap bridge and of what is selected.
    """
    selected = ("/".join(sorted(uuids)) for uuids in key)
    text = ",".join((f"{tap:016x}", *selected))
    return MIRROR_NAME + blake2b(text.encode(), digest_size=6).hexdigest()

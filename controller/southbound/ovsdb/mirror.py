"""Mirrors of ours on the bridges of others: their names, and those that a tap bridge needs."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from flows.model import Dpid, MirrorKey

_MIRROR, _PEER = "ctm", "ctp"


@dataclass(frozen=True, slots=True)
class MirrorDemand:
    """The Mirrors that one tap bridge needs from its owner's bridge.

    Those in ``unwanted`` are removed; None: every one of ours that is not wanted. One that is in
    neither is left as it is: flows may still use it.
    """

    wanted: frozenset[MirrorKey] = frozenset()
    unwanted: frozenset[MirrorKey] | None = frozenset()


def mirror_name(dpid: Dpid, key: MirrorKey) -> str:
    """The name of a Mirror for a tap bridge, and of its patch port on the owner's bridge."""
    words = (f"{dpid:x}", ",".join(sorted(key.sources)), ",".join(sorted(key.targets)))
    return _MIRROR + blake2b("/".join(words).encode(), digest_size=6).hexdigest()


def peer_name(mirror: str) -> str:
    """The name of the other end of the patch, on the tap bridge, of a Mirror with this name."""
    return _PEER + mirror.removeprefix(_MIRROR)

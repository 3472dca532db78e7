"""Bridges that somebody else owns, and the bridge of ours beside each that gets copies from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flows.model.names import Dpid, Ofport

MIRRORS_MAX = 32
"""How many Mirrors Open vSwitch makes for one bridge; of more it ignores some."""


@dataclass(frozen=True, slots=True)
class OwnerPort:
    """A port of an owner's bridge, as its Port row says.

    ``row`` is the uuid of that row: a port that is made anew has another. ``vlan`` is the VLAN of
    which its frames have no tag of their own (an access port, or the native VLAN); the copies of a
    Mirror have that tag. On a trunk (``is_trunk``) frames of other VLANs have their tag.
    """

    row: str
    vlan: int | None = None
    is_trunk: bool = True


class MirrorKey(NamedTuple):
    """What a Mirror selects: the Port rows whose frames from the workload (sources), and to it
    (targets), are copied. A Mirror is never changed: with other ports it is another one."""

    sources: frozenset[str]
    targets: frozenset[str]


@dataclass(frozen=True, slots=True)
class Attachment:
    """The bridge of an owner from which a tap bridge of ours gets copies, by Mirrors.

    ``ports`` are the ports of the owner's bridge by their OpenFlow numbers there. ``mirrors`` are
    the Mirrors of ours that are made, with the port of the tap bridge at which their copies arrive.
    ``room`` is how many Mirrors of ours the owner's bridge can have beside those of others.
    ``name`` is that of the tap bridge.
    """

    owner: Dpid
    ports: Mapping[Ofport, OwnerPort] = field(default_factory=dict)
    mirrors: Mapping[MirrorKey, Ofport] = field(default_factory=dict)
    room: int = MIRRORS_MAX
    name: str = ""

"""Where a declared port was looked for, and why it is on no bridge: a sentence for the operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controller.process import did_you_mean

NAMES_COMPARED_MAX = 500
"""Most names that are compared with a misspelt one: comparing takes time that others need."""
BRIDGES_NAMED = 3
"""So many bridges are named in a sentence."""


@dataclass(frozen=True, slots=True)
class Found:
    """An interface that may be meant, with its bridge; ``error`` says why it is not open.

    ``is_reported``: the bridge reports it over OpenFlow, too. ``is_tapped``: its bridge is that of
    somebody else, of which only its database reports.
    """

    interface: str
    bridge: str
    iface_id: str | None = None
    error: str = ""
    is_reported: bool = False
    is_tapped: bool = False

    def __str__(self) -> str:
        return f"interface {self.interface!r} of bridge {self.bridge!r}"


@dataclass(frozen=True, slots=True)
class Search:
    """What a port was looked for by, and what is there.

    ``claims`` are interfaces that databases give its ``iface-id``. ``bridge`` and ``interface`` are
    declared for it, or None; ``named`` are interfaces of that name, ``meant`` the names of the
    bridges that may be meant, ``bridges`` those of all, and ``names`` those of their interfaces:
    more than NAMES_COMPARED_MAX are not compared.
    """

    port: str
    claims: Sequence[Found] = ()
    bridge: str | None = None
    interface: str | None = None
    named: Sequence[Found] = ()
    meant: Sequence[str] = ()
    bridges: Sequence[str] = ()
    names: Sequence[str] = ()


def looked_for(search: Search) -> str:
    """Why the port is on no bridge, and what was looked for."""
    if search.claims:
        return _unusable(search.claims[0])
    if not search.bridges:
        return "no bridge is known: point one here with `ovs-vsctl set-controller`"
    by_id = f"external_ids:iface-id {search.port!r}"
    if search.interface is None:
        return (
            f"looked for an interface with {by_id} on {_bridges(search.bridges)}: there is none; "
            f"set it with `ovs-vsctl set Interface NAME external_ids:iface-id={search.port}`, or "
            "declare the `interface` of the port"
        )
    if search.bridge is not None and not search.meant:
        hint = did_you_mean(search.bridge, search.bridges)
        return (
            f"looked for bridge {search.bridge!r}, and for an interface with {by_id}: no such "
            f"bridge is known, only {_bridges(search.bridges)}{hint}"
        )
    if search.named:
        return _unusable(search.named[0])
    names = search.names if len(search.names) <= NAMES_COMPARED_MAX else ()
    return (
        f"looked for interface {search.interface!r}, and for one with {by_id}, on "
        f"{_bridges(search.meant or search.bridges)}: there is neither"
        f"{did_you_mean(search.interface, names)}"
    )


def _unusable(found: Found) -> str:
    if found.error:
        return f"{found} was not opened by Open vSwitch: {found.error}"
    if found.iface_id is not None:
        return f"{found} is that of port {found.iface_id!r}, as its external_ids:iface-id says"
    if found.is_reported and found.is_tapped:
        return f"{found} is not used for it: see the problem that names it"
    if found.is_reported:
        return f"{found} is claimed by something else, too: see the problem that names it"
    if found.is_tapped:
        return (
            f"{found} is in the database, and has no OpenFlow port number of its own there (yet): "
            "see `ovs-vsctl show` on its host"
        )
    return (
        f"{found} is in the database, and the bridge does not report it over OpenFlow (yet): see "
        "whether the bridge is connected"
    )


def _bridges(names: Sequence[str]) -> str:
    some = ", ".join(repr(name) for name in names[:BRIDGES_NAMED])
    more = len(names) - BRIDGES_NAMED
    noun = "bridge" if len(names) == 1 else "bridges"
    return f"{noun} {some}" + (f" and {more} more" if more > 0 else "")

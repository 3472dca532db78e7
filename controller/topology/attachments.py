"""Which bridges of others are tapped, and by which bridge of ours beside them in their database.

A tap bridge names the bridge that it gets copies from; that mark alone makes the attachment. Where
marks contradict each other, or the bridge is one that this controller owns, nothing is attached,
and a problem says so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from controller.southbound.ovsdb import BridgeRow, InterfaceRow, OvsdbSnapshot
from flows.model import (
    MIRRORS_MAX,
    NO_OWNER,
    Attachment,
    Dpid,
    MirrorKey,
    Ofport,
    OwnerPort,
    Placement,
)

Rows = tuple[InterfaceRow, ...]


class Tap(NamedTuple):
    """The tap bridge of an owner's bridge."""

    dpid: Dpid
    name: str


@dataclass(frozen=True, slots=True)
class Attached:
    """The bridges of others that are tapped.

    ``by_tap`` are the attachments, without ports, by the tap bridge of each, and ``tap_by_owner``
    the tap bridges by the owner's bridge. ``problems`` are sentences about marks that attach
    nothing.
    """

    by_tap: Mapping[Dpid, Attachment] = field(default_factory=dict)
    tap_by_owner: Mapping[Dpid, Tap] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


class Attachments:
    """Finds the attachments among believed rows; what has not changed is the same object again.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._attached = Attached()
        self._made_of: dict[Dpid, tuple[BridgeRow, Rows, Rows]] = {}
        """The row of the owner's bridge, and the interfaces of both, by tap bridge."""

    def take(
        self,
        snapshot: OvsdbSnapshot,
        is_owned: Callable[[Dpid], bool],
        forgotten: Set[Dpid] = frozenset(),
    ) -> Attached:
        """The attachments now. ``is_owned`` tells which bridges have connected by OpenFlow;
        ``forgotten`` tap bridges tap nothing.
        """
        before = self._attached
        taps = [row for row in snapshot.bridges if row.taps and row.dpid not in forgotten]
        if not taps and not before.by_tap and not before.problems:
            return before
        problems: list[str] = []
        pairs = _pairs(taps, snapshot.bridges, is_owned, problems)
        by_tap = {tap.dpid: self._attachment(tap, owner, snapshot) for tap, owner in pairs}
        self._made_of = {dpid: made for dpid, made in self._made_of.items() if dpid in by_tap}
        found = Attached(
            kept(before.by_tap, by_tap),
            {owner.dpid: Tap(tap.dpid, tap.name) for tap, owner in pairs},
            tuple(sorted(problems)),
        )
        if found.by_tap is not before.by_tap or found != before:
            self._attached = found
        return self._attached

    def _attachment(self, tap: BridgeRow, owner: BridgeRow, snapshot: OvsdbSnapshot) -> Attachment:
        here = snapshot.by_bridge.get((tap.dpid, tap.database, tap.row), ())
        there = snapshot.by_bridge.get((owner.dpid, owner.database, owner.row), ())
        known, made = self._attached.by_tap.get(tap.dpid), self._made_of.get(tap.dpid)
        is_same = made is not None and made[0] == owner and made[1] is here and made[2] is there
        if is_same and known is not None:
            return known
        self._made_of[tap.dpid] = owner, here, there
        room = max(0, MIRRORS_MAX - owner.other_mirrors)
        return Attachment(owner.dpid, {}, _working(owner, here, there), room, tap.name)


def kept(
    before: Mapping[Dpid, Attachment], now: Mapping[Dpid, Attachment]
) -> Mapping[Dpid, Attachment]:
    """The attachments now; those that are equal to the former ones are the same objects."""
    found = {
        tap: known if (known := before.get(tap)) == each and known is not None else each
        for tap, each in now.items()
    }
    is_same = found.keys() == before.keys() and all(each is before[t] for t, each in found.items())
    return before if is_same else found


def with_ports(
    attached: Attached, taps: Mapping[Dpid, Tap], ports: Mapping[Placement, OwnerPort]
) -> Mapping[Dpid, Attachment]:
    """The attachments of these tap bridges, by the owner's bridge, with ports of the latter."""
    by_owner: defaultdict[Dpid, dict[Ofport, OwnerPort]] = defaultdict(dict)
    for place, port in ports.items():
        by_owner[place.dpid][place.ofport] = port
    return {
        tap.dpid: replace(
            attached.by_tap.get(tap.dpid, Attachment(owner, name=tap.name)),
            owner=owner,
            ports=by_owner.get(owner, {}),
        )
        for owner, tap in taps.items()
    }


def seen_from_tap(taps: Mapping[Dpid, Tap], place: Placement) -> Placement:
    """A place on the bridge that has it, as others have it: at the tap bridge, if it is tapped."""
    tap = taps.get(place.dpid)
    return place if tap is None else Placement(tap.dpid, place.ofport, place.dpid)


def seen_on_bridge(place: Placement) -> Placement:
    """A place on the bridge that has the port, which may be an owner's."""
    return place if place.owner == NO_OWNER else Placement(place.owner, place.ofport)


def _pairs(
    taps: Iterable[BridgeRow],
    bridges: Iterable[BridgeRow],
    is_owned: Callable[[Dpid], bool],
    problems: list[str],
) -> list[tuple[BridgeRow, BridgeRow]]:
    """Each tap bridge with the bridge that it taps; appends why others tap nothing."""
    named: defaultdict[tuple[str, str], list[BridgeRow]] = defaultdict(list)
    wanted = {(tap.database, tap.taps) for tap in taps}
    for row in bridges:
        if (row.database, row.name) in wanted:
            named[row.database, row.name].append(row)
    rivals = Counter((tap.database, tap.taps) for tap in taps)
    found: list[tuple[BridgeRow, BridgeRow]] = []
    for tap in taps:
        owners = named[tap.database, tap.taps]
        why = _why_not(tap, owners, rivals[tap.database, tap.taps], is_owned)
        if why:
            problems.append(f"bridge {tap.name!r} ({tap.dpid:016x}) taps nothing: {why}")
        else:
            found.append((tap, owners[0]))
    return found


def _why_not(
    tap: BridgeRow, owners: list[BridgeRow], rivals: int, is_owned: Callable[[Dpid], bool]
) -> str:
    """Why a tap bridge does not tap the bridge that it names; empty if it does."""
    if tap.taps == tap.name:
        return "it is marked as tapping itself; remove it with `cloudtap bridge detach`"
    if rivals > 1:
        return (
            f"{rivals} bridges are marked as tapping bridge {tap.taps!r}; remove all but one with "
            "`cloudtap bridge detach`"
        )
    if len(owners) != 1 or owners[0].dpid == NO_OWNER:
        return (
            f"its database has no bridge {tap.taps!r}, or what it says of that bridge is not "
            "believed; see the other problems, or remove it with `cloudtap bridge detach`"
        )
    owner = owners[0]
    if owner.taps:
        return f"bridge {owner.name!r}, which it is marked as tapping, is a tap bridge itself"
    if _datapath(owner) != _datapath(tap):
        return (
            f"bridge {owner.name!r} has datapath type {_datapath(owner)!r} and it has "
            f"{_datapath(tap)!r}, so no frame gets from one to the other; remove it with "
            "`cloudtap bridge detach`, and attach again"
        )
    if is_owned(owner.dpid):
        return (
            f"bridge {owner.name!r} has connected to this controller itself, which owns it; to "
            "have it tapped instead, give it the controllers of its owner alone (see `ovs-vsctl "
            f"get-controller {owner.name}` on its host), and run `cloudtap bridge forget "
            f"{owner.name}`"
        )
    return ""


def _datapath(row: BridgeRow) -> str:
    return row.datapath_type or "system"


def _working(owner: BridgeRow, here: Rows, there: Rows) -> dict[MirrorKey, Ofport]:
    """The Mirrors that work, with the port of the tap bridge at which their copies arrive."""
    names = Counter(made.name for made in owner.mirrors)
    ends: defaultdict[str, list[InterfaceRow]] = defaultdict(list)
    for row in here:
        if row.mirror:
            ends[row.mirror].append(row)
    broken = {row.mirror for row in (*here, *there) if row.mirror and row.error}
    found: dict[MirrorKey, Ofport] = {}
    for made in owner.mirrors:
        end = ends.get(made.name, ())
        if made.is_altered or names[made.name] > 1 or made.name in broken or len(end) != 1:
            continue
        if end[0].ofport is not None:
            found.setdefault(made.key, end[0].ofport)
    return found

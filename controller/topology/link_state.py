"""The link state of every port, and so which tap ports and links between bridges are down.

Each time a tap port goes down or comes back, flows of its bridge change, and on some versions of
Open vSwitch all megaflows are made again (docs/decisions/0024-brought-through-to-the-datapath.md).
So a link that flaps is used again only after it was up for a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest

from controller.inventory import Inventory
from controller.southbound import PortChange, PortReason, SwitchPort
from controller.southbound.ovsdb import (
    BridgeKey,
    InterfaceRow,
    InterfacesByBridge,
    OvsdbSnapshot,
)
from flows.model import OFPORT_MAX, Dpid, Link, Ofport, Placement, PortId, PortKind

STEADY_S = 10.0
"""A link that was up for so long before it goes down does not flap, in seconds."""
HOLD_S, HOLD_MAX_S = 0.5, 8.0
"""A link that flaps counts as down until it was up for so long: at first, and at most, in seconds.
Each time it goes down again this doubles."""


@dataclass(slots=True)
class _Flap:
    """When a link came up last, in monotonic seconds, and for how long it counts as down then."""

    up_at: float
    hold_s: float

    @property
    def ends_at(self) -> float:
        """When the link counts as up, unless it goes down again before."""
        return self.up_at + self.hold_s


class LinkStates:
    """The link state of each port, from the latest report of its bridge (OpenFlow) or of OVSDB.

    ovs-vswitchd reports each change to both, so they soon agree. A port without any report is up.
    ``now`` returns monotonic seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._flaps: dict[tuple[Dpid, int], _Flap] = {}
        """Links that came up, by bridge and port number."""
        self._lock = threading.Lock()
        self._down: dict[Dpid, frozenset[int]] = {}
        """The numbers of ports whose link is down, of bridges that have any."""
        self._connected: set[Dpid] = set()
        """The bridges that have reported over OpenFlow."""
        self._groups: InterfacesByBridge = {}
        self._reported: dict[BridgeKey, dict[int, bool]] = {}

    def report_ports(self, dpid: Dpid, ports: Iterable[SwitchPort]) -> bool:
        """A bridge has reported all ports; whether the set of links that are down has changed."""
        states = {p.ofport: p.is_up for p in ports if p.ofport <= OFPORT_MAX}
        down = frozenset(number for number, is_up in states.items() if not is_up)
        with self._lock:
            self._connected.add(dpid)
            has_changed = self._set_all(dpid, down)
            self._end_flaps(dpid, {n for d, n in self._flaps if d == dpid} - states.keys())
            return has_changed

    def report_port(self, dpid: Dpid, change: PortChange) -> bool:
        """A port has changed; whether the set of links that are down has changed."""
        if change.port.ofport > OFPORT_MAX:
            return False
        is_up = change.port.is_up or change.reason is PortReason.DELETED
        with self._lock:
            self._connected.add(dpid)
            has_changed = self._set(dpid, change.port.ofport, is_up)
            if change.reason is PortReason.DELETED:  # another port may get its number
                self._end_flaps(dpid, [change.port.ofport])
            return has_changed

    def forget(self, dpid: Dpid) -> bool:
        """Forget what a bridge has reported over OpenFlow; whether the set of links has changed."""
        with self._lock:
            self._connected.discard(dpid)
            said = [links for key, links in self._reported.items() if key[0] == dpid]
            down = frozenset(n for links in said for n, is_up in links.items() if not is_up)
            has_changed = self._set_all(dpid, down)
            self._end_flaps(dpid, {n for d, n in self._flaps if d == dpid})
            return has_changed

    def report_interfaces(self, snapshot: OvsdbSnapshot) -> bool:
        """The databases have changed; whether the set of links that are down has changed."""
        with self._lock:
            before, self._groups = self._groups, snapshot.by_bridge
            changed = [
                self._take(key, before.get(key, ()), group)
                for key, group in self._groups.items()
                if before.get(key) is not group
            ]
            for key in before.keys() - self._groups.keys():
                changed.append(self._take(key, before[key], ()))
                self._reported.pop(key, None)
            return True in changed

    def down(
        self,
        inventory: Inventory,
        placements: Mapping[PortId, Placement],
        links: Iterable[Link] = (),
    ) -> frozenset[PortId | Placement]:
        """The tap ports whose link is down at their current placement, and such ends of links."""
        with self._lock:
            now = self._now()
            self._flaps = {
                (dpid, number): flap
                for (dpid, number), flap in self._flaps.items()
                if number in self._down.get(dpid, ()) or now - flap.up_at < STEADY_S
            }
            if not self._down and not self._flaps:
                return frozenset()
            found: set[PortId | Placement] = set()
            for port in inventory.ports:
                place = placements.get(port.id) if port.kind is PortKind.TAP else None
                if place is not None and self._is_down(place, now):
                    found.add(port.id)
            ends = (end for link in links for end in (link.a, link.b))
            found.update(end for end in ends if self._is_down(end, now))
            return frozenset(found)

    def all_down(self) -> frozenset[Placement]:
        """Every port whose link is down; those that have flapped and are up again are not."""
        with self._lock:
            return frozenset(
                Placement(dpid, Ofport(number))
                for dpid, numbers in self._down.items()
                for number in numbers
                if number > 0
            )

    def due(self) -> float | None:
        """When the next link that has flapped counts as up, in monotonic seconds; None: none."""
        with self._lock:
            now = self._now()
            ends = (
                flap.ends_at
                for (dpid, number), flap in self._flaps.items()
                if number not in self._down.get(dpid, ())
            )
            return min((end for end in ends if end > now), default=None)

    def _is_down(self, place: Placement, now: float) -> bool:
        flap = self._flaps.get((place.dpid, int(place.ofport)))
        is_held = flap is not None and now < flap.ends_at
        return is_held or place.ofport in self._down.get(place.dpid, ())

    def _take(
        self, key: BridgeKey, before: tuple[InterfaceRow, ...], after: tuple[InterfaceRow, ...]
    ) -> bool:
        """Take the rows of a bridge; only those count that are not the same object as before.

        A row that is gone says nothing any more; the bridge may, if it is connected.
        """
        old = [row for a, row in zip_longest(after, before) if a is not row and row is not None]
        new = [row for row, b in zip_longest(after, before) if b is not row and row is not None]
        known = self._reported.setdefault(key, {})
        links = dict(_link(row) for row in new if _is_reported(row))
        gone = {_link(row)[0] for row in old if _is_reported(row)} - links.keys()
        for number in gone:
            known.pop(number, None)
        dpid, down = key[0], set(self._down.get(key[0], ()))
        if dpid not in self._connected:
            down -= gone
        for number, is_up in links.items():
            if known.get(number) != is_up:
                (down.discard if is_up else down.add)(number)
        known |= links
        has_changed = self._set_all(dpid, frozenset(down))
        if dpid not in self._connected:
            self._end_flaps(dpid, gone)
        return has_changed

    def _set(self, dpid: Dpid, number: int, is_up: bool) -> bool:
        before = self._down.get(dpid, frozenset())
        return self._set_all(dpid, before - {number} if is_up else before | {number})

    def _set_all(self, dpid: Dpid, down: frozenset[int]) -> bool:
        """Replace the links of a bridge that are down; whether they differ. With the lock held."""
        before = self._down.get(dpid, frozenset())
        if down == before:
            return False
        self._note_flaps(dpid, before - down, down - before)
        if down:
            self._down[dpid] = down
        else:
            del self._down[dpid]
        return True

    def _note_flaps(self, dpid: Dpid, up: Iterable[int], down: Iterable[int]) -> None:
        """Note links that have come up, and those that have gone down."""
        now = self._now()
        for number in up:
            flap = self._flaps.get((dpid, number))
            self._flaps[dpid, number] = _Flap(now, 0.0 if flap is None else flap.hold_s)
        for number in down:
            flap = self._flaps.get((dpid, number))
            if flap is not None and now - flap.up_at < STEADY_S:
                flap.hold_s = min(max(2 * flap.hold_s, HOLD_S), HOLD_MAX_S)
            else:
                self._flaps.pop((dpid, number), None)

    def _end_flaps(self, dpid: Dpid, numbers: Iterable[int]) -> None:
        """These ports are gone: others may get their numbers."""
        for number in numbers:
            self._flaps.pop((dpid, number), None)


def _is_reported(row: InterfaceRow) -> bool:
    return row.ofport is not None and row.is_up is not None


def _link(row: InterfaceRow) -> tuple[int, bool]:
    """The number of a port, and whether its link is up."""
    assert row.ofport is not None
    return int(row.ofport), bool(row.is_up)

"""Which tap ports have a link that is down, as bridges and databases tell."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from controller.inventory.file import Inventory
from controller.southbound.ovsdb.rows import OvsdbSnapshot
from controller.southbound.wire.message import PortChange, PortReason, SwitchPort
from flows.model.session import OFPORT_MAX, Dpid, PortId, PortKind
from flows.model.world import Placement

Where = tuple[Dpid, int]
"""A bridge and a port number."""


class Links:
    """The state of the link of each port, by the report that came last, whoever it was from.

    Both are told of the same change by ovs-vswitchd, so they soon agree. A port of which nothing
    was told is up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._down: set[Where] = set()
        self._said: Mapping[Where, bool] = {}

    def report_ports(self, dpid: Dpid, ports: Iterable[SwitchPort]) -> bool:
        """A bridge has told all its ports; whether other links are down than before."""
        down = {(dpid, p.ofport) for p in ports if not p.is_up and p.ofport <= OFPORT_MAX}
        with self._lock:
            before = {where for where in self._down if where[0] == dpid}
            self._down = self._down - before | down
            return before != down

    def report_port(self, dpid: Dpid, change: PortChange) -> bool:
        """A port has changed; whether other links are down than before."""
        is_up = change.port.is_up or change.reason is PortReason.DELETED
        with self._lock:
            return self._set((dpid, change.port.ofport), is_up)

    def report_interfaces(self, snapshot: OvsdbSnapshot) -> bool:
        """The databases have changed; whether other links are down than before."""
        said = {
            (row.dpid, int(row.ofport)): row.is_up
            for row in snapshot.interfaces
            if row.ofport is not None and row.is_up is not None
        }
        with self._lock:
            new = {where: is_up for where, is_up in said.items() if self._said.get(where) != is_up}
            self._said = said
            turned = [self._set(where, is_up) for where, is_up in new.items()]
            return True in turned

    def down(
        self, inventory: Inventory, placements: Mapping[PortId, Placement]
    ) -> frozenset[PortId]:
        """The tap ports whose links are down where they are placed now."""
        with self._lock:
            if not self._down:
                return frozenset()
            found = set()
            for port in inventory.ports:
                place = placements.get(port.id) if port.kind is PortKind.TAP else None
                if place is not None and (place.dpid, place.ofport) in self._down:
                    found.add(port.id)
            return frozenset(found)

    def _set(self, where: Where, is_up: bool) -> bool:
        was_up = where not in self._down
        if is_up:
            self._down.discard(where)
        else:
            self._down.add(where)
        return was_up != is_up

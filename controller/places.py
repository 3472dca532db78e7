"""Where every port and link is now: OpenFlow ports, OVSDB rows and the inventory, as one answer."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controller.inventory import Inventory
from controller.place_rules import Bridge, Seen, cut, resolve
from controller.southbound.ovsdb_rows import OvsdbSnapshot
from controller.southbound.wire_message import LOCAL_PORT, PortChange, PortReason, SwitchPort
from controller.store.values import BridgeRecord, InterfaceRow
from flows.model import OFPORT_MAX, Dpid, PortId
from flows.world import Link, Placement


@dataclass(frozen=True, slots=True)
class PlacesSnapshot:
    """Where everything is at one moment; ``problems`` are sentences for the operator.

    ``records`` is what to remember for the next start, one for each known bridge.
    """

    placements: Mapping[PortId, Placement] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    problems: tuple[str, ...] = ()
    records: tuple[BridgeRecord, ...] = ()


class Places:
    """Collects what is reported about places, in any order and from any thread.

    A port is placed where its id is the ``external_ids:iface-id`` of an interface that OVSDB and
    OpenFlow agree about, else where its hint in the inventory says. What was remembered counts
    until a bridge, or its database, reports; what was reported counts after it has gone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inventory = Inventory()
        self._bridges: dict[Dpid, Bridge] = {}
        self._moment = 0
        self._snapshot: PlacesSnapshot | None = None

    def declare(self, inventory: Inventory) -> None:
        """Take the ports, hints and links of the inventory, in place of the one before."""
        with self._lock:
            self._inventory = inventory
            self._snapshot = None

    def remember(self, records: Iterable[BridgeRecord]) -> None:
        """Take what was known before the start; for bridges of which nothing was reported yet."""
        with self._lock:
            for record in records:
                if record.dpid not in self._bridges:
                    self._bridges[record.dpid] = _recall(record)
            self._snapshot = None

    def report_ports(self, dpid: Dpid, ports: Iterable[SwitchPort]) -> None:
        """A bridge has connected and told all its ports."""
        with self._lock:
            is_known = dpid in self._bridges
            bridge = self._bridges.setdefault(dpid, Bridge())
            name, before = bridge.name(dpid), bridge.ports
            found: dict[int, Seen] = {}
            for port in ports:
                if 1 <= port.ofport <= OFPORT_MAX:
                    known = before.get(port.ofport)
                    same = known is not None and known.name == port.name
                    found[port.ofport] = known if known and same else self._seen(port.name)
                elif port.ofport == LOCAL_PORT:
                    bridge.local_name = port.name
            bridge.ports = found
            if not is_known or found != before or bridge.name(dpid) != name:
                self._snapshot = None

    def report_port(self, dpid: Dpid, change: PortChange) -> None:
        """A port of a bridge has come, gone or changed."""
        number, name = change.port.ofport, change.port.name
        if not 1 <= number <= OFPORT_MAX:
            return
        with self._lock:
            ports = self._bridge(dpid).ports
            if change.reason is PortReason.DELETED:
                ports.pop(number, None)
            elif number not in ports or ports[number].name != name:
                ports[number] = self._seen(name)

    def report_interfaces(self, snapshot: OvsdbSnapshot) -> None:
        """The databases have changed: everything that they say now.

        A bridge that they say nothing about (any more) goes by the names of its ports.
        """
        with self._lock:
            names = {row.dpid: row.name for row in snapshot.bridges}
            for dpid, name in names.items():
                self._bridge(dpid).database_name = name
            rows: dict[Dpid, dict[str, InterfaceRow]] = {dpid: {} for dpid in names}
            for row in snapshot.interfaces:
                seen = InterfaceRow(row.name, row.iface_id, row.ofport or 0)
                rows.setdefault(row.dpid, {})[row.name] = seen
            for dpid, bridge in self._bridges.items():
                bridge.take_rows(rows.get(dpid), self._seen)
            self._snapshot = None

    def forget(self, dpid: Dpid) -> None:
        """A bridge is ours no longer."""
        with self._lock:
            self._bridges.pop(dpid, None)
            self._snapshot = None

    def bridge_names(self) -> dict[Dpid, str]:
        """Every bridge that is, or was, known, with its name."""
        with self._lock:
            return {dpid: bridge.name(dpid) for dpid, bridge in self._bridges.items()}

    def snapshot(self) -> PlacesSnapshot:
        """Where everything is now; the same value again while nothing was reported."""
        with self._lock:
            if self._snapshot is None:
                found = resolve(self._inventory, self._bridges)
                records = tuple(b.record(dpid) for dpid, b in sorted(self._bridges.items()))
                self._snapshot = PlacesSnapshot(*found, records=records)
            return self._snapshot

    def _bridge(self, dpid: Dpid) -> Bridge:
        self._snapshot = None
        return self._bridges.setdefault(dpid, Bridge())

    def _seen(self, name: str) -> Seen:
        self._moment += 1
        return Seen(name, self._moment)


def _recall(record: BridgeRecord) -> Bridge:
    ports = {row.ofport: Seen(cut(row.interface), 0) for row in record.rows}
    rows = {row.interface: (row, 0) for row in record.rows}
    return Bridge(remembered_name=record.name, ports=ports, remembered_rows=rows)

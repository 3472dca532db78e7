"""Where every port and link is now: OpenFlow ports, OVSDB rows and the inventory, as one answer."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from controller.inventory.file import Inventory
from controller.topology.merge import Bridge, Report, Seen, cut, resolve
from controller.southbound.ovsdb.rows import OvsdbSnapshot
from controller.southbound.wire.message import LOCAL_PORT, PortChange, PortReason, SwitchPort
from controller.store.values import BridgeRecord, InterfaceRow
from controller.process.time_slices import TURNS
from flows.model.session import OFPORT_MAX, Dpid, PortId
from flows.model.world import Link, Placement


@dataclass(frozen=True, slots=True)
class PlacesSnapshot:
    """Where everything is at one moment; ``problems`` are sentences for the operator.

    ``records`` is what to remember for the next start, one for each known bridge; ``version``
    counts the changes that were reported until then.
    """

    placements: Mapping[PortId, Placement] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    problems: tuple[str, ...] = ()
    records: tuple[BridgeRecord, ...] = ()
    version: int = field(default=0, compare=False)


class Places:
    """Collects what is reported about places, in any order and from any thread.

    A port is placed where its id is the ``external_ids:iface-id`` of an interface that OVSDB and
    OpenFlow agree about, else where its hint in the inventory says. What was remembered counts
    until a bridge, or its database, reports; what was reported counts after it has gone.
    """

    def __init__(self) -> None:
        self._lock, self._resolving = threading.Lock(), threading.Lock()
        self._inventory = Inventory()
        self._bridges: dict[Dpid, Bridge] = {}
        self._forgotten: set[Dpid] = set()
        self._said = OvsdbSnapshot()
        self._reports: dict[Dpid, Report] = {}
        self._moment = 0
        self._version = 1
        self._snapshot = PlacesSnapshot()

    def declare(self, inventory: Inventory) -> None:
        """Take the ports, hints and links of the inventory, in place of the one before."""
        with self._lock:
            self._inventory = inventory
            self._version += 1

    def remember(self, records: Iterable[BridgeRecord]) -> None:
        """Take what was known before the start; for bridges of which nothing was reported yet."""
        with self._lock:
            for record in records:
                if record.dpid not in self._bridges:
                    self._bridges[record.dpid] = _recall(record)
            self._version += 1

    def report_ports(self, dpid: Dpid, ports: Iterable[SwitchPort]) -> None:
        """A bridge has connected and told all its ports."""
        with self._lock:
            is_known = dpid in self._bridges
            bridge = self._reporting(dpid)
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
                self._outdate(dpid)

    def report_port(self, dpid: Dpid, change: PortChange) -> None:
        """A port of a bridge has come, gone or changed."""
        number, name = change.port.ofport, change.port.name
        if not 1 <= number <= OFPORT_MAX:
            return
        with self._lock:
            bridge = self._reporting(dpid)
            seen = bridge.ports.get(number)
            if change.reason is PortReason.DELETED:
                bridge.ports.pop(number, None)
            elif seen is None or seen.name != name:
                bridge.ports[number] = self._seen(name)
            if bridge.ports.get(number) is not seen:
                self._outdate(dpid)

    def report_interfaces(self, snapshot: OvsdbSnapshot) -> None:
        """The databases have changed: everything that they say now.

        A bridge that they say nothing about (any more) goes by the names of its ports.
        """
        with self._lock:
            self._said = snapshot
            self._take(snapshot)

    def forget(self, dpid: Dpid) -> None:
        """A bridge is ours no longer; what its database says counts again when it connects.

        The database of a host that is gone stays known as it was last.
        """
        with self._lock:
            self._bridges.pop(dpid, None)
            self._forgotten.add(dpid)
            self._outdate(dpid)

    def bridge_names(self) -> dict[Dpid, str]:
        """Every bridge that is, or was, known, with its name."""
        with self._lock:
            return {dpid: bridge.name(dpid) for dpid, bridge in self._bridges.items()}

    def bridge_name(self, dpid: Dpid) -> str:
        """The name of one bridge; its datapath id where nobody knows one."""
        with self._lock:
            bridge = self._bridges.get(dpid)
            return bridge.name(dpid) if bridge is not None else f"{dpid:016x}"

    def snapshot(self) -> PlacesSnapshot:
        """Where everything is now; the same value again while nothing was reported."""
        with self._resolving:
            with self._lock:
                version, inventory = self._version, self._inventory
                dpids = sorted(self._bridges)
            if version != self._snapshot.version:
                with TURNS.taken():
                    reports = list(self._all_reports(dpids))
                    found = resolve(inventory, reports, TURNS.pause)
                records = tuple(report.record for report in reports)
                self._snapshot = PlacesSnapshot(*found, records, version)
            return self._snapshot

    @property
    def version(self) -> int:
        """How many changes were reported until now."""
        return self._version

    def _reporting(self, dpid: Dpid) -> Bridge:
        """What is known of a bridge that is about to report itself."""
        if dpid in self._forgotten:
            self._forgotten.discard(dpid)
            self._take(self._said)
        return self._bridges.setdefault(dpid, Bridge())

    def _take(self, snapshot: OvsdbSnapshot) -> None:
        """Take what the databases say of bridges that are not forgotten."""
        names = {row.dpid: row.name for row in snapshot.bridges if row.dpid not in self._forgotten}
        for dpid, name in names.items():
            bridge = self._bridges.setdefault(dpid, Bridge())
            if bridge.database_name != name:
                bridge.database_name = name
                self._outdate(dpid)
        rows: dict[Dpid, dict[str, InterfaceRow]] = {dpid: {} for dpid in names}
        for row in snapshot.interfaces:
            seen = InterfaceRow(row.name, row.iface_id, row.ofport or 0)
            rows.setdefault(row.dpid, {})[row.name] = seen
        for dpid, bridge in self._bridges.items():
            before = bridge.rows
            bridge.take_rows(rows.get(dpid), self._seen)
            if before != bridge.rows:
                self._outdate(dpid)

    def _all_reports(self, dpids: Iterable[Dpid]) -> Iterator[Report]:
        """What each bridge says; who reports meanwhile waits for one bridge, not for all."""
        for dpid in dpids:
            TURNS.pause()
            with self._lock:
                if dpid in self._bridges:
                    yield self._report(dpid)

    def _report(self, dpid: Dpid) -> Report:
        """What a bridge says; the same value again while it says nothing else."""
        if dpid not in self._reports:
            self._reports[dpid] = self._bridges[dpid].report(dpid)
        return self._reports[dpid]

    def _outdate(self, dpid: Dpid) -> None:
        self._reports.pop(dpid, None)
        self._version += 1

    def _seen(self, name: str) -> Seen:
        self._moment += 1
        return Seen(name, self._moment)


def _recall(record: BridgeRecord) -> Bridge:
    ports = {row.ofport: Seen(cut(row.interface), 0) for row in record.rows}
    rows = {row.interface: (row, 0) for row in record.rows}
    return Bridge(remembered_name=record.name, ports=ports, remembered_rows=rows)

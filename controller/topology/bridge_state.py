"""All reports about one bridge, of its switch and of its database, put together.

An interface counts where both agree about it, or where only the switch reports.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from controller.process import Yielder
from controller.southbound.ovsdb import InterfaceRow
from controller.store import BridgeRecord, InterfaceRecord, Place
from flows.model import Dpid, Ofport, Placement

NAME_BYTES = 15
"""The longest interface name in OpenFlow; longer ones are truncated."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface about which OpenFlow and OVSDB agree."""

    bridge: str
    name: str
    place: Placement
    iface_id: str | None

    @property
    def where(self) -> Place:
        """The bridge, and the name of the interface."""
        return self.place.dpid, self.name

    def __str__(self) -> str:
        return f"{self.name!r} of bridge {self.bridge!r} ({self.place.dpid:016x})"


@dataclass(frozen=True, slots=True)
class BridgeReport:
    """The interfaces of one bridge, and those that its database gives each ``iface-id``.

    ``names`` are all interfaces in its database. ``hosts`` are names of its host. ``record`` is
    stored for the next start.
    """

    interfaces: tuple[Interface, ...]
    claims: Mapping[str, frozenset[str]]
    names: frozenset[str]
    hosts: frozenset[str]
    record: BridgeRecord


@dataclass(slots=True)
class BridgeState:
    """All reports about one bridge; ``rows`` is None until its database has reported.

    ``remembered_*`` is what the store had at the start. ``database`` and ``row`` say who speaks for
    the bridge; ``failed`` are interfaces that Open vSwitch could not open. ``certificate`` is the
    name in the certificate of its host. ``has_connected`` is True once it has reported its ports.
    """

    remembered_name: str = ""
    local_name: str = ""
    database_name: str = ""
    database: str = ""
    row: str = ""
    hosts: tuple[str, ...] = ()
    certificate: str | None = None
    has_connected: bool = False
    is_remembered: bool = False
    ports: dict[int, str] = field(default_factory=dict)
    rows: dict[str, InterfaceRecord] | None = None
    failed: frozenset[str] = frozenset()
    remembered_rows: dict[str, InterfaceRecord] = field(default_factory=dict)
    _taken: tuple[InterfaceRow, ...] | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it has connected, or ports of ours are or were on it."""
        return self.has_connected or self.is_remembered

    @property
    def bound_name(self) -> str:
        """The name that its database says, or said last."""
        return self.database_name or self.remembered_name

    def name(self, dpid: Dpid) -> str:
        """Its name; its datapath id if no name is known."""
        known = self.database_name or self.local_name or self.remembered_name
        return known or f"{dpid:016x}"

    def take_rows(self, rows: tuple[InterfaceRow, ...] | None) -> bool:
        """Replace the rows of OVSDB, None if it does not have this bridge; whether places changed.

        Rows that are the same objects as before cost next to nothing.
        """
        before, self._taken = self._taken, rows
        if rows is None:
            was_said, self.rows, self.failed = self.rows is not None, None, frozenset()
            return was_said
        self.remembered_rows = {}
        if self.rows is not None and before is not None and _are_places_equal(before, rows):
            return False
        known = self.rows, self.failed
        yielder, found = Yielder(), dict[str, InterfaceRecord]()
        for row in rows:
            found[row.name] = InterfaceRecord(row.name, row.iface_id, row.ofport or 0)
            yielder.pause()
        self.rows, self.failed = found, frozenset(row.name for row in rows if row.error)
        return known != (self.rows, self.failed)

    def report(self, dpid: Dpid) -> BridgeReport:
        """The current report as a value."""
        interfaces = tuple(self._interfaces(dpid))
        in_order = sorted(interfaces, key=lambda i: (i.name, i.place.ofport))
        rows = [InterfaceRecord(i.name, i.iface_id, i.place.ofport) for i in in_order]
        speakers = (self.database, self.row, self.certificate)
        record = BridgeRecord(dpid, self.name(dpid), tuple(rows), *speakers)
        known = self._rows()
        claims: defaultdict[str, set[str]] = defaultdict(set)
        for row in known.values():
            if row.iface_id is not None and row.interface not in self.failed:
                claims[row.iface_id].add(row.interface)
        hosts = {*self.hosts, *([self.certificate] if self.certificate else [])}
        return BridgeReport(
            interfaces,
            {key: frozenset(names) for key, names in claims.items()},
            frozenset(known.keys() - self.failed),
            frozenset(hosts),
            record,
        )

    def _rows(self) -> Mapping[str, InterfaceRecord]:
        return self.remembered_rows if self.rows is None else self.rows

    def _interfaces(self, dpid: Dpid) -> Iterator[Interface]:
        """The interfaces about which OpenFlow and OVSDB agree, or that only OpenFlow reports."""
        row_by_number = {row.ofport: row for row in self._rows().values()}
        bridge = self.name(dpid)
        for number, name in self.ports.items():
            place = Placement(dpid, Ofport(number))
            row = row_by_number.get(number)
            if row is not None and truncate_name(row.interface) == name:
                yield Interface(bridge, row.interface, place, row.iface_id)
            elif self.rows is None:
                yield Interface(bridge, name, place, None)


def truncate_name(name: str) -> str:
    """The name of an interface as OpenFlow reports it."""
    return name.encode()[:NAME_BYTES].decode("utf-8", "backslashreplace")


def _are_places_equal(before: tuple[InterfaceRow, ...], after: tuple[InterfaceRow, ...]) -> bool:
    if before is after:
        return True
    if len(before) != len(after):
        return False
    others = [(a, b) for a, b in zip(before, after, strict=True) if a is not b]
    return all(_place_of(a) == _place_of(b) for a, b in others)


def _place_of(row: InterfaceRow) -> tuple[str, str | None, int | None, bool]:
    return row.name, row.iface_id, row.ofport, bool(row.error)

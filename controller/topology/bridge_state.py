"""All reports about one bridge, of its switch and of its database, put together.

An interface counts where both agree about it, or where only the switch reports. Of a bridge of
somebody else that is tapped only the database reports: it counts alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from controller.process import Yielder
from controller.southbound.ovsdb import InterfaceRow
from controller.store import BridgeRecord, InterfaceRecord, Place
from controller.topology.attachments import Tap
from flows.model import OFPORT_MAX, Dpid, Ofport, OwnerPort, Placement

NAME_BYTES = 15
"""The longest interface name in OpenFlow; longer ones are truncated."""
NO_NUMBER = 0
"""The number of an interface that has no OpenFlow port, or of which only a database has told."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface about which OpenFlow and OVSDB agree, or of a bridge that is tapped.

    ``place`` is on the bridge that has it. ``port`` is its Port row, on a bridge that is tapped;
    None if that has other interfaces, too (a bond): a Mirror would copy theirs.
    """

    bridge: str
    name: str
    place: Placement
    iface_id: str | None
    port: OwnerPort | None = None

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
    stored for the next start. ``tap`` is the bridge that taps it, if one does.
    """

    interfaces: tuple[Interface, ...]
    claims: Mapping[str, frozenset[str]]
    names: frozenset[str]
    hosts: frozenset[str]
    record: BridgeRecord
    tap: Tap | None = None


@dataclass(slots=True)
class BridgeState:
    """All reports about one bridge; ``rows`` is None until its database has reported.

    ``remembered_*`` is what the store had at the start. ``database`` and ``row`` say who speaks for
    the bridge; ``failed`` are interfaces that Open vSwitch could not open. ``certificate`` is the
    name in the certificate of its host. ``has_connected`` is True once it has reported its ports,
    ``had_connected`` if it had before the start. ``tap`` is the bridge that taps it;
    ``was_tapped``: one does, or did since it was connected last.
    """

    remembered_name: str = ""
    local_name: str = ""
    database_name: str = ""
    database: str = ""
    row: str = ""
    hosts: tuple[str, ...] = ()
    certificate: str | None = None
    has_connected: bool = False
    had_connected: bool = False
    is_remembered: bool = False
    tap: Tap | None = None
    was_tapped: bool = False
    ports: dict[int, str] = field(default_factory=dict)
    rows: dict[str, InterfaceRecord] | None = None
    failed: frozenset[str] = frozenset()
    patches: frozenset[str] = frozenset()
    """The patch ports of our Mirrors."""
    owner_ports: Mapping[str, OwnerPort] = field(default_factory=dict)
    """The Port rows of interfaces, but for bonds."""
    remembered_rows: dict[str, InterfaceRecord] = field(default_factory=dict)
    _taken: tuple[InterfaceRow, ...] | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it has connected, or ports of ours are or were on it."""
        return self.has_connected or self.is_remembered

    @property
    def is_owned(self) -> bool:
        """Whether it has connected, now or before the start: flows of ours may be on it."""
        return self.has_connected or self.had_connected

    @property
    def is_of_others(self) -> bool:
        """Whether it is, or was, tapped, and has never connected: it is not expected to."""
        return self.tap is not None or (self.was_tapped and not self.is_owned)

    @property
    def bound_name(self) -> str:
        """The name that its database says, or said last."""
        return self.database_name or self.remembered_name

    def name(self, dpid: Dpid) -> str:
        """Its name; its datapath id if no name is known."""
        known = self.database_name or self.local_name or self.remembered_name
        return known or f"{dpid:016x}"

    def take_tap(self, tap: Tap | None) -> bool:
        """Note the bridge that taps it, None: none does; whether that is news."""
        has_changed, self.tap = self.tap != tap, tap
        if tap is not None:
            self.was_tapped, self.ports = True, {}
        return has_changed

    def take_rows(self, rows: tuple[InterfaceRow, ...] | None) -> bool:
        """Replace the rows of OVSDB, None if it does not have this bridge; whether places changed.

        Rows that are the same objects as before cost next to nothing.
        """
        before, self._taken = self._taken, rows
        if rows is None:
            was_said, self.rows = self.rows is not None, None
            self.failed = self.patches = frozenset()
            return was_said
        self.remembered_rows = {}
        if self.rows is not None and before is not None and _are_places_equal(before, rows):
            return False
        known = self.rows, self.failed, self.patches, self.owner_ports
        yielder, found = Yielder(), dict[str, InterfaceRecord]()
        for row in rows:
            found[row.name] = InterfaceRecord(row.name, row.iface_id, row.ofport or NO_NUMBER)
            yielder.pause()
        self.rows, self.failed = found, frozenset(row.name for row in rows if row.error)
        self.patches = frozenset(row.name for row in rows if row.mirror)
        self.owner_ports = _single_ports(rows)
        return known != (self.rows, self.failed, self.patches, self.owner_ports)

    def report(self, dpid: Dpid) -> BridgeReport:
        """The current report as a value."""
        is_tapped = self.tap is not None
        interfaces = tuple(
            self._interfaces_of_others(dpid) if is_tapped else self._interfaces(dpid)
        )
        known, unusable = self._rows(), self.failed | self.patches
        claims: defaultdict[str, set[str]] = defaultdict(set)
        for row in known.values():
            if row.iface_id is not None and row.interface not in unusable:
                claims[row.iface_id].add(row.interface)
        hosts = {*self.hosts, *([self.certificate] if self.certificate else [])}
        return BridgeReport(
            interfaces,
            {key: frozenset(names) for key, names in claims.items()},
            frozenset(known.keys() - unusable),
            frozenset(hosts),
            self._record(dpid, interfaces),
            self.tap,
        )

    def _record(self, dpid: Dpid, interfaces: tuple[Interface, ...]) -> BridgeRecord:
        """What is stored. A bridge of others has no OpenFlow numbers there: that tells it apart."""
        in_order = sorted(interfaces, key=lambda i: (i.name, i.place.ofport))
        rows = [InterfaceRecord(i.name, i.iface_id, i.place.ofport) for i in in_order]
        if self.is_of_others:
            named = (row for _, row in sorted(self._rows().items()))
            rows = [replace(row, ofport=NO_NUMBER) for row in named]
        speakers = (self.database, self.row, self.certificate)
        return BridgeRecord(dpid, self.name(dpid), tuple(rows), *speakers)

    def _rows(self) -> Mapping[str, InterfaceRecord]:
        return self.remembered_rows if self.rows is None else self.rows

    def _interfaces(self, dpid: Dpid) -> Iterator[Interface]:
        """The interfaces about which OpenFlow and OVSDB agree, or that only OpenFlow reports."""
        bridge = self.name(dpid)
        row_by_number = {row.ofport: row for row in self._rows().values()}
        for number, name in self.ports.items():
            place = Placement(dpid, Ofport(number))
            row = row_by_number.get(number)
            if row is not None and row.interface in self.patches:
                continue
            if row is not None and truncate_name(row.interface) == name:
                yield Interface(bridge, row.interface, place, row.iface_id)
            elif self.rows is None:
                yield Interface(bridge, name, place, None)

    def _interfaces_of_others(self, dpid: Dpid) -> Iterator[Interface]:
        """The interfaces with numbers in OVSDB; two with one number cannot be told apart."""
        bridge, unusable = self.name(dpid), self.failed | self.patches
        known = self._rows().values()
        count = Counter(row.ofport for row in known)
        for row in known:
            is_single = count[row.ofport] == 1 and 1 <= row.ofport <= OFPORT_MAX
            if is_single and row.interface not in unusable:
                place = Placement(dpid, Ofport(row.ofport))
                port = self.owner_ports.get(row.interface)
                yield Interface(bridge, row.interface, place, row.iface_id, port)


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


def _place_of(row: InterfaceRow) -> tuple[object, ...]:
    return row.name, row.iface_id, row.ofport, bool(row.error), bool(row.mirror), row.port


def _single_ports(rows: Iterable[InterfaceRow]) -> dict[str, OwnerPort]:
    """The Port rows that have one interface, by the name of that."""
    shared = Counter(row.port.row for row in rows if row.port is not None)
    return {r.name: r.port for r in rows if r.port is not None and shared[r.port.row] == 1}

"""The rules that turn what bridges and databases report into places; no state, no locks.

Isolation comes first: whenever two reports contradict each other about who is behind an interface,
nobody is placed there until they agree, and a sentence says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from controller.inventory.file import InterfaceName, Inventory, LinkHint
from controller.store.values import BridgeRecord, InterfaceRow
from flows.model.session import Dpid, Ofport, PortId
from flows.model.world import Link, Placement

PAUSE_AFTER = 1000
"""Ports that are looked at before others may run."""
NAME_BYTES = 15
"""OpenFlow cuts the names of interfaces after this many bytes."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A name, and the moment at which it was first seen where it is; later is higher."""

    name: str
    moment: int


Row = tuple[InterfaceRow, int]
"""What OVSDB says of an interface (port 0: no number yet), and since which moment."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface that OpenFlow and OVSDB agree about."""

    bridge: str
    name: str
    place: Placement
    iface_id: str | None
    moment: int

    def __str__(self) -> str:
        return f"{self.name!r} of bridge {self.bridge!r}"


@dataclass(frozen=True, slots=True)
class Report:
    """What one bridge and its database say: its interfaces, and every port id that is named there.

    ``record`` is what to remember of it.
    """

    interfaces: tuple[Interface, ...]
    iface_ids: frozenset[str]
    record: BridgeRecord


@dataclass(slots=True)
class Bridge:
    """What is known of one bridge; ``rows`` is None until its database has reported."""

    remembered_name: str = ""
    local_name: str = ""
    database_name: str = ""
    ports: dict[int, Seen] = field(default_factory=dict)
    rows: dict[str, Row] | None = None
    remembered_rows: dict[str, Row] = field(default_factory=dict)

    def name(self, dpid: Dpid) -> str:
        """Its name; the datapath id where nobody has told one."""
        known = self.database_name or self.local_name or self.remembered_name
        return known or f"{dpid:016x}"

    def take_rows(
        self, rows: Mapping[str, InterfaceRow] | None, see: Callable[[str], Seen]
    ) -> None:
        """Replace what OVSDB says; None when it says nothing about this bridge."""
        if rows is None:
            self.rows = None
            return
        before = self.rows if self.rows is not None else self.remembered_rows
        self.rows = {}
        for name, row in rows.items():
            known = before.get(name)
            self.rows[name] = known if known and known[0] == row else (row, see(name).moment)
        self.remembered_rows = {}

    def report(self, dpid: Dpid) -> Report:
        """All of it, as a value."""
        interfaces = tuple(self._interfaces(dpid))
        rows = sorted(InterfaceRow(i.name, i.iface_id, i.place.ofport) for i in interfaces)
        record = BridgeRecord(dpid, self.name(dpid), tuple(rows))
        return Report(interfaces, frozenset(self._iface_ids()), record)

    def _interfaces(self, dpid: Dpid) -> Iterator[Interface]:
        """The interfaces that are beyond doubt."""
        rows = self.remembered_rows if self.rows is None else self.rows
        row_by_number = {row.ofport: (row, moment) for row, moment in rows.values()}
        bridge = self.name(dpid)
        for number, port in self.ports.items():
            place = Placement(dpid, Ofport(number))
            row, moment = row_by_number.get(number, (None, 0))
            if row is not None and cut(row.interface) == port.name:
                moment = max(moment, port.moment)
                yield Interface(bridge, row.interface, place, row.iface_id, moment)
            elif self.rows is None:
                yield Interface(bridge, port.name, place, None, port.moment)

    def _iface_ids(self) -> Iterator[str]:
        """Every port id that OVSDB names here, whether its interface works or not."""
        rows = self.remembered_rows if self.rows is None else self.rows
        return (row.iface_id for row, _ in rows.values() if row.iface_id is not None)


def cut(name: str) -> str:
    """The name of an interface as OpenFlow shows it."""
    return name.encode()[:NAME_BYTES].decode("utf-8", "backslashreplace")


def resolve(
    inventory: Inventory, reports: Iterable[Report], pause: Callable[[], None]
) -> tuple[dict[PortId, Placement], tuple[Link, ...], tuple[str, ...]]:
    """Placements, links and problems. The order of nothing but moments matters.

    ``pause`` is called again and again: others may run then.
    """
    resolver = _Resolver(inventory, pause)
    resolver.take(reports)
    resolver.place_ports()
    resolver.place_links()
    resolver.part_rivals()
    links = tuple(sorted(resolver.links.values(), key=lambda link: (link.a, link.b)))
    return resolver.placements, links, tuple(sorted(resolver.problems))


class _Resolver:
    def __init__(self, inventory: Inventory, pause: Callable[[], None]) -> None:
        self.inventory, self.pause = inventory, pause
        self.placements: dict[PortId, Placement] = {}
        self.links: dict[LinkHint, Link] = {}
        self.problems: set[str] = set()
        self.by_id: defaultdict[str, list[Interface]] = defaultdict(list)
        self.by_name: defaultdict[str, list[Interface]] = defaultdict(list)
        self.known_ids: set[str] = set()

    def take(self, reports: Iterable[Report]) -> None:
        """Sort all interfaces by their names and ids."""
        for report in reports:
            self.pause()
            self.known_ids |= report.iface_ids
            for interface in report.interfaces:
                self.by_name[interface.name].append(interface)
                if interface.iface_id is not None:
                    self.by_id[interface.iface_id].append(interface)

    def place_ports(self) -> None:
        """By iface-id where OVSDB knows the port at all, else by the hint."""
        for number, port in enumerate(self.inventory.ports):
            if number % PAUSE_AFTER == 0:
                self.pause()
            if port.id in self.known_ids:
                interface = self._newest(port.id)
            else:
                interface = self._hinted(port.id)
            if interface is not None:
                self.placements[port.id] = interface.place

    def _newest(self, port: PortId) -> Interface | None:
        claims = sorted(self.by_id.get(port, ()), key=lambda i: (i.moment, i.place))
        if len(claims) > 1:
            others = " and ".join(str(claim) for claim in claims[:-1])
            self.problems.add(
                f"port {port!r} is at {others} and at {claims[-1]}: the last one, which was seen "
                "last, counts; remove its external_ids:iface-id where the port is not"
            )
        return claims[-1] if claims else None

    def _hinted(self, port: PortId) -> Interface | None:
        hint = self.inventory.hints.get(port)
        if hint is None or hint.interface is None:
            return None
        free = []
        for interface in self._named(hint.bridge, hint.interface):
            if interface.iface_id is None:
                free.append(interface)
            else:
                self.problems.add(
                    f"port {port!r} is not placed at {interface}, as the inventory says: "
                    f"its external_ids:iface-id is that of port {interface.iface_id!r}"
                )
        if len(free) > 1:
            places = " and ".join(str(i) for i in sorted(free, key=lambda i: i.place))
            self.problems.add(
                f"port {port!r} may be at {places}: say in the inventory which bridge is meant, "
                "or set external_ids:iface-id"
            )
        return free[0] if len(free) == 1 else None

    def _named(self, bridge: str | None, name: str) -> list[Interface]:
        found = self.by_name.get(name, [])
        return [i for i in found if bridge is None or i.bridge == bridge]

    def place_links(self) -> None:
        """Both ends must be there, and on different bridges."""
        for hint in self.inventory.links:
            a, b = self._link_end(hint.a), self._link_end(hint.b)
            if a is None or b is None:
                continue
            if a.dpid == b.dpid:
                self.problems.add(f"the link {_show(hint)} joins a bridge to itself: not used")
                continue
            self.links[hint] = Link(*sorted((a, b)))

    def _link_end(self, end: InterfaceName) -> Placement | None:
        name = f"{end.interface!r} of bridge {end.bridge!r}"
        found = self._named(end.bridge, end.interface)
        if not found:
            self.problems.add(f"the link at {name} is down: there is no such interface (yet)")
        elif len(found) > 1:
            self.problems.add(f"the link at {name} is not used: two bridges have this name")
        elif found[0].iface_id is not None:
            self.problems.add(
                f"the link at {name} is not used: its external_ids:iface-id says that it is "
                f"port {found[0].iface_id!r}"
            )
        else:
            return found[0].place
        return None

    def part_rivals(self) -> None:
        """Whoever shares a place with another is not there: nobody knows whose packets they are."""
        users: dict[Placement, PortId | LinkHint] = {}
        shared: defaultdict[Placement, list[PortId | LinkHint]] = defaultdict(list)
        claims: list[tuple[Placement, PortId | LinkHint]]
        claims = [(place, port) for port, place in self.placements.items()]
        claims += [(end, hint) for hint, link in self.links.items() for end in (link.a, link.b)]
        for number, (place, user) in enumerate(claims):
            if number % PAUSE_AFTER == 0:
                self.pause()
            first = users.setdefault(place, user)
            if first is not user:
                shared[place] = [*(shared.get(place) or [first]), user]
        for place, rivals in shared.items():
            names = " and ".join(sorted(map(_show_user, rivals)))
            self.problems.add(
                f"{names} claim the same OpenFlow port {place.ofport} of bridge "
                f"{place.dpid:016x}: none of them is placed"
            )
            self._remove(rivals)

    def _remove(self, rivals: Iterable[PortId | LinkHint]) -> None:
        for rival in rivals:
            if isinstance(rival, LinkHint):
                self.links.pop(rival, None)
            else:
                self.placements.pop(rival, None)


def _show_user(user: PortId | LinkHint) -> str:
    return f"the link {_show(user)}" if isinstance(user, LinkHint) else f"port {user!r}"


def _show(hint: LinkHint) -> str:
    return f"{hint.a.bridge}/{hint.a.interface} - {hint.b.bridge}/{hint.b.interface}"

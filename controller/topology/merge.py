"""Merges the reports of bridges and databases into placements and links; no state, no locks.

Isolation comes first: if two reports contradict each other about the port behind an interface, no
port is placed there until they agree, and a problem says so. What was placed stays where it is:
whoever claims a place, a name or an ``iface-id`` later moves nothing as long as the first place is
there (docs/decisions/0022-who-speaks-for-a-bridge.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain, islice

from controller.devices import PairEnd, pair_name
from controller.inventory import InterfaceName, Inventory, LinkHint
from controller.southbound.ovsdb import InterfaceRow, tunnel_name
from controller.store import Place
from controller.topology.attachments import Tap
from controller.topology.bridge_state import BridgeReport, Interface
from controller.topology.looked_for import NAMES_COMPARED_MAX, Found, Search
from flows.model import (
    AT,
    BridgeReference,
    Dpid,
    Link,
    OwnerPort,
    Placement,
    PortId,
    PortKind,
    TunnelKind,
)

ROWS_BETWEEN_PAUSES = 1000
"""Ports that are placed before other green threads may run."""

Places = Mapping[str, Place]
"""Where each port (``port ID``) and each end of a link (``link BRIDGE INTERFACE``) is."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What all reports together say.

    ``doubts`` is a sentence for each port that is claimed at more than one place, ``contests`` the
    places that claim it beside the one that counts. ``expected`` are the bridges that the inventory
    or an ``iface-id`` of a declared port refers to, ``claimed`` those of an ``iface-id`` alone: no
    switch can make itself one of these. ``undeclared`` are the interfaces, on bridges
    with declared ports or links, that belong to neither. All places are on the bridges that have
    the ports; ``owner_ports`` are the Port rows of those on bridges that are tapped, and ``taps``
    the tap bridges of these.
    """

    placements: Mapping[PortId, Placement]
    links: tuple[Link, ...]
    problems: tuple[str, ...]
    places: Places
    doubts: Mapping[PortId, str]
    contests: Mapping[PortId, tuple[Placement, ...]]
    expected: frozenset[Dpid]
    claimed: frozenset[Dpid]
    undeclared: Mapping[Dpid, tuple[str, ...]]
    owner_ports: Mapping[Placement, OwnerPort]
    taps: Mapping[Dpid, Tap]


def merge_reports(
    inventory: Inventory,
    reports: Iterable[BridgeReport],
    pause: Callable[[], None],
    before: Places,
) -> Merged:
    """Placements, links and problems; they do not depend on the order of ``reports``.

    ``before`` is where everything was. ``pause`` is called now and then: other threads may run.
    """
    merge = _Merge(inventory, pause, before)
    merge.take(reports)
    merge.place_ports()
    merge.place_links()
    merge.remove_conflicts()
    return Merged(
        merge.placements,
        tuple(sorted(merge.links.values(), key=lambda link: (link.a, link.b))),
        tuple(sorted(merge.problems)),
        merge.places,
        merge.doubts,
        merge.contests,
        frozenset(merge.expected | merge.claimed),
        frozenset(merge.claimed),
        merge.undeclared(),
        merge.owner_ports(),
        merge.taps,
    )


def search_for(
    ports: Iterable[PortId],
    inventory: Inventory,
    reports: Iterable[BridgeReport],
    pause: Callable[[], None],
    broken: Sequence[InterfaceRow],
) -> dict[PortId, Search]:
    """What each of these ports, which are on no bridge, was looked for by, and what is there.

    ``broken`` are the interfaces that Open vSwitch could not open.
    """
    merge = _Merge(inventory, pause, {})
    merge.take(reports)
    return {port: merge.search_for(port, broken) for port in ports}


class _Stay(Enum):
    """What became of the place where a port was."""

    GONE = "gone"
    """It is not there any more: whoever claims the port now gets it."""
    CHANGING = "changing"
    """Its database still has it, and OpenFlow does not agree yet: nobody else gets the port."""


class _Merge:
    def __init__(self, inventory: Inventory, pause: Callable[[], None], before: Places) -> None:
        self.inventory, self.pause, self.before = inventory, pause, before
        self.placements: dict[PortId, Placement] = {}
        self.links: dict[LinkHint, Link] = {}
        self.problems: set[str] = set()
        self.places: dict[str, Place] = {}
        self.doubts: dict[PortId, str] = {}
        self.contests: dict[PortId, tuple[Placement, ...]] = {}
        self.expected: set[Dpid] = set()
        self.claimed: set[Dpid] = set()
        self.reports: dict[Dpid, BridgeReport] = {}
        self.taps: dict[Dpid, Tap] = {}
        self.by_id: defaultdict[str, list[Interface]] = defaultdict(list)
        self.by_name: defaultdict[str, list[Interface]] = defaultdict(list)
        self.claimed_at: defaultdict[str, set[Dpid]] = defaultdict(set)
        self.declared = {bridge.dpid: bridge for bridge in inventory.bridges}
        self._declared_by_name: defaultdict[str, list[Dpid]] = defaultdict(list)
        for bridge in inventory.bridges:
            if bridge.name is not None:
                self._declared_by_name[bridge.name].append(bridge.dpid)
        self._by_bridge_name: defaultdict[str, list[Dpid]] = defaultdict(list)
        self._meant: dict[str, frozenset[Dpid]] = {}

    def take(self, reports: Iterable[BridgeReport]) -> None:
        """Index all interfaces by name and by ``iface-id``."""
        for report in reports:
            self.pause()
            self.reports[report.record.dpid] = report
            if report.tap is not None:
                self.taps[report.record.dpid] = report.tap
            self._by_bridge_name[report.record.name].append(report.record.dpid)
            for iface_id in report.claims:
                self.claimed_at[iface_id].add(report.record.dpid)
            for interface in report.interfaces:
                self.by_name[interface.name].append(interface)
                if interface.iface_id is not None:
                    self.by_id[interface.iface_id].append(interface)
        self.expected |= self.declared.keys()

    # --- ports --------------------------------------------------------------------------------

    def place_ports(self) -> None:
        """Place each port where it was, else by its ``iface-id`` or its hint."""
        for number, port in enumerate(self.inventory.ports):
            if number % ROWS_BETWEEN_PAUSES == 0:
                self.pause()
            claims = sorted(self.by_id.get(port.id, ()), key=lambda i: i.place)
            free, taken = self._hinted(port.id)
            if port.kind is PortKind.TAP and self.taps:
                claims, free = self._own_places(port.id, claims, free)
            self._place_port(port.id, claims, free, taken)

    def _own_places(
        self, port: PortId, claims: list[Interface], free: list[Interface]
    ) -> tuple[list[Interface], list[Interface]]:
        """Where a tap port may be of these interfaces: on no bridge of somebody else."""
        own = [i for i in free if i.place.dpid not in self.taps]
        refused = [i for i in (*claims, *([] if own else free)) if i.place.dpid in self.taps]
        for interface in refused:
            tap = self.taps[interface.place.dpid]
            self.problems.add(
                f"tap port {port!r} is not placed at {interface}: that bridge is owned by somebody "
                "else, and nothing is ever sent into it; a tap port must be on its tap bridge "
                f"{tap.name!r}"
            )
        return [i for i in claims if i.place.dpid not in self.taps], own

    def _place_port(
        self,
        port: PortId,
        claims: list[Interface],
        free: list[Interface],
        taken: list[Interface],
    ) -> None:
        key = f"port {port}"
        self.claimed |= self.claimed_at.get(port, set())
        before = self.before.get(key)
        stay = self._stay(port, before, claims, free)
        if stay is _Stay.CHANGING and before is not None:
            self.places[key] = before
            if others := [i for i in (*claims, *free) if i.where != before]:
                self._doubt_move(port, before, others)
            return
        candidates = claims if port in self.claimed_at else free
        hint = self.inventory.hints.get(port)
        if before is not None and hint and self._is_still_called(hint.bridge, before):
            self.places[key] = before
            candidates = [i for i in candidates if i in claims or i.place.dpid == before[0]]
        if isinstance(stay, Interface):
            self._place(port, stay, [i for i in (*claims, *free) if i is not stay])
        elif before is not None and (same := self._of_same_host(before[0], claims)):
            self._place(port, same, [i for i in claims if i is not same])
        elif len(candidates) == 1:
            self._place(port, candidates[0], [])
        elif candidates:
            self._doubt_first(port, candidates)
        elif port not in self.claimed_at:
            for interface in taken:
                self.problems.add(
                    f"port {port!r} is not placed at {interface}, as the inventory says: "
                    f"its external_ids:iface-id is that of port {interface.iface_id!r}"
                )

    def _stay(
        self,
        port: PortId,
        before: Place | None,
        claims: list[Interface],
        free: list[Interface],
    ) -> Interface | _Stay:
        """The interface where a port was, if it is there still."""
        if before is None:
            return _Stay.GONE
        here = next((i for i in (*claims, *free) if i.where == before), None)
        if here is not None:
            is_hinted = here.iface_id is None
            return _Stay.GONE if is_hinted and self._of_same_host(before[0], claims) else here
        dpid, name = before
        report = self.reports.get(dpid)
        if report is None:
            return _Stay.GONE
        if name in report.claims.get(port, ()):
            return _Stay.CHANGING
        hint = self.inventory.hints.get(port)
        is_meant = hint is not None and hint.interface == name and self._is_meant(hint.bridge, dpid)
        is_claimed = any(name in names for names in report.claims.values())
        return (
            _Stay.CHANGING if is_meant and name in report.names and not is_claimed else _Stay.GONE
        )

    def _of_same_host(self, dpid: Dpid, claims: list[Interface]) -> Interface | None:
        """The one claim of the bridge where a port was, or of another bridge of its database.

        A host may move its own ports: its ``iface-id`` counts more than a hint.
        """
        report = self.reports.get(dpid)
        database = report.record.database if report is not None else ""

        def is_same(interface: Interface) -> bool:
            other = self.reports[interface.place.dpid].record.database
            return interface.place.dpid == dpid or bool(database and other == database)

        found = [interface for interface in claims if is_same(interface)]
        return found[0] if len(found) == 1 else None

    def _place(self, port: PortId, at: Interface, others: list[Interface]) -> None:
        self.placements[port] = at.place
        self.places[f"port {port}"] = at.where
        if not others:
            return
        self._contest(port, others)
        where = " and ".join(map(str, others))
        self._doubt(
            port,
            f"port {port!r} is at {at} and at {where}: it stays at the first, where it was, until "
            "it is gone there, or sends from the other only; remove its external_ids:iface-id "
            "where the port is not, or say in the inventory which bridge is meant",
        )

    def _doubt_move(self, port: PortId, before: Place, others: list[Interface]) -> None:
        self._contest(port, others)
        where = " and ".join(map(str, others))
        name = self.reports[before[0]].record.name
        self._doubt(
            port,
            f"port {port!r} was at {before[1]!r} of bridge {name!r}, whose database has it there "
            f"still, and is at {where}: it is placed nowhere until its first place works again or "
            "is gone",
        )

    def _doubt_first(self, port: PortId, candidates: list[Interface]) -> None:
        self._contest(port, candidates)
        where = " and ".join(map(str, candidates))
        remedy = "say in the inventory which bridge is meant, or set external_ids:iface-id"
        if candidates[0].iface_id is not None:
            remedy = "remove its external_ids:iface-id where the port is not"
        self._doubt(port, f"port {port!r} may be at {where}, so it is placed nowhere: {remedy}")

    def _contest(self, port: PortId, others: Iterable[Interface]) -> None:
        """Note the places with the ``iface-id`` of a port that is not placed there."""
        if places := tuple(i.place for i in others if i.iface_id is not None):
            self.contests[port] = places

    def _doubt(self, port: PortId, sentence: str) -> None:
        self.doubts[port] = sentence
        self.problems.add(sentence)

    def _hinted(self, port: PortId) -> tuple[list[Interface], list[Interface]]:
        """The interfaces that the hint of a port means: those that are free, and the others."""
        hint = self.inventory.hints.get(port)
        if hint is None or hint.interface is None:
            return [], []
        named = [i for i in self._named(hint.bridge, hint.interface) if i.iface_id != port]
        free = [i for i in named if i.iface_id is None]
        return sorted(free, key=lambda i: i.place), [i for i in named if i.iface_id is not None]

    def _is_still_called(self, bridge: str | None, before: Place | None) -> bool:
        """Whether the bridge where something was has the name still that the inventory gives."""
        return bridge is not None and before is not None and self._is_meant(bridge, before[0])

    def _named(self, bridge: str | None, name: str) -> list[Interface]:
        found = self.by_name.get(name, [])
        return [i for i in found if self._is_meant(bridge, i.place.dpid)]

    def _is_meant(self, bridge: str | None, dpid: Dpid) -> bool:
        return bridge is None or dpid in self._bridges_meant(bridge)

    def _bridges_meant(self, text: str) -> frozenset[Dpid]:
        """The bridges that a reference means; a declared name is that of declared bridges only."""
        if text not in self._meant:
            reference = BridgeReference(text)
            near = {*self._called(text), *self._called(text.rpartition(AT)[0])}
            if reference.dpid is not None:
                near.add(reference.dpid)
            found = {dpid for dpid in near if self._means(reference, dpid)}
            self._meant[text] = frozenset(found)
            self.expected |= found
        return self._meant[text]

    def _called(self, name: str) -> Iterable[Dpid]:
        """The bridges that have this name, or were declared with it."""
        if name in self._declared_by_name:
            return self._declared_by_name[name]
        return self._by_bridge_name.get(name, ())

    def _means(self, reference: BridgeReference, dpid: Dpid) -> bool:
        report, declared = self.reports.get(dpid), self.declared.get(dpid)
        if report is None:
            return False
        hosts, names = set(report.hosts), {report.record.name}
        if declared is not None and declared.host is not None:
            hosts.add(declared.host)
        if declared is not None and declared.name is not None:
            names.add(declared.name)
        return any(reference.means(dpid, name, hosts) for name in names)

    # --- ports that are nowhere -------------------------------------------------------------------

    def search_for(self, port: PortId, broken: Iterable[InterfaceRow]) -> Search:
        """What a port that is on no bridge was looked for by, and what is there."""
        self.pause()
        hint = self.inventory.hints.get(port)
        bridge, interface = (None, None) if hint is None else (hint.bridge, hint.interface)
        meant = [dpid for dpid in sorted(self.reports) if self._is_meant(bridge, dpid)]
        claims = [self._broken(row) for row in broken if row.iface_id == port]
        named = [self._broken(row) for row in broken if row.name == interface and row.dpid in meant]
        for report in (report for _, report in sorted(self.reports.items())):
            claims += (_found(report, name) for name in sorted(report.claims.get(port, ())))
        for report in (self.reports[dpid] for dpid in meant if interface is not None):
            if interface in report.names or any(i.name == interface for i in report.interfaces):
                owners = (who for who, names in report.claims.items() if interface in names)
                named.append(_found(report, str(interface), next(owners, None)))
        names = (i.name for dpid in meant for i in self.reports[dpid].interfaces)
        return Search(
            port,
            claims,
            bridge,
            interface,
            named,
            [self.reports[dpid].record.name for dpid in meant] if bridge is not None else [],
            [report.record.name for _, report in sorted(self.reports.items())],
            list(islice(names, NAMES_COMPARED_MAX + 1)),
        )

    def _broken(self, row: InterfaceRow) -> Found:
        return Found(row.name, row.bridge, error=row.error)

    # --- links --------------------------------------------------------------------------------

    def place_links(self) -> None:
        """Place each link whose two ends are placed on different bridges."""
        for hint in self.inventory.links:
            a, b = self._link_end(hint.a), self._link_end(hint.b)
            if a is None or b is None:
                continue
            if a.dpid == b.dpid:
                self.problems.add(f"the link {_show(hint)} joins a bridge to itself: not used")
                continue
            self.links[hint] = Link(*sorted((a, b)))

    def _link_end(self, end: InterfaceName) -> Placement | None:
        name, key = f"{end.interface!r} of bridge {end.bridge!r}", _key_of(end)
        before = self.before.get(key)
        found = sorted(self._named(end.bridge, end.interface), key=lambda i: i.place)
        if found and all(i.place.dpid in self.taps for i in found):
            self.problems.add(
                f"the link at {name} is not used: that bridge is owned by somebody else, and "
                "nothing is ever sent into it"
            )
            return None
        found = [i for i in found if i.place.dpid not in self.taps]
        stays = [i for i in found if i.where == before]
        others = [i for i in found if i not in stays]
        if before is not None and self._is_still_called(end.bridge, before):
            self.places[key] = before  # also while it is down: the name means that bridge
            found = stays
        if not found:
            self.problems.add(f"the link at {name} is down: there is no such interface (yet)")
        elif len(found) > 1:
            where = " and ".join(map(str, found))
            self.problems.add(
                f"the link at {name} is not used: it may be at {where}; write the host, too "
                "(BRIDGE@HOST), or the datapath id"
            )
        elif (end_at := found[0]).iface_id is not None:
            self.problems.add(
                f"the link at {name} is not used: its external_ids:iface-id says that it is "
                f"port {end_at.iface_id!r}"
            )
        else:
            if stays and others:
                where = " and ".join(map(str, others))
                self.problems.add(
                    f"the link at {name} is at {end_at}, where it was, although it may be at "
                    f"{where}, too; write the host, too (BRIDGE@HOST), or the datapath id"
                )
            self.places[key] = end_at.where
            return end_at.place
        return None

    # --- conflicts ----------------------------------------------------------------------------

    def remove_conflicts(self) -> None:
        """Remove ports and links that claim the same place: their packets cannot be told apart."""
        users: dict[Placement, PortId | LinkHint] = {}
        shared: defaultdict[Placement, list[PortId | LinkHint]] = defaultdict(list)
        claims: list[tuple[Placement, PortId | LinkHint]]
        claims = [(place, port) for port, place in self.placements.items()]
        claims += [(end, hint) for hint, link in self.links.items() for end in (link.a, link.b)]
        for number, (place, user) in enumerate(claims):
            if number % ROWS_BETWEEN_PAUSES == 0:
                self.pause()
            first = users.setdefault(place, user)
            if first is not user:
                shared[place] = [*(shared.get(place) or [first]), user]
        for place, claimants in shared.items():
            names = " and ".join(sorted(map(_show_user, claimants)))
            self.problems.add(
                f"{names} claim the same OpenFlow port {place.ofport} of bridge "
                f"{place.dpid:016x}: none of them is placed"
            )
            self._remove(claimants)

    def undeclared(self) -> dict[Dpid, tuple[str, ...]]:
        """The interfaces that no port or link means, on bridges that something is placed on."""
        ends = {end for link in self.links.values() for end in (link.a, link.b)}
        used = {*self.placements.values(), *ends}
        ports = {port.id for port in self.inventory.ports}
        meant = {hint.interface for hint in self.inventory.hints.values()}
        meant |= {end.interface for link in self.inventory.links for end in (link.a, link.b)}
        found: dict[Dpid, tuple[str, ...]] = {}
        for dpid in {place.dpid for place in used}:
            self.pause()
            ours = {tunnel_name(dpid, kind) for kind in TunnelKind}
            ours |= {pair_name(dpid, end) for end in PairEnd}
            left = (
                interface.name
                for interface in self.reports[dpid].interfaces
                if interface.place not in used
                and interface.iface_id not in ports
                and interface.name not in meant
                and interface.name not in ours
            )
            if names := tuple(sorted(left)):
                found[dpid] = names
        return found

    def owner_ports(self) -> dict[Placement, OwnerPort]:
        """The Port rows at the places of bridges that are tapped where ports are, or may be."""
        if not self.taps:
            return {}
        used = {*self.placements.values(), *chain.from_iterable(self.contests.values())}
        of_others = (i for dpid in self.taps for i in self.reports[dpid].interfaces)
        return {i.place: i.port for i in of_others if i.port is not None and i.place in used}

    def _remove(self, claimants: Iterable[PortId | LinkHint]) -> None:
        for claimant in claimants:
            if isinstance(claimant, LinkHint):
                self.links.pop(claimant, None)
                for end in (claimant.a, claimant.b):
                    self.places.pop(_key_of(end), None)
            else:
                self.placements.pop(claimant, None)
                self.places.pop(f"port {claimant}", None)


def _found(report: BridgeReport, interface: str, iface_id: str | None = None) -> Found:
    is_reported = any(each.name == interface for each in report.interfaces)
    is_tapped = report.tap is not None
    return Found(interface, report.record.name, iface_id, "", is_reported, is_tapped)


def _key_of(end: InterfaceName) -> str:
    """The key of the end of a link among places."""
    return f"link {end.bridge} {end.interface}"


def _show_user(user: PortId | LinkHint) -> str:
    return f"the link {_show(user)}" if isinstance(user, LinkHint) else f"port {user!r}"


def _show(hint: LinkHint) -> str:
    return f"{hint.a.bridge}/{hint.a.interface} - {hint.b.bridge}/{hint.b.interface}"

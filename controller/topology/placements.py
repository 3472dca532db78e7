"""Where every port and link is now, merged from OpenFlow ports, OVSDB rows and the inventory.

Who speaks for a bridge, and what stays where it was although others claim it, is decided in
``speakers`` and ``merge``; this file keeps what they need to know, under locks. All of them know
ports by the bridges that have them. A snapshot gives those of a tapped bridge of somebody else to
its tap bridge: it is the only place where that is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from enum import Enum

from controller.inventory import DeclaredBridge, Inventory
from controller.process import TIME_SLICES
from controller.southbound import LOCAL_PORT, PortChange, PortReason, SwitchPort
from controller.southbound.ovsdb import InterfaceRow, OvsdbSnapshot, tunnel_name
from controller.store import BridgeRecord, InterfaceRecord
from controller.topology.attachments import (
    Attached,
    Attachments,
    Tap,
    kept,
    seen_from_tap,
    seen_on_bridge,
    with_ports,
)
from controller.topology.bridge_state import (
    NO_NUMBER,
    BridgeReport,
    BridgeState,
    truncate_name,
)
from controller.topology.looked_for import looked_for
from controller.topology.merge import Merged, Places, merge_reports, search_for
from controller.topology.speakers import EVERY, Heard, Speakers
from flows.model import OFPORT_MAX, Attachment, Dpid, Link, Placement, PortId, TunnelKind


class PortNews(Enum):
    """How soon a report of a port has to be looked at."""

    NONE = "none"
    """Nothing that is declared can be meant by it."""
    LATE = "late"
    """It is of a bridge where nothing of ours is: nothing is copied to a wrong port meanwhile."""
    NOW = "now"
    """It is of a bridge of ours."""


@dataclass(frozen=True, slots=True)
class PlacementsSnapshot:
    """All placements and links at one moment; ``problems`` are sentences for the operator.

    ``doubts`` are those about ports, ``contests`` the places that claim a port beside its own.
    ``records`` is stored for the next start, one for each known bridge, and so is ``places``, which
    has the bridges that have the ports. ``expected`` are the bridges that the inventory refers to
    and that should connect, ``undeclared`` the interfaces in no inventory (see Merged).
    ``attachments`` are those of tap bridges, with the ports that are placed or claimed there, and
    ``taps`` the tap bridges by the bridges of others that they tap. ``version`` is the number of
    changes that were reported until then.
    """

    placements: Mapping[PortId, Placement] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    problems: tuple[str, ...] = ()
    places: Places = field(default_factory=dict)
    doubts: Mapping[PortId, str] = field(default_factory=dict)
    contests: Mapping[PortId, tuple[Placement, ...]] = field(default_factory=dict)
    expected: frozenset[Dpid] = frozenset()
    undeclared: Mapping[Dpid, tuple[str, ...]] = field(default_factory=dict)
    records: tuple[BridgeRecord, ...] = ()
    attachments: Mapping[Dpid, Attachment] = field(default_factory=dict)
    taps: Mapping[Dpid, Tap] = field(default_factory=dict)
    version: int = field(default=0, compare=False)


class Placements:
    """Collects reports of bridges and databases, from any thread.

    A port is placed at the interface whose ``external_ids:iface-id`` is the id of the port and
    about which OVSDB and OpenFlow agree, else at the interface of its hint in the inventory. Once
    placed it stays there until it is gone there. Stored records count until the bridge, or its
    database, reports; reports count also after a disconnect.

    ``targets`` returns the databases that are configured; None for any.
    """

    def __init__(self, targets: Callable[[], Collection[str] | None] = EVERY) -> None:
        self._lock, self._merging = threading.Lock(), threading.Lock()
        self._inventory = Inventory()
        self._is_declared = False
        self._declared: Mapping[Dpid, DeclaredBridge] = {}
        self._bridges: dict[Dpid, BridgeState] = {}
        self._forgotten: set[Dpid] = set()
        self._speakers = Speakers(targets)
        self._reported, self._heard = OvsdbSnapshot(), Heard()
        self._attachments, self._attached = Attachments(), Attached()
        self._replaced: dict[Dpid, Dpid] = {}
        self._moves: list[Mapping[Dpid, Dpid]] = []
        self._moved_at = 0
        self._reports: dict[Dpid, BridgeReport] = {}
        self._places: Places = {}
        self._meant: frozenset[str] = frozenset()
        """The names of interfaces that the inventory mentions, as OpenFlow reports them."""
        self._ours: frozenset[Dpid] = frozenset()
        """The bridges where something was at the last merge, and those that a database says."""
        self._has_late = False
        self._version = 1
        self._snapshot = PlacementsSnapshot()

    def declare(self, inventory: Inventory) -> None:
        """Replace the ports, hints, links and declared bridges of the inventory."""
        with self._lock:
            has_new_bridges = inventory.bridges != self._inventory.bridges
            self._inventory, self._is_declared = inventory, True
            self._declared = {bridge.dpid: bridge for bridge in inventory.bridges}
            self._meant = _names_meant(inventory)
            self._version += 1
            if has_new_bridges:
                self._speakers.declare(inventory.bridges)
                self._hear(self._reported)

    def remember(self, records: Iterable[BridgeRecord], places: Places | None = None) -> None:
        """Take the stored records of bridges that have not reported yet, and where ports were."""
        with self._lock:
            found = [record for record in records if record.dpid not in self._bridges]
            for record in found:
                self._bridges[record.dpid] = _restore(record)
            self._speakers.remember(found)
            self._places = dict(places or {})
            self._version += 1

    def report_ports(
        self, dpid: Dpid, ports: Iterable[SwitchPort], certificate: str | None = None
    ) -> None:
        """A bridge has connected and reported all its ports.

        ``certificate`` is the name in the certificate of its host; the first one counts.
        """
        with self._lock:
            if dpid in self._attached.tap_by_owner:
                return  # its database alone speaks for it, and nothing is written to it
            is_known = dpid in self._bridges
            bridge = self._reporting(dpid)
            name, before = bridge.name(dpid), (bridge.ports, bridge.certificate)
            found: dict[int, str] = {}
            for port in ports:
                if 1 <= port.ofport <= OFPORT_MAX:
                    found[port.ofport] = port.name
                elif port.ofport == LOCAL_PORT:
                    bridge.local_name = port.name
            bridge.ports, bridge.has_connected, bridge.was_tapped = found, True, False
            bridge.certificate = self._declared_certificate(dpid) or bridge.certificate
            bridge.certificate = bridge.certificate or certificate
            is_same = before == (found, bridge.certificate) and bridge.name(dpid) == name
            if not is_known or not is_same:
                self._outdate(dpid)

    def report_port(self, dpid: Dpid, change: PortChange) -> PortNews:
        """A port of a bridge was added, deleted or modified.

        What is LATE counts from ``take_late`` on, or from the next merge if that is earlier; what
        is NONE from the next merge on.
        """
        number, name = change.port.ofport, change.port.name
        if not 1 <= number <= OFPORT_MAX:
            return PortNews.NONE
        with self._lock:
            if dpid in self._attached.tap_by_owner:
                return PortNews.NONE
            bridge = self._reporting(dpid)
            before = bridge.ports.get(number)
            if change.reason is PortReason.DELETED:
                bridge.ports.pop(number, None)
            else:
                bridge.ports[number] = name
            after = bridge.ports.get(number)
            if after == before:
                return PortNews.NONE
            if self._is_ours(dpid):
                self._outdate(dpid)
                return PortNews.NOW
            self._reports.pop(dpid, None)
            is_known = bridge.rows is not None or bool(bridge.remembered_rows)
            if not is_known and self._meant.isdisjoint((before, after)):
                return PortNews.NONE
            self._has_late = True
            return PortNews.LATE

    def take_late(self) -> None:
        """What was reported as LATE counts from now on."""
        with self._lock:
            if self._has_late:
                self._has_late = False
                self._version += 1

    def report_interfaces(self, snapshot: OvsdbSnapshot) -> None:
        """The databases have changed: ``snapshot`` is all that they contain now.

        The ports of a bridge that they do not contain are placed by their names.
        """
        with self._lock:
            self._hear(snapshot)

    @property
    def believed(self) -> OvsdbSnapshot:
        """What the databases that speak for their bridges report; the same value until a change."""
        return self._heard.believed

    def forget(self, dpid: Dpid) -> None:
        """Forget a bridge, and who speaks for it; its database counts again when it connects, or
        when it is tapped.

        Otherwise the last rows of a host that was removed would count for ever.
        """
        with self._lock:
            self._bridges.pop(dpid, None)
            self._speakers.forget(dpid)
            self._forgotten.add(dpid)
            self._places = {who: at for who, at in self._places.items() if at[0] != dpid}
            self._outdate(dpid)
            if dpid in self._attached.by_tap or dpid in self._attached.tap_by_owner:
                self._hear(self._reported)
            self._attach_again()

    def tapped_by(self, dpid: Dpid) -> Dpid | None:
        """The bridge of somebody else from which a tap bridge gets copies; None: it is none."""
        with self._lock:
            attachment = self._attached.by_tap.get(dpid)
            return None if attachment is None else attachment.owner

    def why_not_ours(self, dpid: Dpid) -> str:
        """Why this controller may write nothing to a bridge: it is that of somebody else, and
        tapped; empty if it may.
        """
        with self._lock:
            tap = self._attached.tap_by_owner.get(dpid)
            return "" if tap is None else self._why_left_alone(dpid, tap)

    def tapped_callers(self, is_connected: Callable[[Dpid], bool]) -> Sequence[str]:
        """The bridges of others that are tapped and connected all the same, a sentence each."""
        found = [(dpid, tap) for dpid, tap in self.snapshot().taps.items() if is_connected(dpid)]
        with self._lock:
            return [
                f"bridge {self._name_of(dpid)!r} is left alone: {self._why_left_alone(dpid, tap)}"
                for dpid, tap in sorted(found)
            ]

    def _why_left_alone(self, dpid: Dpid, tap: Tap) -> str:
        return (
            f"it is owned by somebody else, and bridge {tap.name!r} gets copies from it, so this "
            "controller must not be one of its controllers; give it those of its owner alone, see "
            f"`ovs-vsctl get-controller {self._name_of(dpid)}` on its host"
        )

    def kept(self) -> frozenset[Dpid]:
        """The bridges that are stored."""
        with self._lock:
            return frozenset(d for d, bridge in self._bridges.items() if bridge.is_remembered)

    def strangers(self) -> frozenset[Dpid]:
        """The bridges that have connected, and on which nothing of ours is or was placed."""
        self.snapshot()  # what was reported last counts, also for ``drop_stranger``
        with self._lock:
            used = self._used()
            return frozenset(
                dpid
                for dpid, bridge in self._bridges.items()
                if bridge.has_connected and not bridge.is_remembered and dpid not in used
            )

    def move(self, port: PortId, place: Placement) -> bool:
        """A port was heard at a place that claims it: it is there; False if that claim is gone."""
        contests = self.snapshot().contests.get(port, ())
        with self._lock:
            at = seen_on_bridge(place)
            if place not in contests or at.dpid not in self._bridges:
                return False
            found = (i for i in self._report(at.dpid).interfaces if i.place == at)
            interface = next(found, None)
            if interface is None or interface.iface_id != port:
                return False
            self._places = {**self._places, f"port {port}": interface.where}
            self._version += 1
            return True

    def drop_stranger(self, dpid: Dpid) -> bool:
        """Forget a bridge of which nothing of ours was ever placed; False if that is not so.

        What its database says of it counts as before. It makes no snapshot: who calls it holds a
        lock that others wait for with the time slices.
        """
        with self._lock:
            bridge = self._bridges.get(dpid)
            is_needed = dpid in self._used()
            is_stranger = bridge is not None and bridge.has_connected and not bridge.is_remembered
            if bridge is None or not is_stranger or is_needed:
                return False
            if bridge.rows is None:
                del self._bridges[dpid]
            else:
                bridge.ports, bridge.local_name = {}, ""
                bridge.certificate, bridge.has_connected = None, False
            self._outdate(dpid)
            self._attach_again()
            return True

    def replaced(self) -> Mapping[Dpid, Dpid]:
        """Datapath ids that no bridge has any more, and those that their bridges have instead."""
        with self._lock:
            return {o: n for o, n in self._replaced.items() if self._speakers.of(o) is None}

    def take_moves(self) -> Sequence[Mapping[Dpid, Dpid]]:
        """Which bridges of ours have other datapath ids, since the last call: one mapping for each
        report, of old ids to new ones.
        """
        with self._lock:
            found, self._moves = self._moves, []
            return found

    @property
    def moved_at(self) -> int:
        """The version since which no bridge has got another datapath id."""
        return self._moved_at

    def retire(self, dpid: Dpid) -> None:
        """Nothing waits any more for a datapath id that was replaced."""
        with self._lock:
            self._replaced.pop(dpid, None)
            if self._speakers.of(dpid) is not None:
                self._outdate(dpid)  # another bridge has it
            elif self._bridges.pop(dpid, None) is not None:
                self._outdate(dpid)

    def bridge_names(self) -> dict[Dpid, str]:
        """The name of every bridge that was ever ours, is connected, or should be.

        Bridges that only databases have, and that nothing in the last snapshot refers to, are those
        of others, and so are those that are tapped.
        """
        expected = self._snapshot.expected
        with self._lock:
            return {
                dpid: bridge.name(dpid)
                for dpid, bridge in self._bridges.items()
                if not bridge.is_of_others and (bridge.is_ours or dpid in expected)
            }

    def knows(self, dpid: Dpid) -> bool:
        """Whether something of ours may be on a bridge: ``bridge_names`` has it, or it is, or was,
        tapped.
        """
        expected = self._snapshot.expected
        with self._lock:
            bridge = self._bridges.get(dpid)
            if bridge is None:
                return False
            return bridge.is_of_others or bridge.is_ours or dpid in expected

    def undeclared(self) -> Mapping[Dpid, tuple[str, ...]]:
        """The interfaces that are in no inventory, on bridges with ports that are."""
        return self._snapshot.undeclared

    def unopened(self) -> Sequence[InterfaceRow]:
        """The interfaces of known bridges that Open vSwitch could not create or open."""
        snapshot = self._snapshot
        used = snapshot.expected | {dpid for dpid, _ in snapshot.places.values()}
        used |= snapshot.taps.keys()
        with self._lock:
            failed = {d: b.failed for d, b in self._bridges.items() if b.failed}
        return [
            row
            for (dpid, _, _), rows in self.believed.by_bridge.items()
            if dpid in failed and (dpid in used or self.knows(dpid))
            for row in rows
            if row.error and row.tunnel is None
        ]

    def row_of(self, dpid: Dpid, interface: str) -> InterfaceRow | None:
        """What the database of a bridge says of one interface; None if it says nothing."""
        for (bridge, _, _), rows in self.believed.by_bridge.items():
            if bridge == dpid:
                return next((row for row in rows if row.name == interface), None)
        return None

    def looked_for(self, ports: Iterable[PortId]) -> Mapping[PortId, str]:
        """Why each of these ports is on no bridge, a sentence that says what was looked for."""
        snapshot, wanted = self.snapshot(), list(ports)
        if not wanted:
            return {}
        with self._lock:
            inventory, dpids = self._inventory, sorted(self._bridges)
        ours = frozenset(dpid for dpid in dpids if self.knows(dpid))
        with TIME_SLICES.taken():
            reports = [r for r in self._all_reports(dpids) if r.record.dpid in ours]
            broken = [row for row in self.unopened() if row.dpid in ours]
            found = search_for(wanted, inventory, reports, TIME_SLICES.pause, broken)
        return {p: snapshot.doubts.get(p) or looked_for(s) for p, s in found.items()}

    def bridge_name(self, dpid: Dpid) -> str:
        """The name of one bridge; its datapath id if no name is known."""
        with self._lock:
            return self._name_of(dpid)

    def _name_of(self, dpid: Dpid) -> str:
        bridge = self._bridges.get(dpid)
        return bridge.name(dpid) if bridge is not None else f"{dpid:016x}"

    def hosts_of(self, dpid: Dpid) -> tuple[str, ...]:
        """The names of the host of a bridge."""
        with self._lock:
            bridge = self._bridges.get(dpid)
            known = [*bridge.hosts, bridge.certificate] if bridge is not None else []
            declared = self._declared.get(dpid)
            named = [declared.host] if declared is not None else []
            return tuple(dict.fromkeys(name for name in (*named, *known) if name))

    def certificate_of(self, dpid: Dpid) -> str | None:
        """The name in the certificate of a bridge's host, declared or seen first."""
        with self._lock:
            bridge = self._bridges.get(dpid)
            seen = bridge.certificate if bridge is not None else None
            return self._declared_certificate(dpid) or seen

    def doubts_of(self, dpid: Dpid) -> tuple[str, ...]:
        """Who claims to speak for a bridge and is not believed, a sentence each."""
        return tuple(self._heard.doubts.get(dpid, ()))

    def why_another(self, dpid: Dpid, ports: Set[str]) -> str:
        """Why a connection under a datapath id may be that of another bridge; empty if nothing
        says so.

        It may after a known bridge has taken the id of another one that still has it, as far as is
        known. Then the names of its ``ports`` decide: they must be those of the bridge that has the
        id, and not fit the other one. One that was tapped is that of somebody else until its
        database says that it is tapped no more.
        """
        with self._lock:
            bridge = self._bridges.get(dpid)
            if bridge is not None and bridge.is_of_others and bridge.rows is None:
                return (
                    "it is owned by somebody else and was tapped, and its database has not said "
                    "yet whether it still is; make the database reachable"
                )
            left = self._heard.left
            if dpid in left:
                return self._speakers.why_another(dpid, left[dpid])
            mover = next((row for row in left.values() if row.dpid == dpid), None)
            speaker = self._speakers.of(dpid)
            if mover is None or speaker is None:
                return ""
            names: dict[tuple[str, str], set[str]] = {}
            for each in self._reported.interfaces:
                if each.dpid == dpid:
                    names.setdefault((each.database, each.bridge_row), set()).add(each.name)
            its = names.get((speaker.database, speaker.row), set())
            if ports <= its and not ports <= names.get((mover.database, mover.row), set()):
                return ""
            return self._speakers.why_another(dpid, mover)

    def database_doubts(self) -> frozenset[str]:
        """Which databases claim bridges that others speak for, a sentence each."""
        return frozenset(s for found in self._heard.doubts.values() for s in found)

    def is_current(self, snapshot: PlacementsSnapshot) -> bool:
        """Whether everything is where this snapshot says."""
        return self._places is snapshot.places

    def what_counts(self, snapshot: PlacementsSnapshot) -> PlacementsSnapshot:
        """A snapshot without the interfaces of bridges where nothing of ours is."""
        with self._lock:
            records = tuple(r for r in snapshot.records if self._is_ours(r.dpid))
        return replace(snapshot, records=records)

    def keep(self, dpid: Dpid) -> None:
        """A bridge is stored: it stays known until it is forgotten."""
        with self._lock:
            if dpid in self._bridges:
                self._bridges[dpid].is_remembered = True

    def snapshot(self) -> PlacementsSnapshot:
        """All placements and links now; the same value again until something is reported."""
        with self._merging:
            with self._lock:
                version, inventory = self._version, self._inventory
                dpids, places = sorted(self._bridges), self._places
                doubts, attached = self.database_doubts(), self._attached
            if version != self._snapshot.version:
                with TIME_SLICES.taken():
                    reports = list(self._all_reports(dpids))
                    found = merge_reports(inventory, reports, TIME_SLICES.pause, places)
                with self._lock:
                    if self._is_declared and self._places is places:
                        self._places = found.places
                    self._ours = found.claimed | self._used()
                    new = _seen_from_taps(found, attached, self._snapshot)
                    records = tuple(report.record for report in reports)
                    problems = {*found.problems, *doubts, *attached.problems}
                    self._snapshot = replace(
                        new, problems=tuple(sorted(problems)), places=self._places,
                        records=records, version=version,
                    )  # fmt: skip
            return self._snapshot

    @property
    def version(self) -> int:
        """The number of changes that were reported until now."""
        return self._version

    def _is_ours(self, dpid: Dpid) -> bool:
        """Whether something of ours is or was on a bridge, or it is declared; with the lock held.

        No switch can make itself such a bridge by what it says of itself.
        """
        bridge = self._bridges.get(dpid)
        is_remembered = bridge is not None and bridge.is_remembered
        return is_remembered or dpid in self._ours or dpid in self._declared

    def _reporting(self, dpid: Dpid) -> BridgeState:
        """The state of a bridge that reports now; a forgotten one starts with its OVSDB rows."""
        if dpid in self._forgotten:
            self._forgotten.discard(dpid)
            self._hear(self._reported)
        return self._bridges.setdefault(dpid, BridgeState())

    def _hear(self, snapshot: OvsdbSnapshot) -> None:
        """Take the rows of the databases that speak for their bridges."""
        before, self._reported = self._heard, snapshot
        self._heard = self._speakers.hear(snapshot)
        if self._heard.replaced:
            self._replace(self._heard.replaced)
        if before.doubts != self._heard.doubts:
            self._version += 1
        attached, self._attached = (
            self._attached,
            self._attachments.take(self._heard.believed, self._is_owned, self._forgotten),
        )
        if attached is not self._attached:
            self._version += 1
        taps = self._attached.tap_by_owner
        self._forgotten -= taps.keys()
        self._take(self._heard.believed)
        for dpid in attached.tap_by_owner.keys() | taps.keys():
            if dpid in self._bridges and self._bridges[dpid].take_tap(taps.get(dpid)):
                self._outdate(dpid)

    def _attach_again(self) -> None:
        """Look again at marks that attach nothing: the bridge may be owned no more."""
        if self._attached.problems:
            self._hear(self._reported)

    def _is_owned(self, dpid: Dpid) -> bool:
        return dpid in self._bridges and self._bridges[dpid].is_owned

    def _used(self) -> frozenset[Dpid]:
        """The bridges where something is or was, and the tap bridges of those that are tapped."""
        used = frozenset(dpid for dpid, _ in self._places.values())
        taps = self._attached.tap_by_owner
        return used | {tap.dpid for owner, tap in taps.items() if owner in used}

    def _replace(self, moves: Mapping[Dpid, Dpid]) -> None:
        """Bridges have other datapath ids: what was known of them goes on under the new ones.

        All at once: one may have the id now that another had until then.
        """
        placed = {dpid for dpid, _ in self._places.values()}
        known_by_id = {old: self._bridges.pop(old, None) for old in moves}
        for old, new in moves.items():
            known = known_by_id[old]
            if known is not None:
                bridge = self._bridges.setdefault(new, BridgeState())
                if early := self._connected_early(known, known_by_id.get(new)):
                    bridge.ports, bridge.local_name = early.ports, early.local_name
                    bridge.has_connected = True
                bridge.ports = bridge.ports or known.ports
                bridge.certificate = bridge.certificate or known.certificate
                bridge.is_remembered |= known.is_remembered
                bridge.has_connected |= known.has_connected
                bridge.had_connected |= known.had_connected
                bridge.was_tapped |= known.was_tapped
        self._places = {
            who: (moves.get(dpid, dpid), name) for who, (dpid, name) in self._places.items()
        }
        left = {
            old: new
            for old, new in moves.items()
            if old in placed or ((known := known_by_id[old]) is not None and known.is_ours)
        }  # of the others nothing is stored or counted under the old one
        waiting = {was: moves.get(now, now) for was, now in self._replaced.items()}
        for new in moves.values():
            waiting.pop(new, None)
        self._replaced = waiting | {
            old: new for old, new in left.items() if self._speakers.of(old) is None
        }
        for dpid in {*moves, *moves.values()}:
            self._outdate(dpid)
        self._moved_at = self._version
        if left:
            self._moves.append(left)

    def _connected_early(self, moved: BridgeState, there: BridgeState | None) -> BridgeState | None:
        """What a bridge has reported under the id that it has now, before its database said so.

        It is known by its name, unless the bridge that had the id until then has the same.
        """
        if there is None or not there.local_name:
            return None
        names = moved.bound_name, there.bound_name
        is_it = there.local_name == names[0] != names[1]
        return there if is_it else None

    def _take(self, snapshot: OvsdbSnapshot) -> None:
        """Take the OVSDB rows of bridges that are not forgotten."""
        said = {row.dpid: row for row in snapshot.bridges if row.dpid not in self._forgotten}
        for dpid, row in said.items():
            bridge = self._bridges.setdefault(dpid, BridgeState())
            new = (row.name, row.database, row.row, row.hosts)
            if (bridge.database_name, bridge.database, bridge.row, bridge.hosts) != new:
                bridge.database_name, bridge.database, bridge.row, bridge.hosts = new
                self._outdate(dpid)
        rows: dict[Dpid, tuple[InterfaceRow, ...]] = dict.fromkeys(said, ())
        rows |= {key[0]: group for key, group in snapshot.by_bridge.items() if key[0] in said}
        for dpid, bridge in self._bridges.items():
            if bridge.take_rows(rows.get(dpid)):
                self._outdate(dpid)
        self._drop_others(said.keys())

    def _drop_others(self, said: Set[Dpid]) -> None:
        """Forget bridges that only a database had, on which nothing of ours is, and that are gone.

        A database may name any number of them, one after the other. Who spoke for them stays known,
        of the last ones.
        """
        gone = [d for d in self._bridges.keys() - said if not self._bridges[d].is_ours]
        if not gone:
            return
        placed = {dpid for dpid, _ in self._places.values()}
        for dpid in gone:
            if dpid not in placed:
                del self._bridges[dpid]
                self._outdate(dpid)
        self._speakers.shorten(self._bridges.keys() | placed)

    def _declared_certificate(self, dpid: Dpid) -> str | None:
        declared = self._declared.get(dpid)
        return None if declared is None else declared.certificate

    def _all_reports(self, dpids: Iterable[Dpid]) -> Iterator[BridgeReport]:
        """The report of each bridge; the lock is held for one bridge at a time."""
        for dpid in dpids:
            TIME_SLICES.pause()
            with self._lock:
                if dpid in self._bridges:
                    yield self._report(dpid)

    def _report(self, dpid: Dpid) -> BridgeReport:
        """The report of a bridge; the same value again until it changes."""
        if dpid not in self._reports:
            self._reports[dpid] = self._bridges[dpid].report(dpid)
        return self._reports[dpid]

    def _outdate(self, dpid: Dpid) -> None:
        self._reports.pop(dpid, None)
        self._version += 1


def _names_meant(inventory: Inventory) -> frozenset[str]:
    """The names of all interfaces that an inventory mentions, as OpenFlow reports them."""
    hinted = (hint.interface for hint in inventory.hints.values())
    ends = (end.interface for link in inventory.links for end in (link.a, link.b))
    return frozenset(truncate_name(name) for name in (*hinted, *ends) if name is not None)


def _seen_from_taps(
    found: Merged, attached: Attached, before: PlacementsSnapshot
) -> PlacementsSnapshot:
    """What was merged, with the ports of bridges that are tapped at their tap bridges; what is as
    it was is the same object, so that others need not compare it.
    """
    taps, placements, contests = found.taps, found.placements, found.contests
    if taps:
        placements = {port: seen_from_tap(taps, at) for port, at in placements.items()}
        contests = {
            port: tuple(seen_from_tap(taps, at) for at in places)
            for port, places in contests.items()
        }
    is_same = placements == before.placements
    return PlacementsSnapshot(
        before.placements if is_same else placements,
        found.links,
        doubts=found.doubts,
        contests=contests,
        expected=frozenset(taps[d].dpid if d in taps else d for d in found.expected),
        undeclared=found.undeclared,
        attachments=kept(before.attachments, with_ports(attached, taps, found.owner_ports)),
        taps=taps,
    )


def is_news(seen: PlacementsSnapshot, now: PlacementsSnapshot) -> bool:
    """Whether who has seen one snapshot has something to do for the other.

    Interfaces that are neither placed nor ports for tunnels are no news.
    """
    if seen.placements is not now.placements or seen.links != now.links:
        return True
    if seen.contests != now.contests or seen.attachments is not now.attachments:
        return True
    before = {record.dpid: record for record in seen.records}
    others = (record for record in now.records if before.get(record.dpid) is not record)
    return any(_tunnel_ports(before.get(r.dpid)) != _tunnel_ports(r) for r in others)


def _tunnel_ports(record: BridgeRecord | None) -> list[InterfaceRecord]:
    if record is None:
        return []
    names = {tunnel_name(record.dpid, kind) for kind in TunnelKind}
    return [row for row in record.rows if row.interface in names]


def _restore(record: BridgeRecord) -> BridgeState:
    numbers = {row.ofport for row in record.rows}
    is_tapped = numbers == {NO_NUMBER}  # see BridgeState
    return BridgeState(
        had_connected=bool(numbers) and not is_tapped,
        was_tapped=is_tapped,
        remembered_name=record.name,
        database=record.database,
        row=record.row,
        certificate=record.certificate,
        is_remembered=True,
        ports={row.ofport: truncate_name(row.interface) for row in record.rows if row.ofport},
        remembered_rows={row.interface: row for row in record.rows},
    )

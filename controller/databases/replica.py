"""A copy of what we read of one database, and which checked rows have changed since the last look.

It does no I/O. What an update costs is in proportion to the update. A row that cannot be used is
left out, with a sentence; one that claims what another row of the database has (a name, an OpenFlow
port number) is left out as long as that one has it. An interface that several ports or bridges have
stays where it was, with a sentence. Which of several bridges has a datapath id is decided for all
databases together, elsewhere.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.databases.checks import IFINDEXES, LINK_SPEEDS, MTUS, clean, read_number
from controller.databases.claims import Claim, Claims
from controller.databases.columns import (
    FIRST_QUEUE,
    MARK,
    OFFLOADS,
    WATCHED,
    Row,
    apply_difference,
    decode,
)
from controller.databases.errors import BadPeer, BadValue, shown
from controller.databases.mirrors import MirrorIndex
from controller.databases.program import Record
from controller.databases.records import (
    read_bridge,
    read_interface,
    read_port,
    read_settings,
    read_unmade,
    strings,
)
from controller.databases.references import Referrers, only, refer, refs

ROWS_MAX = 250_000
"""The most rows of one table."""
ALL_ELEMENTS_MAX = 4_000_000
"""The most elements in the sets and maps of all rows together."""
ROWS_IN_A_SLICE = 200
"""So many rows are worked on before other databases may run."""
CALM_S, CALM_MAX_S = 0.25, 2.0
"""An interface whose link flaps is reported at once, then after these pauses, in seconds."""
OWNERS_SHOWN = 4
"""The most ports that are named of those that have one interface."""
ROW_PROBLEMS_MAX = 20
"""The most sentences about rows of one database."""

CALM_FIELDS = frozenset(["is_up", "error"])
"""Fields of an interface that may change often, and that no placement depends on."""
NUMBERS = {"mtu": MTUS, "link_speed": LINK_SPEEDS, "ifindex": IFINDEXES}
"""Columns of an interface whose value is not known unless it is one of these numbers."""


@dataclass(slots=True)
class Report:
    """What has changed: checked rows by uuid, None for those that are gone or refused now."""

    bridges: dict[str, Record | None] = field(default_factory=dict)
    interfaces: dict[str, Record | None] = field(default_factory=dict)
    settings: Record | None = None
    """Settings of the whole host, if one has changed."""
    problems: list[str] | None = None
    """All sentences about rows that are refused, if one has changed."""
    unmade: list[Record] | None = None
    """The first bridges without a datapath id, each with name and datapath_type, if that changed.
    The last entry has the number of all as ``count``."""

    def __bool__(self) -> bool:
        return bool(
            self.bridges
            or self.interfaces
            or self.settings is not None
            or self.problems is not None
            or self.unmade is not None
        )


class Replica:
    """The rows of one database."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Row]] = {table: {} for table in WATCHED}
        self._elements = 0
        self._unseen: dict[str, set[str]] = {}
        self._bridges_of_port: Referrers = defaultdict(set)
        self._ports_of_interface: Referrers = defaultdict(set)
        self._ports_of_qos: Referrers = defaultdict(set)
        self._qos_of_queue: Referrers = defaultdict(set)
        self._emptied: dict[str, Row] = {}
        """Ports whose spanning tree states were kept, with what the server has instead."""
        self._forgotten_links: set[str] = set()
        """The interfaces whose link was known before the load that is under way."""
        self._dirty_bridges: set[str] = set()
        self._dirty_interfaces: set[str] = set()
        self._are_settings_old = True
        self._are_problems_old = False
        self._claims = Claims()
        self._owner_before: dict[str, tuple[str, str]] = {}
        """The bridge and the port that have an interface, as it was reported last."""
        self._bridges: dict[str, Record] = {}
        self._interfaces: dict[str, Record] = {}
        self._settings: Record = {}
        self._refused: dict[str, str] = {}
        self._unmade: dict[str, Record] = {}
        self._is_unmade_old = False
        self._late: set[str] = set()
        self._calm: dict[str, _Calm] = {}

        self._names: dict[str, defaultdict[str, set[str]]] = {
            table: defaultdict(set) for table in ("Port", "Interface")
        }
        self.marked: set[str] = set()
        """The interfaces with our mark."""
        self._mirrors = MirrorIndex(
            self.tables,
            ports=self._names["Port"],
            interfaces=self._names["Interface"],
            bridges_of_port=self._bridges_of_port,
            ports_of_interface=self._ports_of_interface,
        )

    def has_name(self, name: str) -> bool:
        """Whether a port or an interface of that name exists."""
        return any(name in names for names in self._names.values())

    def port_of(self, interface: str) -> str:
        """The port of an interface; empty if there is not exactly one."""
        return only(self._ports_of_interface, interface)

    def interface_named(self, name: str) -> str:
        """The interface of a name; empty if there is not exactly one."""
        return only(self._names["Interface"], name)

    # --- what the database says -----------------------------------------------------------------

    def begin_load(self) -> None:
        """The next updates are the initial ones: rows that do not come are gone.

        Rows that were known before count for no limit until they come: the server may have made
        all of them anew, and a database that was too large may have become smaller.
        """
        self._unseen = {table: set(rows) for table, rows in self.tables.items()}
        self._elements = 0
        self._forgotten_links = set()

    def end_load(self) -> Iterator[None]:
        """The initial updates have come."""
        for table, uuids in self._unseen.items():
            for number, uuid in enumerate(list(uuids)):
                self._set(table, uuid, None)
                if number % ROWS_IN_A_SLICE == 0:
                    yield
        self._unseen = {}
        for port in list(self._emptied):
            if self._forgotten_links.isdisjoint(refs(self.tables["Port"][port], "interfaces")):
                self._empty_tree_states(port)
        self._forgotten_links = set()

    def apply(self, updates: Any, *, are_differences: bool) -> Iterator[None]:
        """Take table updates of ``update`` or ``update2``; yields after every few rows.

        Raises:
            BadPeer: they are not what the schema says, or more than is accepted.
        """
        if not isinstance(updates, dict):
            raise BadPeer("it sent updates that are no object")
        number = 0
        for table, rows in updates.items():
            if table not in WATCHED:
                raise BadPeer(f"it sent a table {shown(str(table))} that was not asked for")
            if not isinstance(rows, dict):
                raise BadPeer("it sent a table that is no object")
            for uuid, update in rows.items():
                if len(uuid) != 36 or not isinstance(update, dict):
                    raise BadPeer("it sent a row that is no object")
                new = self._read2(table, uuid, update) if are_differences else _read(table, update)
                self._set(table, uuid, new)
                number += 1
                if number % ROWS_IN_A_SLICE == 0:
                    yield

    def _read2(self, table: str, uuid: str, update: Mapping[str, Any]) -> Row | None:
        if "delete" in update:
            return None
        for kind in ("initial", "insert"):
            if kind in update:
                return _decode_row(table, update[kind])
        if "modify" not in update or not isinstance(update["modify"], dict):
            raise BadPeer("it sent a row update of an unknown kind")
        before = self.tables[table].get(uuid)
        if before is None:
            raise BadPeer("it changed a row that does not exist")
        row = dict(before)
        if table == "Port":
            row |= self._emptied.get(uuid, {})
        for name, value in update["modify"].items():
            column = WATCHED[table].get(name)
            if column is None:
                raise BadPeer(f"it sent a column {shown(name)} that was not asked for")
            row[name] = apply_difference(column, row[name], value)
        return row

    def _set(self, table: str, uuid: str, new: Row | None) -> None:
        rows = self.tables[table]
        old = rows.get(uuid)
        if table == "Interface" and new is not None:
            self._note_link(uuid, old, new)
        if table == "Port":
            self._keep_tree_states(uuid, old, new)
        if old is not None and new is not None:
            _keep_ephemeral(table, old, new)
        self._count(table, uuid, old, new)
        if new is None:
            rows.pop(uuid, None)
        else:
            rows[uuid] = new
        if table == "Bridge":
            self._dirty_bridges.add(uuid)
            for port in refer(self._bridges_of_port, uuid, old, new, "ports"):
                self._port_changed(port)
        elif table == "Port":
            changed = refer(self._ports_of_interface, uuid, old, new, "interfaces")
            self._dirty_interfaces.update(changed)
            refer(self._ports_of_qos, uuid, old, new, "qos")
            if old is not None and new is not None and old != new:
                self._port_changed(uuid)
            self._note_name(table, uuid, old, new)
        elif table == "QoS":
            refer(self._qos_of_queue, uuid, old, new, "queues")
            self._qos_changed(uuid)
        elif table == "Queue":
            for qos in self._qos_of_queue.get(uuid, ()):
                self._qos_changed(qos)
        elif table == "Interface":
            self._dirty_interfaces.add(uuid)
            self._note_name(table, uuid, old, new)
            is_marked = new is not None and MARK in strings(new, "external_ids")
            (self.marked.add if is_marked else self.marked.discard)(uuid)
        elif table == "Open_vSwitch":
            self._are_settings_old = True
        self._dirty_bridges |= self._mirrors.note(table, uuid, old, new)

    def _keep_tree_states(self, uuid: str, old: Row | None, new: Row | None) -> None:
        """Keep what spanning trees said of a port before the load that is under way.

        A server that has restarted has forgotten it. ovs-vswitchd sets it again in the transaction
        in which it sets the links of all interfaces, or leaves it empty if the protocol is off.
        """
        self._emptied.pop(uuid, None)
        if old is None or new is None or uuid not in self._unseen.get("Port", ()):
            return
        lost = {
            n: new[n] for n, c in WATCHED["Port"].items() if c.may_empty and old[n] and not new[n]
        }
        if lost:
            self._emptied[uuid] = lost
            new |= {name: old[name] for name in lost}

    def _note_link(self, uuid: str, old: Row | None, new: Row) -> None:
        """Note a link that the server has forgotten; any other change ends what was kept."""
        if uuid not in self._unseen.get("Interface", ()):
            for port in self._ports_of_interface.get(uuid, ()):
                self._empty_tree_states(port)
        elif old is not None and old["link_state"] is not None and new["link_state"] is None:
            self._forgotten_links.add(uuid)

    def _empty_tree_states(self, port: str) -> None:
        """What was kept of a port is gone indeed."""
        lost = self._emptied.pop(port, None)
        if lost is not None:
            old = self.tables["Port"][port]
            self.tables["Port"][port] = new = old | lost
            self._count("Port", port, old, new)
            self._port_changed(port)

    def _count(self, table: str, uuid: str, old: Row | None, new: Row | None) -> None:
        """Count a row that is about to change.

        Raises:
            BadPeer: there would be more than is accepted; then nothing is changed.
        """
        unseen = self._unseen.get(table, set())
        counted = None if uuid in unseen else old
        elements = self._elements + _weigh(new) - _weigh(counted)
        if elements > ALL_ELEMENTS_MAX:
            raise BadPeer(f"it has more than {ALL_ELEMENTS_MAX:,} elements in its sets and maps")
        is_more = new is not None and counted is None
        if is_more and len(self.tables[table]) - len(unseen) >= ROWS_MAX:
            raise BadPeer(f"it has more than {ROWS_MAX:,} rows in the table {table}")
        self._elements = elements
        unseen.discard(uuid)

    def _note_name(self, table: str, uuid: str, old: Row | None, new: Row | None) -> None:
        names = self._names[table]
        before, after = (None if row is None else str(row["name"]) for row in (old, new))
        if before == after:
            return
        if before is not None:
            names[before].discard(uuid)
            if not names[before]:
                del names[before]
        if after is not None:
            names[after].add(uuid)

    def _port_changed(self, port: str) -> None:
        row = self.tables["Port"].get(port)
        if row is not None:
            self._dirty_interfaces.update(refs(row, "interfaces"))

    def _qos_changed(self, qos: str) -> None:
        for port in self._ports_of_qos.get(qos, ()):
            self._port_changed(port)

    # --- what has changed -----------------------------------------------------------------------

    def look(self, now: float) -> Iterator[Report | None]:
        """Look at all rows that may have changed; yields None after every few, then the report.

        ``now`` is monotonic, in seconds. Interfaces that flap stay for a later look: see ``due``.
        """
        report = Report()
        bridges, self._dirty_bridges = self._dirty_bridges, set()
        bridges |= self._claims.claim({uuid: self._claims_of_bridge(uuid) for uuid in bridges})
        for uuid in bridges:
            self._look_at_bridge(uuid, report)
        interfaces, self._dirty_interfaces = self._dirty_interfaces, set()
        if self._late:
            interfaces |= {uuid for uuid in self._late if self._calm[uuid].until <= now}
        claims: dict[str, frozenset[Claim]] = {}
        for number, uuid in enumerate(interfaces):
            claims[uuid] = self._claims_of_interface(uuid)
            if number % ROWS_IN_A_SLICE == 0:
                yield None
        interfaces |= self._claims.claim(claims)
        for number, uuid in enumerate(interfaces):
            self._look_at_interface(uuid, report, now)
            if number % ROWS_IN_A_SLICE == 0:
                yield None
        if self._are_settings_old:
            self._are_settings_old = False
            settings = read_settings(self.tables["Open_vSwitch"].values())
            if settings != self._settings:
                self._settings = report.settings = settings
        if self._are_problems_old:
            self._are_problems_old = False
            report.problems = self._sentences()
        if self._is_unmade_old:
            self._is_unmade_old = False
            report.unmade = self._unmade_bridges()
        yield report

    def due(self) -> float | None:
        """When interfaces that flap are to be looked at again; None if none waits."""
        return min((self._calm[uuid].until for uuid in self._late), default=None)

    # --- bridges --------------------------------------------------------------------------------

    def _claims_of_bridge(self, uuid: str) -> frozenset[Claim]:
        row = self.tables["Bridge"].get(uuid)
        try:
            record = None if row is None else read_bridge(row)
        except BadValue:
            record = None
        if record is None:
            return frozenset()
        return frozenset([("name of bridge", record["name"])])

    def _look_at_bridge(self, uuid: str, report: Report) -> None:
        row, record = self.tables["Bridge"].get(uuid), None
        try:
            record = None if row is None else read_bridge(row)
            if row is not None and record is not None:
                record |= self._mirrors.read(uuid, row)
            self._claims.hold(uuid)
            self._accept(uuid)
        except BadValue as problem:
            record = None
            name = shown(str(row["name"])) if row else uuid
            self._refuse(uuid, f"bridge {name} is not used: {problem}")
        is_unmade = row is not None and record is None and uuid not in self._refused
        self._note_unmade(uuid, read_unmade(row) if is_unmade and row is not None else None)
        before = self._bridges.get(uuid)
        if record == before:
            return
        if record is None:
            del self._bridges[uuid]
        else:
            self._bridges[uuid] = record
        report.bridges[uuid] = record
        if (record is None) != (before is None):
            for port in refs(row, "ports"):
                self._port_changed(port)

    def _note_unmade(self, uuid: str, unmade: Record | None) -> None:
        """Note a bridge without a datapath id; None if it has one, or is gone."""
        if self._unmade.get(uuid) == unmade:
            return
        self._is_unmade_old = True
        if unmade is None:
            del self._unmade[uuid]
        else:
            self._unmade[uuid] = unmade

    def _unmade_bridges(self) -> list[Record]:
        found = self._unmade.values()
        some = heapq.nsmallest(ROW_PROBLEMS_MAX, found, key=lambda record: str(record["name"]))
        return [*some, {"count": len(found)}]

    # --- interfaces -----------------------------------------------------------------------------

    def _owners(self, uuid: str) -> list[tuple[str, str]]:
        """The bridges that have an interface, each with the port by which it has it."""
        return [
            (bridge, port)
            for port in self._ports_of_interface.get(uuid, ())
            for bridge in self._bridges_of_port.get(port, ())
        ]

    def _owner_of(self, uuid: str) -> tuple[str, str] | None:
        """The bridge and the port that have an interface; of several those that had it before.

        None if it is not known, or if the bridge is not reported.
        """
        owners, before = self._owners(uuid), self._owner_before.get(uuid)
        bridges = {bridge for bridge, _ in owners}
        if before in owners:
            owner = before
        elif len(bridges) == 1:
            owner = min(owners)
        else:
            return None
        return owner if owner is not None and owner[0] in self._bridges else None

    def _contradiction(self, uuid: str, owner: tuple[str, str] | None) -> list[str]:
        """Who has an interface, if that is not one port of one bridge, and what is believed."""
        owners = self._owners(uuid)
        if len(owners) < 2:
            return []
        names = sorted(map(self._owner_name, owners))
        more = f" and {len(names) - OWNERS_SHOWN} more" if len(names) > OWNERS_SHOWN else ""
        where = " and in ".join(names[:OWNERS_SHOWN])
        believed = "it is not used" if owner is None else f"it counts in {self._owner_name(owner)}"
        return [f"it is in {where}{more}: {believed} until it is in one only"]

    def _owner_name(self, owner: tuple[str, str]) -> str:
        bridge, port = (
            shown(str(self.tables[table].get(uuid, {}).get("name", "")))
            for table, uuid in zip(("Bridge", "Port"), owner, strict=True)
        )
        return f"port {port} of bridge {bridge}"

    def _claims_of_interface(self, uuid: str) -> frozenset[Claim]:
        record = self._read_interface_or_none(uuid)
        if record is None:
            return frozenset()
        claims: list[Claim] = [("name of interface", record["name"])]
        if record["ofport"] is not None:
            claims.append(("OpenFlow port number", record["ofport"], record["bridge"]))
        return frozenset(claims)

    def _read_interface_or_none(self, uuid: str) -> Record | None:
        row, owner = self.tables["Interface"].get(uuid), self._owner_of(uuid)
        try:
            return None if row is None or owner is None else read_interface(row, owner[0], {}, {})
        except BadValue:
            return None

    def _look_at_interface(self, uuid: str, report: Report, now: float) -> None:
        row, owner, record = self.tables["Interface"].get(uuid), self._owner_of(uuid), None
        try:
            if row is not None and owner is not None:
                port = read_port(owner[1], self.tables["Port"][owner[1]])
                record = read_interface(row, owner[0], self._device(owner[1], row), port)
                self._claims.hold(uuid)
                self._owner_before[uuid] = owner
            else:
                self._owner_before.pop(uuid, None)
            self._note_doubts(uuid, row, owner)
        except BadValue as problem:
            record = None
            name = shown(str(row["name"])) if row else uuid
            self._refuse(uuid, f"interface {name} is not used: {problem}")
        before = self._interfaces.get(uuid)
        self._late.discard(uuid)
        if record == before:
            return
        if record is None:
            del self._interfaces[uuid]
            self._calm.pop(uuid, None)
        else:
            if before is not None and self._must_wait(uuid, before, record, now):
                self._late.add(uuid)
                return
            self._interfaces[uuid] = record
        report.interfaces[uuid] = record

    def _device(self, port_uuid: str, row: Row) -> Record:
        """What is reported of the device of an interface and of its port; without defaults."""
        port = self.tables["Port"].get(port_uuid, {})
        trees = (("status", "stp_state"), ("rstp_status", "rstp_port_state"))
        states = [clean(strings(port, c)[k]) for c, k in trees if k in strings(port, c)]
        found: Record = {
            "type": clean(str(row["type"])),
            "driver": clean(strings(row, "status").get("driver_name", "")),
            "mtu": read_number(row["mtu"], NUMBERS["mtu"]),
            "speed": read_number(row["link_speed"], NUMBERS["link_speed"]),
            "ifindex": read_number(row["ifindex"], NUMBERS["ifindex"]),
            "offloads": clean(strings(row, "external_ids").get(OFFLOADS, "")),
            "protected": bool(port.get("protected")),
            "tree_states": states,
            "qos": self._qos(str(port.get("qos") or "")),
        }
        return {key: value for key, value in found.items() if value}

    def _qos(self, uuid: str) -> Record:
        row = self.tables["QoS"].get(uuid)
        if row is None:
            return {}
        queue = self.tables["Queue"].get(strings(row, "queues").get(FIRST_QUEUE, ""))
        rates = {key: clean(text) for key, text in strings(row, "other_config").items()}
        most = "" if queue is None else clean(strings(queue, "other_config").get("max-rate", ""))
        return {"type": clean(str(row["type"])), **rates, **({"queue": most} if most else {})}

    def _must_wait(self, uuid: str, before: Record, record: Record, now: float) -> bool:
        """Whether only the link of an interface has changed, and it changes too often."""
        names = (before.keys() | record.keys()) - CALM_FIELDS
        if any(before.get(name) != record.get(name) for name in names):
            return False
        calm = self._calm.get(uuid)
        if calm is not None and now < calm.until:
            return True
        is_flapping = calm is not None and now < calm.until + calm.pause_s
        pause_s = min(2 * calm.pause_s, CALM_MAX_S) if calm and is_flapping else CALM_S
        self._calm[uuid] = _Calm(now + pause_s, pause_s)
        return False

    # --- sentences ------------------------------------------------------------------------------

    def _refuse(self, uuid: str, sentence: str) -> None:
        if self._refused.get(uuid) != sentence:
            self._refused[uuid] = sentence
            self._are_problems_old = True

    def _accept(self, uuid: str) -> None:
        if self._refused.pop(uuid, None) is not None:
            self._are_problems_old = True

    def _note_doubts(self, uuid: str, row: Row | None, owner: tuple[str, str] | None) -> None:
        """Accept an interface; say who has it if that contradicts itself, and which of its numbers
        cannot be right, and count as unknown.
        """
        if row is None:
            self._accept(uuid)
            return
        found = self._contradiction(uuid, owner)
        numbers = ((row[c], c, allowed) for c, allowed in NUMBERS.items())
        wrong = [
            f"its {column} {value} is not {allowed.start} to {allowed.stop - 1}"
            for value, column, allowed in numbers
            if value and read_number(value, allowed) is None
        ]
        if wrong and owner is not None:
            found.append(f"{', '.join(wrong)}: it counts as unknown")
        if found:
            name = shown(str(row["name"]))
            self._refuse(uuid, f"interface {name}: {'; '.join(found)}")
        else:
            self._accept(uuid)

    def _sentences(self) -> list[str]:
        some = sorted(heapq.nsmallest(ROW_PROBLEMS_MAX, self._refused.values()))
        more = len(self._refused) - len(some)
        return [*some, f"{more:,} more rows are not used, or not wholly"] if more else some


@dataclass(frozen=True, slots=True)
class _Calm:
    """Until when, in monotonic seconds, an interface whose link flaps is not reported again."""

    until: float
    pause_s: float


def _read(table: str, update: Mapping[str, Any]) -> Row | None:
    """The row of a row update of RFC 7047, 4.1.6, which has all columns that were asked for."""
    return _decode_row(table, update["new"]) if "new" in update else None


def _decode_row(table: str, values: Any) -> Row:
    """A whole row; columns that do not come have their default value."""
    if not isinstance(values, dict):
        raise BadPeer("it sent a row that is no object")
    columns = WATCHED[table]
    row: Row = {name: column.default for name, column in columns.items()}
    for name, value in values.items():
        if name not in columns:
            raise BadPeer(f"it sent a column {shown(name)} that was not asked for")
        row[name] = decode(columns[name], value)
    return row


def _keep_ephemeral(table: str, old: Row, new: Row) -> None:
    """An ovsdb-server that restarts forgets them, and ovs-vswitchd sets them again later."""
    for name, column in WATCHED[table].items():
        if column.is_ephemeral and not column.may_empty and new[name] in (None, {}):
            new[name] = old[name]


def _weigh(row: Row | None) -> int:
    return sum(len(v) for v in row.values() if isinstance(v, (frozenset, dict))) if row else 0

"""Where ports were seen last, so that a restarted controller knows it before switches connect.

Also who speaks for each bridge, so that nobody else does after a restart.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from controller.store import audit, tables
from controller.store.audit import Subject
from controller.store.counts import StoredCounts, write_counts
from controller.store.database import Database
from controller.store.installed import InstalledSessionsRepository
from controller.store.values import BridgeRecord, InterfaceRecord, Place
from flows.model import Dpid

PLACES_AT_ONCE = 1000
"""Places that are written in one transaction."""


class PlacementRepository:
    """The last seen interfaces of each bridge, in memory and in the database.

    Only differences are written. Every change may raise StoreError; then nothing was changed.
    """

    def __init__(
        self,
        database: Database,
        *,
        installed_sessions: InstalledSessionsRepository,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._installed_sessions, self._now = installed_sessions, now
        self._lock = threading.Lock()
        self._bridges: dict[Dpid, BridgeRecord] = {}
        with database.reading() as connection:
            known = connection.execute(select(tables.bridges)).all()
            speakers = connection.execute(select(tables.speakers)).all()
            rows = connection.execute(select(tables.placements)).all()
            places = connection.execute(select(tables.places)).all()
        rows_by_bridge: defaultdict[str, list[InterfaceRecord]] = defaultdict(list)
        for bridge, interface, iface_id, ofport in rows:
            rows_by_bridge[bridge].append(InterfaceRecord(interface, iface_id, ofport))
        speaker_by_bridge = {bridge: speaker for bridge, *speaker in speakers}
        for bridge, name in known:
            dpid = Dpid(int(bridge, 16))
            seen = tuple(sorted(rows_by_bridge[bridge], key=_order))
            speaker = speaker_by_bridge.get(bridge, ())
            self._bridges[dpid] = BridgeRecord(dpid, name, seen, *speaker)
        self._places: dict[str, Place] = {w: (Dpid(int(b, 16)), i) for w, b, i in places}

    def bridges(self) -> tuple[BridgeRecord, ...]:
        """Every bridge, by name and datapath id."""
        with self._lock:
            return tuple(sorted(self._bridges.values(), key=lambda b: (b.name, b.dpid)))

    def remember_bridges(self, bridges: Iterable[BridgeRecord]) -> None:
        """Replace the records of these bridges in one transaction; none if nothing differs."""
        ordered = [replace(b, rows=tuple(sorted(b.rows, key=_order))) for b in bridges]
        with self._lock:
            new = [bridge for bridge in ordered if self._bridges.get(bridge.dpid) != bridge]
            if not new:
                return
            with self._database.writing() as connection:
                for bridge in new:
                    _write(connection, bridge)
            self._bridges |= {bridge.dpid: bridge for bridge in new}

    def places(self) -> Mapping[str, Place]:
        """Where each port and each end of a link was placed last."""
        with self._lock:
            return dict(self._places)

    def remember_places(self, places: Mapping[str, Place]) -> None:
        """Replace where ports and ends of links are; only differences are written.

        Many are written in several transactions: others may run in between.
        """
        with self._lock:
            gone = [who for who in self._places if who not in places]
            new = [who for who, place in places.items() if self._places.get(who) != place]
            for first in range(0, len(gone) + len(new), PLACES_AT_ONCE):
                part = [*gone, *new][first : first + PLACES_AT_ONCE]
                rows = [_place_row(who, places[who]) for who in part if who in places]
                with self._database.writing() as connection:
                    one = delete(tables.places).where(tables.places.c.who == bindparam("gone"))
                    connection.execute(one, [{"gone": who} for who in part])
                    if rows:
                        connection.execute(insert(tables.places), rows)
                for who in part:
                    self._places.pop(who, None)
                self._places |= {who: places[who] for who in part if who in places}
                time.sleep(0)

    def move_bridges(self, moves: Mapping[Dpid, Dpid], counts: StoredCounts) -> None:
        """Bridges have other datapath ids, all of these at once, in one transaction.

        What is stored of each goes along: where it is, what was on it, and what it may be making
        copies of. ``counts`` take the place of all counts of these ids. An id that no bridge has
        any more is known until it is retired.
        """
        with self._lock:
            went = {old: new for old, new in moves.items() if old != new}
            bridges = {
                new: replace(self._bridges[old], dpid=new)
                for old, new in went.items()
                if old in self._bridges
            }
            places = {
                who: (went[dpid], interface)
                for who, (dpid, interface) in self._places.items()
                if dpid in went
            }
            with self._installed_sessions.moving(went) as connection:
                for bridge in bridges.values():
                    _write(connection, bridge)
                table = tables.places
                for who, (dpid, _) in places.items():
                    where = update(table).filter_by(who=who).values(bridge=f"{dpid:016x}")
                    connection.execute(where)
                for dpid in {*moves, *moves.values()}:
                    connection.execute(delete(tables.counts).filter_by(bridge=f"{dpid:016x}"))
                write_counts(connection, counts)
            self._bridges |= bridges
            self._places |= places

    def retire_bridge(self, old: Dpid, new: Dpid) -> None:
        """No bridge has this datapath id any more; what it may be making copies of has another."""
        with self._lock:
            with self._installed_sessions.renaming(old, new) as connection:
                connection.execute(delete(tables.bridges).filter_by(dpid=f"{old:016x}"))
            self._bridges.pop(old, None)

    def forget_bridge(self, dpid: Dpid, name: str, who: str, counts: StoredCounts) -> None:
        """Remove a bridge, its interfaces, and the record of which sessions it may have installed.

        The stored counters of sessions on it stay, and become ``counts``.
        """
        with self._lock:
            with self._installed_sessions.forgetting(dpid) as connection:
                _delete(connection, dpid)
                write_counts(connection, counts)
                subject = Subject("bridge", f"{dpid:016x}", name)
                audit.write_entry(connection, self._now(), who, "forgotten", subject, {})
            self._bridges.pop(dpid, None)


def _write(connection: Connection, bridge: BridgeRecord) -> None:
    dpid = f"{bridge.dpid:016x}"
    _delete(connection, bridge.dpid)
    connection.execute(insert(tables.bridges).values(dpid=dpid, name=bridge.name))
    if bridge.row or bridge.certificate is not None:
        speaker = {"database": bridge.database, "row": bridge.row}
        connection.execute(
            insert(tables.speakers).values(bridge=dpid, certificate=bridge.certificate, **speaker)
        )
    rows = {  # while ports are renamed, two may briefly have one name
        row.interface: {
            "bridge": dpid,
            "interface": row.interface,
            "iface_id": row.iface_id,
            "ofport": row.ofport,
        }
        for row in bridge.rows
    }
    if rows:
        connection.execute(insert(tables.placements), list(rows.values()))


def _delete(connection: Connection, dpid: Dpid) -> None:
    """Delete a bridge, and by the foreign key its interfaces."""
    connection.execute(delete(tables.bridges).filter_by(dpid=f"{dpid:016x}"))


def _place_row(who: str, place: Place) -> dict[str, str]:
    dpid, interface = place
    return {"who": who, "bridge": f"{dpid:016x}", "interface": interface}


def _order(row: InterfaceRecord) -> tuple[str, int]:
    return row.interface, row.ofport

"""Where ports were seen last, so that a restarted controller knows it before anybody tells."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, delete, insert, select

from controller.store import tables
from controller.store.database import Database
from controller.store.values import BridgeRecord, InterfaceRow
from flows.model.session import Dpid


class PlaceBook:
    """The last known interfaces of each bridge; writes only what differs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changing = threading.Lock()
        self._bridges: dict[Dpid, BridgeRecord] = {}
        with database.reading() as connection:
            names = connection.execute(select(tables.bridges)).all()
            rows = connection.execute(select(tables.placements)).all()
        rows_by_bridge: defaultdict[str, list[InterfaceRow]] = defaultdict(list)
        for bridge, interface, iface_id, ofport in rows:
            rows_by_bridge[bridge].append(InterfaceRow(interface, iface_id, ofport))
        for bridge, name in names:
            dpid = Dpid(int(bridge, 16))
            seen = tuple(sorted(rows_by_bridge[bridge], key=_order))
            self._bridges[dpid] = BridgeRecord(dpid, name, seen)

    def all(self) -> tuple[BridgeRecord, ...]:
        """Every bridge, by name and datapath id."""
        with self._changing:
            return tuple(sorted(self._bridges.values(), key=lambda b: (b.name, b.dpid)))

    def remember(self, bridges: Iterable[BridgeRecord]) -> None:
        """Replace what is known of these bridges, in one change of the database."""
        ordered = [BridgeRecord(b.dpid, b.name, tuple(sorted(b.rows, key=_order))) for b in bridges]
        with self._changing:
            new = [bridge for bridge in ordered if self._bridges.get(bridge.dpid) != bridge]
            if not new:
                return
            with self._database.writing() as connection:
                for bridge in new:
                    _write(connection, bridge)
            self._bridges |= {bridge.dpid: bridge for bridge in new}

    @contextmanager
    def forgetting(self, dpid: Dpid) -> Iterator[None]:
        """Forget one bridge when the block has deleted it with ``delete_bridge``."""
        with self._changing:
            yield
            self._bridges.pop(dpid, None)


def delete_bridge(connection: Connection, dpid: Dpid) -> None:
    """Delete a bridge, and with it its interfaces."""
    connection.execute(delete(tables.bridges).filter_by(dpid=f"{dpid:016x}"))


def _write(connection: Connection, bridge: BridgeRecord) -> None:
    dpid = f"{bridge.dpid:016x}"
    delete_bridge(connection, bridge.dpid)
    connection.execute(insert(tables.bridges).values(dpid=dpid, name=bridge.name))
    rows = {  # for a moment, two ports may have one name
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


def _order(row: InterfaceRow) -> tuple[str, int]:
    return row.interface, row.ofport

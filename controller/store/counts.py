"""The counters of copies as rows of the database."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, insert, select

from controller.store import tables
from flows.model import Dpid, SessionId
from flows.openflow import PacketCount

CounterKey = tuple[SessionId, Dpid, str]
"""A session, a bridge, and a value of status.Measure."""
StoredCounts = Mapping[CounterKey, tuple[PacketCount, PacketCount]]
"""The total before the switch's counter last began at 0, and the counter's last value."""


def write_counts(connection: Connection, counts: StoredCounts) -> None:
    """Write these counters; those of sessions that no longer exist are left out."""
    if not counts:
        return
    stored = set(connection.execute(select(tables.sessions.c.id)).scalars())
    rows = [
        {
            "session": session,
            "bridge": f"{dpid:016x}",
            "measure": measure,
            "before_packets": tables.storable(before.packets),
            "before_bytes": tables.storable(before.bytes),
            "last_packets": tables.storable(last.packets),
            "last_bytes": tables.storable(last.bytes),
        }
        for (session, dpid, measure), (before, last) in counts.items()
        if session in stored
    ]
    if rows:
        connection.execute(insert(tables.counts).prefix_with("OR REPLACE"), rows)

"""What is said of a database that does not answer, from the first sign until its rows have come."""

from __future__ import annotations

from collections.abc import Mapping

from controller.southbound.ovsdb import BridgeRow, OvsdbSnapshot, RemoteState
from controller.southbound.ovsdb.database import OvsdbDatabase, RemoteStatus
from controller.southbound.ovsdb.expected import ExpectedDatabases
from flows.model import Dpid

HERE, THERE = "unix:/run/openvswitch/db.sock", "tcp:192.0.2.1:6640"
HANGS = f"{HERE} was left: it has completed no message for 15 s; it is tried again in 8 s"


def test_a_database_that_hangs_is_a_problem_also_while_it_is_connected_again() -> None:
    database = OvsdbDatabase(HERE, OvsdbSnapshot)
    assert database.status.reason
    for _ in range(3):
        database.take({"state": "unreachable", "reason": HANGS})
        assert database.status == RemoteStatus(RemoteState.UNREACHABLE, HANGS)
        database.take({"state": "connected", "reason": ""})
        assert database.status == RemoteStatus(RemoteState.CONNECTED, HANGS)
    database.take({"state": "synced", "reason": ""})
    assert database.status == RemoteStatus(RemoteState.SYNCED)


def test_a_database_is_silent_until_its_rows_have_come() -> None:
    watcher = FakeWatcher()
    rows = OvsdbSnapshot(
        (BridgeRow(Dpid(1), "s1", database=HERE), BridgeRow(Dpid(2), "s2", database=THERE))
    )
    databases = ExpectedDatabases(watcher, lambda: (HERE, THERE), lambda: rows)  # type: ignore[arg-type]
    assert databases.stale() == {}
    for state in (RemoteState.UNREACHABLE, RemoteState.CONNECTED):
        watcher.seen[HERE] = RemoteStatus(state, HANGS)
        assert databases.stale() == {Dpid(1): HERE}
        assert databases.unreachable() == [HANGS]


class FakeWatcher:
    """Two databases whose states are set by the test."""

    def __init__(self) -> None:
        self.seen = dict.fromkeys((HERE, THERE), RemoteStatus(RemoteState.SYNCED))

    def statuses(self) -> Mapping[str, RemoteStatus]:
        """The states."""
        return self.seen

    def row_problems(self) -> list[str]:
        """None."""
        return []

    def tls_problems(self) -> list[str]:
        """None."""
        return []

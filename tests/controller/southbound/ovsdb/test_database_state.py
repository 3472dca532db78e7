"""What is said of a database that does not answer, from the first sign until its rows have come."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from controller.southbound.ovsdb import BridgeRow, OvsdbSnapshot, RemoteState
from controller.southbound.ovsdb.database import UNMADE_S, OvsdbDatabase, RemoteStatus
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


@pytest.mark.parametrize(
    ("datapath_type", "remedy"),
    [("", "datapath_type=netdev`"), ("system", "modprobe openvswitch"), ("odd", "is 'odd'")],
)
def test_a_bridge_that_is_not_created_in_time_is_said(datapath_type: str, remedy: str) -> None:
    now = [0.0]
    database = OvsdbDatabase(HERE, OvsdbSnapshot, clock=lambda: now[0])
    unmade = [{"name": "s1", "datapath_type": datapath_type}, {"count": 3}]
    database.take({"is_first": True, "is_last": True, "unmade": unmade})
    now[0] = UNMADE_S - 0.1
    assert not database.unmade(), "it may be on its way"
    database.take({"is_first": False, "is_last": True, "settings": {}})
    now[0] = UNMADE_S
    first, others = database.unmade()
    assert first.startswith(f"{HERE}: Open vSwitch has not created bridge 's1'")
    assert remedy in first
    assert others == f"{HERE}: Open vSwitch has not created 2 more bridges"
    database.take({"is_first": False, "is_last": True, "unmade": [{"count": 0}]})
    assert not database.unmade()


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

    def unmade(self) -> list[str]:
        """None."""
        return []

    def tls_problems(self) -> list[str]:
        """None."""
        return []

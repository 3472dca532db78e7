"""Databases that confirm a write and do not show it, or undo it, are asked ever more seldom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from controller.southbound.ovsdb import (
    BridgeRow,
    InterfaceRow,
    OvsdbSnapshot,
    TunnelDemand,
    tunnel_name,
)
from controller.southbound.ovsdb.database import OvsdbDatabase
from controller.southbound.ovsdb.rows import DatabaseContent
from controller.southbound.ovsdb.tunnel_rows import TunnelRows
from controller.southbound.ovsdb.wanted_rows import WriteResult
from controller.southbound.ovsdb.write_pace import (
    QUICK_WRITES,
    RUN_OVER_S,
    WRITE_PAUSE_MAX_S,
    WritePace,
)
from flows.model import Dpid, TunnelKind

S1, OTHER = Dpid(1), Dpid(2)
BRIDGE = BridgeRow(S1, "s1", row="row1")
ROWS = frozenset(["row1"])
VXLAN = TunnelDemand(frozenset([TunnelKind.VXLAN]))
NOTHING = TunnelDemand(frozenset(), frozenset([TunnelKind.VXLAN]))
PORT = InterfaceRow(S1, "s1", tunnel_name(S1, TunnelKind.VXLAN), tunnel=TunnelKind.VXLAN)
EMPTY = DatabaseContent((BRIDGE,))


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def showing(*rows: InterfaceRow) -> DatabaseContent:
    return DatabaseContent((BRIDGE,), tunnels={"row1": rows})


def writes_in(
    seconds: int, content: Callable[[int], DatabaseContent], demand: TunnelDemand = VXLAN
) -> tuple[int, TunnelRows]:
    """The writes to a database that confirms each and then shows ``content`` of their number."""
    clock = Clock()
    rows, writes = TunnelRows("tcp:192.0.2.1:6640", clock), 0
    for _ in range(seconds * 10):
        for _ in range(5):  # reports come much more often
            for dpid, _ in list(rows.due(content(writes), {S1: demand}, ROWS)):
                writes += 1
                rows.answered(dpid, WriteResult())
        clock.now += 0.1
    return writes, rows


def test_a_port_that_is_confirmed_and_not_shown_is_asked_for_ever_more_seldom_and_said() -> None:
    writes, rows = writes_in(300, lambda _: EMPTY)
    assert QUICK_WRITES <= writes <= QUICK_WRITES + 5 + 300 / WRITE_PAUSE_MAX_S
    [why] = rows.problems.values()
    assert "confirmed the tunnel port for vxlan of bridge 0000000000000001" in why
    assert "but does not show it" in why


@pytest.mark.parametrize("demand", [VXLAN, NOTHING])
def test_a_port_that_comes_and_goes_with_each_write_is_not_followed(demand: TunnelDemand) -> None:
    writes, _ = writes_in(300, lambda n: showing(PORT) if n % 2 else EMPTY, demand)
    assert writes <= QUICK_WRITES + 5 + 300 / WRITE_PAUSE_MAX_S


def test_a_port_that_stays_although_its_removal_was_confirmed() -> None:
    writes, _ = writes_in(300, lambda _: showing(PORT), NOTHING)
    assert QUICK_WRITES <= writes <= QUICK_WRITES + 5 + 300 / WRITE_PAUSE_MAX_S


def test_a_port_that_stays_altered_is_said() -> None:
    writes, rows = writes_in(300, lambda _: showing(replace(PORT, is_altered=True)))
    assert writes <= QUICK_WRITES + 5 + 300 / WRITE_PAUSE_MAX_S
    [why] = rows.problems.values()
    assert "confirmed the repair of the tunnel port for vxlan" in why


def test_a_bridge_whose_row_comes_and_goes_is_not_written_to_more_often() -> None:
    shown = [0]

    def content(_: int) -> DatabaseContent:
        shown[0] += 1
        return EMPTY if shown[0] % 2 else DatabaseContent()

    assert writes_in(300, content)[0] <= QUICK_WRITES + 5 + 300 / WRITE_PAUSE_MAX_S


def test_a_port_that_is_shown_after_it_was_confirmed_is_no_problem() -> None:
    writes, rows = writes_in(10, lambda n: showing(PORT) if n else EMPTY)
    assert (writes, rows.problems) == (1, {})


def test_what_was_said_is_over_once_the_port_is_shown() -> None:
    clock = Clock()
    rows = TunnelRows("tcp:192.0.2.1:6640", clock)
    for _ in range(2):
        assert [rows.answered(dpid, WriteResult()) for dpid, _ in due(rows, EMPTY)]
    assert rows.problems
    assert due(rows, showing(PORT)) == []
    assert rows.problems == {}


def test_what_sessions_need_anew_is_written_at_once_however_much_was_written_before() -> None:
    clock = Clock()
    rows, content = TunnelRows("tcp:192.0.2.1:6640", clock), EMPTY
    for number in range(4 * QUICK_WRITES):
        demand, shown = (NOTHING, EMPTY) if number % 2 else (VXLAN, showing(PORT))
        asked = list(rows.due(content, {S1: demand}, ROWS))
        assert len(asked) == 1, f"write {number + 1} has to wait"
        rows.answered(S1, WriteResult())
        content = shown
        clock.now += 2.0


def test_a_port_that_somebody_removes_again_and_again_is_said_while_it_is_not_made() -> None:
    clock = Clock()
    rows = TunnelRows("tcp:192.0.2.1:6640", clock)
    while due(rows, EMPTY):
        assert rows.problems == {}
        rows.answered(S1, WriteResult())
        due(rows, showing(PORT))
    [why] = rows.problems.values()
    assert "for vxlan of bridge s1 was made, and removed or altered by somebody else" in why
    clock.now += WRITE_PAUSE_MAX_S
    assert due(rows, EMPTY)
    rows.answered(S1, WriteResult())
    due(rows, showing(PORT))
    assert rows.problems == {}


def due(rows: TunnelRows, content: DatabaseContent) -> list[Any]:
    return list(rows.due(content, {S1: VXLAN}, ROWS))


def test_the_changes_that_people_make_are_not_delayed_and_a_long_run_ends() -> None:
    clock = Clock()
    pace = WritePace(clock)
    for _ in range(QUICK_WRITES - 1):
        pace.note(S1)
        assert pace.next_at(S1) <= clock.now
    for _ in range(20):
        pace.note(S1)
    assert pace.next_at(S1) == clock.now + WRITE_PAUSE_MAX_S
    assert pace.next_at(OTHER) <= clock.now, "another bridge does not wait"
    clock.now += RUN_OVER_S
    pace.note(S1)
    assert pace.next_at(S1) <= clock.now


def test_a_bridge_that_has_to_wait_is_not_forgotten() -> None:
    clock = Clock()
    pace = WritePace(clock)
    for _ in range(QUICK_WRITES):
        pace.note(S1)
    pace.note(OTHER)
    pace.keep(())
    assert pace.next_at(S1) > clock.now and pace.next_at(OTHER) == 0.0
    clock.now += WRITE_PAUSE_MAX_S
    pace.keep((S1,))
    assert pace.next_at(S1) > 0.0
    pace.keep(())
    assert pace.next_at(S1) == 0.0


def test_a_bridge_that_does_not_become_secure_is_asked_ever_more_seldom() -> None:
    clock = Clock()
    database, asked = OvsdbDatabase("tcp:192.0.2.1:6640", believed, clock=clock), 0
    database.take({"state": "synced", "reason": ""})
    bridge = {"dpid": 1, "name": "s1", "fail_mode": "", "datapath_type": "netdev"}
    rows = {"bridges": {"row1": bridge}, "interfaces": {}, "settings": {}}
    database.take({"is_first": True, "is_last": True, **rows})
    for _ in range(600):
        database.secure(S1)  # as often as its switch connects
        for request in list(database.requests()):
            asked += 1
            database.take({"request": request["request"], "refused": "", "taken": []})
        clock.now += 1.0
    assert QUICK_WRITES <= asked <= QUICK_WRITES + 5 + 600 / WRITE_PAUSE_MAX_S


def believed() -> OvsdbSnapshot:
    return OvsdbSnapshot((replace(BRIDGE, database="tcp:192.0.2.1:6640"),))

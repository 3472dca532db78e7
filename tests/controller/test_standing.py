"""How a session is shown, from the world and from what each bridge has verified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.inventory.file import parse
from controller.status.values import State
from flows.model.session import SessionId
from tests.controller.rig import INVENTORY, Rig
from tests.ovs.waiting import wait_for


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path)
    for dpid in (1, 2, 3):
        built.connect(dpid)
    wait_for(lambda: built.reconciler.bring(5), bool)
    yield built
    built.close()


def standing(rig: Rig, name: str) -> tuple[State, tuple[str, ...], dict[str, State]]:
    rig.reconciler.bring(5)
    seen = rig.reconciler.session_status(SessionId(name))
    return seen.state, seen.reasons, {share.bridge: share.state for share in seen.bridges}


def test_all_there_is_active(rig: Rig) -> None:
    rig.add_session("s", "a", "b", tap="t1")
    both = {"s1": State.ACTIVE, "s2": State.ACTIVE}
    assert standing(rig, "s") == (State.ACTIVE, (), both)


def test_a_port_that_is_nowhere_degrades_or_leaves_nothing(rig: Rig) -> None:
    text = INVENTORY.replace("ports:", "ports:\n  - {id: x, tenant: red, kind: vm, network: lan, "
                             'mac: "02:00:00:00:00:0a"}')  # fmt: skip
    rig.declare(parse(text.encode()))
    rig.add_session("one", "x")
    rig.add_session("two", "x", "a")
    assert standing(rig, "one") == (State.PENDING, ("port 'x' is on no bridge",), {})
    state, reasons, shares = standing(rig, "two")
    assert (state, reasons) == (State.DEGRADED, ("port 'x' is on no bridge",))
    assert shares["s1"] is State.ACTIVE


def test_a_session_that_is_switched_off_is_inactive(rig: Rig) -> None:
    rig.add_session("s", "a", enabled=False)
    assert standing(rig, "s")[:2] == (State.INACTIVE, ("switched off by its owner",))
    rig.store.change_session(
        SessionId("s"), lambda old: replace(old, session=replace(old.session, enabled=True)), "t"
    )
    assert standing(rig, "s")[0] is State.ACTIVE


def test_a_bridge_that_is_away_is_named_where_it_matters(rig: Rig) -> None:
    rig.add_session("near", "a", tap="t1")
    rig.add_session("both", "a", "b", tap="t1")
    assert standing(rig, "both")[0] is State.ACTIVE
    rig.cut(2)
    state, reasons, shares = standing(rig, "both")
    assert (state is State.DEGRADED and "s2" in " ".join(reasons)) or "0002" in " ".join(reasons)
    assert shares["s1"] is State.ACTIVE
    rig.store.delete_session(SessionId("both"), "test")
    state, reasons, shares = standing(rig, "both")
    assert (state, reasons) == (State.INACTIVE, ("being deleted: bridge s2 is not reachable",))
    rig.connect(2)
    wait_for(lambda: rig.reconciler.bring(5), bool)
    assert [record.session.id for record in rig.store.sessions()] == ["near"]


def test_the_only_bridge_of_a_session_copies_on_while_it_is_away(rig: Rig) -> None:
    rig.add_session("s", "a", tap="t1")
    assert standing(rig, "s")[0] is State.ACTIVE
    rig.cut(1)
    said = "bridge s1 is not connected: unless it has stopped, it copies on as it was verified last"
    assert standing(rig, "s") == (State.DEGRADED, (said,), {"s1": State.DEGRADED})


def test_a_bridge_that_left_before_a_change_is_not_said_to_follow_it(rig: Rig) -> None:
    rig.add_session("s", "a", tap="t1")
    assert standing(rig, "s")[0] is State.ACTIVE
    rig.cut(1)
    rig.store.change_session(
        SessionId("s"),
        lambda old: replace(old, session=replace(old.session, packet_length=64)),
        "t",
    )
    said = "bridge s1 is not connected, and has not got the last change"
    assert standing(rig, "s") == (State.PENDING, (said,), {"s1": State.PENDING})
    rig.connect(1)
    wait_for(lambda: standing(rig, "s")[0], lambda state: state is State.ACTIVE)


def test_copies_are_counted_on_although_a_switch_begins_at_0_again(rig: Rig) -> None:
    rig.add_session("s", "a", tap="t1")
    standing(rig, "s")
    entries = rig.models[1].tables.flows
    number = next(iter(rig.copying(1)))
    assert number
    copying = [e for e in entries.values() if e.table == 90 and e.cookie >> 32 & 0xFFFFF == number]
    for entry in copying:
        entry.packets, entry.octets = 7, 700
    seen = wait_for(
        lambda: rig.reconciler.session_status(SessionId("s")).copies, lambda c: c.packets > 0
    )
    assert (seen.packets, seen.bytes) == (7, 700)
    rig.cut(1)
    rig.models[1].restart()
    rig.connect(1)
    wait_for(lambda: rig.reconciler.bring(5), bool)
    seen = rig.reconciler.session_status(SessionId("s")).copies
    assert (seen.packets, seen.bytes) == (7, 700)

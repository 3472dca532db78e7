"""How a session is shown, from the world and from what each bridge has verified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.inventory.file import parse
from controller.reconcile.report.describe import with_stale_bridges
from controller.status import State
from flows.model import CollectorId, Dpid, Hop, Ofport, Placement, PortId, SessionId, Source
from tests.controller.rig import INVENTORY, Rig
from tests.ovs.waiting import wait_for


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path)
    for dpid in (1, 2, 3):
        built.connect(dpid)
    wait_for(lambda: built.reconciler.sync(5), bool)
    yield built
    built.close()


def resolved_session(rig: Rig, name: str) -> tuple[State, tuple[str, ...], dict[str, State]]:
    rig.reconciler.sync(5)
    seen = rig.inspector.session_status(SessionId(name))
    return seen.state, seen.reasons, {share.bridge: share.state for share in seen.bridges}


def test_all_there_is_active(rig: Rig) -> None:
    rig.add_session("s", "a", "b", tap="t1")
    both = {"s1": State.ACTIVE, "s2": State.ACTIVE}
    assert resolved_session(rig, "s") == (State.ACTIVE, (), both)


def test_a_port_that_is_nowhere_degrades_or_leaves_nothing(rig: Rig) -> None:
    text = INVENTORY.replace("ports:", "ports:\n  - {id: x, tenant: red, kind: vm, network: lan, "
                             'mac: "02:00:00:00:00:0a"}')  # fmt: skip
    rig.declare(parse(text.encode()))
    rig.add_session("one", "x")
    rig.add_session("two", "x", "a")
    assert resolved_session(rig, "one") == (State.PENDING, ("port 'x' is on no bridge",), {})
    state, reasons, shares = resolved_session(rig, "two")
    assert (state, reasons) == (State.DEGRADED, ("port 'x' is on no bridge",))
    assert shares["s1"] is State.ACTIVE


def test_a_session_that_is_switched_off_is_inactive(rig: Rig) -> None:
    rig.add_session("s", "a", enabled=False)
    assert resolved_session(rig, "s")[:2] == (State.INACTIVE, ("switched off by its owner",))
    rig.store.sessions.change(
        SessionId("s"), lambda old: replace(old, session=replace(old.session, enabled=True)), "t"
    )
    assert resolved_session(rig, "s")[0] is State.ACTIVE


def test_a_bridge_that_is_away_is_named_where_it_matters(rig: Rig) -> None:
    rig.add_session("near", "a", tap="t1")
    rig.add_session("both", "a", "b", tap="t1")
    assert resolved_session(rig, "both")[0] is State.ACTIVE
    rig.cut(2)
    state, reasons, shares = resolved_session(rig, "both")
    assert (state is State.DEGRADED and "s2" in " ".join(reasons)) or "0002" in " ".join(reasons)
    assert shares["s1"] is State.ACTIVE
    rig.store.sessions.delete(SessionId("both"), "test")
    state, reasons, shares = resolved_session(rig, "both")
    assert (state, reasons) == (State.INACTIVE, ("being deleted: bridge s2 is not reachable",))
    rig.connect(2)
    wait_for(lambda: rig.reconciler.sync(5), bool)
    assert [record.session.id for record in rig.store.sessions.all()] == ["near"]


def test_the_only_bridge_of_a_session_copies_on_while_it_is_away(rig: Rig) -> None:
    rig.add_session("s", "a", tap="t1")
    assert resolved_session(rig, "s")[0] is State.ACTIVE
    rig.cut(1)
    said = "bridge s1 is not connected: unless it has stopped, it copies on as it was verified last"
    assert resolved_session(rig, "s") == (State.DEGRADED, (said,), {"s1": State.DEGRADED})


def test_a_bridge_that_left_before_a_change_is_not_said_to_follow_it(rig: Rig) -> None:
    rig.add_session("s", "a", tap="t1")
    assert resolved_session(rig, "s")[0] is State.ACTIVE
    rig.cut(1)
    rig.store.sessions.change(
        SessionId("s"),
        lambda old: replace(old, session=replace(old.session, packet_length=64)),
        "t",
    )
    pending = {"s1": State.PENDING}
    assert resolved_session(rig, "s") == (State.PENDING, (FORMER,), pending)
    rig.connect(1)
    wait_for(lambda: resolved_session(rig, "s")[0], lambda state: state is State.ACTIVE)


FORMER = (
    "bridge s1 is not connected, and has not got the last change: unless it has stopped, it goes "
    "on with the former version of the session"
)


def test_the_collector_to_which_a_bridge_that_left_before_a_change_goes_on_to_copy_is_named(
    rig: Rig,
) -> None:
    rig.add_session("s", "a", tap="t1")
    rig.add_session("other", "a", tap="t3")
    assert resolved_session(rig, "s")[0] is State.ACTIVE
    rig.cut(1)
    pending = {"s1": State.PENDING}
    change(rig, "s", collector=CollectorId("to-t3"))
    said = f"{FORMER}, and copies to collector 'to-t1'"
    assert resolved_session(rig, "s") == (State.PENDING, (said,), pending)

    rig.store.collectors.change(
        CollectorId("to-t3"),
        lambda old: replace(old, collector=replace(old.collector, sensors=(PortId("t2"),))),
        "t",
    )
    assert resolved_session(rig, "s") == (State.PENDING, (said,), pending)
    said = f"{FORMER}, and copies to collector 'to-t3' as it was: t3"
    assert resolved_session(rig, "other") == (State.PENDING, (said,), pending)
    rig.connect(1)
    wait_for(lambda: resolved_session(rig, "s")[0], lambda state: state is State.ACTIVE)


def test_a_bridge_that_left_in_the_middle_of_a_plan_has_a_version_that_is_not_known(
    rig: Rig,
) -> None:
    rig.add_session("s", "a", tap="t1")
    assert resolved_session(rig, "s")[0] is State.ACTIVE
    [writer] = rig.writers.find([Dpid(1)])
    writer.installed.begin_plan(frozenset())
    rig.cut(1)
    said = (
        "bridge s1 is not connected, and which version of the session it goes on with is not known"
    )
    assert resolved_session(rig, "s") == (State.PENDING, (said,), {"s1": State.PENDING})


def change(rig: Rig, name: str, **fields: object) -> None:
    rig.store.sessions.change(
        SessionId(name), lambda old: replace(old, session=replace(old.session, **fields)), "t"
    )


@pytest.mark.parametrize("end", ["disabled", "its port is in no inventory"])
def test_a_bridge_that_is_away_may_still_copy_for_a_session_that_has_ended(
    rig: Rig, end: str
) -> None:
    rig.add_session("s", "b", tap="t2")
    assert resolved_session(rig, "s")[0] is State.ACTIVE
    rig.cut(2)
    if end == "disabled":
        change(rig, "s", enabled=False)
        expected = State.INACTIVE
    else:
        text = "\n".join(line for line in INVENTORY.splitlines() if "{id: b," not in line)
        rig.declare(parse(text.encode()))
        expected = State.PENDING
    state, reasons, shares = resolved_session(rig, "s")
    assert (state, shares) == (expected, {"s2": State.PENDING})
    assert reasons[-1] == "bridge s2 is not reachable, and may still make copies"
    rig.connect(2)
    wait_for(
        lambda: resolved_session(rig, "s"),
        lambda seen: seen[0] is expected and not seen[2] and "s2" not in " ".join(seen[1]),
    )


def test_a_bridge_that_is_away_since_before_a_restart_may_still_copy(rig: Rig) -> None:
    rig.add_session("s", "a", "b", tap="t1")
    assert resolved_session(rig, "s")[0] is State.ACTIVE
    rig.cut(2)
    change(rig, "s", source=Source((PortId("a"),)))
    rig.restart()
    for dpid in (1, 3):
        rig.connect(dpid)
    said = "bridge s2 is not connected, and may still make copies"
    both = {"s1": State.ACTIVE, "s2": State.PENDING}
    wait_for(
        lambda: resolved_session(rig, "s"), lambda seen: seen == (State.DEGRADED, (said,), both)
    )
    rig.connect(2)
    only = (State.ACTIVE, (), {"s1": State.ACTIVE})
    wait_for(lambda: resolved_session(rig, "s"), lambda seen: seen == only)


def test_copies_are_counted_on_although_a_switch_begins_at_0_again(rig: Rig) -> None:
    rig.add_session("s", "a", tap="t1")
    resolved_session(rig, "s")
    rig.count_copies(1, "s", 7, 700)
    seen = wait_for(
        lambda: rig.inspector.session_status(SessionId("s")).copies, lambda c: c.packets > 0
    )
    assert (seen.packets, seen.bytes) == (7, 700)
    rig.cut(1)
    rig.models[1].restart()
    rig.connect(1)
    wait_for(lambda: rig.reconciler.sync(5), bool)
    seen = rig.inspector.session_status(SessionId("s")).copies
    assert (seen.packets, seen.bytes) == (7, 700)


def test_a_session_that_cannot_be_compiled_is_said_and_no_other_waits_for_it(rig: Rig) -> None:
    rig.add_session("bad", "a", tap="t1")
    rig.add_session("good", "a", tap="t2")
    assert resolved_session(rig, "bad")[0] is State.ACTIVE
    rig.hops = {Placement(Dpid(1), Ofport(7)): Hop(mtu=-20)}
    rig.changes.changed()
    rig.add_session("new", "d", tap="t3")

    state, reasons, shares = resolved_session(rig, "bad")
    assert (state, shares["s1"]) == (State.PENDING, State.ERROR)
    assert "cannot be compiled: -6 bytes cannot be noted in 'larger'" in " ".join(reasons)
    assert len(rig.copying(1)) == 2
    for name in ("good", "new"):
        assert resolved_session(rig, name)[:2] == (State.ACTIVE, ())
    [bridge] = [b for b in rig.inspector.bridges() if b.name == "s1"]
    assert bridge.state is State.DEGRADED and "1 sessions make no copies" in bridge.reasons[0]

    rig.hops = {}
    rig.changes.changed()
    assert resolved_session(rig, "bad") == (State.ACTIVE, (), {"s1": State.ACTIVE})


def test_a_database_that_does_not_answer_is_unknown_to_the_sessions_whose_ways_it_tells_of(
    rig: Rig,
) -> None:
    rig.add_session("far", "a", tap="t3")
    rig.add_session("near", "a", tap="t1")
    rig.add_session("nowhere", "b", tap="t2")
    rig.add_session("off", "b", tap="t2", enabled=False)
    rig.declare(parse(INVENTORY.replace("kind: tap, interface: s2-eth7", "kind: tap").encode()))
    rig.reconciler.sync(5)

    def seen(name: str, *stale: int) -> tuple[State, tuple[str, ...]]:
        session, snapshot = SessionId(name), rig.world.snapshot()
        status = replace(rig.inspector.session_status(session), reasons=())
        by_dpid = {Dpid(dpid): "tcp:192.0.2.1:6640" for dpid in stale}
        found = with_stale_bridges(status, snapshot, session, by_dpid, lambda dpid: f"s{dpid}")
        return found.state, found.reasons

    why = "unknown: database tcp:192.0.2.1:6640 does not answer"
    state, reasons = seen("far", 1, 2, 3)
    assert state is State.ACTIVE and len(reasons) == 3
    assert all(reason.startswith(why) for reason in reasons)
    state, [reason] = seen("far", 2)
    assert state is State.ACTIVE and "bridge 's2'" in reason, "copies pass it"
    assert seen("near", 2, 3) == (State.ACTIVE, ())
    assert seen("off", 1, 2, 3) == (State.INACTIVE, ())
    state, [reason] = seen("nowhere", 1, 2)
    assert state is State.PENDING and "bridge 's2'" in reason, "its source is there"

"""What each bridge has counted of a session is told, and what is told of the session is the sum."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.inventory.file import parse
from controller.reconcile import LimitChecker
from controller.southbound.ovsdb import OvsdbSnapshot
from controller.status import SessionStatus, State
from controller.store import Limits, StoreError
from flows.model import Dpid, Rate, RateUnit, SessionId
from flows.openflow import PacketCount
from tests.controller.rig import INVENTORY, Rig
from tests.controller.topology.test_identity import said, together
from tests.ovs.waiting import wait_for

S = SessionId("s")
S1, S2, S3 = Dpid(1), Dpid(2), Dpid(3)
Told = dict[str, tuple[State, int, dict[str, int]]]
"""Of each bridge: its state, how many copies it has made, and those that it has not, by reason."""
ALL_HERE: Told = {
    "s1": (State.ACTIVE, 80, {"rate": 20}),
    "s2": (State.ACTIVE, 45, {"rate": 5}),
}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path)
    connect(built, 1, 2, 3)
    built.add_session("s", "a", "b", tap="t1")
    limits, rate = Limits(max_packets=1_000_000), Rate(RateUnit.PPS, 1)
    built.store.sessions.change(
        S, lambda old: replace(old, session=replace(old.session, max_rate=rate), limits=limits), "t"
    )
    wait_for(lambda: built.reconciler.sync(5), bool)
    yield built
    built.close()


def connect(rig: Rig, *dpids: int) -> None:
    for dpid in dpids:
        rig.connect(dpid)
    wait_for(lambda: rig.reconciler.sync(5), bool)


def checker(rig: Rig) -> LimitChecker:
    """What writes down what was counted, and restores it."""
    return LimitChecker(
        rig.world.snapshot, rig.store.limits, rig.poller, rig.changes, lambda: datetime.now(UTC)
    )


def counts(rig: Rig, dpid: int, wanted: int, shed: int) -> None:
    """A switch has seen packets of 100 bytes that the session wants, and its meter has shed."""
    rig.count_copies(dpid, "s", wanted - shed, (wanted - shed) * 100)
    (cap,) = rig.world.snapshot().numbers.meter.values()
    meter = rig.models[dpid].tables.meters.by_number[cap]
    meter.dropped = shed, shed * 100


def counts_on_both(rig: Rig) -> None:
    counts(rig, 1, wanted=100, shed=20)
    counts(rig, 2, wanted=50, shed=5)


def told(rig: Rig) -> Told:
    """What is told of each bridge; what is told of the whole session must be the sum of it."""
    seen = rig.inspector.session_status(S)
    assert_is_the_sum(seen)
    return {
        share.bridge: (share.state, share.copies.packets, dict(share.skipped))
        for share in seen.bridges
    }


def assert_is_the_sum(seen: SessionStatus) -> None:
    skipped: Counter[str] = Counter()
    for share in seen.bridges:
        skipped.update(share.skipped)
    assert seen.copies == sum((share.copies for share in seen.bridges), PacketCount())
    assert seen.truncated == sum(share.truncated for share in seen.bridges)
    assert seen.skipped == skipped


def wait_until_told(rig: Rig, wanted: Told) -> None:
    wait_for(lambda: told(rig), lambda seen: seen == wanted)


def test_each_bridge_tells_its_own(rig: Rig) -> None:
    counts_on_both(rig)
    wait_until_told(rig, ALL_HERE)
    seen = rig.inspector.session_status(S)
    assert (seen.copies, seen.skipped) == (PacketCount(125, 12_500), {"rate": 25})


def test_a_bridge_that_went_away_keeps_what_it_has_counted(rig: Rig) -> None:
    counts_on_both(rig)
    wait_until_told(rig, ALL_HERE)
    rig.cut(2)
    assert told(rig) == ALL_HERE | {"s2": (State.DEGRADED, 45, {"rate": 5})}
    counts(rig, 1, wanted=110, shed=20)
    wait_until_told(
        rig,
        {"s1": (State.ACTIVE, 90, {"rate": 20}), "s2": (State.DEGRADED, 45, {"rate": 5})},
    )


def test_after_a_restart_a_bridge_that_is_not_back_yet_is_part_of_the_sum(rig: Rig) -> None:
    counts_on_both(rig)
    wait_until_told(rig, ALL_HERE)
    checker(rig).keep()
    rig.restart()
    checker(rig).restore(rig.store.numbered().session)
    connect(rig, 1, 3)
    wait_until_told(rig, ALL_HERE | {"s2": (State.PENDING, 45, {"rate": 5})})
    connect(rig, 2)
    wait_until_told(rig, ALL_HERE)


def test_a_bridge_that_a_session_has_left_keeps_what_it_has_counted(rig: Rig) -> None:
    counts_on_both(rig)
    wait_until_told(rig, ALL_HERE)
    rig.declare(parse(INVENTORY.replace("s2-eth1}", "s3-eth2}", 1).encode()))
    wait_for(lambda: rig.reconciler.sync(5), bool)
    left = {"s2": (State.INACTIVE, 45, {"rate": 5})}
    wait_until_told(rig, ALL_HERE | left | {"s3": (State.ACTIVE, 0, {})})
    counts(rig, 3, wanted=7, shed=3)
    wait_until_told(rig, ALL_HERE | left | {"s3": (State.ACTIVE, 4, {"rate": 3})})


@pytest.mark.parametrize("bridge_is_there", [True, False])
def test_a_session_that_is_switched_off_keeps_what_was_counted(
    rig: Rig, bridge_is_there: bool
) -> None:
    counts_on_both(rig)
    wait_until_told(rig, ALL_HERE)
    if not bridge_is_there:
        rig.cut(2)
    rig.store.sessions.change(
        S, lambda old: replace(old, session=replace(old.session, enabled=False)), "t"
    )
    rig.reconciler.sync(1)
    state = State.INACTIVE if bridge_is_there else State.PENDING
    wait_until_told(
        rig,
        {"s1": (State.INACTIVE, 80, {"rate": 20}), "s2": (state, 45, {"rate": 5})},
    )


def crash(rig: Rig) -> None:
    """The controller ends without a word; a new one begins with what was stored."""
    rig.restart()
    checker(rig).restore(rig.store.numbered().session)


def test_what_a_forgotten_bridge_has_counted_is_stored_with_it(rig: Rig) -> None:
    counts_on_both(rig)
    wait_until_told(rig, ALL_HERE)
    rig.cut(2)
    rig.reconciler.forget(S2, "t")
    crash(rig)
    connect(rig, 1, 3)
    gone = {f"{S2:016x}": (State.INACTIVE, 45, {"rate": 5})}
    wait_until_told(rig, {"s1": ALL_HERE["s1"]} | gone)


def test_what_a_bridge_that_went_away_has_counted_is_stored_at_once(rig: Rig) -> None:
    keeping = checker(rig)
    counts_on_both(rig)
    wait_until_told(rig, ALL_HERE)
    rig.cut(2)
    keeping.check()
    crash(rig)
    connect(rig, 1, 3)
    wait_until_told(rig, ALL_HERE | {"s2": (State.PENDING, 45, {"rate": 5})})


def test_what_could_not_be_stored_of_a_bridge_that_went_away_is_stored_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping = checker(rig)
    counts_on_both(rig)
    wait_until_told(rig, ALL_HERE)
    rig.cut(2)
    with monkeypatch.context() as patched:

        def fail(counts: object) -> None:
            raise StoreError("the disk is full")

        patched.setattr(rig.store.limits, "keep_counts", fail)
        with pytest.raises(StoreError):
            keeping.check()
    keeping.check()
    crash(rig)
    connect(rig, 1, 3)
    wait_until_told(rig, ALL_HERE | {"s2": (State.PENDING, 45, {"rate": 5})})


def test_what_a_meter_has_counted_that_begins_anew_is_stored_at_once(rig: Rig) -> None:
    keeping = checker(rig)
    counts_on_both(rig)
    wait_until_told(rig, ALL_HERE)
    rig.store.sessions.change(
        S, lambda old: replace(old, session=replace(old.session, max_rate=None)), "t"
    )
    wait_for(lambda: rig.reconciler.sync(5), bool)
    keeping.check()
    crash(rig)
    connect(rig, 1, 2, 3)
    wait_until_told(rig, ALL_HERE)


def moved(rig: Rig, **ids: int) -> None:
    """The databases say that bridges have these ids now, as their connections have ended."""
    for name in ids:
        rig.cut(int(name[1:]))
    rig.tracker.interfaces_changed(database({"s1": 1, "s2": 2} | ids))


def database(ids: Mapping[str, int]) -> OvsdbSnapshot:
    """What one database says of bridges, and of the ports on them."""
    found: list[OvsdbSnapshot] = []
    for name, dpid in ids.items():
        ports = {f"{name}-eth{n}": (n, None) for n in (1, 2, 7, 9, 10)}
        found.append(said(Dpid(dpid), name, "tcp:192.0.2.1:6640", ports, row=name))
    return together(*found)


def by_id(rig: Rig) -> dict[int, int]:
    """How many copies each bridge has made, by its datapath id."""
    seen = rig.inspector.session_status(S)
    assert_is_the_sum(seen)
    return {share.dpid: share.copies.packets for share in seen.bridges if share.copies.packets}


def stored(rig: Rig) -> dict[int, int]:
    """The same, as the store has it."""
    found: Counter[int] = Counter()
    for (_, dpid, measure), parts in rig.store.limits.counts().items():
        if measure in ("made", "tagged"):
            found[dpid] += sum(part.packets for part in parts)
    return dict(found)


MOVES: dict[str, dict[str, int]] = {
    "away": {"s2": 5},
    "a chain": {"s1": 2, "s2": 5},
    "an exchange": {"s1": 2, "s2": 1},
}


@pytest.mark.parametrize("how", MOVES)
@pytest.mark.parametrize("crash_when", ["moved", "stored", "kept", "not at all"])
def test_what_was_counted_goes_where_its_bridge_goes(rig: Rig, how: str, crash_when: str) -> None:
    rig.tracker.interfaces_changed(database({"s1": 1, "s2": 2}))
    counts_on_both(rig)
    wait_until_told(rig, ALL_HERE)
    keeping = checker(rig)
    keeping.keep()
    ids = {"s1": 1, "s2": 2} | MOVES[how]
    after = {ids["s1"]: 80, ids["s2"]: 45}
    moved(rig, **MOVES[how])
    assert by_id(rig) == after
    if crash_when != "moved":
        rig.finalizer.follow_identities()
        assert stored(rig) == after
    if crash_when == "kept":
        keeping.keep()
    if crash_when != "not at all":
        crash(rig)
        rig.tracker.interfaces_changed(database(ids))
        assert by_id(rig) == after
    rig.finalizer.follow_identities()
    assert (by_id(rig), stored(rig)) == (after, after)
    number = rig.world.snapshot().numbers.session[S]
    assert rig.store.installed_sessions.holders(number) >= after.keys()
    assert rig.tracker.replaced() == {}
    checker(rig).keep()
    assert stored(rig) == after


def test_a_move_that_cannot_be_stored_is_tried_again_and_made_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.tracker.interfaces_changed(database({"s1": 1, "s2": 2}))
    counts_on_both(rig)
    wait_until_told(rig, ALL_HERE)
    keeping = checker(rig)
    keeping.keep()
    before = rig.store.installed_sessions.sessions_by_bridge()
    moved(rig, s1=2, s2=5)

    def fail(*arguments: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(rig.store.placements, "move_bridges", fail)
        for _ in range(3):
            rig.finalizer.follow_identities()
            keeping.keep()
            assert (by_id(rig), stored(rig)) == ({2: 80, 5: 45}, {1: 80, 2: 45})
        assert rig.store.installed_sessions.sessions_by_bridge() == before
        assert rig.tracker.replaced() == {S1: S2}, "it is not retired before"
        with pytest.raises(StoreError):
            rig.reconciler.forget(S3, "t")
    rig.tracker.interfaces_changed(database({"s1": 2, "s2": 1}))
    rig.finalizer.follow_identities()
    keeping.keep()
    assert by_id(rig) == stored(rig) == {2: 80, 1: 45}


def test_of_an_id_that_another_bridge_has_now_either_may_have_the_flows(rig: Rig) -> None:
    rig.tracker.interfaces_changed(database({"s1": 1, "s2": 2}))
    number = rig.world.snapshot().numbers.session[S]
    rig.store.installed_sessions.replace(S2, ())
    assert S1 in rig.store.installed_sessions.holders(number)
    moved(rig, s1=2, s2=1)
    rig.finalizer.follow_identities()
    assert rig.store.installed_sessions.holders(number) >= {S1, S2}


def test_a_sum_that_leaves_a_bridge_out_is_found() -> None:
    with pytest.raises(AssertionError):
        assert_is_the_sum(SessionStatus(State.ACTIVE, copies=PacketCount(1, 60)))


@pytest.mark.parametrize("rate", [Rate(RateUnit.PPS, 2), None], ids=["changed", "removed"])
def test_what_was_shed_until_a_rate_changes_is_counted_to_the_last_packet(
    rig: Rig, rate: Rate | None
) -> None:
    (cap,) = rig.world.snapshot().numbers.meter.values()
    shed, forwarding, is_forwarding = 0, threading.Lock(), True

    def forward(dpid: int) -> None:
        """Before each write to the switch its meter sheds one more packet."""
        nonlocal shed
        with forwarding:
            meter = rig.models[1].tables.meters.by_number.get(cap)
            if is_forwarding and dpid == 1 and meter is not None and meter.bands[0][0] == 1:
                packets, octets = meter.dropped
                meter.dropped = packets + 1, octets + 100
                shed += 1

    rig.on_send = forward
    rig.store.sessions.change(
        S, lambda old: replace(old, session=replace(old.session, max_rate=rate)), "t"
    )
    wait_for(lambda: rig.reconciler.sync(5), bool)
    is_forwarding = False
    assert shed > 0
    wait_for(lambda: told(rig)["s1"][2], {"rate": shed}.__eq__)

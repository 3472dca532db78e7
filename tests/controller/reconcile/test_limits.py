"""Sessions stop at their limits, and only then; a restart forgets nothing."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Container, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.process import ChangeSignal
from controller.reconcile import LimitChecker, SnapshotBuilder
from controller.reconcile.limits import KEEP_EVERY, reached
from controller.status import Measure, SessionCountersByBridge
from controller.store import Limits, Store, StoreError
from flows.model import Collector, CollectorId, Dpid, PortId, Session, SessionId, Source, TenantName
from flows.openflow import PacketCount, make_cookie
from tests.controller.api.test_filters import Clock
from tests.controller.fakes import TWO_TENANTS, open_store
from tests.controller.reconcile.test_snapshot import Placements

RED = TenantName("red")
IDS = Collector(CollectorId("c-1"), "ids", RED, (PortId("red-ids-1"),))
WEB = Session(SessionId("s-1"), "web", RED, Source((PortId("red-web-1"),)), IDS.id)
START = datetime(2030, 1, 1, tzinfo=UTC)
S1, S2 = Dpid(1), Dpid(2)


class Bridges:
    """Two bridges that report what they are told to, when they are asked."""

    def __init__(self, world: SnapshotBuilder) -> None:
        self.counters_by_bridge = SessionCountersByBridge()
        self.reports: dict[Dpid, dict[int, PacketCount]] = {S1: {}, S2: {}}
        self.world, self.asked = world, 0

    def count_copies(self, sessions: object) -> None:
        self.asked += 1
        for dpid, report in self.reports.items():
            by_flow = {make_cookie(number, 1): copies for number, copies in report.items()}
            self.counters_by_bridge.of(dpid).update_flows(by_flow)

    def copies_of(self, session: int) -> PacketCount:
        return self.counters_by_bridge.made(session)

    def parts(
        self, sessions: Container[int]
    ) -> Mapping[tuple[int, Dpid, Measure], tuple[PacketCount, PacketCount]]:
        return self.counters_by_bridge.parts(sessions)

    def parts_on(
        self, dpid: Dpid, sessions: Container[int]
    ) -> Mapping[tuple[int, Measure], tuple[PacketCount, PacketCount]]:
        return self.counters_by_bridge.parts_on(dpid, sessions)

    def take_unkept(self) -> Iterator[tuple[Dpid, frozenset[int]]]:
        return self.counters_by_bridge.take_unkept()

    def storing(self) -> AbstractContextManager[object]:
        return nullcontext()

    def unstored(self) -> Sequence[Mapping[Dpid, Dpid]]:
        return self.counters_by_bridge.unstored()

    def take_rewritten(self) -> Set[Dpid]:
        return self.counters_by_bridge.take_rewritten()

    def restore_copies(
        self, dpid: Dpid, measure: Measure, session: int, before: PacketCount, last: PacketCount
    ) -> None:
        self.counters_by_bridge.of(dpid).restore(session, measure, before, last)


class Controller:
    """The part of a controller that looks after limits; made again, it is a restarted one."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = store, clock
        self.world = SnapshotBuilder(store, lambda: TWO_TENANTS, Placements, changes=ChangeSignal())
        self.bridges = Bridges(self.world)
        self.checker = LimitChecker(
            self.world.snapshot, store.limits, self.bridges, self.world.changes, clock
        )
        self.checker.restore(store.numbered().session)
        self.world.snapshot()

    def report(self, dpid: Dpid, packets: int) -> None:
        """A bridge has copied so many packets of 60 bytes since its flows are there."""
        [number] = self.world.snapshot().numbers.session.values()
        self.bridges.reports[dpid] = {number: PacketCount(packets, packets * 60)} if packets else {}

    def check(self) -> str | None:
        """One check; the reason why the session is stopped, or None."""
        self.checker.check()
        [record] = self.store.sessions.all()
        snapshot = self.world.snapshot()
        assert snapshot.stopped == ({} if record.stopped is None else {WEB.id: record.stopped})
        return record.stopped


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    store = open_store(tmp_path, clock)
    store.collectors.add(IDS, "tester")
    yield store
    store.close()


def test_a_session_stops_when_its_time_is_over(store: Store, clock: Clock) -> None:
    store.sessions.add(WEB, "tester", limits=Limits(START + timedelta(seconds=2)))
    controller = Controller(store, clock)

    assert controller.check() is None
    clock.time += timedelta(seconds=1.999)
    assert controller.check() is None
    clock.time += timedelta(seconds=0.001)
    assert controller.check() == "it expired at 2030-01-01T00:00:02Z"
    assert controller.bridges.asked == 0, "a time needs no counters"


def test_a_stop_that_cannot_be_written_down_holds_no_other_up(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = dataclasses.replace(WEB, id=SessionId("s-2"), name="more")
    for session in (WEB, more):
        store.sessions.add(session, "tester", limits=Limits(START + timedelta(seconds=2)))
    controller = Controller(store, clock)
    clock.time += timedelta(seconds=2)
    stop = store.limits.stop
    stopped: list[SessionId] = []

    def stop_one(session: SessionId, reason: str, limits: Limits) -> None:
        if stopped:
            raise StoreError("the disk is full")
        stop(session, reason, limits)
        stopped.append(session)

    with monkeypatch.context() as patched:
        patched.setattr(store.limits, "stop", stop_one)
        with pytest.raises(StoreError):
            controller.checker.check()
    assert list(controller.world.snapshot().stopped) == stopped, "its flows go at once"
    controller.checker.check()
    assert set(controller.world.snapshot().stopped) == {WEB.id, more.id}


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_packets=10), "it reached its limit of 10 packets"),
        (Limits(max_bytes=600), "it reached its limit of 600 bytes"),
    ],
)
def test_a_session_stops_after_so_many_copies_of_all_bridges(
    store: Store, clock: Clock, limits: Limits, reason: str
) -> None:
    store.sessions.add(WEB, "tester", limits=limits)
    controller = Controller(store, clock)
    controller.report(S1, 4)
    controller.report(S2, 5)
    assert controller.check() is None
    controller.report(S2, 6)

    assert controller.check() == reason
    asked = controller.bridges.asked
    assert controller.check() == reason
    assert controller.bridges.asked == asked, "nobody has a limit any more"


def test_bridges_are_not_asked_while_no_running_session_has_a_limit(
    store: Store, clock: Clock
) -> None:
    off = dataclasses.replace(WEB, enabled=False)
    store.sessions.add(off, "tester", limits=Limits(max_packets=1))
    controller = Controller(store, clock)

    assert controller.check() is None
    assert controller.bridges.asked == 0


def test_what_was_counted_before_a_restart_counts_after_it(store: Store, clock: Clock) -> None:
    store.sessions.add(WEB, "tester", limits=Limits(max_packets=10))
    old = Controller(store, clock)
    old.report(S1, 6)
    assert old.check() is None
    clock.time += KEEP_EVERY
    assert old.check() is None

    new = Controller(store, clock)
    assert new.check() is None
    new.report(S1, 3)  # the bridge had lost its flows and began anew
    assert new.check() is None
    new.report(S1, 4)
    assert new.check() == "it reached its limit of 10 packets"


def test_flows_that_outlive_a_restart_do_not_count_twice(store: Store, clock: Clock) -> None:
    store.sessions.add(WEB, "tester", limits=Limits(max_packets=10))
    old = Controller(store, clock)
    old.report(S1, 6)
    old.check()
    old.checker.keep()

    new = Controller(store, clock)
    new.report(S1, 9)
    assert new.check() is None
    new.report(S1, 10)
    assert new.check() is not None


def test_a_session_that_runs_again_counts_from_there(store: Store, clock: Clock) -> None:
    limits = Limits(max_packets=10, counted_from=PacketCount(100, 6000))
    store.sessions.add(WEB, "tester", limits=limits)
    controller = Controller(store, clock)
    controller.report(S1, 109)
    assert controller.check() is None
    controller.report(S1, 110)

    assert controller.check() == "it reached its limit of 10 packets"


def test_a_limit_that_is_raised_while_it_is_judged_does_not_stop(
    store: Store, clock: Clock
) -> None:
    store.sessions.add(WEB, "tester", limits=Limits(max_packets=10))
    controller = Controller(store, clock)
    controller.report(S1, 11)
    store.sessions.change(
        WEB.id, lambda r: dataclasses.replace(r, limits=Limits(max_packets=20)), "tester"
    )

    assert controller.check() is None, "the world of the check is older than the new limit"


@pytest.mark.parametrize(
    ("limits", "copies"),
    [
        (Limits(), PacketCount(1 << 60, 1 << 60)),
        (Limits(START + timedelta(microseconds=1), 5, 500), PacketCount(4, 499)),
        (Limits(max_packets=5), PacketCount(4, 1 << 60)),
        (Limits(max_bytes=500), PacketCount(1 << 60, 499)),
    ],
)
def test_below_its_limits_a_session_runs(limits: Limits, copies: PacketCount) -> None:
    assert reached(limits, copies, START) is None


def test_what_a_database_of_schema_5_has_counted_are_copies(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path)
    store.collectors.add(IDS, "tester")
    store.sessions.add(WEB, "tester")
    store.close()
    with sqlite3.connect(tmp_path / "state" / "state.db") as connection:
        connection.executescript("""
            DROP TABLE counts;
            CREATE TABLE counts (session VARCHAR NOT NULL REFERENCES sessions (id)
                ON DELETE CASCADE, bridge VARCHAR NOT NULL, before_packets INTEGER NOT NULL,
                before_bytes INTEGER NOT NULL, last_packets INTEGER NOT NULL,
                last_bytes INTEGER NOT NULL, PRIMARY KEY (session, bridge));
            INSERT INTO counts VALUES ('s-1', '0000000000000001', 1, 2, 3, 4);
            DROP INDEX keys_by_tenant;
            ALTER TABLE once DROP COLUMN tenant;
            UPDATE schema SET version = 5;
        """)
    connection.close()
    later = open_store(tmp_path)
    assert later.limits.counts() == {(WEB.id, S1, "flows"): (PacketCount(4, 6), PacketCount())}
    later.close()

"""Sessions are verified with frames that only the flows of copies see, and that do not count."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.reconcile.report import verify
from controller.status import Check, State, Verification
from flows.errors import Refused
from flows.model import Collector, CollectorId, PortId, SessionId, TagMode
from flows.openflow import PacketCount, object_of
from flows.pipeline import COUNT, DELIVER, SEND
from tests.controller.reconcile.test_reconciler import BRING_S, bring_all
from tests.controller.rig import RED, Rig
from tests.ovs.waiting import wait_for

RUN = 0xC0FFEE


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    # links do not carry between fake switches: nothing arrives at a tap port of another one
    monkeypatch.setattr(verify, "ARRIVE_S", 0.0)
    built = Rig(tmp_path)
    bring_all(built)
    yield built
    built.close()


def add(rig: Rig, name: str, *ports: str, tap: str = "t1") -> None:
    rig.add_session(name, *ports, tap=tap)
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)


def check(rig: Rig, name: str, count: int = 20, length: int = 100) -> Verification:
    return rig.inspector.verify(SessionId(name), Check(RUN, count, length))


def counted(rig: Rig, dpid: int, name: str) -> tuple[int, int]:
    """Packets that the copying flows, and all other flows, of a switch have met."""
    number = rig.world.snapshot().numbers.session[SessionId(name)]
    entries = list(rig.models[dpid].tables.flows.values())
    copying = (DELIVER.number, SEND.number)
    entries = [entry for entry in entries if entry.table != COUNT.number]
    mine = [e for e in entries if e.table in copying and object_of(e.cookie) == number]
    return sum(e.packets for e in mine), sum(e.packets for e in entries if e not in mine)


def test_every_bridge_that_makes_copies_sends_and_nothing_but_these_flows_is_met(
    rig: Rig,
) -> None:
    add(rig, "s", "a", "b", "c")
    found = check(rig, "s")

    ways = [(w.bridge, w.network, w.tag, w.length, w.sent, w.counted) for w in found.ways]
    assert {way[0] for way in ways} == {"s1", "s2", "s3"}
    assert all(way[4:] == (20, 20) for way in ways)
    for dpid in (1, 2, 3):
        here = sum(way.sent for way in found.ways if way.dpid == dpid)
        assert counted(rig, dpid, "s") == (here, 0)


def test_each_network_of_tagged_copies_has_a_way_with_its_tag(rig: Rig) -> None:
    auto = Collector(CollectorId("to-t1"), "to-t1", RED, (PortId("t1"),), TagMode.AUTO)
    rig.store.collectors.add(auto, "test")
    add(rig, "lan-only", "a")
    assert [(w.network, w.tag) for w in check(rig, "lan-only").ways] == [(None, None)]

    add(rig, "both", "a", "d")
    tag = rig.world.snapshot().numbers.tag
    seen = {(w.network, w.tag) for w in check(rig, "both").ways}
    assert seen == {("lan", tag["network:lan"]), ("dmz", tag["network:dmz"])}


def test_what_the_tap_port_got_is_told_and_no_copy_is_counted(rig: Rig) -> None:
    add(rig, "s", "a")
    found = check(rig, "s", count=50)

    [witness] = found.witnesses
    assert (witness.sensors, witness.bridge) == (("t1",), "s1")
    assert witness.wanted == witness.sent == 50
    assert rig.inspector.session_status(SessionId("s")).copies == PacketCount()
    number = rig.world.snapshot().numbers.session[SessionId("s")]
    rig.poller.count_copies([number])
    assert rig.poller.copies_of(number) == PacketCount()


def test_real_copies_still_count_and_a_switch_that_forgets_changes_nothing(rig: Rig) -> None:
    add(rig, "s", "a")
    rig.count_copies(1, "s", 7, 700)
    check(rig, "s", count=50)
    assert rig.inspector.session_status(SessionId("s")).copies == PacketCount(7, 700)

    rig.count_copies(1, "s", 2, 200)  # it began at 0 again
    wait_for(
        lambda: rig.inspector.session_status(SessionId("s")).copies,
        lambda copies: copies == PacketCount(9, 900),
    )


@pytest.mark.parametrize("change", ["switched off", "deleted", "to another collector"])
def test_frames_that_a_change_keeps_from_being_copied_are_not_taken_off_the_copies(
    rig: Rig, change: str
) -> None:
    """A check in batches; the session changes after the first one."""
    add(rig, "s", "a")
    add(rig, "other", "a", tap="t2")
    rig.count_copies(1, "s", 7, 700)
    number = rig.world.snapshot().numbers.session[SessionId("s")]
    changed: list[int] = []

    def change_it(dpid: int) -> None:
        if changed:
            return
        changed.append(dpid)
        old = rig.store.sessions.find(SessionId("s"))
        assert old is not None
        if change == "deleted":
            rig.store.sessions.delete(SessionId("s"), "test")
        else:
            other = rig.store.sessions.find(SessionId("other"))
            assert other is not None
            fields = (
                {"enabled": False}
                if change == "switched off"
                else {"collector": other.session.collector}
            )
            rig.store.sessions.change(
                SessionId("s"),
                lambda record: replace(record, session=replace(record.session, **fields)),
                "test",
            )
        threading.Thread(target=rig.reconciler.sync, args=(BRING_S,)).start()

    rig.on_send = change_it
    with pytest.raises(Refused, match="'s' cannot be verified now: bridge 's1' has another"):
        check(rig, "s", count=1000)
    rig.reconciler.sync(BRING_S)
    rig.poller.count_copies([number])
    if change != "deleted":
        assert rig.poller.copies_of(number) == PacketCount(7, 700)


def refusal(rig: Rig, name: str, count: int = 20) -> str:
    sent = {dpid: model.sent.frames.total() for dpid, model in rig.models.items()}
    with pytest.raises(Refused) as refused:
        check(rig, name, count)
    assert sent == {dpid: model.sent.frames.total() for dpid, model in rig.models.items()}
    return str(refused.value)


def test_a_session_that_is_not_served_is_refused_with_the_reason(rig: Rig) -> None:
    rig.add_session("off", "a", enabled=False)
    rig.add_session("nowhere", "c")
    rig.add_session("far", "c", tap="t3")
    assert rig.reconciler.sync(BRING_S)
    assert "'off' is switched off: enable it" in refusal(rig, "off")

    rig.cut(3)
    assert "nothing was sent: bridge s3 is not connected" in refusal(rig, "far")
    assert "being deleted" in refusal(rig, "unknown")


def test_a_bridge_that_makes_copies_and_is_away_is_named(rig: Rig) -> None:
    add(rig, "s", "a", "b", tap="t1")
    assert check(rig, "s").left_out == ()
    rig.cut(2)
    add(rig, "other", "a", "b", tap="t1")
    assert rig.inspector.session_status(SessionId("other")).state is State.DEGRADED
    found = check(rig, "other")
    assert found.left_out == ("bridge s2 is not connected",)
    assert {way.bridge for way in found.ways} == {"s1"}


def test_a_bridge_that_is_not_verified_is_left_out_with_its_reason(rig: Rig) -> None:
    add(rig, "s", "a", "b")
    rig.writers._by_dpid[2].fail("it hangs")  # type: ignore[index]
    found = check(rig, "s")
    assert {way.bridge for way in found.ways} == {"s1"}
    assert found.left_out == ("bridge s2: it hangs",)


def test_one_session_is_verified_once_in_two_seconds_and_one_at_a_time(rig: Rig) -> None:
    add(rig, "s", "a")
    add(rig, "other", "a")
    check(rig, "s")
    assert "is the most" in refusal(rig, "s")

    during: list[str] = []
    asked = threading.Event()

    def meanwhile(dpid: int) -> None:
        if not asked.is_set():
            asked.set()
            try:
                check(rig, "other")
            except Refused as refused:
                during.append(str(refused))

    rig.on_send = meanwhile
    check(rig, "other", count=1)
    assert during == ["another session is being verified: try again in a second"]


def test_too_many_frames_at_once_are_refused_with_the_most_that_is_possible(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(rig, "s", "a", "b")
    monkeypatch.setattr(verify, "BEACONS_MAX", 50)
    assert "ask for at most 25" in refusal(rig, "s", count=26)
    check(rig, "s", count=25)

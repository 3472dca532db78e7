"""A bridge that is at work and does not tell its counters: it, its sessions and limits say so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from controller.southbound.openflow import OpenFlowSwitch
from controller.status import BridgeStatus, SessionStatus, State
from controller.store import Limits
from flows.model import Dpid, SessionId
from tests.controller.rig import Rig
from tests.ovs.waiting import wait_for

S, T = SessionId("s"), SessionId("t")
STATISTICS, FLOWS, METERS = 18, 1, 9
NOT_TOLD = "has not told its counters since 20"
Answer = Callable[[bytes], Iterator[bytes]]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path)
    built.may_hang = {1}
    yield built
    built.close()


def begin(rig: Rig) -> None:
    """Session s is on bridge s1 and t on s2, and both are counted."""
    rig.connect(1)
    rig.connect(2)
    rig.add_session("s", "a", tap="t1")
    rig.add_session("t", "b", tap="t2")
    wait_for(lambda: rig.reconciler.sync(5), bool)
    rig.poller.count_everything()
    assert {status(rig, S).state, status(rig, T).state} == {State.ACTIVE}


def status(rig: Rig, session: SessionId) -> SessionStatus:
    return rig.inspector.session_status(session)


def bridge(rig: Rig, dpid: int = 1) -> BridgeStatus:
    return next(each for each in rig.inspector.bridges() if each.dpid == Dpid(dpid))


def said(reasons: Sequence[str]) -> list[str]:
    return [reason for reason in reasons if NOT_TOLD in reason]


def silent(answer: Answer, kind: int) -> Answer:
    """A switch that answers everything but statistics of this kind."""

    def some(data: bytes, who: object = None) -> Iterator[bytes]:
        if (data[1], int.from_bytes(data[8:10], "big")) != (STATISTICS, kind):
            yield from answer(data)

    return some


@pytest.mark.parametrize(("knows_meters", "kind"), [(True, METERS), (False, FLOWS)])
def test_counters_that_are_not_told_are_said_until_they_are(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, knows_meters: bool, kind: int
) -> None:
    monkeypatch.setattr(
        OpenFlowSwitch, "has_meters", property(lambda s: knows_meters or s.dpid != 1)
    )
    begin(rig)
    with monkeypatch.context() as patched:
        patched.setattr(rig.models[1], "answer", silent(rig.models[1].answer, kind))
        wait_for(lambda: (rig.poller.count_everything(), status(rig, S))[1], is_uncounted)
        seen = status(rig, S)
        assert "bridge s1" in said(seen.reasons)[0]
        assert "did not answer within 0.5 s" in said(seen.reasons)[0]
        assert "max_packets" not in said(seen.reasons)[0], "it has no limit"
        assert (bridge(rig).state, len(said(bridge(rig).reasons))) == (State.DEGRADED, 1)
        assert len(said(rig.inspector.problems())) == 1
        assert (status(rig, T).state, bridge(rig, 2).state) == (State.ACTIVE, State.ACTIVE)
        assert (bridge(rig).counters_age_s or 0) > 0
    wait_for(lambda: (rig.poller.count_everything(), status(rig, S))[1].state, State.ACTIVE.__eq__)
    assert (bridge(rig).state, rig.inspector.problems()) == (State.ACTIVE, [])


@pytest.mark.parametrize("is_cut", [True, False])
def test_a_bridge_that_has_another_datapath_id_is_not_counted_before_it_confirms_something(
    rig: Rig, is_cut: bool
) -> None:
    begin(rig)
    rig.count_copies(1, "s", 7, 700)
    wait_for(lambda: (rig.poller.count_everything(), status(rig, S))[1].copies.packets, (7).__eq__)
    rig.poller.counters.move({Dpid(1): Dpid(2), Dpid(2): Dpid(1)})
    for session in (S, T):
        wait_for(lambda s=session: (rig.poller.count_everything(), status(rig, s))[1], is_uncounted)
    assert "once it has confirmed something" in said(bridge(rig).reasons)[0]
    assert status(rig, S).copies.packets == 7, "what was counted stays"

    if is_cut:
        rig.cut(1)
        rig.connect(1)
    else:
        rig.changes.changed()
    wait_for(lambda: rig.reconciler.sync(5), bool)
    wait_for(lambda: (rig.poller.count_everything(), status(rig, S))[1].state, State.ACTIVE.__eq__)


def test_a_limit_that_cannot_be_checked_is_said(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(rig)
    rig.store.sessions.change(S, lambda old: replace(old, limits=Limits(max_packets=9)), "t")
    rig.changes.changed()
    monkeypatch.setattr(rig.models[1], "answer", silent(rig.models[1].answer, METERS))
    wait_for(lambda: (rig.poller.count_everything(), status(rig, S))[1], is_uncounted)
    assert "`max_packets` and `max_bytes` cannot stop it" in said(status(rig, S).reasons)[0]


def test_since_when_they_are_not_told_does_not_move(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(rig)
    monkeypatch.setattr(rig.models[1], "answer", silent(rig.models[1].answer, METERS))
    wait_for(lambda: (rig.poller.count_everything(), status(rig, S))[1], is_uncounted)
    first = rig.poller.uncounted(Dpid(1))
    rig.poller.count_everything()
    again = rig.poller.uncounted(Dpid(1))
    assert first is not None and again is not None and first.since == again.since


def test_a_session_that_ends_uncounted_is_noted_so_in_the_audit(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(rig)
    monkeypatch.setattr(rig.models[1], "answer", silent(rig.models[1].answer, METERS))
    wait_for(lambda: (rig.poller.count_everything(), status(rig, S))[1], is_uncounted)
    rig.store.sessions.delete(S, "t")
    wait_for(lambda: rig.reconciler.sync(5), bool)
    [removed] = rig.store.audit.entries({"what": "removed"})
    assert NOT_TOLD in str(removed.detail["uncounted"])


def is_uncounted(seen: SessionStatus) -> bool:
    """Whether its status says that it is not counted, as one of a session that works in part."""
    return seen.state is State.DEGRADED and len(said(seen.reasons)) == 1

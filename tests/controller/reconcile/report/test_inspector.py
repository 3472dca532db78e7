"""What is asked of bridges and packets: answered as the status does, without holding up anybody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.process.time_slices import TimeSlices
from controller.reconcile.report import inspector
from controller.status import State
from controller.store import Limits
from flows.compile import compile_bridge
from flows.explain import Answer
from flows.model import (
    CollectorId,
    Direction,
    Dpid,
    Filter,
    FilterId,
    Ofport,
    Placement,
    PortId,
    Rule,
    SessionId,
    Source,
    Verdict,
)
from flows.openflow import object_of
from tests.controller.rig import RED, Rig
from tests.fake_switches.refusal import Refusal
from tests.ovs.waiting import wait_for

SESSIONS = 150


class CountedSlices(TimeSlices):
    """Slices that are over at once."""

    def __init__(self) -> None:
        super().__init__(slice_s=0)
        self.pauses = 0

    def pause(self) -> None:
        self.pauses += 1
        super().pause()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path)
    for dpid in (1, 2, 3):
        built.connect(dpid)
    for number in range(SESSIONS):
        built.add_session(f"s{number}", "a")
    wait_for(lambda: built.reconciler.sync(10), bool)
    yield built
    built.close()


def test_every_flow_is_listed_once_by_table_and_priority(rig: Rig) -> None:
    resolved = rig.world.snapshot().resolved
    flows = sorted(
        compile_bridge(Dpid(1), resolved), key=lambda f: (f.table, -f.priority, str(f.match))
    )
    listed = rig.inspector.flows(Dpid(1))
    assert listed == [f"{flow}  # {flow.why}" for flow in flows]


def test_who_lists_the_flows_of_a_bridge_lets_others_run(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = CountedSlices()
    monkeypatch.setattr(inspector, "TIME_SLICES", slices)
    listed = rig.inspector.flows(Dpid(1))
    assert len(listed) > 3 * SESSIONS
    assert slices.pauses > len(listed) / inspector.LISTED_TOGETHER, "writing alone pauses so often"


def test_who_asks_why_a_packet_is_copied_lets_others_run(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = CountedSlices()
    monkeypatch.setattr(inspector, "TIME_SLICES", slices)
    told = rig.inspector.explain(
        PortId("a"), bytes.fromhex("ffffffffffff0200000000010800") + bytes(50)
    )
    assert len(told.answers) == SESSIONS and all(answer.is_copied for answer in told.answers)
    assert slices.pauses > SESSIONS


FRAME = bytes.fromhex("ffffffffffff0200000000010800") + bytes(50)


def sentence(rig: Rig, session: str) -> str:
    """What explain says of a frame that port ``a`` sends, for one session."""
    rig.reconciler.sync(5)
    answers = rig.inspector.explain(PortId("a"), FRAME).answers
    [answer] = [each for each in answers if each.session.id == session]
    assert answer.sentence.startswith("copied" if answer.is_copied else "not copied: ")
    return answer.sentence


def test_explain_answers_for_sessions_that_are_being_deleted(rig: Rig) -> None:
    rig.cut(1)
    rig.store.sessions.delete(SessionId("s0"), "test")
    away = "bridge s1 is not reachable, and may still make copies"
    assert sentence(rig, "s0") == f"not copied: the session is being deleted; {away}"
    rig.connect(1)
    wait_for(lambda: rig.reconciler.sync(10), bool)
    rig.finalizer.finish_deletions()
    rig.reconciler.sync(5)
    answers = rig.inspector.explain(PortId("a"), FRAME).answers
    assert "s0" not in {answer.session.id for answer in answers}, "its flows are gone"


def test_explain_knows_that_the_link_of_a_workload_is_down(rig: Rig) -> None:
    down = Placement(Dpid(1), Ofport(1))
    assert sentence(rig, "s0").startswith("copied, ")
    rig.links_down = frozenset((down,))
    assert "port 'a' sends nothing, because its link is down" in sentence(rig, "s0")


def test_explain_says_why_a_session_is_off_as_its_status_does(rig: Rig) -> None:
    store, off = rig.store, SessionId("s0")
    store.sessions.change(
        off, lambda old: replace(old, session=replace(old.session, enabled=False)), "test"
    )
    assert sentence(rig, "s0") == "not copied: the session is switched off"
    stopped = SessionId("s1")
    rig.store.sessions.change(stopped, lambda old: replace(old, limits=Limits(max_packets=1)), "t")
    store.limits.stop(stopped, "it reached its limit of 1 packets", Limits(max_packets=1))
    reason = "not copied: the session is stopped: it reached its limit of 1 packets"
    assert sentence(rig, "s1") == reason
    rig.cut(1)
    away = "bridge s1 is not reachable, and may still make copies"
    store.sessions.change(
        SessionId("s3"), lambda old: replace(old, session=replace(old.session, enabled=False)), "t"
    )
    assert sentence(rig, "s3") == f"not copied: the session is switched off; {away}"
    rig.reconciler.sync(5)
    assert rig.inspector.session_status(SessionId("s3")).reasons == (
        "switched off by its owner", away,
    )  # fmt: skip


def test_explain_says_what_the_bridge_that_would_copy_has_not_confirmed(rig: Rig) -> None:
    assert sentence(rig, "s0") == "copied, as a watched port sent it: it has no filter"
    rig.cut(1)
    wait_for(lambda: sentence(rig, "s0"), lambda said: "is not connected: unless it has" in said)
    rig.add_session("new", "a")
    assert sentence(rig, "new") == "not copied: bridge s1 is not connected, and has not got it"
    rig.connect(1)
    wait_for(lambda: sentence(rig, "new"), lambda said: said.endswith("it has no filter"))


FORMER = (
    "bridge s1 is not connected, and has not got the last change: unless it has stopped, it goes "
    "on with the former version of the session"
)


def change(rig: Rig, name: str, **fields: object) -> None:
    rig.store.sessions.change(
        SessionId(name), lambda old: replace(old, session=replace(old.session, **fields)), "t"
    )


def add_filter(rig: Rig, name: str, verdict: Verdict) -> FilterId:
    rule = Rule(10, verdict)
    rig.store.filters.add(Filter(FilterId(name), name, RED, (rule,), (rule,)), "test")
    return FilterId(name)


def answer_of(rig: Rig, session: str) -> Answer:
    sentence(rig, session)
    answers = rig.inspector.explain(PortId("a"), FRAME).answers
    return next(each for each in answers if each.session.id == session)


def test_explain_answers_by_what_a_bridge_that_is_away_was_told(rig: Rig) -> None:
    accepts = add_filter(rig, "accepts", Verdict.ACCEPT)
    rejects = add_filter(rig, "rejects", Verdict.REJECT)
    for name in ("moved", "now-rejects", "now-accepts", "renumbered", "edited", "elsewhere"):
        rig.add_session(name, "a", tap="t2")
    rig.add_session("other-port", "d", tap="t2")
    rig.add_session("with-b", "a", "b", tap="t2")
    rig.add_session("to-t1", "a")
    for name, filter in (("now-rejects", accepts), ("now-accepts", rejects), ("edited", accepts)):
        change(rig, name, filter=filter)
    assert sentence(rig, "now-rejects").startswith("copied")
    rig.cut(1)
    change(rig, "moved", collector=CollectorId("to-t1"))
    change(rig, "now-rejects", filter=rejects)
    change(rig, "now-accepts", filter=accepts)
    change(rig, "renumbered", packet_length=64)
    change(rig, "elsewhere", source=Source((PortId("d"),)))
    change(rig, "other-port", source=Source((PortId("a"),)))
    change(rig, "with-b", direction=Direction.INGRESS)

    assert sentence(rig, "moved") == (
        f"not copied: no copy goes to collector 'to-t1': {FORMER}, and copies to collector 'to-t2'"
    )
    sent = "copied, as a watched port sent it"
    assert sentence(rig, "now-rejects") == f"{sent}: rule 10 accepts it; {FORMER}"
    assert answer_of(rig, "now-rejects").bridge == 1
    assert sentence(rig, "now-accepts") == (
        f"not copied: rule 10 of its filter for what it sends rejects it; {FORMER}"
    )
    assert sentence(rig, "renumbered") == f"{sent}: it has no filter; {FORMER}"
    assert sentence(rig, "elsewhere") == f"{sent}: it has no filter; {FORMER}"
    assert sentence(rig, "other-port").startswith("not copied: it watches neither")
    assert sentence(rig, "other-port").endswith(FORMER)
    assert sentence(rig, "with-b").startswith("copied, ") and FORMER in sentence(rig, "with-b")
    assert FORMER not in sentence(rig, "to-t1"), "it is as it was"

    rule = Rule(20, Verdict.REJECT)
    rig.store.filters.change(
        accepts, lambda old: replace(old, filter=replace(old.filter, egress=(rule,))), "t"
    )
    assert sentence(rig, "edited") == f"{sent}: rule 10 accepts it; {FORMER}"
    state = rig.inspector.session_status(SessionId("edited"))
    assert (state.state, state.reasons) == (State.PENDING, (FORMER,))

    rig.connect(1)
    wait_for(lambda: sentence(rig, "moved"), lambda said: said == f"{sent}: it has no filter")
    assert sentence(rig, "now-rejects").startswith("not copied: rule 10")


def test_explain_says_what_is_not_known_of_a_bridge_that_is_away(rig: Rig) -> None:
    sentence(rig, "s0")
    rig.cut(1)
    rig.restart()
    for dpid in (2, 3):
        rig.connect(dpid)
    unknown = (
        "bridge s1 is not connected, and which version of the session it goes on with is not known"
    )
    wait_for(lambda: sentence(rig, "s0"), lambda said: said.endswith(unknown))
    rejects = add_filter(rig, "rejects", Verdict.REJECT)
    change(rig, "s0", filter=rejects)
    said = sentence(rig, "s0")
    assert said.startswith("not copied: rule 10") and said.endswith(unknown)


def test_explain_says_that_a_bridge_has_refused_a_session(rig: Rig) -> None:
    number = rig.world.snapshot().numbers.session[SessionId("s0")] + SESSIONS
    rig.models[1].faults.refuse = lambda cookie: (
        Refusal.TABLE_FULL if object_of(cookie) == number else None
    )
    rig.add_session("late", "a")
    rig.reconciler.sync(5)
    assert rig.world.snapshot().numbers.session[SessionId("late")] == number
    assert "not copied: bridge s1 refused it: " in sentence(rig, "late")
    assert sentence(rig, "s0").startswith("copied")

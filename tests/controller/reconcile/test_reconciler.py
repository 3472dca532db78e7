"""The reconciler with strict fake switches: what it says is so, whatever happens meanwhile."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from controller.inventory.file import parse
from controller.reconcile.bridge import Depth
from controller.reconcile.bridge.drift import QUIET, SEVERAL, WITHIN_S, Drift
from controller.reconcile.bridge.state import Phase
from controller.status import State
from controller.store import SessionRecord, StoreError
from flows.model import Dpid, PortId, SessionId, Source
from flows.pipeline import DELIVER
from tests.controller.rig import HANG_TIMEOUT_S, INVENTORY, Rig
from tests.fake_switches import FakeSwitch
from tests.fake_switches.refusal import Refusal
from tests.ovs.waiting import wait_for

BRING_S = 30.0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path)
    yield built
    built.close()


def bring_all(rig: Rig) -> None:
    """Connect every switch and bring it up."""
    for dpid in (1, 2, 3):
        rig.connect(dpid)
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)


def state_of(rig: Rig, name: str) -> tuple[State, str]:
    status = rig.inspector.session_status(SessionId(name))
    return status.state, "; ".join(status.reasons)


def delete(rig: Rig, name: str) -> bool:
    """DELETE, as the API does it; whether the session is gone."""
    rig.store.sessions.delete(SessionId(name), "test")
    rig.reconciler.sync(BRING_S)
    return SessionId(name) not in {record.session.id for record in rig.store.sessions.all()}


def test_a_session_is_active_when_it_was_verified_and_settled(rig: Rig) -> None:
    bring_all(rig)
    rig.wait_settled = lambda switches: False
    rig.add_session("s", "a")
    assert not rig.reconciler.sync(BRING_S)
    assert rig.copying(1)
    assert state_of(rig, "s") == (
        State.PENDING,
        "the datapath of bridge s1 does not follow the last change yet",
    )
    rig.wait_settled = lambda switches: True
    rig.reconciler.wait_settled(BRING_S)
    assert state_of(rig, "s") == (State.ACTIVE, "")


def test_a_plan_that_comes_while_the_data_path_is_waited_for_is_not_settled(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("first", "a")

    def settle_slowly(switches: object) -> bool:
        rig.wait_settled = lambda switches: False
        rig.add_session("second", "d")
        rig.changes.changed()
        wait_for(lambda: len(rig.copying(1)), lambda number: number == 2)
        return True

    rig.wait_settled = settle_slowly
    rig.reconciler.sync(BRING_S)
    wait_for(lambda: state_of(rig, "first"), lambda seen: seen[0] is State.ACTIVE)
    assert state_of(rig, "second")[0] is State.PENDING


def test_a_request_to_read_again_counts_although_a_plan_is_under_way(rig: Rig) -> None:
    bring_all(rig)
    begun, is_contested = threading.Event(), threading.Event()

    def hold(dpid: int) -> None:
        if dpid == 1 and not begun.is_set():
            begun.set()
            assert is_contested.wait(BRING_S)

    rig.on_send = hold
    rig.add_session("s", "a")
    rig.changes.changed()
    assert begun.wait(BRING_S)
    rig.writers.recheck(Depth.COOKIES)
    victim = next(key for key, entry in rig.models[1].tables.flows.items() if entry.table == 31)
    del rig.models[1].tables.flows[victim]
    is_contested.set()
    wait_for(lambda: rig.missing(1), lambda missing: not missing)


def test_a_removal_that_was_refused_keeps_the_session(rig: Rig) -> None:
    rig.may_hang.add(1)
    bring_all(rig)
    rig.add_session("s", "a")
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    numbers = rig.copying(1)
    rig.models[1].faults.answers = False  # a switch that says nothing has agreed to nothing
    assert not delete(rig, "s")
    assert rig.copying(1) == numbers
    assert state_of(rig, "s") == (State.INACTIVE, "being deleted")
    rig.models[1].faults.answers = True
    wait_for(lambda: rig.copying(1), lambda seen: not seen)
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    assert not rig.store.sessions.all()


def test_a_switch_that_hangs_delays_neither_others_nor_deletions(rig: Rig) -> None:
    rig.may_hang.add(3)
    bring_all(rig)
    rig.add_session("near", "a", tap="t1")
    rig.add_session("far", "c", tap="t3")
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    rig.models[3].faults.answers = False
    rig.writers.recheck(Depth.COOKIES)
    wait_for(lambda: rig.inspector.bridges()[2].state, lambda state: state is State.DEGRADED)
    assert "did not answer within" in rig.inspector.bridges()[2].reasons[0]
    rig.add_session("more", "d", tap="t1")
    rig.reconciler.sync(BRING_S)
    wait_for(lambda: state_of(rig, "more")[0], lambda state: state is State.ACTIVE)
    state, reasons = state_of(rig, "far")
    assert state is State.PENDING and "did not answer" in reasons, "it cannot be verified now"
    wait_for(lambda: delete(rig, "more"), bool)
    rig.models[3].faults.answers = True
    wait_for(lambda: state_of(rig, "far")[0], lambda state: state is State.ACTIVE)


def test_the_status_of_everything_waits_for_no_switch_that_hangs(rig: Rig) -> None:
    rig.may_hang.add(3)
    bring_all(rig)
    rig.add_session("s", "a")
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    rig.models[3].faults.answers = False
    rig.writers.recheck(Depth.COOKIES)
    wait_for(lambda: rig.inspector.bridges()[2].state, lambda state: state is State.DEGRADED)
    askers: set[str] = set()
    rig.on_send = lambda dpid: askers.add(threading.current_thread().name) if dpid == 3 else None

    def look_often() -> float:
        begun = time.monotonic()
        for _ in range(50):
            assert state_of(rig, "s")[0] is State.ACTIVE
        return time.monotonic() - begun

    wait_for(look_often, lambda took: took < HANG_TIMEOUT_S)  # a busy machine may be slow at first
    assert askers <= {"bridge s3"}, "a status has asked the switch that hangs"


def test_a_refused_flow_is_an_error_of_its_session_alone(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("good", "a")
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    good = rig.copying(1)

    def refuse(cookie: int) -> Refusal | None:
        object_number = cookie >> 32 & 0xFFFFF
        return Refusal.TABLE_FULL if object_number and object_number not in good else None

    rig.models[1].faults.refuse = refuse
    rig.add_session("bad", "d")
    assert not rig.reconciler.sync(BRING_S)
    state, reasons = state_of(rig, "bad")
    assert state is not State.ACTIVE and "bridge s1 refused it" in reasons
    assert state_of(rig, "good")[0] is State.ACTIVE
    rig.models[1].faults.refuse = lambda cookie: None
    rig.changes.changed()
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    assert state_of(rig, "bad")[0] is State.ACTIVE


def recheck(rig: Rig, dpid: int) -> None:
    """Read again what all bridges have; return when this one was listed and is confirmed."""
    before, writer = rig.models[dpid].scans, rig.writers._by_dpid[Dpid(dpid)]
    rig.writers.recheck(Depth.COOKIES)
    wait_for(lambda: rig.models[dpid].scans, lambda scans: scans > before)
    wait_for(lambda: writer.state.phase, Phase.CONFIRMED.__eq__)
    wait_for(lambda: rig.missing(dpid), lambda missing: not missing)


def test_who_changes_flows_again_and_again_is_a_problem_until_it_stops(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("s", "a")
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    said = (
        "flows of bridge 's1' are changed by somebody else again and again: is a second "
        "controller connected to it? See `ovs-vsctl get-controller s1`"
    )

    clock = [100.0]
    rig.writers._by_dpid[Dpid(1)].drift = Drift(lambda: clock[0])

    def take_one_and_recheck() -> None:
        flows = rig.models[1].tables.flows
        del flows[next(place for place, flow in flows.items() if flow.table == DELIVER.number)]
        recheck(rig, 1)
        clock[0] += 60

    def are_told() -> bool:
        bridge = rig.inspector.bridges()[0]
        assert (bridge.state is State.DEGRADED) == (said in bridge.reasons)
        return (said in bridge.reasons, said in rig.inspector.problems()) == (True, True)

    for rechecks in range(1, 6):
        take_one_and_recheck()
        assert are_told() == (rechecks >= SEVERAL)
    recheck(rig, 1)
    assert are_told(), "the other one may look more seldom"
    clock[0] += QUIET * (SEVERAL - 1) * 60
    assert not are_told()
    for _ in range(SEVERAL + 2):
        clock[0] += WITHIN_S / 2
        take_one_and_recheck()
        assert not are_told(), "now and then is a person"


def test_flows_that_a_switch_refuses_each_time_are_nobody_elses_work(rig: Rig) -> None:
    bring_all(rig)
    rig.models[1].tables.limits = {DELIVER.number: 1}
    rig.add_session("s", "a")
    rig.reconciler.sync(BRING_S)
    for _ in range(SEVERAL + 1):
        before = rig.models[1].scans
        rig.writers.recheck(Depth.COOKIES)
        wait_for(lambda: rig.models[1].scans, lambda scans, before=before: scans > before)
    assert not any("somebody else" in problem for problem in rig.inspector.problems())


def test_a_table_that_is_full_serves_the_sessions_that_it_holds(rig: Rig) -> None:
    bring_all(rig)
    rig.models[1].tables.limits = {DELIVER.number: 70 + 1}  # with the flow for no session
    names = [f"s{n}" for n in range(170)]
    for name in names:
        rig.add_session(name, "a" if name < "s5" else "d")
    rig.reconciler.sync(BRING_S)
    assert len(rig.copying(1)) == 70
    states = {name: state_of(rig, name) for name in names}
    served = [name for name, (state, _) in states.items() if state is State.ACTIVE]
    assert len(served) == 70
    refused = [reasons for _, reasons in states.values() if "OFPFMFC_TABLE_FULL" in reasons]
    assert len(refused) == 100
    for name in served[:10]:
        assert delete(rig, name)
    assert len(rig.copying(1)) == 70, "others have taken their room"
    assert "more were refused" in rig.inspector.bridges()[0].reasons[-1]
    rig.models[1].tables.limits.clear()
    rig.changes.changed()
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    assert not rig.missing(1)


def test_a_bridge_left_to_others_is_greeted_once_and_waited_for_never(rig: Rig) -> None:
    rig.foreign.add(3)
    bring_all(rig)
    for name in "xyz":
        rig.add_session(name, "a")
        wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
        assert delete(rig, name)
    assert rig.adopted.count(3) == 1
    assert not rig.models[3].tables.flows
    assert not rig.writers.writes_to(Dpid(3))
    assert rig.inspector.bridges()[2].state is State.INACTIVE


def test_a_switch_that_is_not_fit_says_what_it_lacks(rig: Rig) -> None:
    rig.unfit.add(2)
    for dpid in (1, 2):
        rig.connect(dpid)
    wait_for(lambda: rig.inspector.bridges()[1].reasons, lambda r: "clone" in " ".join(r))
    rig.add_session("s", "a")
    rig.reconciler.sync(BRING_S)
    assert state_of(rig, "s")[0] is State.ACTIVE


def test_nothing_is_written_before_the_world_is_known(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("s", "a")
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    before = {dpid: set(model.tables.flows) for dpid, model in rig.models.items()}
    rig.restart()
    rig.ready.clear()
    for dpid in (1, 2, 3):
        rig.connect(dpid)
    wait_for(lambda: len(set(rig.adopted[3:])), lambda number: number == 3)
    assert not rig.reconciler.sync(0.1)
    assert {dpid: set(model.tables.flows) for dpid, model in rig.models.items()} == before
    assert rig.inspector.bridges()[0].state is State.PENDING
    rig.ready.set()
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    assert {dpid: set(model.tables.flows) for dpid, model in rig.models.items()} == before


def test_a_store_that_cannot_be_written_keeps_no_flow_from_a_switch(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_all(rig)
    rig.add_session("s", "a")

    def fail(*arguments: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(rig.store.installed_sessions, "_write", fail)
    wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
    assert rig.copying(1)
    rig.cut(1)
    assert not delete(rig, "s"), "it is remembered all the same"


@pytest.mark.parametrize("seed", range(12))
def test_a_session_that_is_gone_is_copied_by_no_switch_whatever_happened(
    tmp_path: Path, seed: int
) -> None:
    chance, rig = random.Random(seed), Rig(tmp_path)
    number_by_name: dict[str, int] = {}
    try:
        for step in range(40):
            _do_something(rig, chance, step)
            known = rig.world.snapshot().numbers.session
            number_by_name |= {str(session): number for session, number in known.items()}
            stored = {record.session.id for record in rig.store.sessions.all()}
            alive = {number for name, number in number_by_name.items() if name in stored}
            for dpid in (1, 2, 3):
                ghosts = rig.copying(dpid) - alive
                assert not ghosts, f"seed {seed} step {step}: s{dpid} still copies {ghosts}"
        for dpid in {1, 2, 3} - rig.connected.keys():
            rig.connect(dpid)
        wait_for(lambda: rig.reconciler.sync(BRING_S), bool)
        for dpid in (1, 2, 3):  # an answer does not wait for a bridge that has just connected
            wait_for(partial(rig.missing, dpid), lambda missing: not missing)
        assert not any(record.is_deleting for record in rig.store.sessions.all())
        stored = {record.session.id for record in rig.store.sessions.all()}
        # no number is kept for nothing
        wait_for(lambda: _released(rig), lambda numbered: numbered == stored)
    finally:
        rig.close()


def _released(rig: Rig) -> set[SessionId]:
    rig.reconciler.wait_settled(BRING_S)  # as the periodic work does
    rig.finalizer.release_numbers()
    return set(rig.store.numbered().session)


def _do_something(rig: Rig, chance: random.Random, step: int) -> None:
    live = [r.session.id for r in rig.store.sessions.all() if not r.is_deleting]
    ports = chance.sample("abcd", chance.randint(1, 3))
    match chance.randrange(8):
        case 0 | 1:
            rig.add_session(f"n{step}", *ports, tap=chance.choice(["t1", "t2", "t3"]))
        case 2 if live:
            rig.store.sessions.delete(chance.choice(live), "test")
        case 3 if live:
            _watch(rig, chance.choice(live), ports)
        case 4 | 5:
            dpid = chance.choice([1, 2, 3])
            rig.cut(dpid) if dpid in rig.connected else rig.connect(dpid)
        case 6 if chance.random() < 0.5:
            rig.restart()
        case _:
            is_settled = chance.random() < 0.7
            rig.wait_settled = lambda switches: is_settled
    rig.reconciler.sync(chance.choice([0.0, 0.01, BRING_S]) if rig.connected else 0.0)
    rig.finalizer.release_numbers()
    rig.wait_settled = lambda switches: True


def _watch(rig: Rig, session: SessionId, ports: list[str]) -> None:
    source = Source(tuple(PortId(port) for port in ports))

    def change(old: SessionRecord) -> SessionRecord:
        return replace(old, session=replace(old.session, source=source))

    rig.store.sessions.change(session, change, "test")


def with_a_fourth_bridge(rig: Rig, name: str = "s4") -> None:
    """Let a fourth fake switch exist, which no link joins to the others."""
    rig.models[4] = FakeSwitch(4, name, {number: f"{name}-eth{number}" for number in (1, 2)})


def phase_of(rig: Rig, dpid: int) -> Phase:
    [writer] = rig.writers.find([Dpid(dpid)])
    return writer.state.phase


def test_a_bridge_of_others_that_never_answers_delays_no_request(rig: Rig) -> None:
    bring_all(rig)
    with_a_fourth_bridge(rig, "stranger")
    rig.models[4].faults.answers = False
    rig.strangers.add(4)
    rig.connect(4)
    wait_for(lambda: phase_of(rig, 4), lambda phase: phase is Phase.ADOPTING)

    rig.add_session("s", "a")
    assert rig.reconciler.sync(BRING_S)
    assert state_of(rig, "s")[0] is State.ACTIVE
    assert delete(rig, "s")
    assert phase_of(rig, 4) is Phase.ADOPTING, "it was not waited for"


FOURTH = INVENTORY.replace(
    "links:",
    '  - {id: e, tenant: red, network: lan, mac: "02:00:00:00:00:05", interface: s4-eth1}\n'
    "  - {id: t4, tenant: red, kind: tap, interface: s4-eth2}\nlinks:",
)
"""With ports on a bridge that no link joins to the others."""


def create(rig: Rig, name: str, port: str, tap: str = "t1") -> bool:
    """POST, as the API does it; whether all bridges that it concerns have confirmed it."""
    before = rig.reconciler.moment()
    rig.add_session(name, port, tap=tap)
    return rig.reconciler.sync(BRING_S, before)


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path, FOURTH)
    with_a_fourth_bridge(built)
    built.connect(4)
    bring_all(built)
    yield built
    built.on_send = lambda dpid: None
    built.close()


@contextmanager
def holding(rig: Rig, dpid: int) -> Iterator[threading.Event]:
    """Inside, a bridge does not get what is sent to it; the event is set once something was."""
    held, release = threading.Event(), threading.Event()

    def hold(receiver: int) -> None:
        if receiver == dpid:
            held.set()
            assert release.wait(2 * BRING_S)

    rig.on_send = hold
    try:
        yield held
    finally:
        release.set()


def test_who_claims_a_bridge_with_ports_of_ours_and_never_answers_is_waited_for_shortly(
    four: Rig,
) -> None:
    four.cut(4)
    four.models[4].faults.answers = False
    four.strangers.add(4)
    four.connect(4)
    wait_for(lambda: phase_of(four, 4), lambda phase: phase is Phase.ADOPTING)
    assert four.place("e") == 1, "it stays where it was"

    assert create(four, "elsewhere", "a")
    assert state_of(four, "elsewhere")[0] is State.ACTIVE
    assert not create(four, "there", "e", "t4"), "nobody knows whether that bridge is ours"
    assert phase_of(four, 4) is Phase.ADOPTING, "its end was not waited for"


def test_what_a_bridge_has_left_to_do_from_before_delays_no_other_request(four: Rig) -> None:
    with holding(four, 4) as held:
        four.add_session("there", "e", tap="t4")
        assert not four.reconciler.sync(0.1)
        assert held.wait(BRING_S)

        assert create(four, "elsewhere", "a")
        assert state_of(four, "elsewhere")[0] is State.ACTIVE
        assert phase_of(four, 4) is Phase.RECONCILING, "it was not waited for"
        before = four.reconciler.moment()
        four.add_session("more", "e", tap="t4")
        assert not four.reconciler.sync(0.1, before), "this one concerns it"


def test_a_bridge_that_has_refused_a_flow_delays_no_other_request(four: Rig) -> None:
    four.models[4].tables.limits = {DELIVER.number: 1}
    assert not create(four, "there", "e", "t4"), "its table is full"

    with holding(four, 4) as held:
        assert create(four, "elsewhere", "a")
        assert held.wait(BRING_S), "the flow is offered again"
        assert phase_of(four, 4) is Phase.RECONCILING, "and that was not waited for"
        assert state_of(four, "elsewhere")[0] is State.ACTIVE


def test_a_session_is_not_gone_while_a_bridge_holds_it_that_its_end_does_not_concern(
    four: Rig,
) -> None:
    """The workload has moved away from a bridge that hangs; then its session ends."""
    assert create(four, "s", "e", "t4")
    with holding(four, 4) as held:
        four.declare(parse(FOURTH.replace("s4-eth1", "s1-eth10").encode()))
        assert not four.reconciler.sync(0.1)
        assert held.wait(BRING_S)

        before = four.reconciler.moment()
        four.store.sessions.delete(SessionId("s"), "test")
        assert not four.reconciler.sync(0.1, before)
        assert four.copying(4), "it copies still"
        assert [r.session.id for r in four.store.sessions.all()] == ["s"]
    wait_for(lambda: four.reconciler.sync(BRING_S), bool)
    assert not four.store.sessions.all()


def test_a_bridge_of_ours_that_hangs_delays_only_requests_about_its_own_ports(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, FOURTH)
    try:
        with_a_fourth_bridge(rig)
        rig.may_hang.add(4)
        rig.connect(4)
        bring_all(rig)
        rig.models[4].faults.answers = False
        held, release = threading.Event(), threading.Event()

        def hold(dpid: int) -> None:
            if dpid == 4:
                held.set()
                assert release.wait(BRING_S)

        rig.on_send = hold
        rig.writers.recheck(Depth.COOKIES)
        assert held.wait(BRING_S)

        rig.add_session("elsewhere", "a")
        assert rig.reconciler.sync(BRING_S)
        assert state_of(rig, "elsewhere")[0] is State.ACTIVE
        assert delete(rig, "elsewhere")
        assert phase_of(rig, 4) is Phase.RECONCILING, "it was not waited for"

        rig.add_session("there", "e", tap="t4")
        assert not rig.reconciler.sync(0.1), "this one concerns it"
        release.set()
    finally:
        rig.close()

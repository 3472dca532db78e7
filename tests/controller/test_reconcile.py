"""The reconciler with strict fake switches: what it says is so, whatever happens meanwhile."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.reconcile.bridge.drift import QUIET, SEVERAL, WITHIN_S, Drifts
from controller.status.values import State
from controller.store import SessionRecord, StoreError
from controller.reconcile.bridge.confirmed import Depth
from flows.model.session import Dpid, PortId, SessionId, Source
from flows.pipeline.tables import DELIVER
from tests.controller.rig import TIMEOUT_S, Rig
from tests.fake_switches.refusal import Refusal
from tests.ovs.waiting import wait_for

BRING_S = 5.0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    built = Rig(tmp_path)
    yield built
    built.close()


def bring_all(rig: Rig) -> None:
    """Connect every switch and bring it up."""
    for dpid in (1, 2, 3):
        rig.connect(dpid)
    wait_for(lambda: rig.reconciler.bring(BRING_S), bool)


def state_of(rig: Rig, name: str) -> tuple[State, str]:
    status = rig.reconciler.session_status(SessionId(name))
    return status.state, "; ".join(status.reasons)


def delete(rig: Rig, name: str) -> bool:
    """DELETE, as the API does it; whether the session is gone."""
    rig.store.delete_session(SessionId(name), "test")
    rig.reconciler.bring(BRING_S)
    return SessionId(name) not in {record.session.id for record in rig.store.sessions()}


def test_a_session_is_active_when_it_was_verified_and_settled(rig: Rig) -> None:
    bring_all(rig)
    rig.settle = lambda switches: False
    rig.add_session("s", "a")
    assert not rig.reconciler.bring(BRING_S)
    assert rig.copying(1)
    assert state_of(rig, "s") == (
        State.PENDING,
        "the data path of bridge s1 does not follow the last change yet",
    )
    rig.settle = lambda switches: True
    rig.reconciler.settle(BRING_S)
    assert state_of(rig, "s") == (State.ACTIVE, "")


def test_a_plan_that_comes_while_the_data_path_is_waited_for_is_not_settled(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("first", "a")

    def settle_slowly(switches: object) -> bool:
        rig.settle = lambda switches: False
        rig.add_session("second", "d")
        rig.reconciler.changed()
        wait_for(lambda: len(rig.copying(1)), lambda number: number == 2)
        return True

    rig.settle = settle_slowly
    rig.reconciler.bring(BRING_S)
    wait_for(lambda: state_of(rig, "first"), lambda seen: seen[0] is State.ACTIVE)
    assert state_of(rig, "second")[0] is State.PENDING


def test_a_request_to_read_again_counts_although_a_plan_is_under_way(rig: Rig) -> None:
    bring_all(rig)
    begun, go_on = threading.Event(), threading.Event()

    def hold(dpid: int) -> None:
        if dpid == 1 and not begun.is_set():
            begun.set()
            assert go_on.wait(BRING_S)

    rig.on_send = hold
    rig.add_session("s", "a")
    rig.reconciler.changed()
    assert begun.wait(BRING_S)
    rig.reconciler.recheck(Depth.COOKIES)
    victim = next(key for key, entry in rig.models[1].tables.flows.items() if entry.table == 31)
    del rig.models[1].tables.flows[victim]
    go_on.set()
    wait_for(lambda: rig.missing(1), lambda missing: not missing)


def test_a_removal_that_was_refused_keeps_the_session(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("s", "a")
    assert rig.reconciler.bring(BRING_S)
    numbers = rig.copying(1)
    rig.models[1].faults.answers = False  # a switch that says nothing has agreed to nothing
    assert not delete(rig, "s")
    assert rig.copying(1) == numbers
    assert state_of(rig, "s") == (State.INACTIVE, "being deleted")
    rig.models[1].faults.answers = True
    wait_for(lambda: rig.copying(1), lambda seen: not seen)
    wait_for(lambda: rig.reconciler.bring(BRING_S), bool)
    assert not rig.store.sessions()


def test_a_switch_that_hangs_delays_neither_others_nor_deletions(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("near", "a", tap="t1")
    rig.add_session("far", "c", tap="t3")
    assert rig.reconciler.bring(BRING_S)
    rig.models[3].faults.answers = False
    rig.reconciler.recheck(Depth.COOKIES)
    wait_for(lambda: rig.reconciler.bridges()[2].state, lambda state: state is State.DEGRADED)
    assert "did not answer within" in rig.reconciler.bridges()[2].reasons[0]
    rig.add_session("more", "d", tap="t1")
    rig.reconciler.bring(BRING_S)
    assert state_of(rig, "more")[0] is State.ACTIVE
    state, reasons = state_of(rig, "far")
    assert state is State.PENDING and "did not answer" in reasons, "it cannot be verified now"
    wait_for(lambda: delete(rig, "more"), bool)
    rig.models[3].faults.answers = True
    wait_for(lambda: state_of(rig, "far")[0], lambda state: state is State.ACTIVE)


def test_the_status_of_everything_waits_for_no_switch_that_hangs(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("s", "a")
    assert rig.reconciler.bring(BRING_S)
    rig.models[3].faults.answers = False
    rig.reconciler.recheck(Depth.COOKIES)
    wait_for(lambda: rig.reconciler.bridges()[2].state, lambda state: state is State.DEGRADED)
    begun = time.monotonic()
    for _ in range(50):
        assert state_of(rig, "s")[0] is State.ACTIVE
    assert time.monotonic() - begun < TIMEOUT_S


def test_a_refused_flow_is_an_error_of_its_session_alone(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("good", "a")
    assert rig.reconciler.bring(BRING_S)
    good = rig.copying(1)

    def refuse(cookie: int) -> Refusal | None:
        object_number = cookie >> 32 & 0xFFFFF
        return Refusal.TABLE_FULL if object_number and object_number not in good else None

    rig.models[1].faults.refuse = refuse
    rig.add_session("bad", "d")
    assert not rig.reconciler.bring(BRING_S)
    state, reasons = state_of(rig, "bad")
    assert state is not State.ACTIVE and "bridge s1 refused it" in reasons
    assert state_of(rig, "good")[0] is State.ACTIVE
    rig.models[1].faults.refuse = lambda cookie: None
    rig.reconciler.changed()
    wait_for(lambda: rig.reconciler.bring(BRING_S), bool)
    assert state_of(rig, "bad")[0] is State.ACTIVE


def recheck(rig: Rig, dpid: int) -> None:
    """Read again what all bridges have; return when this one was listed."""
    before = rig.models[dpid].scans
    rig.reconciler.recheck(Depth.COOKIES)
    wait_for(lambda: rig.models[dpid].scans, lambda scans: scans > before)
    wait_for(lambda: rig.missing(dpid), lambda missing: not missing)


def test_who_changes_flows_again_and_again_is_a_problem_until_it_stops(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("s", "a")
    assert rig.reconciler.bring(BRING_S)
    said = (
        "flows of bridge 's1' are changed by somebody else again and again: is a second "
        "controller connected to it? See `ovs-vsctl get-controller s1`"
    )

    clock = [100.0]
    rig.reconciler._writers[Dpid(1)].drifts = Drifts(lambda: clock[0])

    def take_one_and_recheck() -> None:
        flows = rig.models[1].tables.flows
        del flows[next(place for place, flow in flows.items() if flow.table == DELIVER.number)]
        recheck(rig, 1)
        clock[0] += 60

    def are_told() -> bool:
        bridge = rig.reconciler.bridges()[0]
        assert (bridge.state is State.DEGRADED) == (said in bridge.reasons)
        return (said in bridge.reasons, said in rig.reconciler.problems()) == (True, True)

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
    rig.reconciler.bring(BRING_S)
    for _ in range(SEVERAL + 1):
        before = rig.models[1].scans
        rig.reconciler.recheck(Depth.COOKIES)
        wait_for(lambda: rig.models[1].scans, lambda scans, before=before: scans > before)
    assert not any("somebody else" in problem for problem in rig.reconciler.problems())


def test_a_table_that_is_full_serves_the_sessions_that_it_holds(rig: Rig) -> None:
    bring_all(rig)
    rig.models[1].tables.limits = {DELIVER.number: 70 + 1}  # with the flow for no session
    names = [f"s{n}" for n in range(170)]
    for name in names:
        rig.add_session(name, "a" if name < "s5" else "d")
    rig.reconciler.bring(BRING_S)
    assert len(rig.copying(1)) == 70
    states = {name: state_of(rig, name) for name in names}
    served = [name for name, (state, _) in states.items() if state is State.ACTIVE]
    assert len(served) == 70
    refused = [reasons for _, reasons in states.values() if "OFPFMFC_TABLE_FULL" in reasons]
    assert len(refused) == 100
    for name in served[:10]:
        assert delete(rig, name)
    assert len(rig.copying(1)) == 70, "others have taken their room"
    assert "more were refused" in rig.reconciler.bridges()[0].reasons[-1]
    rig.models[1].tables.limits.clear()
    rig.reconciler.changed()
    wait_for(lambda: rig.reconciler.bring(BRING_S), bool)
    assert not rig.missing(1)


def test_a_bridge_left_to_others_is_greeted_once_and_waited_for_never(rig: Rig) -> None:
    rig.foreign.add(3)
    bring_all(rig)
    for name in "xyz":
        rig.add_session(name, "a")
        assert rig.reconciler.bring(BRING_S)
        assert delete(rig, name)
    assert rig.greeted.count(3) == 1
    assert not rig.models[3].tables.flows
    assert not rig.reconciler.writes_to(Dpid(3))
    assert rig.reconciler.bridges()[2].state is State.INACTIVE


def test_a_switch_that_is_not_fit_says_what_it_lacks(rig: Rig) -> None:
    rig.unfit.add(2)
    for dpid in (1, 2):
        rig.connect(dpid)
    wait_for(lambda: rig.reconciler.bridges()[1].reasons, lambda r: "clone" in " ".join(r))
    rig.add_session("s", "a")
    rig.reconciler.bring(BRING_S)
    assert state_of(rig, "s")[0] is State.ACTIVE


def test_nothing_is_written_before_the_world_is_known(rig: Rig) -> None:
    bring_all(rig)
    rig.add_session("s", "a")
    assert rig.reconciler.bring(BRING_S)
    before = {dpid: set(model.tables.flows) for dpid, model in rig.models.items()}
    rig.restart()
    rig.reconciler.ready.clear()
    for dpid in (1, 2, 3):
        rig.connect(dpid)
    wait_for(lambda: len(set(rig.greeted[3:])), lambda number: number == 3)
    assert not rig.reconciler.bring(0.1)
    assert {dpid: set(model.tables.flows) for dpid, model in rig.models.items()} == before
    assert rig.reconciler.bridges()[0].state is State.PENDING
    rig.reconciler.ready.set()
    wait_for(lambda: rig.reconciler.bring(BRING_S), bool)
    assert {dpid: set(model.tables.flows) for dpid, model in rig.models.items()} == before


def test_a_store_that_cannot_be_written_keeps_no_flow_from_a_switch(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_all(rig)
    rig.add_session("s", "a")

    def fail(*arguments: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(rig.store.holdings, "_store", fail)
    assert rig.reconciler.bring(BRING_S)
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
            stored = {record.session.id for record in rig.store.sessions()}
            alive = {number for name, number in number_by_name.items() if name in stored}
            for dpid in (1, 2, 3):
                ghosts = rig.copying(dpid) - alive
                assert not ghosts, f"seed {seed} step {step}: s{dpid} still copies {ghosts}"
        for dpid in {1, 2, 3} - rig.connected.keys():
            rig.connect(dpid)
        wait_for(lambda: rig.reconciler.bring(BRING_S), bool)
        for dpid in (1, 2, 3):
            assert not rig.missing(dpid), f"seed {seed}"
        assert not any(record.is_deleting for record in rig.store.sessions())
        stored = {record.session.id for record in rig.store.sessions()}
        # no number is kept for nothing
        wait_for(lambda: _released(rig), lambda numbered: numbered == stored)
    finally:
        rig.close()


def _released(rig: Rig) -> set[SessionId]:
    rig.reconciler.release_numbers()
    return set(rig.store.numbered().session)


def _do_something(rig: Rig, chance: random.Random, step: int) -> None:
    live = [r.session.id for r in rig.store.sessions() if not r.is_deleting]
    ports = chance.sample("abcd", chance.randint(1, 3))
    match chance.randrange(8):
        case 0 | 1:
            rig.add_session(f"n{step}", *ports, tap=chance.choice(["t1", "t2", "t3"]))
        case 2 if live:
            rig.store.delete_session(chance.choice(live), "test")
        case 3 if live:
            _watch(rig, chance.choice(live), ports)
        case 4 | 5:
            dpid = chance.choice([1, 2, 3])
            rig.cut(dpid) if dpid in rig.connected else rig.connect(dpid)
        case 6 if chance.random() < 0.5:
            rig.restart()
        case _:
            is_settled = chance.random() < 0.7
            rig.settle = lambda switches: is_settled
    rig.reconciler.bring(chance.choice([0.0, 0.01, BRING_S]) if rig.connected else 0.0)
    rig.reconciler.release_numbers()
    rig.settle = lambda switches: True


def _watch(rig: Rig, session: SessionId, ports: list[str]) -> None:
    source = Source(tuple(PortId(port) for port in ports))

    def change(old: SessionRecord) -> SessionRecord:
        return replace(old, session=replace(old.session, source=source))

    rig.store.change_session(session, change, "test")

"""The phases of a writer: each transition of the table happens, and no other may."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.reconcile import Snapshot
from controller.reconcile.bridge import Depth, Phase
from controller.reconcile.bridge import writer as writer_module
from controller.reconcile.bridge.state import TRANSITIONS, ForbiddenTransition, WriterState
from controller.southbound import (
    LastCounts,
    NotOurs,
    Rejected,
    Switch,
    SwitchGone,
    SwitchTimeout,
    SwitchUnfit,
)
from controller.southbound.openflow import open_management
from controller.store import StoreError
from flows.errors import CloudtapError
from flows.model import METERS, Rate, RateUnit, SessionId
from flows.plan import Plan
from flows.resolve import ResolvedWorld
from tests.fake_switches import FakeSwitch, serve_unix
from tests.fake_switches.roles import BODY, MASTER, NOCHANGE
from tests.flows import hand_made
from tests.lone_writer import LoneWriter
from tests.ovs.waiting import wait_for

OTHER = "another controller"
ALL = {(before, after) for before, following in TRANSITIONS.items() for after in following}


class Log:
    """Does something when a displaced bridge is logged, and logs nothing."""

    def __init__(self, when_displaced: Callable[[], None]) -> None:
        self._when_displaced = when_displaced

    def info(self, event: str, **keys: object) -> None:
        """Nobody reads it."""

    def warning(self, event: str, **keys: object) -> None:
        if event == "bridge displaced":
            self._when_displaced()


class Bench:
    """A writer of a fake switch; ``entered`` are the transitions that it made."""

    def __init__(self, folder: Path, model: FakeSwitch, monkeypatch: pytest.MonkeyPatch) -> None:
        self.model, self.monkeypatch = model, monkeypatch
        self.switch = open_management("s1", str(folder), timeout_s=5)
        self.version = 1
        self.problem: CloudtapError | None = None
        self.adoption_problems: list[CloudtapError] = []
        self.entered: list[tuple[Phase, Phase]] = []
        enter = WriterState.enter

        def recording(state: WriterState, phase: Phase) -> WriterState:
            after = enter(state, phase)
            self.entered.append((state.phase, after.phase))
            return after

        monkeypatch.setattr(WriterState, "enter", recording)
        monkeypatch.setattr(writer_module, "RETRY_S", 600.0)
        self.lone = LoneWriter(self.switch, self._snapshot, self._adopt)
        self.writer = self.lone.writer

    def sync(self) -> Phase:
        """Have the writer make one attempt; the phase after it."""
        self.lone.sync()
        return self.writer.state.phase

    def change(self) -> None:
        """Another session: there is something to send."""
        self.version += 1

    def take_over(self) -> None:
        """Another controller becomes the master of the switch, and removes all flows."""
        _, generation = BODY.unpack(self.model.roles.ask(OTHER, BODY.pack(NOCHANGE, 0)))
        self.model.roles.ask(OTHER, BODY.pack(MASTER, generation + 1))
        self.model.tables.flows.clear()

    def when_applied(self, then: Callable[[], None]) -> None:
        """Do something before the next plan is applied."""
        apply = self.switch.apply

        def first(plan: Plan, last: LastCounts | None = None) -> tuple[Rejected, ...]:
            self.monkeypatch.setattr(self.switch, "apply", apply)
            then()
            return apply(plan, last)

        self.monkeypatch.setattr(self.switch, "apply", first)

    def end(self) -> None:
        """Stop the writer and wait for its thread."""
        self.lone.stop()
        self.lone.ready.set()
        self.lone.wait_for_end()

    @property
    def phases(self) -> list[Phase]:
        """The phases in their order."""
        return [after for _, after in self.entered]

    def _adopt(self, switch: Switch) -> None:
        if self.adoption_problems:
            raise self.adoption_problems.pop()

    def _snapshot(self) -> Snapshot:
        if self.problem is not None:
            raise self.problem
        sessions = [hand_made.watch(f"c{n}", "a", to="t") for n in range(self.version)]
        sessions[0] = replace(sessions[0], max_rate=Rate(RateUnit.PPS, 100))
        world = hand_made.world(
            hand_made.vm("a", hand_made.at(1, 1), 0x020000000001),
            hand_made.tap("t", hand_made.at(1, 2)),
            *sessions,
        )
        numbers = replace(world.numbers, meter={SessionId("c0"): METERS[0]})
        world = replace(world, numbers=numbers)
        return Snapshot(self.version, ResolvedWorld(world), (), numbers)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    model = FakeSwitch(1, "s1", {1: "s1-eth1", 2: "s1-eth2"})
    with serve_unix(model, tmp_path):
        made = Bench(tmp_path, model, monkeypatch)
        yield made
        made.end()
        made.switch.close()


def raising(problem: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise problem

    return fail


def changed_twice(bench: Bench) -> None:
    """A bridge connects, and follows two changes."""
    for _ in range(3):
        assert bench.sync() is Phase.CONFIRMED
        bench.change()


def gone_at_once(bench: Bench) -> None:
    """A bridge disconnects before anything was asked of it."""
    assert bench.writer.state.phase is Phase.CONNECTED


def left_to_others(bench: Bench) -> None:
    """The configuration leaves the bridge to others."""
    bench.adoption_problems = [NotOurs("s1")]
    assert bench.sync() is Phase.FOREIGN
    assert not bench.writer.is_ours


def fit_at_last(bench: Bench) -> None:
    """A bridge lacks a feature, until its Open vSwitch was changed."""
    bench.adoption_problems = [SwitchUnfit("s1", ("the clone action",))]
    assert bench.sync() is Phase.UNFIT
    assert bench.sync() is Phase.CONFIRMED


def unfit_and_gone(bench: Bench) -> None:
    """A bridge lacks a feature, and disconnects."""
    bench.adoption_problems = [SwitchUnfit("s1", ("the clone action",))]
    assert bench.sync() is Phase.UNFIT


def adopted_at_the_second_attempt(bench: Bench) -> None:
    """A bridge does not answer when it is to be adopted."""
    bench.adoption_problems = [SwitchTimeout("s1", "list its ports", 5.0)]
    assert bench.sync() is Phase.FAILED
    assert not bench.writer.is_adopted
    assert bench.sync() is Phase.CONFIRMED


def gone_before_it_was_said(bench: Bench) -> None:
    """A connection has ended, and changes come before the end is noticed: nothing is tried."""
    bench.adoption_problems = [
        CloudtapError("must not be adopted"),
        SwitchGone("s1", "say its name"),
    ]
    assert bench.sync() is Phase.GONE
    bench.writer.wake()
    wait_for(lambda: bench.writer.is_due, lambda is_due: not is_due)
    assert (len(bench.adoption_problems), bench.writer.errors) == (1, 1)


def gone_before_a_plan(bench: Bench) -> None:
    """A connection has ended when a plan is to be sent."""
    bench.when_applied(raising(SwitchGone("s1", "take a plan")))
    assert bench.sync() is Phase.GONE


def gone_while_adopted(bench: Bench) -> None:
    """A bridge disconnects while it is adopted."""
    bench.monkeypatch.setattr(bench, "adoption_problems", StopsFirst(bench))
    bench.writer.wake()
    bench.lone.wait_for_end()


class StopsFirst(list[CloudtapError]):
    """No problem of adoption, but the writer is stopped when it is looked for."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self._bench = bench

    def __bool__(self) -> bool:
        self._bench.lone.stop()
        return False


def gone_while_waiting(bench: Bench) -> None:
    """A bridge disconnects before the inventory is known."""
    bench.lone.ready.clear()
    bench.writer.wake()
    wait_for(lambda: bench.writer.state.phase, lambda phase: phase is Phase.WAITING)
    assert bench.writer.is_adopted


def without_a_store(bench: Bench) -> None:
    """The store cannot be read for a while."""
    bench.problem = StoreError("the disk is full")
    assert bench.sync() is Phase.FAILED
    assert bench.writer.is_adopted
    bench.problem = None
    assert bench.sync() is Phase.CONFIRMED


def an_event_that_fails(bench: Bench) -> None:
    """A handler fails that was to pass on an event of the bridge."""
    assert bench.sync() is Phase.CONFIRMED
    bench.writer.fail("an event could not be handled")
    assert bench.writer.state.phase is Phase.FAILED


def found_unfit_by_a_plan(bench: Bench) -> None:
    """A bridge refuses bundles after it was adopted."""
    bench.when_applied(raising(SwitchUnfit("s1", ("bundles",))))
    assert bench.sync() is Phase.UNFIT
    assert bench.sync() is Phase.CONFIRMED


def taken_over(bench: Bench) -> None:
    """Another controller takes the bridge over, and it is taken back."""
    assert bench.sync() is Phase.CONFIRMED
    bench.take_over()
    bench.change()
    assert bench.sync() is Phase.CONFIRMED
    assert bench.lone.taken_back == 1


def taken_over_again_and_again(bench: Bench) -> None:
    """Another controller takes the bridge over whenever a plan is applied."""
    assert bench.sync() is Phase.CONFIRMED

    def take_over_twice() -> None:
        bench.take_over()
        bench.when_applied(bench.take_over)

    for times in (1, 2):
        bench.change()
        bench.when_applied(take_over_twice)
        assert bench.sync() is Phase.FAILED
        assert bench.writer.state.displacements == times
    assert bench.sync() is Phase.CONFIRMED
    assert bench.writer.state.displacements == 0


def gone_while_taken_back(bench: Bench) -> None:
    """A bridge disconnects at the moment when another controller has taken it over."""
    assert bench.sync() is Phase.CONFIRMED
    bench.take_over()
    bench.change()
    bench.monkeypatch.setattr(writer_module, "log", Log(bench.lone.stop))
    bench.writer.wake()
    bench.lone.wait_for_end()


def gone_in_the_middle(bench: Bench) -> None:
    """A bridge disconnects while a plan is applied."""
    bench.when_applied(bench.lone.stop)
    bench.writer.wake()
    bench.lone.wait_for_end()


LOOK = [Phase.WAITING, Phase.RECONCILING]
FIRST = [Phase.ADOPTING, *LOOK]
RUNS: dict[Callable[[Bench], None], list[Phase]] = {
    changed_twice: [*FIRST, Phase.CONFIRMED, *2 * [*LOOK, Phase.CONFIRMED], Phase.STOPPED],
    gone_at_once: [Phase.STOPPED],
    left_to_others: [Phase.ADOPTING, Phase.FOREIGN],
    fit_at_last: [Phase.ADOPTING, Phase.UNFIT, *FIRST, Phase.CONFIRMED, Phase.STOPPED],
    unfit_and_gone: [Phase.ADOPTING, Phase.UNFIT, Phase.STOPPED],
    adopted_at_the_second_attempt: [
        *(Phase.ADOPTING, Phase.FAILED), *FIRST, Phase.CONFIRMED, Phase.STOPPED
    ],
    gone_before_it_was_said: [Phase.ADOPTING, Phase.GONE, Phase.STOPPED],
    gone_before_a_plan: [*FIRST, Phase.GONE, Phase.STOPPED],
    gone_while_adopted: [Phase.ADOPTING, Phase.STOPPED],
    gone_while_waiting: [Phase.ADOPTING, Phase.WAITING, Phase.STOPPED],
    without_a_store: [*FIRST, Phase.FAILED, *LOOK, Phase.CONFIRMED, Phase.STOPPED],
    an_event_that_fails: [*FIRST, Phase.CONFIRMED, Phase.FAILED, Phase.STOPPED],
    found_unfit_by_a_plan: [*FIRST, Phase.UNFIT, *LOOK, Phase.CONFIRMED, Phase.STOPPED],
    taken_over: [
        *(*FIRST, Phase.CONFIRMED), *(*LOOK, Phase.DISPLACED, Phase.RECONCILING, Phase.CONFIRMED),
        Phase.STOPPED,
    ],
    taken_over_again_and_again: [
        *(*FIRST, Phase.CONFIRMED),
        *2 * [*LOOK, Phase.DISPLACED, Phase.RECONCILING, Phase.FAILED],
        *(*LOOK, Phase.CONFIRMED, Phase.STOPPED),
    ],
    gone_while_taken_back: [*FIRST, Phase.CONFIRMED, *LOOK, Phase.DISPLACED, Phase.STOPPED],
    gone_in_the_middle: [*FIRST, Phase.STOPPED],
}  # fmt: skip
"""What happens to a bridge, and the phases that its writer enters then."""


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.__name__)
def test_a_writer_enters_these_phases_and_stays_in_the_last(
    bench: Bench, run: Callable[[Bench], None]
) -> None:
    run(bench)
    bench.end()

    assert bench.phases == RUNS[run]
    assert bench.writer.state.is_final
    assert bench.writer.state.phase is RUNS[run][-1]


def test_every_transition_is_made_by_one_of_these_runs() -> None:
    made = set[tuple[Phase, Phase]]()
    for phases in RUNS.values():
        made |= set(zip([Phase.CONNECTED, *phases], phases, strict=False))

    assert made == ALL


def test_every_phase_is_in_the_table_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(Phase)
    assert {after for _, after in ALL} == set(Phase) - {Phase.CONNECTED}


def test_any_other_transition_is_refused_and_changes_nothing() -> None:
    for before in Phase:
        for after in set(Phase) - TRANSITIONS[before]:
            state = WriterState(before, version=3)
            with pytest.raises(ForbiddenTransition, match=f"{after.value} cannot follow"):
                state.enter(after)
            assert state == WriterState(before, version=3)


def test_a_writer_that_was_stopped_is_at_work_until_its_attempt_is_over() -> None:
    working = WriterState(Phase.WAITING).enter(Phase.RECONCILING)
    assert working.version == 0, "an older snapshot may be on its way"
    working = working.at_work_on(7)

    assert working.enter(Phase.STOPPED).version == 7
    assert working.enter(Phase.DISPLACED).enter(Phase.RECONCILING).version == 7
    assert working.enter(Phase.CONFIRMED).version is None
    assert working.enter(Phase.FAILED).version is None


def test_of_two_wishes_to_read_again_the_deeper_one_is_done() -> None:
    for first, second in ((Depth.COOKIES, Depth.ACTIONS), (Depth.ACTIONS, Depth.COOKIES)):
        state = WriterState().rereading(first).rereading(second)
        assert state.reread is Depth.ACTIONS
        assert state.without_reread().reread is None


def test_a_snapshot_that_cannot_be_taken_leaves_what_is_known_of_the_switch(bench: Bench) -> None:
    assert bench.sync() is Phase.CONFIRMED
    plans, scans = bench.writer.plans, bench.model.scans

    without_a_store(bench)

    assert (bench.writer.plans, bench.model.scans) == (plans, scans)


def test_a_defect_of_the_writer_fails_the_attempt_and_not_the_writer(bench: Bench) -> None:
    bench.when_applied(raising(ForbiddenTransition(Phase.STOPPED, Phase.WAITING)))
    assert bench.sync() is Phase.FAILED
    assert bench.writer.confirmed.failure == "waiting cannot follow stopped"
    assert bench.sync() is Phase.CONFIRMED


def test_a_recheck_at_rest_is_put_off_once() -> None:
    state = WriterState().rereading_at_rest(Depth.ACTIONS)
    assert state.reread is None
    assert state.at_rest().reread is Depth.ACTIONS
    assert state.at_rest().at_rest() == state.at_rest(), "it is due once"
    again = state.rereading_at_rest(Depth.COOKIES)
    assert again.reread is Depth.ACTIONS, "as closely as the one that was put off"
    assert again.without_reread().at_rest().reread is None

"""Early install: which flows are sent while others are still being compiled, and when."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Sequence, Set
from typing import cast

import pytest

from controller.reconcile.bridge import EarlyInstall
from controller.southbound import Switch, SwitchGone
from flows.errors import InvalidFlow
from flows.openflow import PRODUCTION as PRODUCTION_OWNER
from flows.openflow import Flow, Mark, Match, Metered, Resubmit
from flows.pipeline import CAP, DELIVER, SESSION

MIN_FLOWS = 10


class Installing:
    """A switch that can only install; it refuses the bundle with a number, or disconnects."""

    name = "s1"

    def __init__(self, refuse: int | None = None, *, goes: bool = False) -> None:
        self.bundles: list[list[Flow]] = []
        self.given_up: list[list[Flow]] = []
        self._refuse, self._goes = refuse, goes

    def install(self, parts: Iterable[Sequence[Flow]]) -> bool:
        came: list[Flow] = []
        try:
            for part in parts:
                came += part
        except BaseException:
            self.given_up.append(came)
            raise
        if self._goes:
            raise SwitchGone(self.name, "take a plan")
        if self._refuse == len(self.bundles):
            return False
        self.bundles.append(came)
        return True


def flows(first: int, count: int) -> list[Flow]:
    return [
        Flow(DELIVER.number, DELIVER["session"], Match.of(SESSION.eq(n)), (), n, "t")
        for n in range(first, first + count)
    ]


METERED = Flow(
    CAP.number, CAP["session"], Match.of(SESSION.eq(9)), (Metered(9), Resubmit(45)), 9, "t"
)
PRODUCTION, MORE, REST = flows(1, 10), flows(11, 10), flows(21, 5)


EVERYTHING = [*PRODUCTION, *MORE, *REST]


def marks(flows: Iterable[Flow]) -> set[Mark]:
    return {flow.mark for flow in flows}


def known(early: EarlyInstall) -> Set[Mark]:
    return early.known(marks(EVERYTHING), lambda: None)


class Recording:
    """Records each plan, and how many bundles the switch had committed by then."""

    def __init__(self, switch: Installing, *, is_stopped: bool = False) -> None:
        self.plans: list[tuple[frozenset[int], int]] = []
        self._switch, self._is_stopped = switch, is_stopped

    def note_plan(self, sessions: frozenset[int]) -> None:
        if self._is_stopped:
            raise SwitchGone(self._switch.name, "take a plan")
        self.plans.append((sessions, len(self._switch.bundles)))


def early_install_on(switch: Installing, recorder: Recording | None = None) -> EarlyInstall:
    return EarlyInstall(cast(Switch, switch), recorder or Recording(switch), MIN_FLOWS)


def test_each_stage_is_a_bundle() -> None:
    switch = Installing()

    with early_install_on(switch) as early:
        early.take(PRODUCTION)
        early.take(MORE)
        early.end_stage()
        early.take(REST)
        early.end_stage()

    assert switch.bundles == [[*PRODUCTION, *MORE], REST]
    assert (early.installed, early.has_all, known(early)) == (25, True, marks(EVERYTHING))


def test_a_stage_without_flows_is_no_bundle() -> None:
    switch = Installing()

    with early_install_on(switch) as early:
        early.take(PRODUCTION)
        early.end_stage()
        early.end_stage()

    assert (switch.bundles, switch.given_up) == ([PRODUCTION], [])


def test_nothing_is_installed_early_on_a_small_bridge() -> None:
    switch = Installing()

    with early_install_on(switch) as early:
        early.take(PRODUCTION[:9])
        early.end_stage()
        early.take(MORE)
        early.end_stage()

    assert (switch.bundles, switch.given_up, known(early)) == ([], [], set())


def test_what_needs_a_meter_is_left_out_with_all_that_follows() -> None:
    switch = Installing()

    with early_install_on(switch) as early:
        early.take(PRODUCTION)
        early.end_stage()
        early.take(MORE)
        early.take([METERED])
        early.take(REST)
        early.end_stage()

    assert switch.bundles == [PRODUCTION]
    assert (early.has_all, known(early)) == (False, marks(PRODUCTION))


def test_a_stage_that_is_refused_ends_it() -> None:
    for refused, taken in ((0, []), (1, PRODUCTION)):
        switch = Installing(refuse=refused)

        with early_install_on(switch) as early:
            early.take(PRODUCTION)
            early.end_stage()
            early.take(MORE)
            early.end_stage()
            early.take(REST)
            early.end_stage()

        assert len(switch.bundles) == refused
        assert (early.has_all, known(early)) == (False, marks(taken))


def test_flows_that_cannot_all_be_compiled_are_given_up() -> None:
    switch = Installing()

    with pytest.raises(InvalidFlow), early_install_on(switch) as early:
        early.take(PRODUCTION)
        early.end_stage()
        early.take(MORE)
        raise InvalidFlow("cannot be compiled")

    assert switch.bundles == [PRODUCTION]
    assert switch.given_up == [MORE]


def test_a_switch_that_disconnects_is_reported_at_the_end() -> None:
    switch = Installing(goes=True)

    with pytest.raises(SwitchGone), early_install_on(switch) as early:
        early.take(PRODUCTION)
        early.end_stage()
        early.take(MORE)
        early.end_stage()

    assert (early.has_all, known(early)) == (False, set())


def test_sessions_are_recorded_before_the_switch_copies_for_them() -> None:
    switch = Installing()
    recording = Recording(switch)

    with early_install_on(switch, recording) as early:
        early.take([flow.replace(owner=PRODUCTION_OWNER) for flow in PRODUCTION])
        early.end_stage()
        early.take(REST)
        early.end_stage()

    assert recording.plans == [(frozenset(), 0), (frozenset(range(21, 26)), 1)]


def test_a_stage_that_may_not_be_recorded_is_given_up_and_nothing_refers_to_it() -> None:
    """A writer that was stopped sends no more, and its flows are freed without the collector."""
    switch = Installing()

    def compile_for_it() -> weakref.ref[EarlyInstall]:
        early = early_install_on(switch, Recording(switch, is_stopped=True))
        with pytest.raises(SwitchGone), early:
            early.take(PRODUCTION)
            early.end_stage()
        assert known(early) == set()
        return weakref.ref(early)

    gc.disable()
    try:
        assert compile_for_it()() is None
    finally:
        gc.enable()
    assert (switch.bundles, switch.given_up) == ([], [PRODUCTION])

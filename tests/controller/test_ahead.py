"""Flows that are sent while others are still being compiled: which, when, and when not."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable, Sequence, Set
from typing import cast

import pytest

from controller.reconcile.bridge.early_install import Ahead
from controller.southbound.errors import SwitchGone
from controller.southbound.switch import Switch
from flows.errors import InvalidFlow
from flows.openflow.flow import PRODUCTION as PRODUCTION_OWNER
from flows.openflow.flow import Flow, Mark, Match, Metered, Resubmit
from flows.pipeline.tables import CAP, DELIVER, SESSION

WORTH_IT = 10


class Installing:
    """A switch that can do nothing but install; ``refuse`` the bundle with this number, or go."""

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


def known(ahead: Ahead) -> Set[Mark]:
    return ahead.known(marks(EVERYTHING), lambda: None)


def ahead_of(
    switch: Installing, note: Callable[[frozenset[int]], None] = lambda sessions: None
) -> Ahead:
    return Ahead(cast(Switch, switch), note, WORTH_IT)


def test_each_stage_is_a_bundle() -> None:
    switch = Installing()

    with ahead_of(switch) as ahead:
        ahead.take(PRODUCTION)
        ahead.take(MORE)
        ahead.end_stage()
        ahead.take(REST)
        ahead.end_stage()

    assert switch.bundles == [[*PRODUCTION, *MORE], REST]
    assert (ahead.taken, ahead.has_all, known(ahead)) == (25, True, marks(EVERYTHING))


def test_a_stage_without_flows_is_no_bundle() -> None:
    switch = Installing()

    with ahead_of(switch) as ahead:
        ahead.take(PRODUCTION)
        ahead.end_stage()
        ahead.end_stage()

    assert (switch.bundles, switch.given_up) == ([PRODUCTION], [])


def test_a_small_bridge_gets_nothing_ahead() -> None:
    switch = Installing()

    with ahead_of(switch) as ahead:
        ahead.take(PRODUCTION[:9])
        ahead.end_stage()
        ahead.take(MORE)
        ahead.end_stage()

    assert (switch.bundles, switch.given_up, known(ahead)) == ([], [], set())


def test_what_needs_a_meter_is_left_out_with_all_that_follows() -> None:
    switch = Installing()

    with ahead_of(switch) as ahead:
        ahead.take(PRODUCTION)
        ahead.end_stage()
        ahead.take(MORE)
        ahead.take([METERED])
        ahead.take(REST)
        ahead.end_stage()

    assert switch.bundles == [PRODUCTION]
    assert (ahead.has_all, known(ahead)) == (False, marks(PRODUCTION))


def test_a_stage_that_is_refused_ends_it() -> None:
    for refused, taken in ((0, []), (1, PRODUCTION)):
        switch = Installing(refuse=refused)

        with ahead_of(switch) as ahead:
            ahead.take(PRODUCTION)
            ahead.end_stage()
            ahead.take(MORE)
            ahead.end_stage()
            ahead.take(REST)
            ahead.end_stage()

        assert len(switch.bundles) == refused
        assert (ahead.has_all, known(ahead)) == (False, marks(taken))


def test_flows_that_cannot_all_be_compiled_are_given_up() -> None:
    switch = Installing()

    with pytest.raises(InvalidFlow), ahead_of(switch) as ahead:
        ahead.take(PRODUCTION)
        ahead.end_stage()
        ahead.take(MORE)
        raise InvalidFlow("cannot be compiled")

    assert switch.bundles == [PRODUCTION]
    assert switch.given_up == [MORE]


def test_a_switch_that_goes_is_told_at_the_end() -> None:
    switch = Installing(goes=True)

    with pytest.raises(SwitchGone), ahead_of(switch) as ahead:
        ahead.take(PRODUCTION)
        ahead.end_stage()
        ahead.take(MORE)
        ahead.end_stage()

    assert (ahead.has_all, known(ahead)) == (False, set())


def test_sessions_are_noted_before_the_switch_copies_for_them() -> None:
    switch, noted = Installing(), list[tuple[frozenset[int], int]]()

    with ahead_of(switch, lambda sessions: noted.append((sessions, len(switch.bundles)))) as ahead:
        ahead.take([flow.replace(owner=PRODUCTION_OWNER) for flow in PRODUCTION])
        ahead.end_stage()
        ahead.take(REST)
        ahead.end_stage()

    assert noted == [(frozenset(), 0), (frozenset(range(21, 26)), 1)]


def test_a_stage_that_may_not_be_noted_is_given_up_and_holds_nothing() -> None:
    """Whoever was stopped meanwhile writes no more; what was compiled goes with who compiled it."""
    switch = Installing()

    def stopped(sessions: frozenset[int]) -> None:
        raise SwitchGone("s1", "take a plan")

    def compile_for_it() -> weakref.ref[Ahead]:
        ahead = ahead_of(switch, stopped)
        with pytest.raises(SwitchGone), ahead:
            ahead.take(PRODUCTION)
            ahead.end_stage()
        assert known(ahead) == set()
        return weakref.ref(ahead)

    gc.disable()
    try:
        assert compile_for_it()() is None
    finally:
        gc.enable()
    assert (switch.bundles, switch.given_up) == ([], [PRODUCTION])

"""What is known of a switch without asking it, and which plans its datapath follows."""

from __future__ import annotations

from controller.reconcile.bridge import AppliedPlan
from controller.reconcile.bridge.installed import Installed
from flows.model import BRIDGE_METER, METERS, Rate, RateUnit
from flows.openflow import Flow, Match, Resubmit
from flows.pipeline import DELIVER, SESSION
from flows.plan import Meter
from flows.resolve import ResolvedWorld
from tests.flows.hand_made import world

WORLD = ResolvedWorld(world())
ONE, TWO = frozenset({1}), frozenset({1, 2})
FLOW = Flow(DELIVER.number, DELIVER["session"], Match.of(SESSION.eq(1)), (Resubmit(45),), 1, "t")
METER = Meter(METERS[0], Rate(RateUnit.PPS, 100))


def test_nothing_is_known_of_a_switch_at_first_and_its_datapath_may_follow_anything() -> None:
    installed = Installed()

    assert (installed.flows, installed.meters, installed.is_as_compiled) == (None, None, False)
    assert installed.is_unsettled, "an earlier controller may have sent a plan"


def test_what_is_noted_is_known_until_it_is_forgotten() -> None:
    installed = Installed()

    installed.note_meters({METER.number: METER})
    installed.note_flows({FLOW.mark: FLOW})
    assert (installed.flows, installed.is_as_compiled) == ({FLOW.mark: FLOW}, False)

    installed.note_as_compiled()
    assert (installed.flows, installed.is_as_compiled) == ({FLOW.mark: FLOW}, True)
    assert installed.meters == {METER.number: METER}

    installed.forget()
    assert (installed.flows, installed.meters, installed.is_as_compiled) == (None, None, False)


def test_a_bridge_is_capped_when_it_has_the_meter_of_all_copies() -> None:
    installed = Installed()
    assert not installed.is_capped

    installed.note_meters({METER.number: METER})
    assert not installed.is_capped
    installed.note_meters({BRIDGE_METER: None})
    assert installed.is_capped


def test_a_plan_is_unsettled_from_its_beginning_until_the_datapath_follows_it() -> None:
    installed = Installed()
    installed.confirm(ONE, WORLD)
    assert installed.settle(installed.applied) == ONE
    assert not installed.is_unsettled

    installed.begin_plan(TWO)
    assert installed.is_unsettled
    installed.confirm(TWO, WORLD)
    assert installed.is_unsettled
    assert installed.settled.sessions == ONE

    assert installed.settle(installed.applied) == TWO
    assert (installed.is_unsettled, installed.settled) == (False, AppliedPlan(2, TWO, WORLD))


def test_a_confirmation_without_a_plan_is_settled_at_once() -> None:
    installed = Installed()
    installed.confirm(ONE, WORLD)
    installed.settle(installed.applied)

    later = ResolvedWorld(world())
    installed.confirm(ONE, later)

    assert installed.settled.resolved is later
    assert not installed.is_unsettled


def test_what_needs_no_plan_is_settled_with_the_plan_that_is_waited_for() -> None:
    installed = Installed()
    installed.confirm(ONE, WORLD)
    first, later = installed.applied, ResolvedWorld(world())
    installed.confirm(ONE, later)
    installed.settle(first)

    assert not installed.is_unsettled
    assert installed.settled.resolved is later, "else nobody would ever look again"


def test_a_plan_that_was_begun_meanwhile_leaves_its_sessions_and_those_of_the_settled_one() -> None:
    installed = Installed()
    installed.confirm(ONE, WORLD)
    first = installed.applied
    installed.begin_plan(TWO)

    assert installed.settle(first) == ONE | TWO, "the next plan may have added copies already"
    assert (installed.settled, installed.is_unsettled) == (first, True)


def test_a_session_is_left_out_although_there_is_always_one_more_plan() -> None:
    installed = Installed()
    installed.confirm(ONE, WORLD)
    for _ in range(3):
        last = installed.applied
        installed.begin_plan(TWO)
        installed.settle(last)
        installed.confirm(TWO, WORLD)
    assert installed.is_unsettled
    last = installed.applied
    installed.begin_plan(frozenset())

    assert installed.settle(last) == TWO


def test_before_the_first_confirmation_nothing_tells_which_sessions_are_copied() -> None:
    installed = Installed()
    installed.begin_plan(ONE)

    assert installed.settle(installed.applied) is None


def test_an_older_plan_settles_nothing() -> None:
    installed = Installed()
    installed.confirm(ONE, WORLD)
    first = installed.applied
    installed.begin_plan(TWO)
    installed.confirm(TWO, WORLD)
    installed.settle(installed.applied)

    assert installed.settle(first) is None
    assert installed.settled.sessions == TWO

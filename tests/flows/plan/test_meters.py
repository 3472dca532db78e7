"""A plan of meters brings what is there to what should be there, and touches nobody else's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flows.model import BRIDGE_METER, METERS, Rate, RateUnit
from flows.openflow import Flow, Match, Metered, Output
from flows.plan import Meter, MeterPlan, Plan, is_our_meter, metered_by, meters_after, plan_meters

NUMBERS = [METERS.start - 1, METERS[0], METERS[1], METERS[2], BRIDGE_METER, BRIDGE_METER + 1]
OURS = [number for number in NUMBERS if is_our_meter(number)]


def meters(numbers: list[int]) -> st.SearchStrategy[dict[int, Meter]]:
    rates = st.builds(Rate, st.sampled_from(RateUnit), st.integers(1, 3))
    return st.dictionaries(st.sampled_from(numbers), rates).map(
        lambda chosen: {number: Meter(number, rate) for number, rate in chosen.items()}
    )


def test_ours_are_those_of_sessions_and_that_of_the_bridge() -> None:
    assert [METERS[0], METERS[1], METERS[2], BRIDGE_METER] == OURS


@given(meters(OURS), meters(NUMBERS), st.sets(st.sampled_from(NUMBERS)))
def test_a_plan_reaches_what_is_desired_and_leaves_others_alone(
    desired: dict[int, Meter], there: dict[int, Meter], strange: set[int]
) -> None:
    actual: dict[int, Meter | None] = {**there, **dict.fromkeys(strange)}
    todo = plan_meters(desired, actual)

    reached = meters_after(actual, todo, ())

    foreign = {number: meter for number, meter in actual.items() if not is_our_meter(number)}
    assert reached == {**foreign, **desired}
    assert not plan_meters(desired, reached)
    assert {m.number for m in todo.change} <= actual.keys()
    assert not {m.number for m in todo.add} & actual.keys()


def test_what_a_switch_refused_is_planned_again() -> None:
    one, other = (Meter(METERS[n], Rate(RateUnit.PPS, 5)) for n in (0, 1))
    desired = {one.number: one, other.number: other}
    todo = plan_meters(desired, {})
    assert plan_meters(desired, meters_after({}, todo, [one])) == MeterPlan(add=(one,))


def test_a_plan_shows_its_meters_before_the_flows() -> None:
    one, other = Meter(METERS[0], Rate(RateUnit.PPS, 5)), Meter(METERS[1], Rate(RateUnit.KBPS, 9))
    plan = Plan((), (), 0, MeterPlan((one,), (other,), (METERS[2],)))
    assert plan
    assert str(plan).splitlines() == [
        "+ meter=40000,pktps,burst,stats,bands=type=drop,rate=5,burst_size=10",
        "~ meter=40001,kbps,burst,stats,bands=type=drop,rate=9,burst_size=256",
        "- meter=40002",
        "= 0 flows are right",
    ]


def test_a_flow_uses_a_meter_when_it_begins_with_it() -> None:
    flow = Flow(91, 1, Match(), (Metered(40_001), Output(1)), 1, "t")
    assert metered_by(flow) == 40_001
    assert metered_by(Flow(91, 1, Match(), (Output(1),), 1, "t")) is None
    assert metered_by(Flow(91, 1, Match(), (), 1, "t")) is None

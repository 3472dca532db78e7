"""Patterns: their flows are those that the plain way makes, and each kind is there once."""

from __future__ import annotations

import gc
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import compile_bridge
from flows.errors import InvalidFlow
from flows.openflow import (
    ETH_DST,
    ETH_SRC,
    ETH_TYPE,
    IN_PORT,
    IP_SRC,
    NOTHING,
    Flow,
    Load,
    Match,
    Metered,
    Output,
    Resubmit,
    Steps,
    Term,
    make_flow,
    open_pattern,
    pattern,
)
from flows.pipeline import BY_LINK, CAST, NETWORK, OUT, SESSION
from flows.resolve import ResolvedWorld
from tests.generators.random_worlds import random_world

IPV4 = ETH_TYPE.eq(0x0800)
OWN_ADDRESS = pattern(11, 200, IN_PORT, IPV4, IP_SRC)


def test_a_flow_of_a_pattern_is_the_flow_that_its_terms_make() -> None:
    match = Match.of(IN_PORT.eq(5), IPV4, IP_SRC.eq(0x0A000001))
    steps = Steps.of(Load(OUT, 7), Resubmit(21))
    made = make_flow(OWN_ADDRESS, (5, 0x0A000001), steps, 3, "why")
    plain = Flow(11, 200, match, (Load(OUT, 7), Resubmit(21)), 3, "why")

    assert made == plain and hash(made) == hash(plain) and str(made) == str(plain)
    assert (made.cookie, made.key, made.match) == (plain.cookie, plain.key, match)
    assert made.shape != plain.shape, "its EtherType is a part of the pattern"


@pytest.mark.parametrize(
    "other",
    [
        make_flow(OWN_ADDRESS, (5, 0x0A000002), NOTHING, 3, "why"),
        make_flow(OWN_ADDRESS, (6, 0x0A000001), NOTHING, 3, "why"),
        make_flow(OWN_ADDRESS, (5, 0x0A000001), Steps.of(Resubmit(21)), 3, "why"),
        make_flow(OWN_ADDRESS, (5, 0x0A000001), NOTHING, 4, "why"),
        make_flow(OWN_ADDRESS, (5, 0x0A000001), NOTHING, 3, "another reason"),
        make_flow(pattern(11, 201, IN_PORT, IPV4, IP_SRC), (5, 0x0A000001), NOTHING, 3, "why"),
        make_flow(pattern(12, 200, IN_PORT, IPV4, IP_SRC), (5, 0x0A000001), NOTHING, 3, "why"),
    ],
)
def test_flows_that_differ_in_anything_are_not_equal(other: Flow) -> None:
    assert make_flow(OWN_ADDRESS, (5, 0x0A000001), NOTHING, 3, "why") != other


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**63))
def test_every_compiled_flow_fits_its_fields_and_equals_its_plain_form(seed: int) -> None:
    world = random_world(Random(seed))
    for flow in compile_bridge(world.dpids[0], ResolvedWorld(world)):
        terms = [Term(*term) for term in flow.match.terms]  # refuses what does not fit
        assert flow.replace(match=Match.of(*terms)) == flow


def test_there_is_one_pattern_of_each_kind_as_long_as_somebody_has_it() -> None:
    assert pattern(11, 200, IN_PORT, IPV4, IP_SRC) is OWN_ADDRESS
    full = open_pattern(3, 4, (IN_PORT, ETH_SRC), (IN_PORT.full, ETH_SRC.full))
    assert full is pattern(3, 4, IN_PORT, ETH_SRC)
    for number in range(10_000):  # more than any cache keeps
        open_pattern(3, number, (IN_PORT,), (IN_PORT.full,))
    gc.collect()
    assert open_pattern(3, 4, (IN_PORT, ETH_SRC), (IN_PORT.full, ETH_SRC.full)) is full


@pytest.mark.parametrize(
    "conditions",
    [
        (ETH_SRC, IN_PORT),
        (IN_PORT, IN_PORT),
        (SESSION, NETWORK),
        (CAST, BY_LINK.eq(1)),  # two parts of one register
        (ETH_DST, IN_PORT.eq(1)),
    ],
)
def test_conditions_in_another_order_are_refused(conditions: tuple[Term, ...]) -> None:
    with pytest.raises(InvalidFlow, match="not in canonical order"):
        pattern(3, 4, *conditions)


def test_a_part_of_a_register_that_is_not_its_lowest_is_not_left_open() -> None:
    with pytest.raises(InvalidFlow, match="'by_link' is not the lowest part"):
        pattern(3, 4, BY_LINK)


@pytest.mark.parametrize(("table", "priority"), [(255, 1), (-1, 1), (3, 0x10000), (3, -1)])
def test_a_table_or_a_priority_that_openflow_has_not_is_refused(table: int, priority: int) -> None:
    with pytest.raises(InvalidFlow, match="no table"):
        pattern(table, priority, IN_PORT)


@pytest.mark.parametrize("owner", [-1, 1 << 20])
def test_an_owner_that_does_not_fit_a_cookie_is_refused(owner: int) -> None:
    with pytest.raises(InvalidFlow, match="does not fit the 20 bits"):
        make_flow(OWN_ADDRESS, (1, 2), NOTHING, owner, "why")


def test_steps_one_after_the_other_are_the_steps_of_all_actions() -> None:
    first, last = (Load(OUT, 7), Output(9)), (Resubmit(21), Load(SESSION, 5))

    assert Steps.of(*first).then(Steps.of(*last)) == Steps.of(*first, *last)
    assert Steps.of() == NOTHING


def test_a_meter_is_the_first_step_or_none() -> None:
    assert Steps.of(Metered(1), Resubmit(93)).numbers == (1,)
    with pytest.raises(InvalidFlow, match="a meter comes before everything else"):
        Steps.of(Resubmit(93), Metered(1))

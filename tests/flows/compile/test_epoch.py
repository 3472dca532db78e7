"""Epochs of megaflows: each plan asks for bits that no megaflow from before has."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from flows.compile import Epoch, is_of_epoch, without_epoch
from flows.compile.epoch import EPOCHS, MASK_BITS, epoch_flows
from flows.model import Dpid
from flows.openflow import EPOCH_OBJECT, IN_PORT, PKT_MARK, PRODUCTION, Flow, Match, Output
from flows.pipeline import EPOCH, PIPELINE, REREAD, START, check_flows
from flows.plan import InstalledFlow, InstalledFlows, Plan, plan

DPIDS = st.builds(Dpid, st.integers(1, 2**64 - 1))
NUMBERS = st.integers(EPOCHS.start, EPOCHS.stop - 1)
WANTED = Flow(0, 100, Match.of(IN_PORT.eq(1)), (Output(2),), PRODUCTION, "test")


def installed(*flows: Flow) -> tuple[InstalledFlow, ...]:
    return tuple(InstalledFlow(f.table, f.priority, f.match, f.cookie) for f in flows)


def mask_of(dpid: Dpid, number: int) -> int:
    terms = [term for flow in epoch_flows(dpid, number) for term in flow.match.terms]
    [mask] = {term.mask for term in terms if term.field is PKT_MARK}
    return mask


@given(DPIDS, NUMBERS)
def test_the_flow_is_above_all_others_and_no_packet_matches_it(dpid: Dpid, number: int) -> None:
    flows = epoch_flows(dpid, number)
    check_flows(flows)
    assert [flow.table for flow in flows] == [PIPELINE[0].number, REREAD.number]
    for flow, table in zip(flows, (START, REREAD), strict=True):
        assert flow.priority == max(table.priorities.values())
        assert not flow.actions
        registers = [term for term in flow.match.terms if term.field is EPOCH.field]
        assert [term.value for term in registers] == [number << EPOCH.low]
    assert number > 0, "registers are 0 when a packet enters a bridge"


@given(DPIDS, NUMBERS, NUMBERS)
def test_no_epoch_asks_for_a_part_of_what_another_asks_for(dpid: Dpid, one: int, two: int) -> None:
    first, second = mask_of(dpid, one), mask_of(dpid, two)
    assert first.bit_count() == second.bit_count() == MASK_BITS
    assert first == second or (first & ~second and second & ~first)


def test_plans_in_a_row_ask_for_new_bits() -> None:
    """As many as a switch takes while its revalidators have not begun a round."""
    masks = [mask_of(Dpid(0x51), number) for number in range(1, 2000)]
    assert all(before & ~after and after & ~before for before, after in pairwise(masks))
    assert len(set(masks)) > len(masks) - 3


def test_each_plan_replaces_the_flow_of_the_epoch_before() -> None:
    epoch, dpid, seen = Epoch(), Dpid(1), []
    for _ in range(3):
        before = epoch.flows
        todo, epoch = epoch.follow(dpid, Plan((WANTED,), (), 0))
        assert todo.add[0] == WANTED
        seen.append(todo.add[1:])
        assert todo.remove == before
    assert seen == [epoch_flows(dpid, number) for number in (1, 2, 3)]


def test_after_the_last_epoch_comes_the_first() -> None:
    last = Epoch(installed(*epoch_flows(Dpid(1), EPOCHS[-1])))
    todo, _ = last.follow(Dpid(1), Plan((), (), 0))
    assert todo.add == epoch_flows(Dpid(1), EPOCHS.start)


def test_epochs_that_were_left_behind_are_all_removed() -> None:
    left = installed(*epoch_flows(Dpid(1), 4), *epoch_flows(Dpid(1), 9))
    todo, _ = Epoch(left).follow(Dpid(1), Plan((), (), 0))
    assert todo.remove == left
    assert todo.add == epoch_flows(Dpid(1), 10)


def test_plans_leave_the_epoch_alone() -> None:
    flows = epoch_flows(Dpid(1), 3)
    assert {flow.owner for flow in flows} == {EPOCH_OBJECT}
    assert not plan([WANTED], installed(WANTED, *flows))
    found = InstalledFlows({WANTED.mark}, installed(*flows))
    assert without_epoch(found) == (InstalledFlows({WANTED.mark}), Epoch(installed(*flows)))
    assert not any(map(is_of_epoch, installed(WANTED)))

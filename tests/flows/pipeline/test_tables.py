"""The contracts of tables say no: to pipelines that loop, and to flows that break their table's."""

from __future__ import annotations

import pytest

from flows.errors import InvalidFlow
from flows.openflow import (
    ETH_SRC,
    IN_PORT,
    TCP_DST,
    Clone,
    Flow,
    Learn,
    Load,
    Match,
    MoveToVlan,
    Output,
    RegField,
    Resubmit,
    make_cookie,
)
from flows.pipeline import (
    ADMIT,
    CAST,
    DELIVER,
    FILTER,
    FLOOD,
    LEARN,
    LEARNED,
    LOOKUP,
    NETWORK,
    OUT,
    PIPELINE,
    REGISTER_FIELDS,
    RULE_PRIORITIES,
    SENDER,
    SESSION,
    START,
    TAG,
    Cast,
    Table,
    check_flows,
)
from flows.pipeline.contract import check_flow
from flows.pipeline.tables import check_pipeline


def table(name: str, number: int, then: str = "", owns: str = "") -> Table:
    return Table(
        name, number, "For a test.", frozenset(), frozenset(then.split()),
        frozenset(owns.split()), {"nothing": 0},
    )  # fmt: skip


def test_our_pipeline_is_in_order() -> None:
    check_pipeline(PIPELINE, REGISTER_FIELDS)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ([table("a", 1, then="a")], "a loop"),
        ([table("a", 1, then="b"), table("b", 2, then="a")], "'b' goes back to 'a': a loop"),
        ([table("a", 1, then="nowhere")], "unknown table 'nowhere'"),
        ([table("a", 1), table("a", 2)], "share a name or a number"),
        ([table("a", 1), table("b", 1)], "share a name or a number"),
        ([table("a", 1, owns="nothing")], r"owns unknown \['nothing'\]"),
    ],
)
def test_a_pipeline_that_cannot_be_is_refused(tables: list[Table], words: str) -> None:
    with pytest.raises(InvalidFlow, match=words):
        check_pipeline(tables, REGISTER_FIELDS)


def test_registers_that_share_bits_are_refused() -> None:
    with pytest.raises(InvalidFlow, match="'late' shares bits of reg2"):
        check_pipeline([], [RegField("early", 2, 0, 8), RegField("late", 2, 8, 9)])
    check_pipeline([], [RegField("early", 2, 0, 8), RegField("late", 2, 9, 9)])


@pytest.mark.parametrize(("reg", "low", "high"), [(16, 0, 0), (0, 5, 4), (0, 0, 32), (-1, 0, 1)])
def test_a_register_that_no_switch_has_is_refused(reg: int, low: int, high: int) -> None:
    with pytest.raises(InvalidFlow, match="outside reg0"):
        RegField("odd", reg, low, high)


GOOD = Flow(
    START.number, START["workload"], Match.of(IN_PORT.eq(1)),
    (Load(NETWORK, 5), Resubmit(ADMIT.number)), 0, "a workload sends",
)  # fmt: skip
COOKIE = make_cookie(0, 0)


def learn(into: Table) -> Learn:
    return Learn(into.number, LEARNED["learned"], 1, 1, COOKIE, NETWORK, OUT)


def test_a_flow_that_keeps_its_contract_passes() -> None:
    check_flow(GOOD)
    check_flow(
        GOOD.replace(table=LEARN.number, match=Match(), priority=100, actions=(learn(LEARNED),))
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"table": 99}, "table 99 is not ours"),
        ({"priority": 101}, "'start' has no priority 101"),
        ({"match": Match.of(TCP_DST.eq(80))}, "'start' may not match tcp_dst"),
        ({"match": Match.of(SESSION.eq(1))}, "'start' may not match reg6"),
        ({"actions": (Load(OUT, 1),)}, "'start' may not set 'out'"),
        ({"actions": (Load(RegField("other", 9, 0, 3), 1),)}, "'start' may not set 'other'"),
        ({"actions": (Resubmit(DELIVER.number),)}, "'start' may not go to 90"),
        ({"actions": (Resubmit(START.number),)}, "'start' may not go to 0"),
        ({"actions": (Resubmit(99),)}, "'start' may not go to 99"),
        ({"actions": (Clone((Load(OUT, 1),)),)}, "'start' may not set 'out'"),
        ({"actions": (Clone((Clone((Resubmit(99),)),)),)}, "may not go to 99"),
        ({"actions": (learn(LEARNED),)}, "'start' may not learn"),
        ({"actions": (MoveToVlan(RegField("other", 5, 0, 11)),)}, "only the link tag"),
    ],
)
def test_a_flow_that_breaks_its_contract_is_refused(changes: dict, words: str) -> None:
    with pytest.raises(InvalidFlow, match=words):
        check_flow(GOOD.replace(**changes))


def test_only_the_learn_table_learns_and_only_into_learned() -> None:
    flow = GOOD.replace(table=LEARN.number, priority=LEARN["sender"], match=Match())
    check_flow(flow.replace(actions=(learn(LEARNED),)))
    with pytest.raises(InvalidFlow, match="may not learn"):
        check_flow(flow.replace(actions=(learn(LOOKUP),)))


def test_part_of_a_register_is_matched_by_who_may_match_just_that_part() -> None:
    flow = GOOD.replace(table=FLOOD.number, priority=FLOOD["network"], actions=(Output(1),))
    check_flow(flow.replace(match=Match.of(NETWORK.eq(1), CAST.eq(Cast.FLOOD))))
    with pytest.raises(InvalidFlow, match="may not match reg4"):
        check_flow(flow.replace(match=Match.of(CAST.field.eq(Cast.FLOOD))))
    with pytest.raises(InvalidFlow, match="may not match reg2"):
        check_flow(flow.replace(match=Match.of(SENDER.eq(1))))


def test_only_rules_have_the_priorities_of_rules() -> None:
    rule = GOOD.replace(table=FILTER.number, match=Match.of(ETH_SRC.eq(1)), actions=())
    check_flow(rule.replace(priority=RULE_PRIORITIES.start))
    with pytest.raises(InvalidFlow, match="no priority"):
        check_flow(rule.replace(priority=RULE_PRIORITIES.stop))
    with pytest.raises(InvalidFlow, match="no priority"):
        check_flow(rule.replace(table=ADMIT.number, priority=RULE_PRIORITIES.start))


def test_of_flows_that_differ_in_the_priority_each_priority_is_checked() -> None:
    rule = GOOD.replace(table=FILTER.number, match=Match.of(ETH_SRC.eq(1)), actions=())
    good = [rule.replace(priority=RULE_PRIORITIES.start + n) for n in range(3)]
    check_flows(good)
    with pytest.raises(InvalidFlow, match="no priority"):
        check_flows([*good, rule.replace(priority=RULE_PRIORITIES.stop)])
    with pytest.raises(InvalidFlow, match="may not match"):
        check_flows([*good, rule.replace(match=Match.of(SESSION.eq(1)), priority=good[0].priority)])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SESSION.eq(1 << 20), "does not fit the 20 bits of 'session'"),
        (lambda: Load(CAST, 8), "8 does not fit 'cast'"),
        (lambda: Match.of(IN_PORT.eq(1), IN_PORT.eq(1)), "same bits of in_port"),
        (lambda: IN_PORT.eq(1 << 32), "does not fit"),
        (lambda: IN_PORT.masked(1, 0), "does not fit"),
        (lambda: IN_PORT.masked(3, 1), "bits outside its mask"),
        (lambda: MoveToVlan(SESSION), "a VLAN id has 12 bits"),
        (lambda: GOOD.replace(owner=1 << 20), "20 bits of a cookie"),
        (lambda: GOOD.replace(table=255), "no table 255"),
        (lambda: GOOD.replace(priority=65536), "priority 65536"),
    ],
)
def test_a_number_that_does_not_fit_is_refused(make, words: str) -> None:
    with pytest.raises(InvalidFlow, match=words):
        make()


def test_parts_of_a_register_merge_into_one_term() -> None:
    both = Match.of(CAST.eq(2), RegField("flag", 4, 8, 8).eq(1))
    assert [str(term) for term in both.terms] == ["reg4=0x102/0x107"]
    assert MoveToVlan(TAG).source is TAG


def test_of_many_flows_each_shape_is_checked() -> None:
    good = [GOOD.replace(match=Match.of(IN_PORT.eq(n))) for n in range(1, 4)]
    bad = GOOD.replace(actions=(Load(OUT, 1),))
    assert len({flow.shape for flow in good}) == 1 < len({flow.cookie for flow in good})
    check_flows(good)
    with pytest.raises(InvalidFlow, match="may not set 'out'"):
        check_flows([*good, bad])

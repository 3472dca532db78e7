"""A switch that refuses parts of a plan gets the rest of it, with few bundles."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from controller.southbound import refusals
from controller.southbound.openflow.partial_apply import (
    WHOLE_TRIES,
    Clearing,
    FlowChange,
    PartialApply,
    tries_for,
)
from flows.openflow import IN_PORT, PRODUCTION, Flow, FlowKey, Match, Output
from flows.plan import InstalledFlow, Plan, plan

FULL = "the table is full"


def flow(number: int, owner: int = PRODUCTION, table: int = 0, output: int = 1) -> Flow:
    return Flow(table, 10, Match.of(IN_PORT.eq(number + 1)), (Output(output),), owner, "test")


def session(owner: int, output: int = 1) -> list[Flow]:
    """The two flows of a session, in tables 5 and 6."""
    return [flow(owner, owner, table, output) for table in (5, 6)]


class Tables:
    """Flow tables with limits by table; ``refused_*`` are never accepted."""

    def __init__(self, room: dict[int, int] | None = None, *there: Flow) -> None:
        self.room = room or {}
        self.there: dict[FlowKey, Flow] = {flow.key: flow for flow in there}
        self.refused_owners: set[int] = set()
        self.refused_keys: set[FlowKey] = set()
        self.bundles = 0
        self.seen: list[dict[FlowKey, Flow]] = []

    def commit(self, changes: Sequence[FlowChange]) -> dict[int, str]:
        self.bundles += 1
        then = dict(self.there)
        for at, change in enumerate(changes):
            if isinstance(change, InstalledFlow):
                then.pop(change.key, None)
            elif isinstance(change, Clearing):
                then.pop(change.flow.key, None)
            else:
                number = sum(key.table == change.table for key in then)
                if change.key not in then and number >= self.room.get(change.table, 1 << 30):
                    return {at: FULL}
                if change.owner in self.refused_owners or change.key in self.refused_keys:
                    return {at: "never"}
                then[change.key] = change
        self.there = then
        self.seen.append(then)
        return {}

    def apply(self, desired: list[Flow]) -> PartialApply:
        there = [InstalledFlow(f.table, f.priority, f.match, f.cookie) for f in self.there.values()]
        todo: Plan = plan(desired, there)
        applied = PartialApply(self.commit, self.there.keys)
        applied.apply(todo.add, todo.remove)
        return applied


def owners(what: PartialApply) -> set[int]:
    return {r.flow.owner for r in what.rejected if isinstance(r.flow, Flow)}


def test_an_accepted_plan_is_one_bundle() -> None:
    switch = Tables()
    applied = switch.apply([flow(1), *session(7)])
    assert (switch.bundles, applied.rejected) == (1, [])


def test_removals_free_table_space_for_additions() -> None:
    old = [f for owner in range(1, 4) for f in session(owner)]
    switch = Tables({5: 3}, *old)
    applied = switch.apply([f for owner in range(4, 7) for f in session(owner)])
    assert (switch.bundles, applied.rejected) == (1, [])


def test_a_refused_flow_leaves_out_its_session_only() -> None:
    switch = Tables()
    switch.refused_owners = {7}
    wanted = [flow(1), *session(6), *session(7), *session(8)]
    applied = switch.apply(wanted)
    assert {r.flow for r in applied.rejected} == set(session(7))
    assert set(switch.there.values()) == {flow(1), *session(6), *session(8)}
    assert len(switch.seen) == 1, "in one bundle"


def test_the_old_flows_of_a_refused_session_are_deleted() -> None:
    old, new = session(7, output=2), session(7, output=3)
    switch = Tables(None, flow(1), *old)
    switch.refused_owners = {7}
    applied = switch.apply([flow(1), *new])
    assert owners(applied) == {7}
    assert list(switch.there.values()) == [flow(1)]


def test_a_full_table_is_filled_and_all_else_is_applied() -> None:
    gone = [flow(number) for number in range(900, 950)]
    switch = Tables({6: 135}, *gone)
    wanted = [flow(1), flow(2), *(f for owner in range(1, 1001) for f in session(owner))]
    applied = switch.apply(wanted)
    assert len(switch.there) == 2 + 2 * 135
    assert len(owners(applied)) == 1000 - 135
    assert {r.reason for r in applied.rejected} == {FULL}
    assert switch.bundles <= 2 * WHOLE_TRIES + 2 + 2 * tries_for(1054)


def test_production_is_applied_first_in_one_bundle() -> None:
    switch = Tables({6: 3}, flow(1, output=2), flow(9))
    production = [flow(number) for number in range(1, 5)]
    switch.apply([*(f for owner in range(1, 201) for f in session(owner)), *production])
    first = [f for f in switch.seen[0].values() if f.owner == PRODUCTION]
    assert sorted(map(str, first)) == sorted(map(str, production))
    assert sum(f.table == 6 for f in switch.there.values()) == 3


def test_old_copies_never_meet_new_production() -> None:
    """Session 7 copied to port 2, which production now uses for another port."""
    switch = Tables({6: 20}, flow(1, output=2), *session(7, output=2))
    more = [f for owner in range(10, 210) for f in session(owner)]
    switch.apply([flow(1, output=3), *more, *session(7, output=3)])
    for seen in switch.seen:
        if flow(1, output=3) in seen.values():
            assert not set(session(7, output=2)) & set(seen.values())


def test_a_full_table_of_production_is_filled() -> None:
    switch = Tables({3: 200})
    wanted = [flow(number, table=3) for number in range(500)]
    rest = [*(flow(number) for number in range(50)), *session(7)]
    applied = switch.apply([*wanted, *rest])
    assert set(rest) <= set(switch.there.values())
    assert sum(f.table == 3 for f in switch.there.values()) == 200
    assert len(applied.rejected) == 300
    assert switch.bundles <= 2 * WHOLE_TRIES + 2 + 2 * tries_for(551)


@given(
    st.sets(st.integers(1, 60)),
    st.dictionaries(st.sampled_from([0, 5, 6]), st.integers(0, 70), max_size=2),
    st.lists(st.integers(1, 60), unique=True),
)
def test_all_that_is_not_rejected_is_installed_and_sessions_are_whole(
    hates: set[int], room: dict[int, int], wanted: list[int]
) -> None:
    switch = Tables(room, *session(1, output=9), flow(99))
    switch.refused_owners = hates - {PRODUCTION}
    desired = [*(flow(n) for n in range(20)), *(f for owner in wanted for f in session(owner))]
    applied = switch.apply(desired)
    left_out = {r.flow for r in applied.rejected}
    assert set(switch.there.values()) == set(desired) - left_out
    assert all(set(session(owner)) <= left_out for owner in owners(applied) - {PRODUCTION})
    assert switch.bundles <= 2 * WHOLE_TRIES + 2 + 2 * tries_for(200)


def test_flows_are_replaced_in_a_full_table() -> None:
    """Ports get other owners while as many new ones are added: no flow of an old owner stays."""
    old = [flow(number, output=2) for number in range(0, 400, 2)]
    switch = Tables({0: 200}, *old)
    applied = switch.apply([flow(number, output=3) for number in range(400)])
    assert set(switch.there.values()) == {flow(number, output=3) for number in range(0, 400, 2)}
    assert len(applied.rejected) == 200
    # from the first accepted bundle on, no old flow is installed
    assert not any(set(old) & set(seen.values()) for seen in switch.seen)


def test_production_that_may_not_be_replaced_is_deleted() -> None:
    old = [flow(number, output=2) for number in range(20)]
    switch = Tables(None, *old)
    switch.refused_keys = {flow(number).key for number in range(10)}
    applied = switch.apply([flow(number, output=3) for number in range(20)])
    assert set(switch.there.values()) == {flow(number, output=3) for number in range(10, 20)}
    assert {r.flow for r in applied.rejected} == {flow(n, output=3) for n in range(10)}
    assert not any(set(old) & set(seen.values()) for seen in switch.seen)


KEYS = st.sets(st.integers(0, 40))


@given(
    KEYS, KEYS, KEYS, KEYS, st.dictionaries(st.sampled_from([0, 3, 6]), st.integers(0, 40)),
)  # fmt: skip
def test_nothing_that_a_plan_removes_or_replaces_stays_whatever_is_refused(
    there: set[int], wanted: set[int], hated: set[int], sessions: set[int], room: dict[int, int]
) -> None:
    before = [flow(n, table=table, output=2) for n in there for table in (0, 3)]
    before += [f for owner in sessions & there for f in session(owner + 1, output=2)]
    desired = [flow(n, table=table, output=n % 2 + 2) for n in wanted for table in (0, 3)]
    desired += [f for owner in sessions for f in session(owner + 1, output=3)]
    switch = Tables(room, *before)
    switch.refused_keys = {flow(n, table=3).key for n in hated}

    applied = switch.apply(desired)

    right = {f.key: f for f in desired}
    for seen in switch.seen:
        assert all(right.get(key) == f for key, f in seen.items())
    left_out = {r.flow for r in applied.rejected}
    assert set(switch.there.values()) == set(desired) - left_out


def test_many_refusals_are_counted_and_few_are_named() -> None:
    switch = Tables({0: 0})
    sentences = refusals(switch.apply([flow(number) for number in range(15)]).rejected)
    assert len(sentences) == 11
    assert sentences[-1] == "5 more were refused, or left out with their sessions"
    assert FULL in sentences[0]

"""A switch that refuses parts of a plan gets all the rest, with few questions."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from controller.southbound.openflow.partial_apply import (
    TOGETHER,
    Acceptance,
    Change,
    Clearing,
    tries_for,
)
from controller.southbound.switch import refusals
from flows.plan.plan import Installed, Plan, plan
from flows.openflow.field import IN_PORT
from flows.openflow.flow import PRODUCTION, Flow, FlowKey, Match, Output

FULL = "the table is full"


def flow(number: int, owner: int = PRODUCTION, table: int = 0, output: int = 1) -> Flow:
    return Flow(table, 10, Match.of(IN_PORT.eq(number + 1)), (Output(output),), owner, "test")


def session(owner: int, output: int = 1) -> list[Flow]:
    """The two flows of a session, in tables 5 and 6."""
    return [flow(owner, owner, table, output) for table in (5, 6)]


class Tables:
    """Flows in tables that have room for so many; ``hates`` are owners that are never taken."""

    def __init__(self, room: dict[int, int] | None = None, *there: Flow) -> None:
        self.room = room or {}
        self.there: dict[FlowKey, Flow] = {flow.key: flow for flow in there}
        self.hates: set[int] = set()
        self.hates_at: set[FlowKey] = set()
        self.asked = 0
        self.seen: list[dict[FlowKey, Flow]] = []

    def commit(self, changes: Sequence[Change]) -> dict[int, str]:
        self.asked += 1
        then = dict(self.there)
        for at, change in enumerate(changes):
            if isinstance(change, Installed):
                then.pop(change.key, None)
            elif isinstance(change, Clearing):
                then.pop(change.flow.key, None)
            else:
                number = sum(key.table == change.table for key in then)
                if change.key not in then and number >= self.room.get(change.table, 1 << 30):
                    return {at: FULL}
                if change.owner in self.hates or change.key in self.hates_at:
                    return {at: "never"}
                then[change.key] = change
        self.there = then
        self.seen.append(then)
        return {}

    def bring(self, desired: list[Flow]) -> Acceptance:
        there = [Installed(f.table, f.priority, f.match, f.cookie) for f in self.there.values()]
        todo: Plan = plan(desired, there)
        offered = Acceptance(self.commit, self.there.keys)
        offered.offer(todo.add, todo.remove)
        return offered


def owners(what: Acceptance) -> set[int]:
    return {r.flow.owner for r in what.rejected if isinstance(r.flow, Flow)}


def test_a_plan_that_is_taken_is_one_bundle() -> None:
    switch = Tables()
    offered = switch.bring([flow(1), *session(7)])
    assert (switch.asked, offered.rejected) == (1, [])


def test_removals_make_room_for_what_comes() -> None:
    old = [f for owner in range(1, 4) for f in session(owner)]
    switch = Tables({5: 3}, *old)
    offered = switch.bring([f for owner in range(4, 7) for f in session(owner)])
    assert (switch.asked, offered.rejected) == (1, [])


def test_a_refused_flow_leaves_its_session_out_and_nothing_else() -> None:
    switch = Tables()
    switch.hates = {7}
    wanted = [flow(1), *session(6), *session(7), *session(8)]
    offered = switch.bring(wanted)
    assert {r.flow for r in offered.rejected} == set(session(7))
    assert set(switch.there.values()) == {flow(1), *session(6), *session(8)}
    assert len(switch.seen) == 1, "in one bundle"


def test_a_session_that_is_refused_does_not_go_on_as_it_was() -> None:
    old, new = session(7, output=2), session(7, output=3)
    switch = Tables(None, flow(1), *old)
    switch.hates = {7}
    offered = switch.bring([flow(1), *new])
    assert owners(offered) == {7}
    assert list(switch.there.values()) == [flow(1)]


def test_a_full_table_takes_what_it_holds_and_all_else_is_done() -> None:
    gone = [flow(number) for number in range(900, 950)]
    switch = Tables({6: 135}, *gone)
    wanted = [flow(1), flow(2), *(f for owner in range(1, 1001) for f in session(owner))]
    offered = switch.bring(wanted)
    assert len(switch.there) == 2 + 2 * 135
    assert len(owners(offered)) == 1000 - 135
    assert {r.reason for r in offered.rejected} == {FULL}
    assert switch.asked <= 2 * TOGETHER + 2 + 2 * tries_for(1054)


def test_production_comes_before_sessions_and_as_one() -> None:
    switch = Tables({6: 3}, flow(1, output=2), flow(9))
    production = [flow(number) for number in range(1, 5)]
    switch.bring([*(f for owner in range(1, 201) for f in session(owner)), *production])
    first = [f for f in switch.seen[0].values() if f.owner == PRODUCTION]
    assert sorted(map(str, first)) == sorted(map(str, production))
    assert sum(f.table == 6 for f in switch.there.values()) == 3


def test_no_copy_goes_where_it_went_before_while_the_rest_is_sought() -> None:
    """Copies of 7 went by port 2, and port 1 is another's now: they never meet."""
    switch = Tables({6: 20}, flow(1, output=2), *session(7, output=2))
    more = [f for owner in range(10, 210) for f in session(owner)]
    switch.bring([flow(1, output=3), *more, *session(7, output=3)])
    for seen in switch.seen:
        if flow(1, output=3) in seen.values():
            assert not set(session(7, output=2)) & set(seen.values())


def test_a_table_of_production_that_is_full_takes_what_it_holds() -> None:
    switch = Tables({3: 200})
    wanted = [flow(number, table=3) for number in range(500)]
    rest = [*(flow(number) for number in range(50)), *session(7)]
    offered = switch.bring([*wanted, *rest])
    assert set(rest) <= set(switch.there.values())
    assert sum(f.table == 3 for f in switch.there.values()) == 200
    assert len(offered.rejected) == 300
    assert switch.asked <= 2 * TOGETHER + 2 + 2 * tries_for(551)


@given(
    st.sets(st.integers(1, 60)),
    st.dictionaries(st.sampled_from([0, 5, 6]), st.integers(0, 70), max_size=2),
    st.lists(st.integers(1, 60), unique=True),
)
def test_what_was_not_rejected_is_there_and_of_a_session_all_or_nothing(
    hates: set[int], room: dict[int, int], wanted: list[int]
) -> None:
    switch = Tables(room, *session(1, output=9), flow(99))
    switch.hates = hates - {PRODUCTION}
    desired = [*(flow(n) for n in range(20)), *(f for owner in wanted for f in session(owner))]
    offered = switch.bring(desired)
    left_out = {r.flow for r in offered.rejected}
    assert set(switch.there.values()) == set(desired) - left_out
    assert all(set(session(owner)) <= left_out for owner in owners(offered) - {PRODUCTION})
    assert switch.asked <= 2 * TOGETHER + 2 + 2 * tries_for(200)


def test_what_takes_the_place_of_another_flow_is_done_though_the_table_is_full() -> None:
    """Ports change hands, and as many new ones come: no old owner's flow may stay."""
    old = [flow(number, output=2) for number in range(0, 400, 2)]
    switch = Tables({0: 200}, *old)
    offered = switch.bring([flow(number, output=3) for number in range(400)])
    assert set(switch.there.values()) == {flow(number, output=3) for number in range(0, 400, 2)}
    assert len(offered.rejected) == 200
    # from the first bundle that was taken on nobody was where he had been before
    assert not any(set(old) & set(seen.values()) for seen in switch.seen)


def test_production_that_may_not_be_exchanged_is_cleared() -> None:
    old = [flow(number, output=2) for number in range(20)]
    switch = Tables(None, *old)
    switch.hates_at = {flow(number).key for number in range(10)}
    offered = switch.bring([flow(number, output=3) for number in range(20)])
    assert set(switch.there.values()) == {flow(number, output=3) for number in range(10, 20)}
    assert {r.flow for r in offered.rejected} == {flow(n, output=3) for n in range(10)}
    assert not any(set(old) & set(seen.values()) for seen in switch.seen)


KEYS = st.sets(st.integers(0, 40))


@given(
    KEYS, KEYS, KEYS, KEYS, st.dictionaries(st.sampled_from([0, 3, 6]), st.integers(0, 40)),
)  # fmt: skip
def test_nothing_that_a_plan_removes_or_exchanges_stays_whatever_is_refused(
    there: set[int], wanted: set[int], hated: set[int], sessions: set[int], room: dict[int, int]
) -> None:
    before = [flow(n, table=table, output=2) for n in there for table in (0, 3)]
    before += [f for owner in sessions & there for f in session(owner + 1, output=2)]
    desired = [flow(n, table=table, output=n % 2 + 2) for n in wanted for table in (0, 3)]
    desired += [f for owner in sessions for f in session(owner + 1, output=3)]
    switch = Tables(room, *before)
    switch.hates_at = {flow(n, table=3).key for n in hated}

    offered = switch.bring(desired)

    right = {f.key: f for f in desired}
    for seen in switch.seen:
        assert all(right.get(key) == f for key, f in seen.items())
    left_out = {r.flow for r in offered.rejected}
    assert set(switch.there.values()) == set(desired) - left_out


def test_many_refusals_are_counted_and_few_are_named() -> None:
    switch = Tables({0: 0})
    said = refusals(switch.bring([flow(number) for number in range(15)]).rejected)
    assert len(said) == 11
    assert said[-1] == "5 more were refused, or left out with their sessions"
    assert FULL in said[0]

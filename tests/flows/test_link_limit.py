"""What links carry, and which copies that limits: those that may leave over one, and no others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.compile import Standing, Survey, copy_ways
from flows.explain.explain import explain
from flows.explain.feed import feed_of
from flows.semantics.meaning import copied_frame, meaning
from flows.model.session import (
    Collector,
    CollectorId,
    Direction,
    Oversize,
    PortId,
    SessionId,
    TenantName,
)
from flows.explain.trace import Interpreter
from flows.model.tunnel import link_limit
from flows.model.world import LINK_MTU, World
from tests import frames
from tests.flows.hand_made import (
    S1,
    S2,
    S3,
    Plugged,
    at,
    cable,
    compile_all,
    tap,
    vm,
    watch,
    world,
)

WEB, DB, APP, SENDER = 0x020000000001, 0x020000000002, 0x020000000003, 0x020000000004
LINE = (cable(at(S1, 21), at(S2, 22)), cable(at(S2, 21), at(S3, 22)))
PORTS: tuple[Plugged, ...] = (
    vm("web", at(S1, 1), WEB), vm("db", at(S1, 2), DB), vm("app", at(S2, 1), APP),
    tap("ids", at(S1, 9)), tap("far", at(S2, 9)),
)  # fmt: skip
LONGEST = 1500 + 14 + 4
"""A full packet of a usual workload, in a frame with a tag of its own."""


def limits(of: World, name: str = "s") -> tuple[int | None, int | None, int | None]:
    """What a session's copies may have at most: all, those of the first bridge, of the second."""
    survey = Survey(of)
    session = survey.standings[SessionId(name)].session
    return survey.limit_of(session), survey.limit_at(S1, session), survey.limit_at(S2, session)


def test_a_link_carries_what_a_copy_and_its_link_tag_take() -> None:
    assert link_limit(9004) == 9000 + 14
    assert link_limit(LINK_MTU) == LONGEST


def test_copies_that_cross_a_link_are_limited_and_those_of_the_tap_ports_bridge_are_not() -> None:
    both = world(*PORTS, *LINE, watch("s", "web", "app", to="far"))
    assert limits(both) == (LONGEST, LONGEST, None)
    assert limits(replace(both, link_mtu=9004)) == (9014, 9014, None)
    assert limits(world(*PORTS, *LINE, watch("s", "web", to="ids")))[:2] == (None, None)


def test_a_pool_is_limited_where_one_of_its_tap_ports_is_far() -> None:
    pool = Collector(CollectorId("pool"), "pool", TenantName("red"), (PortId("ids"), PortId("far")))
    of = world(*PORTS, *LINE, watch("s", "web", "app", to="pool"))
    numbers = replace(of.numbers, collector={pool.id: 1})
    assert limits(replace(of, collectors=(pool,), numbers=numbers)) == (LONGEST,) * 3
    alone = world(*PORTS, watch("s", "web", "app", to="pool"))
    alone = replace(alone, collectors=(pool,), numbers=numbers)
    assert limits(alone) == (None, None, None), "no link leads to the other one"


def test_a_way_over_a_link_says_what_fits_and_a_way_on_the_bridge_carries_all() -> None:
    survey = Survey(world(*PORTS, *LINE, watch("s", "web", "app", to="far")))
    standing = survey.standings[SessionId("s")]
    [over_link], [here] = (list(copy_ways(dpid, survey, standing)) for dpid in (S1, S2))
    assert (over_link.longest, over_link.arriving(3000), here.longest) == (LONGEST, LONGEST, None)


def test_explain_says_why_a_jumbo_frame_is_not_copied_over_a_link() -> None:
    session = replace(watch("s", "web", to="far"), oversize=Oversize.SKIP)
    survey = Survey(world(*PORTS, *LINE, session))
    web = survey.world.port_by_id[PortId("web")]
    body = frames.ipv4("10.0.0.1", "10.0.0.2", 17, frames.udp(1, 2, bytes(3000)))
    [answer] = explain(survey, web, frames.ethernet(DB, WEB, 0x0800, body)).answers
    assert answer.sentence == (
        f"not copied: it is longer than the {LONGEST} bytes that fit the path to its sensor"
    )


def test_a_sensor_is_told_what_links_leave_of_long_frames() -> None:
    narrow = replace(world(*PORTS, *LINE, watch("s", "web", to="far")), link_mtu=1300)
    feed = feed_of(Survey(narrow), CollectorId("far"))
    assert feed is not None
    assert feed.longest == 1310


@pytest.mark.parametrize("follows", [False, True])
def test_copies_over_links_count_for_more_and_a_tap_port_that_moves_changes_that(
    follows: bool,
) -> None:
    sessions = (watch("s", "web", to="ids"), watch("t", "db", to="ids"), watch("u", "db", to="ids"))
    near = world(*PORTS, *LINE, *sessions)
    moved = near.with_places(
        {**near.placements, PortId("ids"): at(S2, 8)}, near.links, near.numbers
    )

    def served(of: World, room: int, previous: Survey | None = None) -> list[Standing]:
        survey = Survey(of, previous, sessions_per_network=room)
        return [standing for standing in survey.standings.values() if standing.is_served]

    assert len(served(near, 3)) == 3
    before = Survey(near, sessions_per_network=5) if follows else None
    assert [s.session.name for s in served(moved, 5, before)] == ["s", "t"]
    assert len(served(moved, 6, before)) == 3


def test_the_lowest_bridge_makes_a_flooded_copy_even_if_another_session_takes_it_there() -> None:
    """Each bridge decides alone where the copy of an exclusive session is made."""
    of = world(
        *PORTS, *LINE, vm("sender", at(S1, 3), SENDER),
        watch("first", "web", to="ids", direction=Direction.INGRESS, exclusive=1),
        watch("second", "web", "app", to="far", direction=Direction.INGRESS, exclusive=2),
    )  # fmt: skip
    sender = of.port_by_id[PortId("sender")]
    body = frames.ipv4("10.0.0.1", "10.0.0.2", 17, frames.udp(1, 2, bytes(3000)))
    frame = frames.ethernet(frames.BROADCAST, SENDER, 0x0800, body)
    means = meaning(frame, sender, of)
    assert means.makers == {"first": S1, "second": S1}
    trace = Interpreter(compile_all(of), of.links).send(of.placements[sender.id], frame)
    [copy] = [e.frame for e in trace.emissions if e.place == of.placements[PortId("far")]]
    second = of.session_by_id[SessionId("second")]
    assert copy == copied_frame(frame, second, sender, S1, of) == frame[:LONGEST]

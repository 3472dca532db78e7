"""The MTU of links limits the copies that may cross one, and no others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.compile import copy_paths
from flows.explain import Interpreter, explain, feed_of
from flows.model import (
    LINK_MTU,
    Collector,
    CollectorId,
    Direction,
    Oversize,
    PortId,
    SessionId,
    TenantName,
    World,
    link_limit,
)
from flows.resolve import ResolvedSession, ResolvedWorld
from flows.semantics import copied_frame, meaning
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
"""A frame with 1500 bytes of payload and one tag of the workload."""


def limits(of: World, name: str = "s") -> tuple[int | None, int | None, int | None]:
    """The limits of a session's copies in bytes: of all, of the first bridge, of the second."""
    resolved = ResolvedWorld(of)
    session = resolved.sessions[SessionId(name)].session
    return (
        resolved.limit_of(session),
        resolved.limit_at(S1, session),
        resolved.limit_at(S2, session),
    )


def test_a_link_carries_a_copy_and_its_link_tag() -> None:
    assert link_limit(9004) == 9000 + 14
    assert link_limit(LINK_MTU) == LONGEST
    assert (link_limit(65525), link_limit(65526)) == (65535, None), "no frame is longer"


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


def test_a_copy_path_over_a_link_has_a_limit_and_one_on_the_bridge_has_none() -> None:
    resolved = ResolvedWorld(world(*PORTS, *LINE, watch("s", "web", "app", to="far")))
    resolved_session = resolved.sessions[SessionId("s")]
    [over_link], [here] = (list(copy_paths(dpid, resolved, resolved_session)) for dpid in (S1, S2))
    assert (over_link.longest, over_link.arriving(3000), here.longest) == (LONGEST, LONGEST, None)


def test_explain_names_the_limit_of_a_jumbo_frame_that_is_not_copied_over_a_link() -> None:
    session = replace(watch("s", "web", to="far"), oversize=Oversize.SKIP)
    resolved = ResolvedWorld(world(*PORTS, *LINE, session))
    web = resolved.world.port_by_id[PortId("web")]
    body = frames.ipv4("10.0.0.1", "10.0.0.2", 17, frames.udp(1, 2, bytes(3000)))
    [answer] = explain(resolved, web, frames.ethernet(DB, WEB, 0x0800, body)).answers
    assert answer.sentence == (
        f"not copied: it is longer than the {LONGEST} bytes that fit the path to its sensor"
    )


def test_the_feed_of_a_sensor_has_the_limit_of_links() -> None:
    narrow = replace(world(*PORTS, *LINE, watch("s", "web", to="far")), link_mtu=1300)
    feed = feed_of(ResolvedWorld(narrow), CollectorId("far"))
    assert feed is not None
    assert feed.longest == 1310


@pytest.mark.parametrize("follows", [False, True])
def test_copies_over_links_count_for_more_and_a_tap_port_that_moves_changes_that(
    follows: bool,
) -> None:
    sessions = (watch("s", "web", to="ids"), watch("t", "db", to="ids"), watch("u", "db", to="ids"))
    near = world(*PORTS, *LINE, *sessions)
    moved = near.with_placements(
        {**near.placements, PortId("ids"): at(S2, 8)}, near.links, near.numbers
    )

    def served(
        of: World, room: int, previous: ResolvedWorld | None = None
    ) -> list[ResolvedSession]:
        resolved = ResolvedWorld(of, previous, sessions_per_network=room)
        return [
            resolved_session
            for resolved_session in resolved.sessions.values()
            if resolved_session.is_served
        ]

    assert len(served(near, 3)) == 3
    before = ResolvedWorld(near, sessions_per_network=5) if follows else None
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

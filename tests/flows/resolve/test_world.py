"""Sessions in a resolved world: served, without something that they need, or refused."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from random import Random

import pytest

from flows.compile import compile_bridge
from flows.errors import CrossTenantSource, TooManySessions
from flows.model import (
    Dpid,
    Filter,
    FilterId,
    Mode,
    Numbers,
    Placement,
    Rule,
    Session,
    SessionId,
    Source,
    SourceKind,
    TenantName,
    Verdict,
    World,
)
from flows.openflow import VLAN_IDS, object_of
from flows.resolve import FILTERED_WEIGHT, ResolvedSession, ResolvedWorld
from tests.flows.hand_made import S1, S2, S3, Plugged, at, cable, tap, vm, watch, world
from tests.generators.random_worlds import BRIDGES, random_world

WEB = vm("web", at(S1, 1), 0x020000000001)
DB = vm("db", at(S1, 2), 0x020000000002)
OTHER = vm("other", at(S1, 3), 0x020000000001, network="red-dmz")
IDS = tap("ids", at(S1, 9))


def resolved_session(of: World, name: str = "s") -> ResolvedSession:
    return ResolvedWorld(of).sessions[SessionId(name)]


def test_a_session_with_everything_that_it_needs_is_served() -> None:
    found = resolved_session(world(WEB, DB, IDS, watch("s", "web", "db", to="ids")))
    assert found.is_served
    assert (found.missing, found.refused) == ((), None)
    assert [port.id for port in found.watched] == ["web", "db"]
    assert found.taps == (IDS.port,)


@pytest.mark.parametrize(
    ("things", "missing", "served"),
    [
        ((watch("s", "web", "gone", to="ids"),), "port 'gone' is in no inventory", True),
        ((watch("s", "gone", to="ids"),), "port 'gone' is in no inventory", False),
        (
            (vm("off", None, 5), watch("s", "web", "off", to="ids")),
            "port 'off' is on no bridge",
            True,
        ),
        ((watch("s", "web", to="gone"),), "its collector is gone", False),
        ((tap("far", None), watch("s", "web", to="far")), "tap port 'far' is on no bridge", False),
        (
            (tap("far", at(S3, 1)), watch("s", "web", to="far")),
            "no link leads from port 'web' to tap port 'far'",
            False,
        ),
    ],
)
def test_what_is_missing_is_named(things: tuple, missing: str, served: bool) -> None:
    found = resolved_session(world(WEB, IDS, *things))
    assert missing in found.missing
    assert found.is_delivered is served
    assert found.refused is None


@pytest.mark.parametrize("far", [None, at(S3, 1)])
def test_without_a_way_to_a_sensor_copies_are_counted_unless_another_session_may_have_them(
    far: Placement | None,
) -> None:
    session = watch("s", "web", to="far")
    found = resolved_session(world(WEB, IDS, tap("far", far), session))
    assert (found.is_served, found.is_delivered) == (True, False)
    exclusive = replace(session, mode=Mode.EXCLUSIVE)
    found = resolved_session(world(WEB, IDS, tap("far", far), exclusive))
    assert (found.is_served, found.watched) == (False, ())


def test_a_session_whose_filter_is_gone_is_not_served() -> None:
    session = replace(watch("s", "web", to="ids"), filter=FilterId("gone"))
    found = resolved_session(world(WEB, IDS, session))
    assert found.missing == ("its filter is gone",)
    assert not found.is_served


def test_a_source_that_selects_no_port_is_reported_as_missing() -> None:
    no_port = Source(kind=SourceKind.LABEL, labels=(("role", "web"),))
    found = resolved_session(world(WEB, IDS, replace(watch("s", "web", to="ids"), source=no_port)))
    assert found.missing == ("no workload of tenant 'red' has the label role=web",)
    assert not found.is_served


def test_a_refused_session_does_not_affect_others() -> None:
    blue = vm("blue-web", at(S1, 5), 0x020000000001, network="blue-lan")
    here = world(
        WEB, IDS, blue, watch("nosy", "blue-web", to="ids"), watch("fair", "web", to="ids")
    )
    assert isinstance(resolved_session(here, "nosy").refused, CrossTenantSource)
    assert [s.session.name for s in ResolvedWorld(here).served] == ["fair"]


def crowd(*sessions: Session, **numbers: int) -> World:
    """Sessions in one world, with the given numbers."""
    here = world(WEB, DB, OTHER, IDS, *sessions)
    of = {SessionId(name): number for name, number in numbers.items()}
    return replace(here, numbers=replace(here.numbers, session=of)) if of else here


def test_the_session_with_the_highest_number_is_refused_in_a_full_network() -> None:
    here = crowd(
        watch("new", "web", to="ids"), watch("old", "db", to="ids"), watch("mid", "web", to="ids"),
        new=30, old=10, mid=20,
    )  # fmt: skip
    resolved = ResolvedWorld(here, sessions_per_network=2)
    assert [s.session.name for s in resolved.served] == ["old", "mid"]
    refused = resolved.sessions[SessionId("new")].refused
    assert isinstance(refused, TooManySessions)
    assert str(refused) == (
        "session 'new' is one too many on network 'lan': a switch serves at most 2 sessions for "
        "one packet; delete or narrow another session"
    )
    copied = {object_of(flow.cookie) for flow in compile_bridge(Dpid(S1), resolved)}
    assert copied == {0, 10, 20}


def test_a_full_network_leaves_room_on_the_others() -> None:
    here = crowd(
        watch("a", "web", to="ids"), watch("b", "web", "other", to="ids"),
        watch("c", "other", to="ids"), watch("off", "web", to="ids", enabled=False),
    )  # fmt: skip
    resolved = ResolvedWorld(here, sessions_per_network=1)
    assert [s.session.name for s in resolved.served] == ["a", "c"]
    assert resolved.sessions[SessionId("off")].refused is None


def test_a_session_with_a_filter_counts_for_more() -> None:
    own = Filter(FilterId("f"), "f", TenantName("red"))
    filtered = [replace(watch(name, "web", to="ids"), filter=own.id) for name in ("a", "b")]
    here = replace(crowd(*filtered, watch("c", "web", to="ids")), filters=(own,))
    here = replace(here, numbers=replace(here.numbers, filter={own.id: 1}))
    resolved = ResolvedWorld(here, sessions_per_network=FILTERED_WEIGHT + 1)
    assert [s.session.name for s in resolved.served] == ["a", "c"]


def without_tags(of: World, *keys: str) -> World:
    left = {key: tag for key, tag in of.numbers.tag.items() if key not in keys}
    return replace(
        of, numbers=Numbers(of.numbers.network, of.numbers.port, of.numbers.session, left)
    )


LINKED: tuple = (WEB, IDS, cable(at(S1, 21), at(S2, 22)), watch("s", "web", "db", to="ids"))
FAR_DB = vm("db", at(S2, 2), 0x020000000002)


def test_a_network_without_a_link_tag_is_named_and_does_not_cross_links() -> None:
    here = without_tags(world(*LINKED, FAR_DB), "network:red-lan")
    assert [str(error) for error in ResolvedWorld(here).link_tag_shortages] == [
        f"network:red-lan cannot cross the links between bridges: all {len(VLAN_IDS)} link tags "
        "are taken; remove unused networks or protect ports against spoofing"
    ]
    assert ResolvedWorld(world(*LINKED, FAR_DB)).link_tag_shortages == ()


def test_copies_without_a_link_tag_for_their_tap_port_do_not_cross_links() -> None:
    found = resolved_session(without_tags(world(*LINKED, FAR_DB), "tap:ids"))
    assert found.missing == ("no link leads from port 'db' to tap port 'ids'",)
    assert [port.id for port in found.watched] == ["web"]


def test_without_links_no_tag_is_needed() -> None:
    alone: tuple[Plugged, ...] = (WEB, DB, IDS)
    assert (
        ResolvedWorld(without_tags(world(*alone), "network:red-lan", "tap:ids")).link_tag_shortages
        == ()
    )


def test_a_resolved_world_is_freed_with_its_last_reference() -> None:
    """Each change makes one; with a cycle it would stay until the garbage collector runs."""
    of = random_world(Random(5))
    gc.disable()
    try:
        first = ResolvedWorld(of)
        second = ResolvedWorld(replace(of, sessions=of.sessions[1:]), first)
        compile_bridge(BRIDGES[0], second)
        gone = weakref.ref(first), weakref.ref(second)
        del first, second
        assert [resolved() for resolved in gone] == [None, None]
    finally:
        gc.enable()


def test_other_rules_of_a_filter_concern_the_bridges_that_have_its_flows() -> None:
    accept, reject = (
        Filter(FilterId("f"), "f", TenantName("red"), egress=(Rule(1, verdict),))
        for verdict in Verdict
    )
    here = world(WEB, IDS, accept, watch("s", "web", to="ids", wanted=accept))
    before = ResolvedWorld(here)
    same = ResolvedWorld(replace(here, filters=(accept,)), before)
    other = ResolvedWorld(replace(here, filters=(reject,)), before)

    assert not same.concerns(before, S1)
    assert other.changed_since(before, S1) == set(), "no session differs"
    assert other.concerns(before, S1)
    assert not other.concerns(before, Dpid(99))

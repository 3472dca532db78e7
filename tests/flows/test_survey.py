"""How sessions stand in a world before a switch was asked: served, short of something, refused."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from random import Random

import pytest

from flows.resolve.capacity import FILTERED_WEIGHT
from flows.compile import Standing, Survey, compile_bridge
from flows.errors import CrossTenantSource, TooManySessions
from flows.model.filter import Filter
from flows.openflow.flow import object_of
from flows.model.session import Dpid, FilterId, Session, SessionId, Source, SourceKind, TenantName
from flows.pipeline.tables import LINK_TAGS
from flows.model.world import Numbers, World
from tests.flows.hand_made import S1, S2, S3, Plugged, at, cable, tap, vm, watch, world
from tests.random_worlds import BRIDGES, random_world

WEB = vm("web", at(S1, 1), 0x020000000001)
DB = vm("db", at(S1, 2), 0x020000000002)
OTHER = vm("other", at(S1, 3), 0x020000000001, network="red-dmz")
IDS = tap("ids", at(S1, 9))


def standing(of: World, name: str = "s") -> Standing:
    return Survey(of).standings[SessionId(name)]


def test_a_session_with_all_it_needs_is_served() -> None:
    stands = standing(world(WEB, DB, IDS, watch("s", "web", "db", to="ids")))
    assert stands.is_served
    assert (stands.missing, stands.refused) == ((), None)
    assert [port.id for port in stands.watched] == ["web", "db"]
    assert stands.taps == (IDS.port,)


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
def test_what_is_not_there_is_named(things: tuple, missing: str, served: bool) -> None:
    stands = standing(world(WEB, IDS, *things))
    assert missing in stands.missing
    assert stands.is_served is served
    assert stands.refused is None


def test_a_filter_that_is_gone_stops_the_session() -> None:
    session = replace(watch("s", "web", to="ids"), filter=FilterId("gone"))
    stands = standing(world(WEB, IDS, session))
    assert stands.missing == ("its filter is gone",)
    assert not stands.is_served


def test_a_source_that_means_nobody_says_so() -> None:
    nobody = Source(kind=SourceKind.LABEL, labels=(("role", "web"),))
    stands = standing(world(WEB, IDS, replace(watch("s", "web", to="ids"), source=nobody)))
    assert stands.missing == ("no port that it should watch is on a bridge now",)
    assert not stands.is_served


def test_a_refusal_is_a_standing_and_hinders_nobody_else() -> None:
    blue = vm("blue-web", at(S1, 5), 0x020000000001, network="blue-lan")
    here = world(
        WEB, IDS, blue, watch("nosy", "blue-web", to="ids"), watch("fair", "web", to="ids")
    )
    assert isinstance(standing(here, "nosy").refused, CrossTenantSource)
    assert [s.session.name for s in Survey(here).served] == ["fair"]


def crowd(*sessions: Session, **numbers: int) -> World:
    """Sessions in one world, with the given numbers."""
    here = world(WEB, DB, OTHER, IDS, *sessions)
    of = {SessionId(name): number for name, number in numbers.items()}
    return replace(here, numbers=replace(here.numbers, session=of)) if of else here


def test_the_sessions_with_the_highest_numbers_are_one_too_many() -> None:
    here = crowd(
        watch("new", "web", to="ids"), watch("old", "db", to="ids"), watch("mid", "web", to="ids"),
        new=30, old=10, mid=20,
    )  # fmt: skip
    survey = Survey(here, sessions_per_network=2)
    assert [s.session.name for s in survey.served] == ["old", "mid"]
    refused = survey.standings[SessionId("new")].refused
    assert isinstance(refused, TooManySessions)
    assert str(refused) == (
        "session 'new' is one too many on network 'lan': a switch serves at most 2 sessions for "
        "one packet; delete or narrow another session"
    )
    copied = {object_of(flow.cookie) for flow in compile_bridge(Dpid(S1), survey)}
    assert copied == {0, 10, 20}


def test_a_full_network_leaves_room_on_the_others() -> None:
    here = crowd(
        watch("a", "web", to="ids"), watch("b", "web", "other", to="ids"),
        watch("c", "other", to="ids"), watch("off", "web", to="ids", enabled=False),
    )  # fmt: skip
    survey = Survey(here, sessions_per_network=1)
    assert [s.session.name for s in survey.served] == ["a", "c"]
    assert survey.standings[SessionId("off")].refused is None


def test_a_session_with_a_filter_counts_for_more() -> None:
    own = Filter(FilterId("f"), "f", TenantName("red"))
    filtered = [replace(watch(name, "web", to="ids"), filter=own.id) for name in ("a", "b")]
    here = replace(crowd(*filtered, watch("c", "web", to="ids")), filters=(own,))
    here = replace(here, numbers=replace(here.numbers, filter={own.id: 1}))
    survey = Survey(here, sessions_per_network=FILTERED_WEIGHT + 1)
    assert [s.session.name for s in survey.served] == ["a", "c"]


def without_tags(of: World, *keys: str) -> World:
    left = {key: tag for key, tag in of.numbers.tag.items() if key not in keys}
    return replace(
        of, numbers=Numbers(of.numbers.network, of.numbers.port, of.numbers.session, left)
    )


LINKED: tuple = (WEB, IDS, cable(at(S1, 21), at(S2, 22)), watch("s", "web", "db", to="ids"))
FAR_DB = vm("db", at(S2, 2), 0x020000000002)


def test_what_has_no_link_tag_is_named_and_does_not_cross() -> None:
    here = without_tags(world(*LINKED, FAR_DB), "network:red-lan")
    assert [str(error) for error in Survey(here).untagged] == [
        f"network:red-lan cannot cross the links between bridges: all {len(LINK_TAGS)} link tags "
        "are taken; remove unused networks or protect ports against spoofing"
    ]
    assert Survey(world(*LINKED, FAR_DB)).untagged == ()


def test_copies_without_a_link_tag_for_their_tap_port_are_not_promised() -> None:
    stands = standing(without_tags(world(*LINKED, FAR_DB), "tap:ids"))
    assert stands.missing == ("no link leads from port 'db' to tap port 'ids'",)
    assert [port.id for port in stands.watched] == ["web"]


def test_without_links_nobody_needs_a_tag() -> None:
    alone: tuple[Plugged, ...] = (WEB, DB, IDS)
    assert Survey(without_tags(world(*alone), "network:red-lan", "tap:ids")).untagged == ()


def test_a_survey_goes_as_soon_as_nobody_has_it() -> None:
    """Each change of the world makes one, and nothing searches for old ones in time."""
    of = random_world(Random(5))
    gc.disable()
    try:
        first = Survey(of)
        second = Survey(replace(of, sessions=of.sessions[1:]), first)
        compile_bridge(BRIDGES[0], second)
        gone = weakref.ref(first), weakref.ref(second)
        del first, second
        assert [survey() for survey in gone] == [None, None]
    finally:
        gc.enable()

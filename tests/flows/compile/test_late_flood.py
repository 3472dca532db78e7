"""A bridge that no longer has a learned address floods late: no copy is lost or goes elsewhere.

A session may then get one copy from each bridge that serves the packet, as a bridge that floods
late cannot know what the other bridges have learned.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.explain import Interpreter
from flows.model import PortId, World
from flows.pipeline import DELIVER
from tests.arrivals import Arrivals
from tests.flows.hand_made import INGRESS, S1, S2, S3, at, cable, packet, tap, vm, watch, world
from tests.generators.random_worlds import STRANGER, Sent
from tests.late_flood import Forgetful, is_late, random_story

WEB, DB, APP, LB = 0x02_0000_000001, 0x02_0000_000002, 0x02_0000_000003, 0x02_0000_000004


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**63))
def test_every_session_gets_its_copy_and_no_bridge_makes_two(seed: int) -> None:
    story = random_story(seed)
    if story is None:
        return
    of, arrivals, frame = story.world, Arrivals(story.world), story.sent.frame
    want, _, _ = arrivals.expected(story.sent, story.learned)

    bridges = Interpreter(story.flows(), of.links)
    trace = bridges.send(of.placements[story.sent.sender.id], frame)

    seen = arrivals.seen(trace)
    assert seen == want if not is_late(trace) else seen.keys() == want.keys() and seen >= want
    for port in of.workloads:
        place = of.placements.get(port.id)
        assert place is None or seen[place, frame] == want[place, frame] <= 1
    copies = [(s.dpid, s.flow.owner) for s in trace.steps if s.flow.table == DELIVER.number]
    assert set(Counter(copies).values()) <= {1}, trace


LINE = (cable(at(S1, 21), at(S2, 22)), cable(at(S2, 21), at(S3, 22)))


def spread(*sessions: object) -> World:
    """lb on bridge 1 sends; web is there too, db on bridge 2, app and the sought port on 3."""
    return world(
        vm("lb", at(S1, 1), LB), vm("web", at(S1, 2), WEB), vm("db", at(S2, 1), DB),
        vm("app", at(S3, 1), APP), vm("sought", at(S3, 2), None, anti_spoofing=False),
        tap("a", at(S1, 8)), tap("b", at(S2, 8)), *LINE, *sessions,
    )  # fmt: skip


def received_when(of: World, *forgetful: int) -> Counter[str]:
    """The ports that receive what lb sends to the sought port; some bridges forgot its address."""
    lan = of.networks[0].id
    learned = {(d, lan, STRANGER): PortId("sought") for d in of.dpids if d not in forgetful}
    sent = Sent(of.port_by_id[PortId("lb")], "late", packet(STRANGER, LB))
    bridges = Interpreter(Forgetful(of, sent, learned).flows(), of.links)
    trace = bridges.send(of.placements[PortId("lb")], sent.frame)
    assert is_late(trace) is bool(forgetful)
    return Counter(str(of.port_by_placement[emission.place].id) for emission in trace.emissions)


def test_a_packet_is_flooded_from_the_bridge_on_that_has_forgotten_the_way() -> None:
    assert received_when(spread()) == {"sought": 1}
    assert received_when(spread(), S2) == {"db": 1, "sought": 1}
    assert received_when(spread(), S3) == {"app": 1, "sought": 1}
    assert received_when(spread(), S2, S3) == {"db": 1, "app": 1, "sought": 1}


def test_each_bridge_that_floods_late_copies_for_its_own_ports() -> None:
    of = spread(watch("s", "web", "db", "app", to="a", direction=INGRESS))
    assert received_when(of, S2, S3) == {"db": 1, "app": 1, "sought": 1, "a": 2}
    assert received_when(of, S2) == {"db": 1, "sought": 1, "a": 1}
    assert received_when(of) == {"sought": 1}


def test_what_the_sender_s_bridge_has_copied_is_not_copied_where_it_is_flooded_late() -> None:
    of = spread(watch("s", "lb", "db", "app", to="a"))
    assert received_when(of, S2, S3) == {"db": 1, "app": 1, "sought": 1, "a": 1}


def test_exclusive_sessions_compete_on_each_bridge_that_floods_late() -> None:
    of = spread(
        watch("first", "db", to="a", direction=INGRESS, exclusive=1),
        watch("second", "db", "app", "web", to="b", direction=INGRESS, exclusive=2),
    )
    assert received_when(of, S2, S3) == {"db": 1, "app": 1, "sought": 1, "a": 1, "b": 1}
    assert received_when(of, S2) == {"db": 1, "sought": 1, "a": 1}
    assert received_when(of, S3) == {"app": 1, "sought": 1, "b": 1}


def test_an_exclusive_session_that_took_what_was_sent_has_no_second_copy_by_a_late_flood() -> None:
    of = spread(
        watch("first", "lb", "db", "app", to="a", exclusive=1),
        watch("second", "db", "app", to="b", direction=INGRESS, exclusive=2),
    )
    assert received_when(of, S2, S3) == {"db": 1, "app": 1, "sought": 1, "a": 1}


def test_the_property_is_about_late_floods() -> None:
    late = 0
    for story in filter(None, map(random_story, range(150))):
        bridges = Interpreter(story.flows(), story.world.links)
        place = story.world.placements[story.sent.sender.id]
        late += is_late(bridges.send(place, story.sent.frame))
    assert late > 20

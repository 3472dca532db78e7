"""What `explain` answers agrees with the contract, on random worlds, and says why in words."""

from __future__ import annotations

import dataclasses
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netaddr import IPAddress

from flows.explain import Explanation, explain
from flows.model import (
    ALL,
    Collector,
    CollectorId,
    Delivery,
    Direction,
    Dpid,
    Hop,
    Mode,
    Ofport,
    Oversize,
    PortId,
    PortKind,
    Setting,
    TenantName,
    TunnelKind,
    World,
)
from flows.resolve import ResolvedWorld
from flows.semantics import meaning
from tests.flows.hand_made import EGRESS, INGRESS, S1, S2, at, cable, packet, tap, vm, watch, world
from tests.generators.random_worlds import random_packets, random_world


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**63))
def test_explain_agrees_with_the_contract(seed: int) -> None:
    rng = Random(seed)
    world = random_world(rng)
    resolved = ResolvedWorld(world)
    for sent in random_packets(rng, world, 4):
        if sent.sender.kind is not PortKind.VM:
            continue
        means = meaning(sent.frame, sent.sender, world)

        answers = explain(resolved, sent.sender, sent.frame).answers

        assert {a.session.id for a in answers if a.is_copied} == means.copies
        for answer in answers:
            assert answer.sentence.startswith("copied" if answer.is_copied else "not copied")
            assert (answer.bridge is not None) == answer.is_copied
            if answer.is_copied and answer.session.filter != ALL:
                assert answer.rule is not None
                assert answer.rule.verdict.value == "accept"
            if " takes what " in answer.sentence:
                taker = answer.sentence.split("'")[1]
                assert taker in means.taken.values() and taker != answer.session.id
                assert answer.session.mode is Mode.EXCLUSIVE


def test_who_takes_a_packet_from_an_exclusive_session_is_named() -> None:
    here = world(
        vm("web", at(S1, 1), 0x020000000001), vm("db", at(S1, 2), 0x020000000002),
        tap("ids", at(S1, 9)),
        watch("first", "web", to="ids", exclusive=1), watch("copy", "web", to="ids"),
        watch("heard", "db", to="ids", direction=INGRESS, exclusive=2),
        watch("late", "web", "db", to="ids", exclusive=3),
    )  # fmt: skip
    sent = explain(ResolvedWorld(here), here.ports[0], packet(0x020000000002, 0x020000000001))
    assert {a.session.name: a.sentence for a in sent.answers if not a.is_copied} == {
        "late": "not copied: exclusive session 'first' takes what web sends and exclusive session "
        "'heard' takes what db receives"
    }


@pytest.mark.parametrize(("one", "other"), [("web", "db"), ("db", "web")])
def test_a_bridge_that_was_told_of_another_version_decides_by_that(one: str, other: str) -> None:
    """Each of two bridges decides by what it has; the packet goes from web on S1 to db on S2."""

    def watching(source: str, direction: Direction) -> ResolvedWorld:
        return ResolvedWorld(
            world(
                vm("web", at(S1, 1), 0x020000000001), vm("db", at(S2, 2), 0x020000000002),
                tap("ids", at(S2, 9)), cable(at(S1, 5), at(S2, 5)),
                watch("session", source, to="ids", direction=direction),
                watch("same", "web", to="ids"),
            )
        )  # fmt: skip

    direction = {"web": EGRESS, "db": INGRESS}
    before, now = (watching(each, direction[each]) for each in (one, other))
    frame = packet(0x020000000002, 0x020000000001)
    away = {"web": S1, "db": S2}
    told = {away[one]: before}
    [found, same] = explain(now, now.world.ports[0], frame, told=told).answers
    assert (found.is_copied, found.bridge) == (True, away[other]), "it was told"
    assert found.outdated == away[one], "two copies are made"
    assert (same.is_copied, same.outdated) == (True, None)

    told = {away[other]: before}
    [found, same] = explain(now, now.world.ports[0], frame, told=told).answers
    assert (found.is_copied, found.bridge, found.outdated) == (False, None, away[other])
    assert (same.is_copied, same.outdated) == (True, None)


def test_a_copy_that_is_too_long_for_its_path_is_not_called_a_copy() -> None:
    here = world(
        vm("web", at(S1, 1), 0x020000000001), vm("db", at(S1, 2), 0x020000000002),
        watch("far", "web", to="soc"),
    )  # fmt: skip
    soc = Collector(
        CollectorId("soc"), "soc", TenantName("red"), (IPAddress("192.0.2.9"),),
        delivery=Delivery.VXLAN, key=1,
    )  # fmt: skip
    skipping = dataclasses.replace(here.sessions[0], oversize=Oversize.SKIP)
    tunnels = {(Dpid(S1), TunnelKind.VXLAN): Ofport(31)}
    here = dataclasses.replace(here, collectors=(soc,), sessions=(skipping,), tunnels=tunnels)
    said = [
        explain(
            ResolvedWorld(here), here.ports[0], packet(0x020000000002, 0x020000000001, bytes(size))
        )
        for size in (1400, 1500)
    ]
    assert [trace.answers[0].is_copied for trace in said] == [True, False]
    assert "longer than the 1464 bytes that fit" in said[1].answers[0].sentence


def told(here: World, frame: bytes = packet(0x020000000002, 0x020000000001)) -> Explanation:
    return explain(ResolvedWorld(here), here.ports[0], frame)


def with_settings(here: World, **settings: Setting) -> World:
    """The same world with a setting at some ports, by their names."""
    hops = {
        here.placements[PortId(name)]: Hop(f"s{here.placements[PortId(name)].dpid}", f"{name}0",
                                           settings=frozenset((setting,)))
        for name, setting in settings.items()
    }  # fmt: skip
    return dataclasses.replace(here, hops=hops)


PAIR = world(
    vm("web", at(S1, 1), 0x020000000001), vm("db", at(S1, 2), 0x020000000002),
    tap("ids", at(S1, 9)),
    watch("both", "web", "db", to="ids"), watch("heard", "db", to="ids", direction=INGRESS),
    watch("off", "web", to="ids", enabled=False),
)  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (Setting.NO_RECEIVE, "no-receive: run `ovs-ofctl -O OpenFlow13 mod-port s1 1 receive`"),
        (Setting.NOT_FORWARDING, "the spanning tree protocol of bridge 's1' has blocked it"),
    ],
)
def test_what_a_switch_drops_where_it_arrives_is_no_copy_and_reaches_nobody(
    setting: Setting, words: str
) -> None:
    found = told(with_settings(PAIR, web=setting))
    assert (found.receivers, found.steps) == ((), ())
    [why] = found.obstacles
    assert why.startswith("what port 'web' sends is dropped, because") and words in why
    assert {a.session.name: a.sentence for a in found.answers} == {
        "both": f"not copied: {why}",
        "heard": f"not copied: {why}",
        "off": "not copied: the session is switched off",
    }
    assert told(with_settings(PAIR, web=Setting.NO_FORWARD)) == told(PAIR), "it only sends"


def test_a_copy_of_a_packet_that_its_receiver_does_not_get_says_so() -> None:
    found = told(with_settings(PAIR, db=Setting.NO_FORWARD))
    assert found.receivers == ()
    [why] = found.obstacles
    assert why.startswith("port 'db' receives nothing, because") and "mod-port s1 2 forward" in why
    answers = {a.session.name: a for a in found.answers}
    assert answers["heard"].is_copied and answers["heard"].sentence.endswith(f"; {why}")
    assert answers["both"].is_copied and answers["both"].sentence.endswith(f"; {why}")


def test_a_workload_whose_link_is_down_sends_and_receives_nothing() -> None:
    frame = packet(0x020000000002, 0x020000000001)

    def seen(name: str) -> Explanation:
        down = {PAIR.placements[PortId(name)]}
        return explain(ResolvedWorld(PAIR), PAIR.ports[0], frame, links_down=down)

    remedy = "because its link is down: start its workload, or bring its device up"
    found, why = seen("web"), f"port 'web' sends nothing, {remedy}"
    assert (found.receivers, found.steps, found.obstacles) == ((), (), (why,))
    assert [a.sentence for a in found.answers if a.session.enabled] == [f"not copied: {why}"] * 2
    found, why = seen("db"), f"port 'db' receives nothing, {remedy}"
    assert (found.receivers, found.obstacles) == ((), (why,))
    assert [a.sentence.endswith(why) for a in found.answers] == [True, True, False]
    assert seen("ids") == told(PAIR), "what sensors do not receive is known of the world"


def test_protected_ports_send_each_other_copies_and_no_packets() -> None:
    found = told(with_settings(PAIR, web=Setting.PROTECTED, ids=Setting.PROTECTED))
    assert [port.name for port in found.receivers] == ["db"] and not found.obstacles
    assert all(a.is_copied for a in found.answers if a.session.enabled)
    found = told(with_settings(PAIR, web=Setting.PROTECTED, db=Setting.PROTECTED))
    assert found.receivers == () and "port 'db' gets nothing" in found.obstacles[0]
    assert all(a.is_copied for a in found.answers if a.session.enabled)


@pytest.mark.parametrize(("at_end", "setting"), [(0, Setting.NO_FORWARD), (1, Setting.NO_RECEIVE)])
def test_what_a_link_does_not_carry_is_not_copied_behind_it(at_end: int, setting: Setting) -> None:
    ends = at(S1, 8), at(S2, 8)
    here = world(
        vm("web", at(S1, 1), 0x020000000001), vm("db", at(S2, 2), 0x020000000002),
        tap("ids", at(S1, 9)), tap("soc", at(S2, 9)), cable(*ends),
        watch("sent", "web", to="ids"), watch("heard", "db", to="soc", direction=INGRESS),
    )  # fmt: skip
    assert [a.is_copied for a in told(here).answers] == [True, True]
    hop = Hop(f"s{at_end + 1}", "link8", settings=frozenset((setting,)))
    found = told(dataclasses.replace(here, hops={ends[at_end]: hop}))
    assert found.receivers == ()
    [why] = found.obstacles
    assert why.startswith(
        f"the link at 'link8' of bridge 's{at_end + 1}' carries no packets, because"
    )
    assert [(a.is_copied, a.sentence) for a in found.answers][1] == (False, f"not copied: {why}")
    assert found.answers[0].is_copied
    other = dataclasses.replace(here, hops={ends[1 - at_end]: hop})
    assert told(other).answers == told(here).answers, "the other direction is not asked for"
    found = told(dataclasses.replace(here, down=frozenset(ends[at_end : at_end + 1])))
    assert found.receivers == () and " is down, so packets are lost there" in found.obstacles[0]
    assert [a.is_copied for a in found.answers] == [True, False]


def test_what_is_not_known_of_the_way_to_the_sensors_is_said_of_a_copy() -> None:
    unseen = {PAIR.placements[PortId("ids")]: Hop("s1", "ids0", is_reported=False)}
    said = [a.sentence for a in told(dataclasses.replace(PAIR, hops=unseen)).answers if a.is_copied]
    assert len(said) == 2
    assert all("; unknown: no database that knows bridge 's1' is reached" in each for each in said)

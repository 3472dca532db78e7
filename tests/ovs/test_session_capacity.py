"""The maximum number of sessions of one network, on real Open vSwitch: nothing is lost.

Open vSwitch drops a packet, production included, that needs too many resubmits, so the limit
must keep well away from that.
"""

from __future__ import annotations

import pytest

from controller.southbound.openflow import open_management
from flows.compile import compile_bridge
from flows.errors import TooManySessions
from flows.model import Dpid, Filter, FilterId, Rule, Session, TenantName, Verdict, World
from flows.plan import plan
from flows.resolve import (
    EXCLUSIVE_WEIGHT,
    FAR_WEIGHT,
    FILTERED_WEIGHT,
    SESSIONS_PER_NETWORK,
    ResolvedWorld,
)
from tests import frames
from tests.flows.hand_made import S1, S2, at, cable, packet, tap, vm, watch, world
from tests.ovs.lab import Lab, ofproto_trace

WEB, DB, APP = 0x020000000001, 0x020000000002, 0x020000000003
ACCEPT = (Rule(1, Verdict.ACCEPT),)
HEARS = Filter(FilterId("hears"), "hears", TenantName("red"), ingress=ACCEPT)
MAX_RESUBMITS = 4096
MANY = [f"s{n}" for n in range(SESSIONS_PER_NETWORK)]


PORTS = (
    vm("web", at(S1, 1), WEB), vm("db", at(S1, 2), DB), vm("app", at(S1, 3), APP),
    tap("ids", at(S1, 4)),
)  # fmt: skip


def crowd(*more: Session) -> World:
    return world(*PORTS, *(watch(name, "web", "db", to="ids") for name in MANY), *more)


def install(lab: Lab, of: World) -> str:
    name = lab.add_bridge("crowded", S1)
    lab.add_ports(name, (1, 2, 3, 4))
    with open_management(name) as switch:
        assert not switch.apply(
            plan(compile_bridge(Dpid(S1), ResolvedWorld(of)), switch.our_flows())
        )
    lab.wait_settled()
    return name


@pytest.mark.parametrize("dst", [DB, frames.BROADCAST, 0x0200000000EE])
def test_a_full_network_has_its_production_and_all_its_copies(lab: Lab, dst: int) -> None:
    name = install(lab, crowd())
    for number, sender in ((1, WEB), (2, DB), (3, APP)):
        target = WEB if (dst, sender) == (DB, DB) else dst
        frame = packet(target, sender, b"full house")
        got = {
            e.ofport: seen for e, seen in lab.exchange([(lab.endpoints[number - 1], frame)]).items()
        }
        receivers = {1, 2, 3} - {number}
        if target in (WEB, DB):
            receivers &= {1 if target == WEB else 2}
        for port in (1, 2, 3):
            assert got[port] == ([frame] if port in receivers else []), port
        assert got[4] == [frame] * SESSIONS_PER_NETWORK
    assert "over max" not in ofproto_trace(name, 1, packet(dst, WEB))


def test_a_network_full_of_filters_has_its_production_and_all_its_copies(lab: Lab) -> None:
    """The most expensive case: the egress rules reject, so the ingress rules are evaluated, too."""
    names = [f"s{n}" for n in range(SESSIONS_PER_NETWORK // FILTERED_WEIGHT)]
    full = world(
        *PORTS, HEARS, *(watch(name, "web", "db", to="ids", wanted=HEARS) for name in names)
    )
    assert len(ResolvedWorld(full).served) == len(names)
    install(lab, full)
    for dst in (DB, frames.BROADCAST):
        frame = packet(dst, WEB, b"full of filters")
        sent = lab.exchange([(lab.endpoints[0], frame)])
        got = {end.ofport: seen for end, seen in sent.items()}
        assert (got[2], got[4]) == ([frame], [frame] * len(names))


def rivals(wanted: Filter | None, weight: int, *more: object) -> World:
    """The maximum of exclusive sessions; each watches web, and wins one port of its own."""
    names = [f"s{n}" for n in range(SESSIONS_PER_NETWORK // weight)]
    return world(
        *PORTS, *more,
        *(vm(f"{x}-vm", at(S1, 1000 + n), 0x020000100000 + n) for n, x in enumerate(names)),
        *(
            watch(x, f"{x}-vm", "web", to="ids", wanted=wanted, exclusive=n + 1)
            for n, x in enumerate(names)
        ),
    )  # fmt: skip


def test_a_network_full_of_exclusive_sessions_has_its_production_and_all_its_copies(
    lab: Lab,
) -> None:
    """The most expensive case: all reject what web sends, and each accepts it for its own port."""
    full = rivals(HEARS, FILTERED_WEIGHT, HEARS)
    count = len(full.sessions)
    assert len(ResolvedWorld(full).served) == count == 333
    name = install(lab, full)
    frame = packet(frames.BROADCAST, WEB, b"full of rivals")
    sent = lab.exchange([(lab.endpoints[0], frame)])
    got = {end.ofport: seen for end, seen in sent.items()}
    assert (got[2], got[4]) == ([frame], [frame] * count)
    resubmits = ofproto_trace(name, 1, frame).count("resubmit(,")
    assert 9 * count < resubmits < MAX_RESUBMITS


def test_a_network_full_of_exclusive_sessions_without_filters_has_all_its_copies(
    lab: Lab,
) -> None:
    full = rivals(None, EXCLUSIVE_WEIGHT)
    count = len(full.sessions)
    assert len(ResolvedWorld(full).served) == count == 500
    name = install(lab, full)
    for sender, port in ((WEB, 1), (APP, 3)):
        frame = packet(frames.BROADCAST, sender, b"full of rivals")
        sent = lab.exchange([(lab.endpoints[port - 1], frame)])
        got = {end.ofport: seen for end, seen in sent.items()}
        assert (got[2], got[4]) == ([frame], [frame] * count)
        resubmits = ofproto_trace(name, port, frame).count("resubmit(,")
        assert 4 * count < resubmits < MAX_RESUBMITS


def test_a_network_full_of_sessions_whose_copies_cross_a_link_has_its_production(lab: Lab) -> None:
    """Open vSwitch translates both results of check_pkt_larger, for each session."""
    names = [f"s{n}" for n in range(SESSIONS_PER_NETWORK // (1 + FAR_WEIGHT))]
    far = (tap("far", at(S2, 4)), cable(at(S1, 4), at(S2, 21)))
    full = world(*PORTS[:3], *far, *(watch(name, "web", "db", to="far") for name in names))
    assert len(ResolvedWorld(full).served) == len(names)
    name = install(lab, full)
    frame = packet(frames.BROADCAST, WEB, b"full of far copies")
    shown = ofproto_trace(name, 1, frame)
    assert "over max" not in shown
    assert 4 * len(names) < shown.count("resubmit(,") < MAX_RESUBMITS
    for number, sender in ((1, WEB), (3, APP)):
        frame = packet(frames.BROADCAST, sender, b"full of far copies")
        for end in lab.endpoints:
            end.receive_all()
        sent = lab.exchange([(lab.endpoints[number - 1], frame)])
        assert {end.ofport: seen for end, seen in sent.items()}[2] == [frame]


def test_one_session_too_many_is_refused_and_the_others_are_served() -> None:
    resolved = ResolvedWorld(crowd(watch("last", "web", to="ids")))
    refused = {s.session.name: s.refused for s in resolved.sessions.values() if s.refused}
    assert list(refused) == ["last"]
    assert isinstance(refused["last"], TooManySessions)
    assert [s.session.name for s in resolved.served] == MANY

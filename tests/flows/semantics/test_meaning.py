"""The contract in examples: who receives a packet and which copies it makes, by hand.

``heard`` asks both the contract (flows/semantics/meaning.py) and the compiled flows.
"""

from __future__ import annotations

import pytest
from netaddr import EUI, IPNetwork

from flows.errors import InvalidValue
from flows.model import (
    Collector,
    CollectorId,
    Filter,
    FilterId,
    PortId,
    PortRange,
    Rule,
    RuleMatch,
    TenantName,
    Verdict,
    World,
)
from flows.openflow import read_fields
from flows.semantics import may_send, meaning
from tests import frames
from tests.flows.hand_made import (
    BOTH,
    EGRESS,
    INGRESS,
    S1,
    S2,
    S3,
    Plugged,
    at,
    cable,
    packet,
    tap,
    vm,
    watch,
    world,
)
from tests.flows.hand_made import (
    received as heard,
)

WEB, DB, APP, LB = 0x02_0000_000001, 0x02_0000_000002, 0x02_0000_000003, 0x02_0000_000004
NOBODY = 0x02_0000_0000EE
ALL = frames.BROADCAST

WEB_AND_DB = (vm("web", at(S1, 1), WEB), vm("db", at(S1, 2), DB), tap("ids", at(S1, 9)))
LINE = (cable(at(S1, 21), at(S2, 22)), cable(at(S2, 21), at(S3, 22)))


def five_ports() -> tuple[Plugged, ...]:
    return tuple(vm(f"vm{n}", at(S1, n), WEB + n) for n in range(1, 6))


# --- rule 1: exactly one copy for each session and packet ------------------------------------


def test_what_goes_from_one_watched_port_to_another_is_copied_once() -> None:
    here = world(*WEB_AND_DB, watch("s", "web", "db", to="ids"))
    assert heard(here, "web", packet(DB, WEB)) == {"db": 1, "ids": 1}


def test_a_broadcast_that_five_watched_ports_receive_is_copied_once() -> None:
    all_of_them = [f"vm{n}" for n in range(1, 6)]
    here = world(
        *five_ports(), vm("web", at(S1, 7), WEB), tap("ids", at(S1, 9)),
        watch("s", *all_of_them, to="ids", direction=INGRESS),
    )  # fmt: skip
    expected = dict.fromkeys(all_of_them, 1) | {"ids": 1}
    assert heard(here, "web", packet(ALL, WEB)) == expected


@pytest.mark.parametrize("direction", [BOTH, EGRESS, INGRESS])
@pytest.mark.parametrize("dst", [DB, ALL, NOBODY])
@pytest.mark.parametrize("where", [S1, S2, S3])
def test_both_ends_on_two_bridges_are_copied_once(direction, dst: int, where: int) -> None:
    apart = world(
        vm("web", at(S1, 1), WEB), vm("db", at(S3, 2), DB), tap("ids", at(where, 9)), *LINE,
        watch("s", "web", "db", to="ids", direction=direction),
    )  # fmt: skip
    assert heard(apart, "web", packet(dst, WEB)) == {"db": 1, "ids": 1}
    assert heard(apart, "db", packet(WEB if dst == DB else dst, DB)) == {"web": 1, "ids": 1}


@pytest.mark.parametrize("watched", [("web",), ("web", "app"), ("web", "db", "app")])
def test_watched_receivers_on_three_bridges_make_one_copy_of_a_broadcast(watched) -> None:
    wide = world(
        vm("web", at(S1, 1), WEB), vm("db", at(S2, 2), DB), vm("app", at(S3, 3), APP),
        vm("lb", at(S2, 4), LB), tap("ids", at(S3, 9)), *LINE,
        watch("s", *watched, to="ids", direction=INGRESS),
    )  # fmt: skip
    everybody = {"web": 1, "db": 1, "app": 1, "ids": 1}
    assert heard(wide, "lb", packet(ALL, LB)) == everybody


def test_a_sender_that_is_the_only_watched_port_makes_no_ingress_copy_of_its_broadcast() -> None:
    here = world(*WEB_AND_DB, watch("s", "web", to="ids", direction=INGRESS))
    assert heard(here, "web", packet(ALL, WEB)) == {"db": 1}
    apart = world(
        vm("web", at(S1, 1), WEB), vm("db", at(S2, 2), DB), tap("ids", at(S2, 9)), *LINE,
        watch("s", "web", to="ids", direction=INGRESS),
    )  # fmt: skip
    assert heard(apart, "web", packet(ALL, WEB)) == {"db": 1}


def test_the_next_bridge_copies_when_the_only_watched_port_of_the_first_sent_it() -> None:
    apart = world(
        vm("web", at(S1, 1), WEB), vm("db", at(S2, 2), DB), tap("ids", at(S3, 9)), *LINE,
        watch("s", "web", "db", to="ids", direction=INGRESS),
    )  # fmt: skip
    assert heard(apart, "web", packet(ALL, WEB)) == {"db": 1, "ids": 1}
    assert heard(apart, "db", packet(ALL, DB)) == {"web": 1, "ids": 1}


def test_a_packet_to_oneself_is_not_received_and_only_egress_is_copied() -> None:
    here = world(
        *WEB_AND_DB, tap("ids2", at(S1, 8)),
        watch("out", "web", to="ids", direction=EGRESS),
        watch("in", "web", to="ids2", direction=INGRESS),
    )  # fmt: skip
    assert heard(here, "web", packet(WEB, WEB)) == {"ids": 1}


# --- rule 2: independent sessions ------------------------------------------------------------


def test_two_sessions_with_one_collector_make_two_copies() -> None:
    here = world(
        *WEB_AND_DB, watch("one", "web", to="ids"), watch("two", "db", to="ids", direction=INGRESS)
    )
    assert heard(here, "web", packet(DB, WEB)) == {"db": 1, "ids": 2}
    assert heard(here, "db", packet(WEB, DB)) == {"web": 1, "ids": 1}


def test_a_disabled_session_makes_no_copy() -> None:
    here = world(*WEB_AND_DB, watch("s", "web", to="ids", enabled=False))
    assert heard(here, "web", packet(DB, WEB)) == {"db": 1}


# --- rule 3: filters -------------------------------------------------------------------------

PORT_80 = (PortRange(80, 80),)
TO_80 = RuleMatch(protocol=6, destination_port=PORT_80)
SYN = frames.ethernet(
    DB, WEB, 0x0800, frames.ipv4("10.0.0.1", "10.0.0.2", 6, frames.tcp(9, 80, 2, b""))
)


def only(name: str, *, egress: tuple[Rule, ...] = (), ingress: tuple[Rule, ...] = ()) -> Filter:
    return Filter(FilterId(name), name, TenantName("red"), ingress, egress)


@pytest.mark.parametrize(
    ("rules", "copies"),
    [
        ((), 0),
        ((Rule(1, Verdict.ACCEPT),), 1),
        ((Rule(1, Verdict.REJECT, TO_80), Rule(2, Verdict.ACCEPT)), 0),
        ((Rule(1, Verdict.ACCEPT, TO_80), Rule(2, Verdict.REJECT)), 1),
        ((Rule(1, Verdict.ACCEPT, RuleMatch(protocol=17)),), 0),
        ((Rule(1, Verdict.ACCEPT, RuleMatch(protocol=6, port=PORT_80)),), 1),
        ((Rule(1, Verdict.ACCEPT, RuleMatch(protocol=6, port=(PortRange(9, 9),))),), 1),
        ((Rule(1, Verdict.ACCEPT, RuleMatch(protocol=6, port=(PortRange(81, 99),))),), 0),
        ((Rule(1, Verdict.ACCEPT, RuleMatch(address=IPNetwork("10.0.0.1"))),), 1),
        ((Rule(1, Verdict.ACCEPT, RuleMatch(address=IPNetwork("10.0.0.2/31"))),), 1),
        ((Rule(1, Verdict.ACCEPT, RuleMatch(address=IPNetwork("10.0.0.3"))),), 0),
    ],
)
@pytest.mark.parametrize("direction", [EGRESS, INGRESS, BOTH])
@pytest.mark.parametrize("where", [S1, S2])
def test_the_first_rule_that_matches_decides(rules, copies: int, direction, where: int) -> None:
    wanted = only("f", egress=rules, ingress=rules)
    here = world(
        vm("web", at(S1, 1), WEB), vm("db", at(where, 2), DB), tap("ids", at(S2, 9)), *LINE, wanted,
        watch("s", "web", "db", to="ids", direction=direction, wanted=wanted),
    )  # fmt: skip
    assert heard(here, "web", SYN) == {"db": 1} | ({"ids": copies} if copies else {})


@pytest.mark.parametrize("where", [S1, S2])
@pytest.mark.parametrize(
    ("wanted", "copies"),
    [
        (only("out", egress=(Rule(1, Verdict.ACCEPT),)), 1),
        (only("in", ingress=(Rule(1, Verdict.ACCEPT),)), 1),
        (only("all", ingress=(Rule(1, Verdict.ACCEPT),), egress=(Rule(1, Verdict.ACCEPT),)), 1),
        (only("none"), 0),
    ],
)
def test_one_direction_that_accepts_is_enough_and_two_make_one_copy(
    wanted: Filter, copies: int, where: int
) -> None:
    here = world(
        vm("web", at(S1, 1), WEB), vm("db", at(where, 2), DB), tap("ids", at(S1, 9)), *LINE, wanted,
        watch("s", "web", "db", to="ids", wanted=wanted),
    )  # fmt: skip
    for dst in (DB, ALL):
        expected = {"db": 1} | ({"ids": 1} if copies else {})
        assert heard(here, "web", packet(dst, WEB)) == expected


# --- rule 4: egress before policy, ingress what is really delivered --------------------------


def test_what_anti_spoofing_drops_is_copied_as_egress_and_not_as_ingress() -> None:
    here = world(
        *WEB_AND_DB, tap("ids2", at(S1, 8)),
        watch("out", "web", to="ids", direction=EGRESS),
        watch("in", "db", to="ids2", direction=INGRESS),
    )  # fmt: skip
    assert heard(here, "web", packet(DB, APP)) == {"ids": 1}
    assert heard(here, "web", packet(ALL, APP)) == {"ids": 1}


def test_a_unicast_to_somebody_else_is_no_ingress_of_a_watched_port() -> None:
    here = world(
        *WEB_AND_DB, vm("app", at(S1, 3), APP), watch("s", "app", to="ids", direction=INGRESS)
    )
    assert heard(here, "web", packet(DB, WEB)) == {"db": 1}
    assert heard(here, "web", packet(NOBODY, WEB)) == {"db": 1, "app": 1, "ids": 1}


# --- rule 6: isolation -----------------------------------------------------------------------


def two_tenants(*more: object) -> World:
    """Red and blue with the same addresses on the same bridge."""
    return world(
        *WEB_AND_DB, vm("blue-web", at(S1, 11), WEB, network="blue-lan"),
        vm("blue-db", at(S1, 12), DB, network="blue-lan"), tap("blue-ids", at(S1, 19), "blue"),
        *more,
    )  # fmt: skip


@pytest.mark.parametrize("dst", [DB, ALL, NOBODY])
def test_equal_addresses_of_two_tenants_stay_apart(dst: int) -> None:
    both = two_tenants(
        watch("red", "web", "db", to="ids"),
        watch("blue", "blue-web", "blue-db", to="blue-ids", tenant="blue"),
    )
    assert heard(both, "web", packet(dst, WEB)) == {"db": 1, "ids": 1}
    assert heard(both, "blue-web", packet(dst, WEB)) == {"blue-db": 1, "blue-ids": 1}


def test_a_session_on_a_port_of_another_tenant_copies_nothing_at_all() -> None:
    both = two_tenants(watch("nosy", "web", "blue-web", to="ids"))
    assert heard(both, "blue-web", packet(ALL, WEB)) == {"blue-db": 1}
    assert heard(both, "web", packet(ALL, WEB)) == {"db": 1}


def test_a_session_into_the_collector_of_another_tenant_copies_nothing() -> None:
    both = two_tenants(watch("leak", "web", to="blue-ids"))
    assert heard(both, "web", packet(DB, WEB)) == {"db": 1}


def test_a_collector_with_the_tap_port_of_another_tenant_gets_nothing() -> None:
    both = two_tenants(watch("leak", "web", to="own"))
    own = Collector(CollectorId("own"), "own", TenantName("red"), (PortId("blue-ids"),))
    assert heard(_with(both, own), "web", packet(DB, WEB)) == {"db": 1}


def test_a_session_that_watches_a_tap_port_copies_nothing() -> None:
    here = world(*WEB_AND_DB, tap("ids2", at(S1, 8)), watch("s", "web", "ids2", to="ids"))
    assert heard(here, "web", packet(DB, WEB)) == {"db": 1}


# --- rule 7: tap ports are receive-only ------------------------------------------------------


def test_what_a_tap_port_sends_goes_nowhere() -> None:
    here = world(*WEB_AND_DB, watch("s", "web", "db", to="ids"))
    assert heard(here, "ids", packet(DB, WEB), packet(ALL, WEB), packet(ALL, NOBODY)) == {}


def test_a_tap_port_receives_copies_only() -> None:
    assert heard(world(*WEB_AND_DB), "web", packet(ALL, WEB), packet(NOBODY, WEB)) == {"db": 2}


# --- what is not there -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "things",
    [
        (watch("s", "web", to="gone"),),
        (tap("far", None), watch("s", "web", to="far")),
        (tap("island", at(S3, 1)), watch("s", "web", to="island")),
    ],
)
def test_a_collector_that_cannot_be_reached_gets_nothing(things: tuple) -> None:
    here = world(*WEB_AND_DB, *things)
    assert heard(here, "web", packet(DB, WEB)) == {"db": 1}


def test_a_watched_port_that_is_nowhere_does_not_hinder_the_others() -> None:
    here = world(*WEB_AND_DB, vm("app", None, APP), watch("s", "app", "db", "gone", to="ids"))
    assert heard(here, "web", packet(DB, WEB)) == {"db": 1, "ids": 1}


def test_bridges_without_a_way_between_them_share_nothing() -> None:
    apart = world(
        vm("web", at(S1, 1), WEB), vm("db", at(S2, 2), DB), tap("ids", at(S1, 9)),
        watch("s", "web", "db", to="ids", direction=INGRESS),
    )  # fmt: skip
    assert heard(apart, "web", packet(DB, WEB), packet(ALL, WEB)) == {}


# --- learning --------------------------------------------------------------------------------


def test_an_undeclared_address_is_flooded_until_it_was_seen() -> None:
    here = world(
        *WEB_AND_DB, vm("app", at(S1, 3), APP), vm("lb", at(S1, 4), None, anti_spoofing=False)
    )
    lb, web = here.port_by_id[PortId("lb")], here.port_by_id[PortId("web")]
    first = meaning(packet(LB, WEB), web, here)
    assert first.receivers == {"db", "app", "lb"}
    taught = meaning(packet(WEB, LB), lb, here, first.learned)
    assert taught.receivers == {"web"}
    assert meaning(packet(LB, WEB), web, here, taught.learned).receivers == {"lb"}


def test_the_bridge_nearer_to_an_address_decides_where_it_is() -> None:
    """Two ports of S1 use one address: S2 has received frames of the first only, S1 of both."""
    there = world(
        vm("one", at(S1, 1), None, anti_spoofing=False),
        vm("two", at(S1, 2), None, anti_spoofing=False),
        vm("db", at(S1, 3), DB), vm("web", at(S2, 1), WEB), *LINE,
    )  # fmt: skip
    port = there.port_by_id
    learned = meaning(packet(WEB, LB), port[PortId("one")], there).learned
    learned = meaning(packet(DB, LB), port[PortId("two")], there, learned).learned
    assert {learned[S1, port[PortId("web")].network, LB]} == {"two"}
    assert {learned[S2, port[PortId("web")].network, LB]} == {"one"}
    assert meaning(packet(LB, WEB), port[PortId("web")], there, learned).receivers == {"two"}


# --- anti-spoofing ---------------------------------------------------------------------------

LOCAL = str(EUI(WEB, version=48).ipv6_link_local())
UDP = frames.udp(68, 67, b"hello")


@pytest.mark.parametrize(
    ("eth_type", "body", "passes"),
    [
        (0x0800, frames.ipv4("10.0.0.1", "10.0.0.2", 17, UDP), True),
        (0x0800, frames.ipv4("10.0.0.2", "10.0.0.1", 17, UDP), False),
        (0x0800, frames.ipv4("0.0.0.0", "255.255.255.255", 17, UDP), True),
        (0x0800, frames.ipv4("0.0.0.0", "10.0.0.2", 17, frames.udp(67, 68, b"")), False),
        (0x0800, frames.ipv4("0.0.0.0", "10.0.0.2", 6, frames.tcp(68, 67, 2, b"")), False),
        (0x0800, b"too short", False),
        (0x0806, frames.arp(1, WEB, "10.0.0.1", 0, "10.0.0.2"), True),
        (0x0806, frames.arp(1, WEB, "0.0.0.0", 0, "10.0.0.1"), True),
        (0x0806, frames.arp(2, WEB, "10.0.0.2", 0, "10.0.0.1"), False),
        (0x0806, frames.arp(2, DB, "10.0.0.1", 0, "10.0.0.2"), False),
        (0x86DD, frames.ipv6("fd00::1", "fd00::2", 17, UDP), True),
        (0x86DD, frames.ipv6(LOCAL, "fd00::2", 17, UDP), True),
        (0x86DD, frames.ipv6("fd00::2", "fd00::1", 17, UDP), False),
        (0x86DD, frames.ipv6("::", "ff02::1", 58, frames.icmpv6_nd(135, "fd00::1")), True),
        (0x86DD, frames.ipv6("::", "ff02::1", 17, UDP), False),
        (0x86DD, frames.ipv6("fd00::1", "ff02::1", 58, frames.icmpv6_nd(136, "fd00::1")), True),
        (0x86DD, frames.ipv6("fd00::1", "ff02::1", 58, frames.icmpv6_nd(136, "fd00::2")), False),
        (0x88B6, b"anything", True),
    ],
)
def test_a_protected_port_uses_its_own_addresses(eth_type: int, body: bytes, passes: bool) -> None:
    web = vm("web", at(S1, 1), WEB, ips=("10.0.0.1", "fd00::1"))
    here = world(web, vm("db", at(S1, 2), DB), tap("ids", at(S1, 9)))
    frame = frames.pad(frames.ethernet(DB, WEB, eth_type, body))
    assert may_send(web.port, read_fields(frame)) is passes
    assert heard(here, "web", frame) == ({"db": 1} if passes else {})


def test_an_unprotected_port_uses_any_address() -> None:
    lb = vm("lb", at(S1, 1), LB, ips=("10.0.0.1",), anti_spoofing=False)
    assert may_send(lb.port, read_fields(packet(DB, NOBODY)))


def test_less_than_an_ethernet_header_has_no_meaning() -> None:
    web = WEB_AND_DB[0].port
    with pytest.raises(InvalidValue, match="13 bytes are no Ethernet frame"):
        meaning(bytes(13), web, world(*WEB_AND_DB))


def _with(of: World, collector: Collector) -> World:
    return World(
        of.networks, of.ports, (*of.collectors, collector), of.sessions, of.placements,
        of.links, of.numbers,
    )  # fmt: skip

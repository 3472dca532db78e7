"""Exclusive sessions by example: of those at a port, the first that accepts takes the packet.

``received`` asks both the contract (flows/semantics/meaning.py) and the compiled flows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import compile_bridge, leads_nowhere
from flows.errors import TooManyOverlaps
from flows.explain import Interpreter
from flows.model import (
    Dpid,
    Filter,
    FilterId,
    Oversize,
    PortKind,
    Rule,
    RuleMatch,
    SessionId,
    TenantName,
    Verdict,
    World,
)
from flows.openflow import Load
from flows.pipeline import COHORTS, DELIVER, WON
from flows.resolve import (
    COHORTS_PER_NETWORK,
    FAR_WEIGHT,
    FILTERED_WEIGHT,
    SESSIONS_PER_NETWORK,
    BridgeView,
    ResolvedWorld,
)
from flows.semantics import meaning
from tests import frames
from tests.flows.hand_made import (
    EGRESS,
    INGRESS,
    S1,
    S2,
    S3,
    Plugged,
    at,
    cable,
    compile_all,
    packet,
    received,
    tap,
    vm,
    watch,
    world,
)
from tests.generators.random_worlds import random_packets, random_world

WEB, DB, APP, LB = 0x02_0000_000001, 0x02_0000_000002, 0x02_0000_000003, 0x02_0000_000004
NOBODY = 0x02_0000_0000EE
ALL = frames.BROADCAST

TAPS = (tap("a", at(S1, 7)), tap("b", at(S1, 8)), tap("c", at(S1, 9)))
WEB_AND_DB = (vm("web", at(S1, 1), WEB), vm("db", at(S1, 2), DB), *TAPS)
LINE = (cable(at(S1, 21), at(S2, 22)), cable(at(S2, 21), at(S3, 22)))

ACCEPT = (Rule(1, Verdict.ACCEPT),)
LLDP = (Rule(1, Verdict.ACCEPT, RuleMatch(eth_type=0x88CC)),)


def only(name: str, *, egress: tuple[Rule, ...] = (), ingress: tuple[Rule, ...] = ()) -> Filter:
    return Filter(FilterId(name), name, TenantName("red"), ingress, egress)


OUT_ONLY = only("sent", egress=ACCEPT)
IN_ONLY = only("received", ingress=ACCEPT)
NOTHING = only("nothing", egress=LLDP, ingress=LLDP)


def places(*dpids: int) -> list[tuple[Plugged | object, ...]]:
    """web and db on one bridge, and on two that are two links apart."""
    return [(vm("web", at(S1, 1), WEB), vm("db", at(d, 2), DB), *TAPS, *LINE) for d in dpids]


NEAR_AND_FAR = pytest.mark.parametrize("there", places(S1, S3), ids=["one bridge", "two bridges"])


# --- who takes it ----------------------------------------------------------------------------


@NEAR_AND_FAR
@pytest.mark.parametrize("dst", [DB, ALL, NOBODY])
@pytest.mark.parametrize("direction", [EGRESS, INGRESS])
def test_the_session_with_the_lowest_number_takes_the_packet(there, dst: int, direction) -> None:
    port = "web" if direction is EGRESS else "db"
    here = world(
        *there,
        watch("second", port, to="b", direction=direction, exclusive=20),
        watch("first", port, to="a", direction=direction, exclusive=10),
        watch("third", port, to="c", direction=direction, exclusive=30),
    )
    assert received(here, "web", packet(dst, WEB)) == {"db": 1, "a": 1}


@NEAR_AND_FAR
@pytest.mark.parametrize("dst", [DB, ALL, NOBODY])
@pytest.mark.parametrize("direction", [EGRESS, INGRESS])
def test_a_session_that_rejects_the_packet_leaves_it_to_the_next(there, dst, direction) -> None:
    port = "web" if direction is EGRESS else "db"
    here = world(
        *there, NOTHING,
        watch("first", port, to="a", direction=direction, exclusive=10, wanted=NOTHING),
        watch("second", port, to="b", direction=direction, exclusive=20),
        watch("third", port, to="c", direction=direction, exclusive=30),
    )  # fmt: skip
    assert received(here, "web", packet(dst, WEB)) == {"db": 1, "b": 1}


def test_of_equal_numbers_the_session_that_was_there_first_is_asked_first() -> None:
    here = world(
        *WEB_AND_DB,
        watch("old", "web", to="a", exclusive=10),
        watch("new", "web", to="b", exclusive=10),
    )
    assert received(here, "web", packet(DB, WEB)) == {"db": 1, "a": 1}


@pytest.mark.parametrize("dst", [DB, ALL])
def test_copy_sessions_are_not_affected(dst: int) -> None:
    here = world(
        *WEB_AND_DB,
        watch("exclusive", "web", "db", to="a", exclusive=1),
        watch("late", "web", "db", to="b", exclusive=2),
        watch("copy", "web", "db", to="c"),
    )
    assert received(here, "web", packet(dst, WEB)) == {"db": 1, "a": 1, "c": 1}


def test_sessions_of_other_ports_do_not_compete() -> None:
    here = world(
        *WEB_AND_DB, vm("app", at(S1, 3), APP),
        watch("of-web", "web", to="a", exclusive=1), watch("of-app", "app", to="b", exclusive=2),
    )  # fmt: skip
    assert received(here, "web", packet(DB, WEB)) == {"db": 1, "a": 1}
    assert received(here, "app", packet(DB, APP)) == {"db": 1, "b": 1}


# --- both ends -------------------------------------------------------------------------------


@NEAR_AND_FAR
@pytest.mark.parametrize("dst", [DB, ALL])
def test_sender_and_receiver_each_give_the_packet_to_a_session_of_their_own(there, dst) -> None:
    here = world(
        *there,
        watch("of-web", "web", to="a", direction=EGRESS, exclusive=20),
        watch("of-db", "db", to="b", direction=INGRESS, exclusive=10),
    )
    assert received(here, "web", packet(dst, WEB)) == {"db": 1, "a": 1, "b": 1}


@NEAR_AND_FAR
@pytest.mark.parametrize("dst", [DB, ALL])
def test_a_session_that_takes_it_at_both_ends_has_one_copy_and_leaves_none(there, dst) -> None:
    here = world(
        *there,
        watch("both", "web", "db", to="a", exclusive=10),
        watch("late", "web", "db", to="b", exclusive=20),
    )
    assert received(here, "web", packet(dst, WEB)) == {"db": 1, "a": 1}


@NEAR_AND_FAR
@pytest.mark.parametrize("dst", [DB, ALL])
def test_a_session_that_loses_at_the_sender_may_win_at_the_receiver(there, dst) -> None:
    here = world(
        *there, OUT_ONLY,
        watch("sent", "web", "db", to="a", exclusive=10, wanted=OUT_ONLY),
        watch("late", "web", "db", to="b", exclusive=20),
    )  # fmt: skip
    assert received(here, "web", packet(dst, WEB)) == {"db": 1, "a": 1, "b": 1}


@NEAR_AND_FAR
@pytest.mark.parametrize("dst", [DB, ALL])
def test_a_session_that_wins_at_the_sender_may_lose_at_the_receiver(there, dst) -> None:
    here = world(
        *there, IN_ONLY,
        watch("received", "web", "db", to="a", exclusive=10, wanted=IN_ONLY),
        watch("late", "web", "db", to="b", exclusive=20),
    )  # fmt: skip
    assert received(here, "web", packet(dst, WEB)) == {"db": 1, "a": 1, "b": 1}


# --- flooded packets -------------------------------------------------------------------------


def many_receivers(*more: object) -> World:
    """lb sends from bridge 2; web, db and app are on bridges 1, 2 and 3."""
    return world(
        vm("web", at(S1, 1), WEB), vm("db", at(S2, 2), DB), vm("app", at(S3, 3), APP),
        vm("lb", at(S2, 4), LB), *TAPS, *LINE, *more,
    )  # fmt: skip


EVERYBODY = {"web": 1, "db": 1, "app": 1}


def test_each_receiver_gives_a_broadcast_to_its_own_first_session() -> None:
    wide = many_receivers(
        watch("first", "web", to="a", direction=INGRESS, exclusive=10),
        watch("second", "web", "db", to="b", direction=INGRESS, exclusive=20),
        watch("third", "db", "app", to="c", direction=INGRESS, exclusive=30),
    )
    assert received(wide, "lb", packet(ALL, LB)) == EVERYBODY | {"a": 1, "b": 1, "c": 1}


def test_a_session_that_loses_at_every_receiver_has_no_copy_of_a_broadcast() -> None:
    wide = many_receivers(
        watch("first", "web", to="a", direction=INGRESS, exclusive=10),
        watch("second", "db", "app", to="b", direction=INGRESS, exclusive=20),
        watch("third", "web", "db", "app", to="c", direction=INGRESS, exclusive=30),
    )
    assert received(wide, "lb", packet(ALL, LB)) == EVERYBODY | {"a": 1, "b": 1}


def test_a_sender_does_not_win_its_own_broadcast_for_a_session() -> None:
    """Of a broadcast of web, third could take only what web itself receives: nothing."""
    wide = many_receivers(
        watch("first", "db", "app", "lb", to="a", direction=INGRESS, exclusive=10),
        watch("third", "web", "db", "app", to="c", direction=INGRESS, exclusive=30),
    )
    assert received(wide, "web", packet(ALL, WEB)) == {"db": 1, "app": 1, "lb": 1, "a": 1}
    assert received(wide, "lb", packet(ALL, LB)) == EVERYBODY | {"a": 1, "c": 1}


def test_a_cohort_of_which_the_sender_is_the_only_port_counts_for_no_session() -> None:
    wide = many_receivers(
        IN_ONLY,
        watch("first", "web", "db", to="a", direction=INGRESS, exclusive=10, wanted=NOTHING),
        watch("second", "db", "app", "lb", to="b", direction=INGRESS, exclusive=20, wanted=IN_ONLY),
        watch("third", "web", "db", "app", to="c", direction=INGRESS, exclusive=30), NOTHING,
    )  # fmt: skip
    assert received(wide, "web", packet(ALL, WEB)) == {"db": 1, "app": 1, "lb": 1, "b": 1}
    assert received(wide, "lb", packet(ALL, LB)) == EVERYBODY | {"b": 1, "c": 1}


def test_sessions_compete_for_a_broadcast_across_bridges_in_the_order_of_their_numbers() -> None:
    """The copies of the two are made on different bridges, which decide by themselves."""
    wide = many_receivers(
        NOTHING,
        watch("late", "web", "app", to="a", direction=INGRESS, exclusive=30),
        watch("first", "app", "db", to="b", direction=INGRESS, exclusive=10),
        watch("never", "web", to="c", direction=INGRESS, exclusive=20, wanted=NOTHING),
    )  # fmt: skip
    assert received(wide, "lb", packet(ALL, LB)) == EVERYBODY | {"a": 1, "b": 1}


# --- who cannot copy takes nothing -----------------------------------------------------------


@pytest.mark.parametrize(
    "things",
    [
        (watch("first", "web", to="a", exclusive=1, enabled=False),),
        (watch("first", "web", to="gone", exclusive=1),),
        (tap("far", None), watch("first", "web", to="far", exclusive=1)),
        (tap("island", at(S3, 1)), watch("first", "web", to="island", exclusive=1)),
        (watch("first", "web", "blue-web", to="a", exclusive=1),),
        (tap("blue", at(S1, 12), "blue"), watch("first", "web", to="blue", exclusive=1)),
    ],
    ids=["disabled", "no collector", "tap nowhere", "no path", "others' port", "others' collector"],
)
def test_a_session_that_cannot_copy_takes_nothing_from_the_others(things: tuple) -> None:
    blue = vm("blue-web", at(S1, 11), WEB, network="blue-lan")
    here = world(*WEB_AND_DB, blue, *things, watch("second", "web", to="b", exclusive=2))
    assert received(here, "web", packet(DB, WEB), packet(ALL, WEB)) == {"db": 2, "b": 2}


@pytest.mark.parametrize("dst", [DB, ALL])
def test_what_anti_spoofing_drops_is_taken_as_egress_only(dst: int) -> None:
    here = world(
        *WEB_AND_DB,
        watch("out", "web", to="a", direction=EGRESS, exclusive=2),
        watch("in", "db", to="b", direction=INGRESS, exclusive=1),
    )
    assert received(here, "web", packet(dst, APP)) == {"a": 1}


def test_tenants_with_equal_addresses_and_numbers_do_not_compete() -> None:
    both = world(
        *WEB_AND_DB, vm("blue-web", at(S1, 11), WEB, network="blue-lan"),
        vm("blue-db", at(S1, 12), DB, network="blue-lan"), tap("blue-ids", at(S1, 19), "blue"),
        watch("red", "web", "db", to="a", exclusive=5),
        watch("blue", "blue-web", "blue-db", to="blue-ids", tenant="blue", exclusive=5),
    )  # fmt: skip
    assert received(both, "web", packet(ALL, WEB)) == {"db": 1, "a": 1}
    assert received(both, "blue-web", packet(DB, WEB)) == {"blue-db": 1, "blue-ids": 1}


# --- what a packet costs ---------------------------------------------------------------------


def test_no_bridge_needs_more_resubmits_for_a_full_network_than_open_vswitch_allows() -> None:
    """Most resubmits: all sessions reject it at the sender, each accepts it at its own port."""
    names = [f"s{n}" for n in range(SESSIONS_PER_NETWORK // (FILTERED_WEIGHT + FAR_WEIGHT))]
    full = world(
        vm("web", at(S1, 1), WEB), vm("db", at(S2, 1), DB), tap("a", at(S2, 9)), *LINE[:1], IN_ONLY,
        *(vm(f"{x}-vm", at(S2, 100 + n), 0x02_0000_001000 + n) for n, x in enumerate(names)),
        *(
            watch(x, "web", f"{x}-vm", to="a", wanted=IN_ONLY, exclusive=n + 1)
            for n, x in enumerate(names)
        ),
    )  # fmt: skip
    assert len(ResolvedWorld(full).served) == len(names)
    trace = Interpreter(compile_all(full), full.links).send(at(S1, 1), packet(ALL, WEB))
    assert sum(emission.session is not None for emission in trace.emissions) == len(names)
    steps = Counter(step.dpid for step in trace.steps)
    assert 3 * len(names) < steps[S1] < 4096
    assert 9 * len(names) < steps[S2] < 4096


# --- more cohorts than register bits ----------------------------------------------------------


def competing(ports: int, *more: object) -> World:
    """Each port has a session of its own before the one for all: so each port is a cohort."""
    names = [f"vm{n}" for n in range(ports)]
    return world(
        *(vm(name, at(S1, 100 + n), 0x02_0000_001000 + n) for n, name in enumerate(names)),
        vm("web", at(S1, 1), WEB), vm("db", at(S1, 2), DB), *TAPS, NOTHING,
        watch("all", "db", *names, to="a", direction=INGRESS, exclusive=30_000),
        *(
            watch(f"s{n}", name, to="b", direction=INGRESS, exclusive=n + 1, wanted=NOTHING)
            for n, name in enumerate(names)
        ),
        *more,
    )  # fmt: skip


def refused(of: World, **limits: int) -> dict[str, str]:
    resolved_sessions = ResolvedWorld(of, **limits).sessions.values()  # type: ignore[arg-type]
    return {s.session.name: str(s.refused) for s in resolved_sessions if s.refused}


def test_every_bit_can_be_used_and_the_next_cohort_is_refused() -> None:
    full = competing(COHORTS_PER_NETWORK)
    assert refused(full) == {}
    flows = compile_bridge(Dpid(S1), ResolvedWorld(full))
    registers = {register.reg for register in COHORTS}
    marked = {
        (load.target.reg, bit)
        for flow in flows
        for load in flow.actions
        if flow.table == WON.number and isinstance(load, Load) and load.target.reg in registers
        for bit in range(load.target.low, load.target.high + 1)
    }
    assert len(marked) == COHORTS_PER_NETWORK == 128
    assert received(full, "web", packet(ALL, WEB))["a"] == 1

    more = competing(COHORTS_PER_NETWORK + 1)
    resolved = ResolvedWorld(more)
    reason = resolved.sessions[SessionId(f"s{COHORTS_PER_NETWORK}")].refused
    assert isinstance(reason, TooManyOverlaps)
    assert str(reason) == (
        "exclusive session 's128' is one too many on network 'lan': a switch keeps at most 128 "
        "sets of ports apart that different exclusive sessions compete for; let exclusive sessions "
        "watch the same ports, or watch in mode 'copy'"
    )
    assert len(resolved.served) == COHORTS_PER_NETWORK + 1


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**63), st.sampled_from((0, 1, 2)))
def test_a_session_that_is_refused_for_lack_of_bits_takes_nothing_from_others(
    seed: int, bits: int
) -> None:
    rng = Random(seed)
    here = random_world(rng)
    resolved = ResolvedWorld(here, cohorts_per_network=bits)
    served = tuple(s for s in here.sessions if not has_no_bit(resolved, s.id))
    assert {SessionId(name) for name in refused(here)} <= {
        SessionId(name) for name in refused(here, cohorts_per_network=bits)
    }
    for network in here.network_by_id:
        arbitrations = filter(None, (resolved.arbitration(network, dpid) for dpid in here.dpids))
        assert all(arbitration.bits <= bits for arbitration in arbitrations)
    flows = {dpid: compile_bridge(dpid, resolved) for dpid in here.dpids}
    bridges, learned = Interpreter(flows, here.links), None
    views = [BridgeView(dpid, resolved) for dpid in here.dpids]
    counted_only = {
        s.id
        for s in served
        if s.oversize is Oversize.SKIP
        or any(
            leads_nowhere(view, found)
            for view in views
            if (found := resolved.sessions[s.id]).is_served
        )
    }
    for sent in random_packets(rng, here, 8):
        if sent.sender.kind is PortKind.VM:
            means = meaning(sent.frame, sent.sender, replace(here, sessions=served), learned)
            learned = means.learned
            trace = bridges.send(here.placements[sent.sender.id], sent.frame)
            made = {s.flow.owner for s in trace.steps if s.flow.table == DELIVER.number}
            copied = {s for s in resolved.sessions if here.numbers.session[s] in made}
            assert means.copies <= copied <= means.copies | counted_only, trace


def has_no_bit(resolved: ResolvedWorld, session: SessionId) -> bool:
    return isinstance(resolved.sessions[session].refused, TooManyOverlaps)

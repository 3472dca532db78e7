"""How many outputs a packet may need on a bridge of the kernel's datapath."""

from __future__ import annotations

from dataclasses import replace

from flows.model import Datapath, NetworkId, World
from flows.resolve import OUTPUTS_MAX, CrowdedNetwork, ResolvedWorld
from flows.resolve.output_count import OUTPUTS_NOTED
from tests.flows.hand_made import S1, S2, at, cable, tap, vm, watch, world

LAN = NetworkId("red-lan")


def crowd(
    sessions: int, *ports: str, to: str = "ids", datapath: Datapath = Datapath.KERNEL
) -> World:
    """Sessions that watch some of three workloads; `far` is on the second bridge."""
    of = world(
        vm("web", at(S1, 1), 1), vm("db", at(S1, 2), 2), vm("far", at(S2, 1), 3),
        vm("other", at(S1, 5), 4, network="blue-lan"),
        tap("ids", at(S1, 3)), tap("soc", at(S2, 3)), cable(at(S1, 4), at(S2, 4)),
        *(watch(f"s{n}", *ports, to=to) for n in range(sessions)),
    )  # fmt: skip
    return replace(of, datapaths={S1: datapath, S2: datapath})


def test_sessions_and_ports_of_a_network_count_on_each_bridge_of_the_kernel() -> None:
    found = ResolvedWorld(crowd(OUTPUTS_NOTED, "web", "db")).crowded
    assert found == {S1: (CrowdedNetwork(LAN, OUTPUTS_NOTED, 3),)}, "two workloads, and a link"
    assert found[S1][0].outputs == OUTPUTS_NOTED + 3
    other = ResolvedWorld(crowd(OUTPUTS_NOTED, "far", to="soc")).crowded
    assert other == {S2: (CrowdedNetwork(LAN, OUTPUTS_NOTED, 2),)}


def test_it_is_said_before_it_harms_and_not_long_before() -> None:
    assert ResolvedWorld(crowd(OUTPUTS_NOTED - 4, "web")).crowded == {}
    assert ResolvedWorld(crowd(OUTPUTS_NOTED - 3, "web")).crowded.keys() == {S1}
    assert OUTPUTS_NOTED < OUTPUTS_MAX


def test_the_userspace_datapath_has_no_such_limit() -> None:
    of = crowd(OUTPUTS_NOTED + 100, "web", datapath=Datapath.USERSPACE)
    assert ResolvedWorld(of).crowded == {}
    assert ResolvedWorld(replace(of, datapaths={})).crowded == {}, "nor is it known of others"


def test_sessions_that_copy_nothing_do_not_count() -> None:
    of = crowd(OUTPUTS_NOTED, "web")
    off = tuple(replace(session, enabled=False) for session in of.sessions[:100])
    assert ResolvedWorld(replace(of, sessions=(*off, *of.sessions[100:]))).crowded == {}


def test_a_network_follows_its_sessions_from_world_to_world() -> None:
    few, many = crowd(10, "web"), crowd(OUTPUTS_NOTED, "web")
    before = ResolvedWorld(few)
    more = few.with_desired_state(many.collectors, many.session_by_id, few.filters, many.numbers)
    after = ResolvedWorld(more, before)
    assert (before.crowded, after.crowded.keys()) == ({}, {S1})


def test_the_sentence_says_what_to_do() -> None:
    words = CrowdedNetwork(LAN, 950, 60).sentence("lan", "s1")
    assert "a packet of network 'lan' may need 1010 outputs on bridge s1" in words
    assert "950 sessions, 60 ports" in words and "let fewer sessions watch" in words

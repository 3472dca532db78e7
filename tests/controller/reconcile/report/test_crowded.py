"""The note about packets that need many outputs, in the status of bridges and sessions."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from controller.reconcile.report.crowded import with_crowded_bridge, with_crowded_networks
from controller.status import BridgeStatus, SessionStatus, State
from flows.model import Datapath, SessionId
from flows.resolve import ResolvedWorld
from flows.resolve.output_count import OUTPUTS_NOTED
from tests.flows.hand_made import S1, S2, at, tap, vm, watch, world

BUSY, QUIET = SessionId("s1"), SessionId("alone")
ACTIVE = SessionStatus(State.ACTIVE, ("before",))


def snapshot(datapath: Datapath) -> Any:
    """Many sessions on network `lan` of red, and one on that of blue."""
    of = world(
        vm("web", at(S1, 1), 1), vm("db", at(S1, 2), 2), tap("ids", at(S1, 3)),
        vm("app", at(S1, 5), 3, network="blue-lan"), tap("soc", at(S1, 6), tenant="blue"),
        *(watch(f"s{n}", "web", to="ids") for n in range(OUTPUTS_NOTED)),
        watch("alone", "app", to="soc", tenant="blue"),
    )  # fmt: skip
    return SimpleNamespace(resolved=ResolvedWorld(replace(of, datapaths={S1: datapath})))


def of_session(session: SessionId, datapath: Datapath = Datapath.KERNEL) -> SessionStatus:
    return with_crowded_networks(ACTIVE, snapshot(datapath), session, lambda dpid: f"br{dpid}")


def test_sessions_of_a_crowded_network_say_it_and_stay_active() -> None:
    status = of_session(BUSY)
    before, note = status.reasons
    assert (status.state, before) == (State.ACTIVE, "before")
    assert f"802 outputs on bridge br{S1}" in note and "network 'lan'" in note


def test_other_sessions_and_other_datapaths_do_not() -> None:
    assert of_session(QUIET) == ACTIVE
    assert of_session(BUSY, Datapath.USERSPACE) == ACTIVE
    assert of_session(SessionId("unknown")) == ACTIVE


def test_the_bridge_says_it_as_well() -> None:
    here, there = (BridgeStatus(dpid, "br1", State.ACTIVE) for dpid in (S1, S2))
    status = with_crowded_bridge(here, snapshot(Datapath.KERNEL))
    [note] = status.reasons
    assert status.state is State.ACTIVE and "800 sessions, 2 ports" in note
    assert with_crowded_bridge(there, snapshot(Datapath.KERNEL)) == there
    assert with_crowded_bridge(here, snapshot(Datapath.USERSPACE)) == here
    assert with_crowded_bridge(here, None) == here

"""Which sessions and bridges say what is known of segmenting pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from controller.reconcile.report.pairs import with_bridge_pair, with_pairs
from controller.status import BridgeShare, BridgeStatus, SessionStatus, State
from flows.model import Datapath, Dpid, Ofport, PairState, Segmenter, SessionId, World
from flows.resolve import ResolvedWorld
from tests.flows.hand_made import S1, S2, at, tap, vm, watch, world

WEB, IDS = vm("web", at(S1, 1), 0x020000000001), tap("ids", at(S1, 9))
PAIR = Segmenter(Ofport(41), Ofport(42))
LOST = "segmenting pair: it lost 7 frames"
ACTIVE = SessionStatus(State.ACTIVE, bridges=(BridgeShare(S1, "s1", State.ACTIVE),))


def lost(dpid: Dpid, name: str) -> Iterator[str]:
    assert (dpid, name) == (S1, "s1")
    yield LOST


def nothing(dpid: Dpid, name: str) -> Iterator[str]:
    yield from ()


def of(length: int | None = 100, state: PairState = PairState.SOUND, **more: Any) -> Any:
    session = replace(watch("s", "web", to="ids"), packet_length=length)
    made: World = replace(
        world(WEB, IDS, session),
        datapaths={S1: Datapath.KERNEL},
        segmenters={S1: replace(PAIR, state=state)},
        **more,
    )
    return SimpleNamespace(resolved=ResolvedWorld(made))


def told(snapshot: Any, status: SessionStatus = ACTIVE, lately: Any = lost) -> SessionStatus:
    return with_pairs(status, snapshot, SessionId("s"), lately)


def test_a_session_that_truncates_is_degraded_by_what_its_pair_lost() -> None:
    found = told(of())
    assert (found.state, found.reasons) == (State.DEGRADED, (LOST,))
    assert told(of(), lately=nothing) == ACTIVE


def test_other_sessions_and_other_bridges_are_not() -> None:
    assert told(of(length=None)) == ACTIVE
    assert told(of(state=PairState.APART)) == ACTIVE, "its copies are left out, and that is said"
    elsewhere = replace(ACTIVE, bridges=(BridgeShare(S2, "s2", State.ACTIVE),))
    assert told(of(), elsewhere) == elsewhere
    ended = replace(ACTIVE, bridges=(BridgeShare(S1, "s1", State.INACTIVE),))
    assert told(of(), ended) == ended
    for state in (State.PENDING, State.STOPPED, State.ERROR):
        assert told(of(), replace(ACTIVE, state=state)).reasons == ()


@pytest.mark.parametrize("state", [state for state in PairState if not state.is_known])
def test_what_is_not_known_is_said_and_is_no_failure(state: PairState) -> None:
    found = told(of(state=state), lately=nothing)
    assert found.state is State.ACTIVE
    [said] = found.reasons
    assert said.startswith("unknown: cannot see whether the segmenting pair of bridge 's1'")
    assert told(of(length=None, state=state), lately=nothing) == ACTIVE


BRIDGE = BridgeStatus(S1, "s1", State.ACTIVE, connected=True)


@pytest.mark.parametrize("state", PairState)
def test_a_bridge_says_what_is_known_of_its_pair(state: PairState) -> None:
    found = with_bridge_pair(BRIDGE, of(state=state), nothing)
    assert (found.state is State.DEGRADED) is not state.is_usable
    assert bool(found.reasons) is (state is not PairState.SOUND)


def test_a_bridge_is_degraded_by_what_its_pair_lost() -> None:
    found = with_bridge_pair(BRIDGE, of(), lost)
    assert (found.state, found.reasons) == (State.DEGRADED, (LOST,))
    assert with_bridge_pair(BRIDGE, None, lost) == BRIDGE
    gone = replace(BRIDGE, state=State.INACTIVE)
    assert with_bridge_pair(gone, of(), lost) == gone
    other = BridgeStatus(S2, "s2", State.ACTIVE, connected=True)
    assert with_bridge_pair(other, of(), lost) == other

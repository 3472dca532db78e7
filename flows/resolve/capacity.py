"""How much one network may ask of a switch for one packet, and how much each session asks.

Open vSwitch drops a packet, production included, that needs more than 4096 resubmits
(MAX_RESUBMITS of ofproto-dpif-xlate). tests/ovs/test_session_capacity.py fills networks up to them.
"""

from __future__ import annotations

from dataclasses import dataclass

from flows.model import ALL, Mode, Rate
from flows.resolve.session import ResolvedSession

SESSIONS_PER_NETWORK = 1000
"""Plain sessions that may watch one network; each costs at most four resubmits."""
FILTERED_WEIGHT = 3
"""A session with a filter of its own counts as so many plain ones: it costs at most eleven
resubmits (claim, filter and won for the sender, then these, once, accept, deliver and count, if it
is exclusive)."""
EXCLUSIVE_WEIGHT = 2
"""An exclusive session without a filter counts as so many: it costs at most six resubmits, because
no session after it is asked about what a port sends."""
STAGED_WEIGHT = 3
"""Added when copies are capped, cut or spread: at most ten resubmits (what follows a check of the
size is translated for both results)."""
FAR_WEIGHT = 1
"""Added when only a link or a tap port limits copies: at most four resubmits."""
COHORTS_PER_NETWORK = 128
"""Cohorts of one network that two or more exclusive sessions compete for: one register bit each."""


@dataclass(frozen=True, slots=True)
class NetworkLimits:
    """What one network may ask of a switch: a sum of weights, and cohorts with a register bit."""

    sessions: int = SESSIONS_PER_NETWORK
    cohorts: int = COHORTS_PER_NETWORK


def weight(resolved_session: ResolvedSession, bridge_rate: Rate | None) -> int:
    """As how many plain sessions one session counts on each network that it watches."""
    session = resolved_session.session
    asking = EXCLUSIVE_WEIGHT if session.mode is Mode.EXCLUSIVE else 1
    if session.filter != ALL:
        asking = FILTERED_WEIGHT
    if resolved_session.is_staged(bridge_rate):
        return asking + STAGED_WEIGHT
    return asking + FAR_WEIGHT * (resolved_session.is_far or resolved_session.is_guarded)

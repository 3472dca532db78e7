"""How much one network may ask of a switch for one packet, and what each session asks.

Open vSwitch drops a packet, production included, that needs more than 4096 resubmits
(MAX_RESUBMITS of ofproto-dpif-xlate). tests/ovs/test_limits.py fills networks up to these limits.
"""

from __future__ import annotations

from flows.model.session import ALL, Mode, Session

SESSIONS_PER_NETWORK = 1000
"""Plain sessions that may watch one network; each costs at most three resubmits."""
FILTERED_WEIGHT = 3
"""A session with a filter of its own counts so many times: it costs at most ten resubmits (claim,
filter and won for the sender, then these, once, accept and deliver, if it is exclusive)."""
EXCLUSIVE_WEIGHT = 2
"""An exclusive session without a filter counts so many times: it costs at most five resubmits, as
nobody is asked after it about what a port sends."""
STAGED_WEIGHT = 3
"""And so many times more when copies are capped, cut or spread: at most eight resubmits (what
follows a check of the size is translated for both answers)."""
FAR_WEIGHT = 1
"""Or so many times more when nothing but a link limits them: at most three resubmits."""
COHORTS_PER_NETWORK = 128
"""Cohorts of one network that two exclusive sessions or more contest: a bit in a register each."""


def weight(session: Session, is_staged: bool, is_far: bool = False) -> int:
    """How many plain sessions cost as much.

    ``is_staged``: copies pass all stages; ``is_far``: some cross a link.
    """
    asking = EXCLUSIVE_WEIGHT if session.mode is Mode.EXCLUSIVE else 1
    if session.filter != ALL:
        asking = FILTERED_WEIGHT
    return asking + (STAGED_WEIGHT if is_staged else FAR_WEIGHT * is_far)

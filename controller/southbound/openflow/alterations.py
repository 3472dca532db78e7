"""What somebody made of flows of ours behind our back, for the log."""

from __future__ import annotations

from collections.abc import Sequence, Set

import structlog

from controller.southbound.wire.action_decode import show_instructions
from flows.openflow.flow import Flow, show_actions

SHOWN_MAX = 10
"""Altered flows of one look that are shown one by one; of the rest, the number."""

log = structlog.get_logger(__name__)


def tell_alterations(bridge: str, altered: Sequence[tuple[Flow, Set[bytes]]]) -> None:
    """Say what flows did that were altered, and what they should do, before they are put right.

    Each flow comes with the instructions that the switch reported in place of its own.
    """
    for flow, seen in altered[:SHOWN_MAX]:
        log.warning(
            "flow was altered",
            bridge=bridge,
            flow=str(flow).partition(",actions=")[0],
            did=" or ".join(sorted(map(show_instructions, seen))),
            wanted=show_actions(flow.actions),
            why=flow.why,
        )
    if len(altered) > SHOWN_MAX:
        log.warning("more flows were altered", bridge=bridge, flows=len(altered) - SHOWN_MAX)

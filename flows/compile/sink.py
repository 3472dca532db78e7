"""Receives flows while the remaining flows of their bridge are still being compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flows.openflow import Flow


class FlowSink(Protocol):
    """Receives the flows of a bridge that is compiled completely, in the order of compilation."""

    def take(self, flows: Sequence[Flow]) -> None:
        """Receive the next flows; of two with the same match and priority the later one counts."""

    def end_stage(self) -> None:
        """The flows so far can be installed by themselves.

        There are three stages: production; what sessions own; what resubmits packets to them.
        """

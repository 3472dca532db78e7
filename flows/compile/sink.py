"""Where flows go while the others of their bridge are still being compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flows.openflow.flow import Flow


class Outlet(Protocol):
    """Takes the flows of a bridge that is compiled from nothing, in the order of their making."""

    def take(self, flows: Sequence[Flow]) -> None:
        """The next of them; of two that ask for the same the later one counts."""

    def end_stage(self) -> None:
        """What came so far makes sense by itself.

        First that is production, then what sessions have alone, then what leads packets to them.
        """

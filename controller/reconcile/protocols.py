"""What the reconciler and its writers ask of the store and of the places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from flows.model.session import Dpid, SessionId


class Holdings(Protocol):
    """Who remembers which bridge may be making copies of which session."""

    def add(self, dpid: Dpid, sessions: Iterable[int]) -> None:
        """These sessions may be on a bridge from now on, beside those that are."""
        ...

    def replace(self, dpid: Dpid, sessions: Iterable[int]) -> None:
        """A bridge makes copies of these sessions alone."""
        ...

    def holders(self, session: int) -> frozenset[Dpid]:
        """The bridges that may be making copies of a session."""
        ...

    def bridges(self) -> frozenset[Dpid]:
        """The bridges that may be making copies of any session."""
        ...


class Deletions(Protocol):
    """What the reconciler tells the store."""

    def finish_deletions(self, sessions: Iterable[SessionId]) -> None:
        """No bridge has a flow of these sessions any more."""
        ...


class BridgeNames(Protocol):
    """What the reconciler asks the places."""

    def bridge_names(self) -> dict[Dpid, str]:
        """Every bridge that is, or was, known, with its name."""
        ...

    def bridge_name(self, dpid: Dpid) -> str:
        """The name of one bridge; its datapath id where nobody knows one."""
        ...


class BridgeMemory(Protocol):
    """Who remembers bridges over a restart."""

    def forget(self, dpid: Dpid, who: str) -> None:
        """Forget where the ports of a bridge were, and what it may be making copies of.

        Raises:
            CloudtapError: it cannot be written down; then nothing was forgotten.
        """
        ...

"""How one session stands in a world, before any switch was asked."""

from __future__ import annotations

from dataclasses import dataclass

from flows.errors import Refused
from flows.model.session import ALL, Collector, Mode, NetworkId, Port, Session


@dataclass(frozen=True, slots=True)
class Standing:
    """How one session stands in the world, before any switch was asked.

    ``watched`` are its source ports from which copies reach a sensor; ``taps`` the placed tap
    ports and ``collector`` the collector, if it is there; ``is_far`` when copies may have to cross
    a link to one of them; ``missing`` says in sentences what is not there, ``refused`` why nothing
    may be copied at all.
    """

    session: Session
    watched: tuple[Port, ...] = ()
    taps: tuple[Port, ...] = ()
    collector: Collector | None = None
    missing: tuple[str, ...] = ()
    refused: Refused | None = None
    is_far: bool = False

    @property
    def is_served(self) -> bool:
        """Whether at least one port can be watched and copies have a place to go."""
        has_sensor = self.collector is not None and (self.taps or self.collector.is_tunnelled)
        return bool(self.session.enabled and self.watched and has_sensor and not self.refused)

    @property
    def is_exclusive(self) -> bool:
        """Whether it competes with others for its packets."""
        return self.session.mode is Mode.EXCLUSIVE

    @property
    def is_plain(self) -> bool:
        """Whether it accepts every packet."""
        return self.session.filter == ALL

    @property
    def networks(self) -> frozenset[NetworkId]:
        """The networks of the ports that it watches."""
        return frozenset(port.network for port in self.watched if port.network is not None)

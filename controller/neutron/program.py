"""The program as its parent starts it, and what both know of each other's messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controller.process import ChildProgram

NeutronRecord = dict[str, Any]
"""One object as it is reported: strings, booleans and lists of strings."""

OBJECTS_MAX = 100_000
"""Most projects, networks and workloads each; of ports, so many that are no workloads besides."""

NEUTRON_PROGRAM = ChildProgram(
    name="process that asks Neutron", module="controller.neutron.main", max_message=4 << 20
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Whom to ask, and how: see NeutronConfig. ``projects`` limits what is reported; empty: all."""

    cloud: str
    region: str | None = None
    poll_seconds: float = 10.0
    timeout_seconds: float = 30.0
    projects: tuple[str, ...] = ()

    @property
    def look_seconds(self) -> float:
        """How long all requests of one look may take together, in seconds."""
        return 10 * self.timeout_seconds

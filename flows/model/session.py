"""Sessions: which packets of which source are copied to which collector, and within what limits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from flows.errors import InvalidValue
from flows.model.names import (
    ALL,
    CollectorId,
    FilterId,
    Label,
    NetworkId,
    PortId,
    SessionId,
    TenantName,
    check_name,
)
from flows.model.rate import Rate

SESSION_NUMBERS = range(1, 32767)
"""Numbers that a user may give to a session (evaluation order among exclusive sessions)."""
PACKET_LENGTHS = range(64, 65536)
"""Bytes to which a session may truncate its copies."""


class SourceKind(Enum):
    """How the source of a session is declared."""

    PORT = "port"
    """The ports of a list."""
    NETWORK = "network"
    """Every workload of some networks, future ones included."""
    TENANT = "tenant"
    """Every workload of the tenant, future ones included."""
    LABEL = "label"
    """Every workload of the tenant that has all the labels, future ones included."""


class Oversize(Enum):
    """What happens to a copy that is too long for the path to its sensor."""

    TRUNCATE = "truncate"
    """It is truncated to what fits."""
    SKIP = "skip"
    """It is not made, and counted as skipped."""


class Direction(Enum):
    """Which packets of a watched port are copied, seen from the workload."""

    INGRESS = "ingress"
    """What the workload receives."""
    EGRESS = "egress"
    """What the workload sends."""
    BOTH = "both"
    """What it sends and what it receives."""

    @property
    def is_egress(self) -> bool:
        """Whether what the workload sends is copied."""
        return self is not Direction.INGRESS

    @property
    def is_ingress(self) -> bool:
        """Whether what the workload receives is copied."""
        return self is not Direction.EGRESS

    def includes(self, one: Direction) -> bool:
        """Whether ``one`` of the two directions is copied."""
        return self in (one, Direction.BOTH)


class Mode(Enum):
    """Whether a session's copy of a packet excludes other sessions that watch the same port."""

    COPY = "copy"
    """No: every session gets its copy."""
    EXCLUSIVE = "exclusive"
    """Yes: of a port's exclusive sessions, only the first that accepts the packet copies it."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a session watches: ports, networks or labels, each once, or the whole tenant.

    Raises:
        InvalidValue: names do not belong to its kind, are missing, or stand twice.
    """

    ports: tuple[PortId, ...] = ()
    kind: SourceKind = SourceKind.PORT
    networks: tuple[NetworkId, ...] = ()
    labels: tuple[Label, ...] = ()

    def __post_init__(self) -> None:
        given = {
            SourceKind.PORT: self.ports,
            SourceKind.NETWORK: self.networks,
            SourceKind.LABEL: self.labels,
        }
        for kind, names in given.items():
            if kind is not self.kind and names:
                raise InvalidValue(f"a source of kind {self.kind.value} takes no {kind.value}s")
            if kind is self.kind and not names:
                raise InvalidValue(f"a session needs at least one source {kind.value}")
            if len(set(names)) != len(names):
                raise InvalidValue(f"a session names the same source {kind.value} twice")


@dataclass(frozen=True, slots=True)
class Session:
    """A tenant's request for copies: source, filter, collector, direction and limits.

    ``packet_length`` truncates each copy to so many bytes of the original frame; None truncates
    nothing. ``oversize`` applies to copies that do not fit the path to their sensor; ``max_rate``
    caps the copies of each bridge. Exclusive sessions are evaluated by ascending ``number``.

    Raises:
        InvalidValue: a name, the number or the packet length is not allowed.
    """

    id: SessionId
    name: str
    tenant: TenantName
    source: Source
    collector: CollectorId
    direction: Direction = Direction.BOTH
    number: int = 100
    enabled: bool = True
    filter: FilterId = ALL
    packet_length: int | None = None
    oversize: Oversize = Oversize.TRUNCATE
    max_rate: Rate | None = None
    mode: Mode = Mode.COPY

    def __post_init__(self) -> None:
        check_name("session", self.name)
        check_name("tenant", self.tenant)
        if self.number not in SESSION_NUMBERS:
            raise InvalidValue(
                f"session number {self.number} is outside "
                f"{SESSION_NUMBERS.start}..{SESSION_NUMBERS.stop - 1}"
            )
        if self.packet_length is not None and self.packet_length not in PACKET_LENGTHS:
            raise InvalidValue(
                f"packet length {self.packet_length} is outside "
                f"{PACKET_LENGTHS.start}..{PACKET_LENGTHS.stop - 1} bytes"
            )

"""The words of the contract as frozen values that refuse bad input: who owns, who watches whom.

Nothing here knows where a port runs, or how a switch is programmed: see world.py and compile/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import NewType

from netaddr import EUI, IPAddress

from flows.errors import InvalidValue

TenantName = NewType("TenantName", str)
NetworkId = NewType("NetworkId", str)
PortId = NewType("PortId", str)
CollectorId = NewType("CollectorId", str)
SessionId = NewType("SessionId", str)
FilterId = NewType("FilterId", str)
Dpid = NewType("Dpid", int)
Ofport = NewType("Ofport", int)

Label = tuple[str, str]
"""A name and a value that the inventory gives to a port."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
"""What a name or an id may be: 1 to 64 of letters, digits and ``. _ : -``."""

ALL = FilterId("all")
"""The built-in filter that accepts everything; it is no tenant's, and every tenant may use it."""

OFPORT_MAX = 0xFEFF
"""Highest OpenFlow port number of a real port that OVS hands out (OFPP_MAX of OpenFlow 1.0)."""

TAGS = range(1, 4095)
"""802.1Q ids that a copy may wear."""
PACKET_LENGTHS = range(64, 65536)
"""Bytes that a copy may be cut to."""

SESSION_NUMBERS = range(1, 32767)
"""Numbers a user may give to a session (evaluation order among exclusive sessions)."""


class PortKind(Enum):
    """What a port is for."""

    VM = "vm"
    """A workload: sends and receives production, can be watched."""
    TAP = "tap"
    """A tap port: receives copies and nothing else; what it sends is dropped."""


class SourceKind(Enum):
    """How a session says what it watches."""

    PORT = "port"
    """The ports of a list."""
    NETWORK = "network"
    """Every workload of some networks, future ones included."""
    TENANT = "tenant"
    """Every workload of the tenant, future ones included."""
    LABEL = "label"
    """Every workload of the tenant that has all the labels, future ones included."""


class TagMode(Enum):
    """When copies wear an 802.1Q tag of ours, if the collector names no number."""

    NONE = "none"
    """Never."""
    AUTO = "auto"
    """The tag of the packet's network, as soon as the tap port serves more than one network."""


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


def check_name(what: str, value: str) -> None:
    """Refuse a name or id that could not be shown, typed or put in a URL.

    Raises:
        InvalidValue: with a sentence that says what a name may be.
    """
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise InvalidValue(
            f"{what} {value!r} is not a name: use 1 to 64 letters, digits, '.', '_', ':' or '-', "
            "beginning with a letter or digit"
        )


@dataclass(frozen=True, slots=True)
class Network:
    """One isolated layer-2 segment of a tenant; addresses are unique at most inside it."""

    id: NetworkId
    name: str
    tenant: TenantName

    def __post_init__(self) -> None:
        check_name("network", self.name)
        check_name("tenant", self.tenant)


@dataclass(frozen=True, slots=True)
class Port:
    """One VM interface, or one tap port, wherever it runs now.

    ``id`` is what OVS holds in ``external_ids:iface-id``. ``mac`` may be unknown: then the
    data plane learns it, and the port cannot be protected against spoofing. ``ips`` may be
    empty: then only the MAC address is protected.
    """

    id: PortId
    name: str
    tenant: TenantName
    network: NetworkId | None
    kind: PortKind = PortKind.VM
    mac: EUI | None = None
    ips: tuple[IPAddress, ...] = ()
    anti_spoofing: bool = True
    labels: tuple[Label, ...] = ()

    def __post_init__(self) -> None:
        check_name("port id", self.id)
        check_name("port", self.name)
        check_name("tenant", self.tenant)
        if self.kind is PortKind.VM and self.network is None:
            raise InvalidValue(f"port {self.name!r} needs a network")
        if self.kind is PortKind.TAP and self.network is not None:
            raise InvalidValue(f"tap port {self.name!r} may not be in a network: it only receives")
        if self.kind is PortKind.VM and self.anti_spoofing and self.mac is None:
            raise InvalidValue(
                f"port {self.name!r} has no MAC address, so it cannot be protected against "
                "spoofing: give its `mac`, or say `anti_spoofing: false`"
            )
        if self.mac is not None and int(self.mac) >> 40 & 1:
            raise InvalidValue(f"port {self.name!r}: {self.mac} is a group address, not a MAC")

    @property
    def is_protected(self) -> bool:
        """Whether packets with a sender address that is not the port's own are dropped."""
        return self.kind is PortKind.VM and self.anti_spoofing


@dataclass(frozen=True, slots=True)
class Collector:
    """Where copies go: one tap port (a sensor) of the same tenant.

    ``tenant_tag`` is an 802.1Q id that every copy wears, or says when copies wear one.
    """

    id: CollectorId
    name: str
    tenant: TenantName
    sensors: tuple[PortId, ...]
    tenant_tag: TagMode | int = TagMode.NONE

    def __post_init__(self) -> None:
        check_name("collector", self.name)
        check_name("tenant", self.tenant)
        if isinstance(self.tenant_tag, int) and self.tenant_tag not in TAGS:
            raise InvalidValue(
                f"collector {self.name!r}: tenant tag {self.tenant_tag} is outside "
                f"{TAGS.start}..{TAGS.stop - 1}"
            )
        if len(self.sensors) != 1:
            raise InvalidValue(
                f"collector {self.name!r} has {len(self.sensors)} sensors: give one tap port"
            )

    @property
    def sensor(self) -> PortId:
        """The tap port that receives the copies."""
        return self.sensors[0]


@dataclass(frozen=True, slots=True)
class Source:
    """What a session watches: ports, networks or labels, each once, or the whole tenant."""

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
    """Source + filter + collector + direction: the wish of a tenant for copies.

    ``packet_length`` cuts each copy to so many bytes of the original frame; None cuts nothing.
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

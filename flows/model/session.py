"""The words of the contract as frozen values that refuse bad input: who owns, who watches whom.

Nothing here knows where a port runs, or how a switch is programmed: see world.py and compile/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import NewType

from netaddr import EUI, IPAddress

from flows.model.address import check_address
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

OFPORT_MAX = 0xFEFE
"""Highest OpenFlow port number that a port of ours may have: OVS hands out one more (OFPP_MAX of
OpenFlow 1.0), which flows use as the number of no port."""

TAGS = range(1, 4095)
"""802.1Q ids that a copy may wear."""
TAGGED_BYTES = 4
"""Bytes that an 802.1Q tag adds to a frame."""
PACKET_LENGTHS = range(64, 65536)
"""Bytes that a copy may be cut to."""

SENSORS_MAX = 64
"""Sensors of one collector: a pool has as many buckets."""
PATH_MTUS = range(576, 65536)
"""Bytes of the longest IP packet that a path may carry: RFC 791 demands the least."""
RATES = range(1, 1 << 32)
"""What a rate may be, in its unit."""

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
    """The tag of the packet's network, as soon as its sensor gets copies of more than one."""


class Delivery(Enum):
    """How copies reach their sensors."""

    PORT = "port"
    """To a tap port, as plain Ethernet frames."""
    VXLAN = "vxlan"
    """To a remote address, in VXLAN (UDP port 4789)."""
    GRE = "gre"
    """To a remote address, in GRE with a key."""
    ERSPAN2 = "erspan2"
    """To a remote address, in ERSPAN type II."""
    ERSPAN3 = "erspan3"
    """To a remote address, in ERSPAN type III."""
    GENEVE = "geneve"
    """To a remote address, in Geneve (UDP port 6081)."""


KEYS = {
    Delivery.VXLAN: range(1, 1 << 24),
    Delivery.GRE: range(1, 1 << 32),
    Delivery.ERSPAN2: range(1, 1 << 10),
    Delivery.ERSPAN3: range(1, 1 << 10),
    Delivery.GENEVE: range(1, 1 << 24),
}
"""The keys that each kind of tunnel may have (VNI, GRE key, ERSPAN session id)."""


class Balance(Enum):
    """What decides which sensor of a pool gets a packet; both directions get the same one."""

    CONNECTION = "connection"
    """Addresses, protocol and ports."""
    HOSTS = "hosts"
    """Addresses alone, so that fragments, which have no ports, reach the sensor of the others."""


class Oversize(Enum):
    """What happens to a copy that is too long for the path to its sensor."""

    TRUNCATE = "truncate"
    """It is cut to what fits."""
    SKIP = "skip"
    """It is not made, and counted as skipped."""


class RateUnit(Enum):
    """What a rate counts."""

    KBPS = "kbps"
    """Thousands of bits in a second."""
    PPS = "pps"
    """Packets in a second."""


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
    """What a session's copy of a packet means to the other sessions that watch the same port."""

    COPY = "copy"
    """Nothing: every session gets its copy."""
    EXCLUSIVE = "exclusive"
    """A packet of a port goes to the first of its exclusive sessions that accepts it."""


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
class Rate:
    """A cap: so many thousand bits, or packets, in a second."""

    unit: RateUnit
    value: int

    def __post_init__(self) -> None:
        if self.value not in RATES:
            allowed = f"{RATES.start}..{RATES.stop - 1}"
            raise InvalidValue(f"a rate of {self.value} {self.unit.value} is outside {allowed}")

    def __str__(self) -> str:
        return f"{self.value} {self.unit.value}"


Sensor = PortId | IPAddress
"""One receiving place: a tap port, or the address of a remote host."""


@dataclass(frozen=True, slots=True)
class Collector:
    """Where copies go: tap ports of the same tenant, or remote addresses, each a sensor.

    With several sensors each packet goes to one of them, as ``balance`` says. ``tenant_tag`` is an
    802.1Q id that every copy wears, or says when copies wear one. ``key`` is that of the tunnel;
    ``path_mtu``, in bytes, may say that the path to the sensors carries less than the hosts do.
    """

    id: CollectorId
    name: str
    tenant: TenantName
    sensors: tuple[Sensor, ...]
    tenant_tag: TagMode | int = TagMode.NONE
    delivery: Delivery = Delivery.PORT
    key: int | None = None
    balance: Balance = Balance.CONNECTION
    path_mtu: int | None = None

    def __post_init__(self) -> None:
        check_name("collector", self.name)
        check_name("tenant", self.tenant)
        self._check_sensors()
        if isinstance(self.tenant_tag, int) and self.tenant_tag not in TAGS:
            raise InvalidValue(
                f"collector {self.name!r}: tenant tag {self.tenant_tag} is outside "
                f"{TAGS.start}..{TAGS.stop - 1}"
            )
        if self.path_mtu is not None and (not self.is_tunnelled or self.path_mtu not in PATH_MTUS):
            raise InvalidValue(
                f"collector {self.name!r}: a path MTU is {PATH_MTUS.start}..{PATH_MTUS.stop - 1} "
                "bytes, and for tunnels only"
            )

    def _check_sensors(self) -> None:
        name, count = self.name, len(self.sensors)
        if not 1 <= count <= SENSORS_MAX:
            raise InvalidValue(
                f"collector {name!r} has {count} sensors: give 1 to {SENSORS_MAX} tap ports or "
                "addresses"
            )
        if len(set(self.sensors)) != count:
            raise InvalidValue(f"collector {name!r} names the same sensor twice")
        for sensor in self.sensors:
            if isinstance(sensor, IPAddress) is not self.is_tunnelled:
                wants = "an address" if self.is_tunnelled else "a tap port"
                what = f"a sensor of delivery {self.delivery.value!r} is {wants}"
                raise InvalidValue(f"collector {name!r}: {what}, which {str(sensor)!r} is not")
            if isinstance(sensor, IPAddress):
                check_address(f"collector {name!r}: sensor", sensor)
        keys = KEYS.get(self.delivery)
        if keys is None and self.key is not None:
            raise InvalidValue(f"collector {name!r}: delivery to a tap port has no key")
        if keys is not None and self.key not in keys:
            raise InvalidValue(
                f"collector {name!r}: a key of {self.delivery.value} is {keys.start}.."
                f"{keys.stop - 1}, which {self.key} is not"
            )

    @property
    def is_tunnelled(self) -> bool:
        """Whether copies go to a remote address."""
        return self.delivery is not Delivery.PORT

    @property
    def tap_ports(self) -> tuple[PortId, ...]:
        """The tap ports that receive the copies; none when they go through tunnels."""
        return tuple(PortId(s) for s in self.sensors if not isinstance(s, IPAddress))

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """The remote addresses that receive the copies."""
        return tuple(s for s in self.sensors if isinstance(s, IPAddress))


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
    ``oversize`` says what happens to copies that do not fit a tunnel's path; ``max_rate`` caps the
    copies of each bridge.
    ``number`` says when an exclusive session is asked: the lowest first.
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

"""Collectors: where copies go, and in what form."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from netaddr import IPAddress

from flows.errors import InvalidValue
from flows.model.address import check_address
from flows.model.names import CollectorId, PortId, TenantName, check_name
from flows.openflow import VLAN_IDS

SENSORS_MAX = 64
"""Most sensors of one collector: one for each bucket of a pool (see pool.py)."""
PATH_MTUS = range(576, 65536)
"""MTUs that a path may have, in bytes of an IP packet; 576 is the minimum of RFC 791."""


class TagMode(Enum):
    """When copies get an 802.1Q tag, for collectors that do not name its id."""

    NONE = "none"
    """Never."""
    AUTO = "auto"
    """The tag of the packet's network, as soon as its sensor gets copies of several networks."""


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


TUNNEL_KEYS = {
    Delivery.VXLAN: range(1, 1 << 24),
    Delivery.GRE: range(1, 1 << 32),
    Delivery.ERSPAN2: range(1, 1 << 10),
    Delivery.ERSPAN3: range(1, 1 << 10),
    Delivery.GENEVE: range(1, 1 << 24),
}
"""The keys that each kind of tunnel may have (VNI, GRE key, ERSPAN session id)."""


class Balance(Enum):
    """What is hashed to select the sensor of a pool; both directions select the same one."""

    CONNECTION = "connection"
    """Addresses, protocol and ports."""
    HOSTS = "hosts"
    """Addresses alone, so that fragments, which have no ports, reach the sensor of their packet."""


Sensor = PortId | IPAddress
"""One receiving place: a tap port, or the address of a remote host."""


@dataclass(frozen=True, slots=True)
class Collector:
    """Where copies go: tap ports of the same tenant, or remote addresses, each a sensor.

    With several sensors each packet goes to one of them, which ``balance`` selects. ``tenant_tag``
    is the 802.1Q id of every copy, or the mode that decides on it. ``key`` is that of the tunnel.
    ``path_mtu``, in bytes, is given when the path to the sensors has a smaller MTU than the hosts.

    Raises:
        InvalidValue: a name, a sensor, the tag, the key or the path MTU is not allowed.
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
        if isinstance(self.tenant_tag, int) and self.tenant_tag not in VLAN_IDS:
            raise InvalidValue(
                f"collector {self.name!r}: tenant tag {self.tenant_tag} is outside "
                f"{VLAN_IDS.start}..{VLAN_IDS.stop - 1}"
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
        keys = TUNNEL_KEYS.get(self.delivery)
        if keys is None and self.key is not None:
            raise InvalidValue(f"collector {name!r}: delivery to a tap port has no key")
        if keys is not None and self.key not in keys:
            raise InvalidValue(
                f"collector {name!r}: a key of {self.delivery.value} is {keys.start}.."
                f"{keys.stop - 1}, which {self.key} is not"
            )

    @property
    def is_tunnelled(self) -> bool:
        """Whether copies go to remote addresses, through tunnels."""
        return self.delivery is not Delivery.PORT

    @property
    def tap_ports(self) -> tuple[PortId, ...]:
        """The tap ports that receive the copies; none when they go through tunnels."""
        return tuple(PortId(s) for s in self.sensors if not isinstance(s, IPAddress))

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """The remote addresses that receive the copies."""
        return tuple(s for s in self.sensors if isinstance(s, IPAddress))


def receiving_places(collector: Collector) -> tuple[str, ...]:
    """Names of the receivers of copies: tap ports, and remote addresses.

    Deliveries and keys to one address are one place, because a sensor may ignore both: Suricata
    takes connections with equal addresses for one unless their tags differ.
    """
    return (*collector.tap_ports, *(f"at {address}" for address in collector.addresses))

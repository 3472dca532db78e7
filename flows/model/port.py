"""Networks and ports as the inventory declares them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from netaddr import EUI, IPAddress

from flows.errors import InvalidValue
from flows.model.names import Label, NetworkId, PortId, TenantName, check_name
from flows.openflow import is_group


class PortKind(Enum):
    """What a port is for."""

    VM = "vm"
    """A workload: sends and receives production, can be watched."""
    TAP = "tap"
    """A tap port: receives copies and nothing else; what it sends is dropped."""


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

    ``id`` is ``external_ids:iface-id`` of the interface in Open vSwitch. ``mac`` may be unknown:
    then switches learn it, and the port cannot be protected against spoofing. ``ips`` may be empty:
    then only the MAC address is protected.

    Raises:
        InvalidValue: a name, the MAC address or the network does not fit the kind of port.
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
        if self.mac is not None and is_group(int(self.mac)):
            raise InvalidValue(f"port {self.name!r}: {self.mac} is a group address, not a MAC")

    @property
    def is_protected(self) -> bool:
        """Whether anti-spoofing drops packets with source addresses that are not the port's own."""
        return self.kind is PortKind.VM and self.anti_spoofing

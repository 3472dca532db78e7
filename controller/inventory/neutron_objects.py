"""What Neutron has told, as an inventory: each object checked, whatever the order it came in."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar

from netaddr import AddrFormatError, IPAddress

from controller.inventory.schema import IPS_MAX
from controller.inventory.values import Inventory
from controller.neutron import OBJECTS_MAX, NeutronRecord
from controller.process import Yielder, visible
from flows.errors import InvalidValue
from flows.model import NAME, Network, NetworkId, Port, PortId, TenantName, parse_mac

KINDS = ("networks", "ports", "projects")
TITLE_MAX = 64
"""Characters of the name of a project that are shown."""
REFUSED_SHOWN = 5
"""So many objects that are not used are named."""

_T = TypeVar("_T", Network, Port)

Kept = Mapping[str, Mapping[str, NeutronRecord]]
"""Records by kind and id."""


@dataclass(frozen=True, slots=True)
class NeutronAnswer:
    """All that Neutron has at one moment; ``problems`` says what of it is not used, and why."""

    inventory: Inventory = field(default_factory=Inventory)
    problems: tuple[str, ...] = ()
    records: Kept = field(default_factory=dict)

    def digest(self) -> str:
        """Tells one answer from another."""
        found, yielder = hashlib.sha256(), Yielder()
        for kind, objects in self.records.items():
            for key in sorted(objects):
                yielder.pause()
                found.update(json.dumps([kind, key, objects[key]], sort_keys=True).encode())
        return found.hexdigest()[:16]


class NeutronObjects:
    """The objects that were told one by one; a new one replaces that with its id."""

    def __init__(self) -> None:
        self._records: dict[str, dict[str, NeutronRecord]] = {kind: {} for kind in KINDS}
        self._networks: dict[str, Network] = {}
        self._ports: dict[str, Port] = {}
        self._refused: dict[tuple[str, str], str] = {}

    def change(self, kind: str, key: str, record: NeutronRecord | None) -> None:
        """Take one object; None: it is gone.

        Raises:
            ValueError: there is no such kind, or there are too many objects of it.
        """
        if kind not in KINDS or len(self._records[kind]) > OBJECTS_MAX:
            raise ValueError(f"{kind!r} is no kind of object, or there are too many of it")
        self._records[kind].pop(key, None)
        checked: dict[str, dict[str, Any]] = {"networks": self._networks, "ports": self._ports}
        checked.get(kind, {}).pop(key, None)
        self._refused.pop((kind, key), None)
        if record is None:
            return
        self._records[kind][key] = record
        try:
            if kind == "networks":
                self._networks[key] = _network(key, record)
            elif kind == "ports":
                self._ports[key] = _port(key, record)
        except (InvalidValue, KeyError, TypeError, AddrFormatError) as error:
            why = str(error) if isinstance(error, InvalidValue) else "it is not complete"
            self._refused[kind, key] = f"{kind.removesuffix('s')} {visible(key)} is not used: {why}"

    def answer(self) -> NeutronAnswer:
        """Everything now."""
        refused = [self._refused[place] for place in sorted(self._refused)]
        networks: list[Network] = _named(self._networks)
        ports: list[Port] = []
        for port in _named(self._ports):
            if port.network in self._networks:
                ports.append(port)
            else:
                refused.append(f"port {port.id} is not used: its network is not known")
        ports = list(_without_equal_addresses(ports, refused))
        owners = {network.tenant for network in networks} | {port.tenant for port in ports}
        tenants = tuple(sorted(owners))
        inventory = Inventory(
            tenants=tenants,
            networks=tuple(networks),
            ports=tuple(ports),
            titles=MappingProxyType(self._titles(tenants)),
        )
        records = {kind: dict(objects) for kind, objects in self._records.items()}
        return NeutronAnswer(inventory, tuple(_shortened(refused)), records)

    def _titles(self, tenants: tuple[TenantName, ...]) -> dict[TenantName, str]:
        names = ((tenant, self._records["projects"].get(tenant, {})) for tenant in tenants)
        found = ((tenant, record.get("name")) for tenant, record in names)
        return {t: visible(name[:TITLE_MAX]) for t, name in found if isinstance(name, str) and name}


def _network(key: str, record: NeutronRecord) -> Network:
    return Network(NetworkId(key), _plain(record["name"], key), TenantName(record["project"]))


def _port(key: str, record: NeutronRecord) -> Port:
    mac = parse_mac(record["mac"], separators=":")
    ips = tuple(IPAddress(text) for text in record["ips"])
    is_protected = record["is_protected"] is True and len(ips) <= IPS_MAX
    return Port(
        PortId(key),
        _plain(record["name"], key),
        TenantName(record["project"]),
        NetworkId(record["network"]),
        mac=mac,
        ips=ips[:IPS_MAX],
        anti_spoofing=is_protected,
    )


def _plain(name: str, key: str) -> str:
    """The name of an object if it can be one of ours, else its id."""
    return name if NAME.fullmatch(name) else key


def _named(objects: Mapping[str, _T]) -> list[_T]:
    """All objects by id; one whose name another of its tenant has is called by its id."""
    count, yielder = Counter((one.tenant, one.name) for one in objects.values()), Yielder()
    found = []
    for key in sorted(objects):
        yielder.pause()
        one = objects[key]
        is_clear = count[one.tenant, one.name] == 1 and one.name not in objects
        found.append(one if is_clear or one.name == key else replace(one, name=key))
    return found


def _without_equal_addresses(ports: list[Port], refused: list[str]) -> Iterator[Port]:
    """The ports whose MAC address is theirs alone in their network."""
    count = Counter((port.network, port.mac) for port in ports if port.mac is not None)
    for port in ports:
        if port.mac is None or count[port.network, port.mac] <= 1:
            yield port
        else:
            refused.append(
                f"port {port.id} is not used: another of its network has its MAC address"
            )


def _shortened(refused: list[str]) -> Iterator[str]:
    yield from (f"Neutron: {sentence}" for sentence in refused[:REFUSED_SHOWN])
    if len(refused) > REFUSED_SHOWN:
        yield f"Neutron: {len(refused) - REFUSED_SHOWN} more objects are not used"

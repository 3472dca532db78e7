"""One inventory of two: what the file declares, and what Neutron knows.

The file wins: it is what the operator of the controller says. Where both speak of one object and do
not agree, a sentence says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from controller.inventory.values import Inventory
from controller.process import Yielder
from flows.model import Network, Port

CONFLICTS_SHOWN = 5
"""So many contradictions are told in full."""


def merge(file: Inventory, neutron: Inventory) -> tuple[Inventory, tuple[str, ...]]:
    """Everything of both, and a sentence for each contradiction."""
    conflicts: list[str] = []
    networks = (*file.networks, *_other_networks(file, neutron, conflicts))
    ports = (*file.ports, *_other_ports(file, neutron, conflicts))
    whole = replace(
        file,
        tenants=tuple(dict.fromkeys((*file.tenants, *neutron.tenants))),
        networks=networks,
        ports=ports,
        titles=neutron.titles,
    )
    more = len(conflicts) - CONFLICTS_SHOWN
    told = conflicts[:CONFLICTS_SHOWN]
    if more > 0:
        told.append(f"{more} more objects of the inventory file are others in Neutron")
    return whole, tuple(told)


def _other_networks(file: Inventory, neutron: Inventory, conflicts: list[str]) -> Iterator[Network]:
    """The networks that only Neutron knows."""
    declared = {network.id: network for network in file.networks}
    taken = {(network.tenant, network.name) for network in file.networks}
    for network in neutron.networks:
        own = declared.get(network.id)
        if own is None:
            is_taken = (network.tenant, network.name) in taken
            yield replace(network, name=network.id) if is_taken else network
        elif own.tenant != network.tenant:
            conflicts.append(
                f"network {network.id} is of tenant {own.tenant!r} in the inventory file, and of "
                f"project {network.tenant!r} in Neutron: the file counts"
            )


def _other_ports(file: Inventory, neutron: Inventory, conflicts: list[str]) -> Iterator[Port]:
    """The ports that only Neutron knows, and that are in nobody's way."""
    declared = {port.id: port for port in file.ports}
    taken = {(port.tenant, port.name) for port in file.ports}
    macs = {(port.network, port.mac) for port in file.ports if port.mac is not None}
    yielder = Yielder()
    for port in neutron.ports:
        yielder.pause()
        own = declared.get(port.id)
        if own is not None:
            if differing := _differing(own, port):
                conflicts.append(
                    f"port {port.id} has another {differing} in Neutron than in the inventory "
                    "file: the file counts"
                )
        elif (port.network, port.mac) in macs:
            conflicts.append(
                f"port {port.id} of Neutron is not used: a port of the inventory file has its MAC "
                "address in its network"
            )
        else:
            is_taken = (port.tenant, port.name) in taken
            yield replace(port, name=port.id) if is_taken else port


def _differing(own: Port, port: Port) -> str:
    """What of a port is not the same, in words; empty if all is that both say."""
    pairs = {
        "tenant": (own.tenant, port.tenant),
        "network": (own.network, port.network),
        "MAC address": (own.mac or port.mac, port.mac),
    }
    return " and ".join(word for word, (ours, theirs) in pairs.items() if ours != theirs)

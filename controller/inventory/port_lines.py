"""Lines for the list `ports` of an inventory, for interfaces that are in none.

What only a person can know stays a word in capitals, like TENANT: `inventory check` refuses it as
long as no tenant is called so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection

from netaddr import EUI, mac_unix_expanded

from controller.inventory.values import InterfaceName, Inventory
from flows.model import NAME

ASK_TENANT, ASK_NETWORK = "TENANT", "NETWORK"
"""What a person has to replace."""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./@-]*", re.ASCII)
_ODD = re.compile(r"[^A-Za-z0-9._:-]", re.ASCII)
_ID_MAX = 64
_WORDS = frozenset(["null", "true", "false", "yes", "no", "on", "off", "y", "n"])
"""Words that YAML may read as something else than a text."""


def port_line(
    inventory: Inventory, place: InterfaceName, iface_id: str | None, mac: EUI | None
) -> str:
    """A line that declares an interface as a workload; a comment if it cannot be declared.

    The tenant is filled in if there is only one, and so is the network.
    """
    tenants = list(inventory.tenants)
    tenant = tenants[0] if len(tenants) == 1 else ASK_TENANT
    networks = [network.name for network in inventory.networks if network.tenant == tenant]
    network = networks[0] if len(networks) == 1 else ASK_NETWORK
    taken = {port.id for port in inventory.ports}
    if iface_id is not None and not NAME.fullmatch(iface_id):
        return (
            f"# {quoted(place.interface)} of {quoted(place.bridge)}: its external_ids:iface-id "
            f"{json.dumps(iface_id)} cannot be the id of a port: give it another one"
        )
    values = {"id": iface_id or free_id(place, taken), "tenant": tenant, "network": network}
    return flow_line(values | place_values(place, iface_id, mac))


def place_values(place: InterfaceName, iface_id: str | None, mac: EUI | None) -> dict[str, str]:
    """The keys that say where a port is, and its MAC address if that is known.

    An interface with an ``iface-id`` is found by that alone, wherever it is.
    """
    found: dict[str, str] = {}
    if mac is not None:
        found["mac"] = shown_mac(mac)
    if iface_id is None:
        found |= {"interface": place.interface, "bridge": place.bridge}
    return found


def free_id(place: InterfaceName, taken: Collection[str]) -> str:
    """An id for the port at an interface that no other port has."""
    for name in (place.interface, f"{place.bridge}-{place.interface}"):
        text = _ODD.sub("-", name)[:_ID_MAX]
        if NAME.fullmatch(text) and text not in taken:
            return text
    number = 1
    while (text := f"port-{number}") in taken:
        number += 1
    return text


def flow_line(values: dict[str, str]) -> str:
    """An entry of a list in one line of YAML."""
    pairs = ", ".join(f"{key}: {quoted(value)}" for key, value in values.items())
    return f"- {{{pairs}}}"


def quoted(text: str) -> str:
    """A text as YAML reads it back."""
    is_plain = _PLAIN.fullmatch(text) and text.casefold() not in _WORDS
    return text if is_plain else json.dumps(text)


def shown_mac(mac: EUI) -> str:
    """A MAC address like ``02:00:00:00:00:01``."""
    return str(EUI(mac, dialect=mac_unix_expanded))

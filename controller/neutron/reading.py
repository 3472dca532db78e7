"""One look at Neutron: all its networks and workloads, whole or not at all.

Requests go through openstacksdk, which knows clouds.yaml, the catalogue, and when a token must be
renewed. What Neutron answers is checked here: an answer that is not what it should be must not look
like an empty cloud.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from keystoneauth1.adapter import Adapter

from controller.neutron.program import OBJECTS_MAX, NeutronRecord

PAGE = 1000
"""So many objects are asked for at a time."""
PORT_ADDRESSES_MAX = 4096
"""Most fixed IP addresses, and most allowed address pairs, of one port."""
ADDRESS_MAX = 64
"""Longest text of an IP address, in characters."""
OBJECT_TEXT_MAX = 1024
"""Longest text of an object, in characters."""
COMPUTE_OWNER = "compute:"
"""How ``device_owner`` begins if a port belongs to a virtual machine."""
FIELDS_OF_PORTS = (
    *("id", "name", "project_id", "network_id", "mac_address", "device_owner"),
    *("fixed_ips", "allowed_address_pairs", "port_security_enabled"),
)
FORBIDDEN = 403

CloudRecords = dict[str, dict[str, NeutronRecord]]
"""Objects by kind and id."""


class BadAnswer(Exception):
    """An answer is not what it should be; a clause says what is wrong."""


def read_cloud(network: Adapter, identity: Adapter, projects: Collection[str]) -> CloudRecords:
    """Everything, by kind and id; of ``projects`` only, if there are any.

    Networks are read after ports, so that the network of a port that was just made is known.

    Raises:
        BadAnswer: see there.
        Exception: what openstacksdk and its libraries raise.
    """
    ports = {
        key: _port(port)
        for key, port in _pages(network, "ports", FIELDS_OF_PORTS)
        if _text(port, "device_owner").startswith(COMPUTE_OWNER) and _is_wanted(port, projects)
    }
    networks = {
        key: {"name": _text(one, "name"), "project": _text(one, "project_id")}
        for key, one in _pages(network, "networks", ("id", "name", "project_id"))
        if _text(one, "project_id")
    }
    for what, found in (("workloads", ports), ("networks", networks)):
        if len(found) > OBJECTS_MAX:
            raise BadAnswer(f"there are more than {OBJECTS_MAX} {what}")
    if projects:
        used = {port["network"] for port in ports.values()}
        networks = {k: n for k, n in networks.items() if k in used or n["project"] in projects}
    return {"networks": networks, "ports": ports, "projects": _projects(identity, projects)}


def _projects(identity: Adapter, wanted: Collection[str]) -> dict[str, NeutronRecord]:
    """The names of projects; none if we may not list them."""
    answer = identity.get("/projects", raise_exc=False)
    if answer.status_code == FORBIDDEN:
        return {}
    found = _listed(_checked(answer, "projects"), "projects")
    if len(found) > OBJECTS_MAX:
        raise BadAnswer(f"there are more than {OBJECTS_MAX} projects")
    names = ((_text(one, "id"), {"name": _text(one, "name")}) for one in found)
    return {key: name for key, name in names if not wanted or key in wanted}


def _pages(
    network: Adapter, kind: str, fields: tuple[str, ...]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All objects of a kind with their ids, page by page."""
    marker: dict[str, str] = {}
    seen: set[str] = set()
    while True:
        query = {"limit": PAGE, "sort_key": "id", "sort_dir": "asc", "fields": fields, **marker}
        body = _checked(network.get(f"/{kind}", params=query, raise_exc=False), kind)
        found = _listed(body, kind)
        has_more = _has_next(body, kind)
        if has_more and not found:
            raise BadAnswer(f"a page of {kind} is empty, and more should follow")
        for one in found:
            key = _text(one, "id")
            if not key or key in seen:
                raise BadAnswer(f"{kind} come without an id, or twice")
            seen.add(key)
            if len(seen) > 2 * OBJECTS_MAX:
                raise BadAnswer(f"there are more than {2 * OBJECTS_MAX} {kind}")
            yield key, one
        if not has_more:
            return
        marker = {"marker": _text(found[-1], "id")}


def _checked(answer: Any, kind: str) -> Mapping[str, Any]:
    """The JSON object of an answer."""
    if answer.status_code != 200:
        raise BadAnswer(f"the request for {kind} was answered with status {answer.status_code}")
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise BadAnswer(f"the answer to the request for {kind} is not a JSON object")
    return body


def _listed(body: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    found = body.get(kind)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise BadAnswer(f"the answer to the request for {kind} has no list of {kind}")
    return found


def _has_next(body: Mapping[str, Any], kind: str) -> bool:
    links = body.get(f"{kind}_links", [])
    if not isinstance(links, list):
        raise BadAnswer(f"the links of a page of {kind} are not a list")
    return any(isinstance(link, dict) and link.get("rel") == "next" for link in links)


# --- ports --------------------------------------------------------------------------------------


def _is_wanted(port: Mapping[str, Any], projects: Collection[str]) -> bool:
    return not projects or _text(port, "project_id") in projects


def _port(port: Mapping[str, Any]) -> NeutronRecord:
    """A workload as it is reported: see ``_addresses`` for what protects it."""
    mac = _text(port, "mac_address").lower()
    ips, are_all = _addresses(port, mac)
    security = port.get("port_security_enabled")
    if security is not None and not isinstance(security, bool):
        raise BadAnswer("`port_security_enabled` of a port is neither true nor false")
    return {
        "name": _text(port, "name"),
        "project": _text(port, "project_id"),
        "network": _text(port, "network_id"),
        "mac": mac,
        "ips": ips,
        "is_protected": security is not False and are_all,
    }


def _addresses(port: Mapping[str, Any], mac: str) -> tuple[list[str], bool]:
    """The IP addresses of a port in order, and whether these with its MAC address are all.

    Neutron also allows whole networks, and other MAC addresses. We cannot: such a port is not
    protected, rather than kept from sending what it may send.
    """
    found, are_all = set(), True
    for fixed in _list_of(port, "fixed_ips"):
        found.add(_text(fixed, "ip_address"))
    for pair in _list_of(port, "allowed_address_pairs"):
        address, _, length = _text(pair, "ip_address").partition("/")
        is_one = length in ("", "128" if ":" in address else "32")
        if not is_one or _text(pair, "mac_address").lower() not in ("", mac):
            are_all = False
        else:
            found.add(address)
    if any(len(address) > ADDRESS_MAX for address in found):
        raise BadAnswer("an IP address of a port is none")
    return sorted(found), are_all


def _list_of(port: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = port.get(key) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise BadAnswer(f"`{key}` of a port is not a list of objects")
    if len(found) > PORT_ADDRESSES_MAX:
        raise BadAnswer(f"`{key}` of a port has more than {PORT_ADDRESSES_MAX} entries")
    return found


def _text(values: Mapping[str, Any], key: str) -> str:
    """A text of an object; empty if it has none."""
    found = values.get(key)
    if found is None:
        return ""
    if not isinstance(found, str) or len(found) > OBJECT_TEXT_MAX:
        raise BadAnswer(
            f"`{key}` of an object is not a text of at most {OBJECT_TEXT_MAX} characters"
        )
    return found

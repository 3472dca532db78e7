"""What an inventory file may declare, and the sentences for what it may not."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass

from netaddr import EUI, AddrFormatError, IPAddress, mac_unix_expanded

from controller.inventory.yaml_lines import Item, Problem
from flows.errors import InvalidValue
from flows.model.session import (
    NAME,
    Label,
    Network,
    NetworkId,
    Port,
    PortId,
    PortKind,
    TenantName,
    check_name,
)

PAUSE_AFTER = 100
"""Ports that are read before other threads may run."""
NETWORK_NAMESPACE = uuid.UUID("7d0a2c53-5b0e-4f0a-9f6b-2f8f7a1f6c11")
"""Namespace of the ids of networks: uuid5 of ``tenant/name``, the same in every run."""

_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}")
_INTERFACE = re.compile(r"[!-~]{1,64}")


@dataclass(frozen=True, slots=True, order=True)
class InterfaceName:
    """One interface of one bridge, by name."""

    bridge: str
    interface: str


@dataclass(frozen=True, slots=True)
class PortHint:
    """Where the file says a port is; ``bridge`` only tells interfaces of one name apart."""

    bridge: str | None = None
    interface: str | None = None


@dataclass(frozen=True, slots=True)
class LinkHint:
    """A cable between two bridges, by interface names."""

    a: InterfaceName
    b: InterfaceName


class Reader:
    """Collects what an inventory declares, and every problem on the way."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.tenants: dict[TenantName, None] = {}
        self.networks: dict[NetworkId, Network] = {}
        self.ports: dict[PortId, Port] = {}
        self.hints: dict[PortId, PortHint] = {}
        self.links: list[LinkHint] = []
        self._network_by_name: dict[tuple[str, str], Network] = {}
        self._seen: dict[tuple[str, ...], int] = {}
        self._users: dict[str, list[tuple[str | None, str, int]]] = {}

    def read(self, item: Item) -> None:
        """Read the whole file."""
        top = self._mapping(item, "the inventory", {"tenants", "networks", "ports", "links"})
        for tenant in self._list(top, "tenants"):
            self._guarded(self._tenant, tenant)
        for network in self._list(top, "networks"):
            self._guarded(self._network, network)
        for number, port in enumerate(self._list(top, "ports")):
            if number % PAUSE_AFTER == 0:
                time.sleep(0)
            self._guarded(self._port, port)
        for link in self._list(top, "links"):
            self._guarded(self._link, link)

    def _guarded(self, read: Callable[[Item], None], item: Item) -> None:
        try:
            read(item)
        except InvalidValue as error:
            self._problem(item.line, str(error))

    def _tenant(self, item: Item) -> None:
        name = item.value
        if not isinstance(name, str):
            self._problem(item.line, "a tenant is a name, like `tenants: [red, blue]`")
            return
        check_name("tenant", name)
        self._once(item.line, f"tenant {name!r}", "tenant", name)
        self.tenants[TenantName(name)] = None

    def _network(self, item: Item) -> None:
        values = self._mapping(item, "a network", {"name", "tenant", "id"}, {"name", "tenant"})
        name, tenant = self._text(values, "name"), self._text(values, "tenant")
        if name is None or tenant is None:
            return
        what = f"network {name!r}"
        self._known_tenant(values["tenant"].line, what, tenant)
        key = self._text(values, "id") or str(uuid.uuid5(NETWORK_NAMESPACE, f"{tenant}/{name}"))
        check_name("network id", key)
        network = Network(NetworkId(key), name, TenantName(tenant))
        is_new = self._once(item.line, f"{what} of tenant {tenant!r}", "network", tenant, name)
        if is_new and self._once(item.line, f"network id {key!r}", "network id", key):
            self.networks[network.id] = network
            self._network_by_name[tenant, name] = network

    def _port(self, item: Item) -> None:
        allowed = {"id", "name", "tenant", "network", "kind", "mac", "ips", "anti_spoofing"}
        allowed |= {"bridge", "interface", "labels"}
        values = self._mapping(item, "a port", allowed, {"id", "tenant"})
        key, tenant = self._text(values, "id"), self._text(values, "tenant")
        if key is None or tenant is None:
            return
        name = self._text(values, "name") or key
        what = f"port {name!r}"
        self._known_tenant(values["tenant"].line, what, tenant)
        before = len(self.problems)
        kind = self._kind(values, what)
        network = self._network_of(values, what, tenant)
        mac = self._mac(values, what)
        ips = self._ips(values, what)
        anti_spoofing = self._flag(values, what, "anti_spoofing", default=mac is not None)
        labels = self._labels(values, what)
        if kind is PortKind.TAP:
            self._nothing_of_a_workload(values, what)
        if len(self.problems) > before:
            return
        port = Port(
            PortId(key), name, TenantName(tenant), network, kind, mac, ips, anti_spoofing, labels
        )
        self._once(item.line, f"port id {key!r}", "port id", key)
        self._once(item.line, f"{what} of tenant {tenant!r}", "port", tenant, name)
        if mac is not None and network is not None:
            line = values["mac"].line
            self._once(line, f"{what}: MAC {str(mac)!r} in its network", "mac", network, str(mac))
        self.ports[port.id] = port
        self._hint(port.id, values, what)

    def _hint(self, port: PortId, values: dict[str, Item], what: str) -> None:
        bridge = self._place(values, what, "bridge")
        interface = self._place(values, what, "interface")
        if interface is None:
            if bridge is not None:
                self._problem(values["bridge"].line, f"{what}: `bridge` needs `interface` with it")
            return
        self._use(values["interface"].line, bridge, interface, what)
        self.hints[port] = PortHint(bridge, interface)

    def _link(self, item: Item) -> None:
        values = self._mapping(item, "a link", {"from", "to"}, {"from", "to"})
        ends: list[InterfaceName] = []
        for side in ("from", "to"):
            if side not in values:
                continue
            both = {"bridge", "interface"}
            end = self._mapping(values[side], f"`{side}` of a link", both, both)
            bridge = self._place(end, "a link", "bridge")
            interface = self._place(end, "a link", "interface")
            if bridge is not None and interface is not None:
                ends.append(InterfaceName(bridge, interface))
        if len(ends) != 2:
            return
        a, b = ends
        if a.bridge == b.bridge:
            self._problem(item.line, f"a link joins bridge {a.bridge!r} to itself")
            return
        for end_name in ends:
            self._use(item.line, end_name.bridge, end_name.interface, "a link")
        self.links.append(LinkHint(a, b))

    # --- one field each ---------------------------------------------------------------------

    def _kind(self, values: dict[str, Item], what: str) -> PortKind:
        text = self._text(values, "kind")
        if text is None:
            return PortKind.VM
        try:
            return PortKind(text)
        except ValueError:
            self._problem(values["kind"].line, f"{what}: kind {text!r} is neither `vm` nor `tap`")
            return PortKind.VM

    def _network_of(self, values: dict[str, Item], what: str, tenant: str) -> NetworkId | None:
        name = self._text(values, "network")
        if name is None:
            return None
        found = self._network_by_name.get((tenant, name)) or self.networks.get(NetworkId(name))
        if found is None:
            self._problem(
                values["network"].line, f"{what}: tenant {tenant!r} has no network {name!r}"
            )
            return None
        if found.tenant != tenant:
            self._problem(
                values["network"].line,
                f"{what} of tenant {tenant!r} may not be in network {name!r}, "
                f"which belongs to tenant {found.tenant!r}",
            )
        return found.id

    def _mac(self, values: dict[str, Item], what: str) -> EUI | None:
        text = self._text(values, "mac")
        if text is None:
            return None
        if _MAC.fullmatch(text):
            mac = EUI(text, dialect=mac_unix_expanded)
            if int(mac):
                return mac
        self._problem(
            values["mac"].line,
            f"{what}: MAC {text!r} is not an address: write six bytes like 02:00:00:00:00:01",
        )
        return None

    def _ips(self, values: dict[str, Item], what: str) -> tuple[IPAddress, ...]:
        found: list[IPAddress] = []
        for item in self._list(values, "ips"):
            try:
                ip = IPAddress(item.value) if isinstance(item.value, str) else None
            except (AddrFormatError, ValueError):
                ip = None
            if ip is None or ip.is_multicast() or not int(ip) or ip == IPAddress("255.255.255.255"):
                shown = item.value if isinstance(item.value, str) else "this"
                self._problem(item.line, f"{what}: {shown!r} is not the IP address of a port")
            elif ip in found:
                self._problem(item.line, f"{what}: IP address {str(ip)!r} is given twice")
            else:
                found.append(ip)
        return tuple(found)

    def _labels(self, values: dict[str, Item], what: str) -> tuple[Label, ...]:
        item = values.get("labels")
        if item is None or item.value is None:
            return ()
        if not isinstance(item.value, dict):
            self._problem(item.line, f"{what}: labels are written like `labels: {{tier: web}}`")
            return ()
        found: dict[str, str] = {}
        for key, value in item.value.items():
            if not isinstance(value.value, str):
                self._problem(value.line, f"{what}: label {key!r} needs one word as its value")
            elif not NAME.fullmatch(key) or not NAME.fullmatch(value.value):
                self._problem(
                    value.line,
                    f"{what}: label {key!r}: {value.value!r} is not made of names: use 1 to 64 "
                    "letters, digits, '.', '_', ':' or '-', beginning with a letter or digit",
                )
            else:
                found[key] = value.value
        return tuple(sorted(found.items()))

    def _flag(self, values: dict[str, Item], what: str, key: str, *, default: bool) -> bool:
        text = self._text(values, key)
        if text is None:
            return default
        if text.lower() not in ("true", "false"):
            self._problem(values[key].line, f"{what}: {key} is {text!r}: say true or false")
        return text.lower() == "true"

    def _place(self, values: dict[str, Item], what: str, key: str) -> str | None:
        text = self._text(values, key)
        if text is not None and not _INTERFACE.fullmatch(text):
            self._problem(
                values[key].line,
                f"{what}: {key} {text!r} is not a name: use 1 to 64 visible ASCII characters",
            )
            return None
        return text

    def _nothing_of_a_workload(self, values: dict[str, Item], what: str) -> None:
        for key in ("network", "ips", "anti_spoofing", "labels"):
            if key in values and values[key].value is not None:
                self._problem(
                    values[key].line,
                    f"tap {what} may not have `{key}`: it only receives copies",
                )

    # --- shapes and uniqueness --------------------------------------------------------------

    def _known_tenant(self, line: int, what: str, tenant: str) -> None:
        if tenant not in self.tenants:
            self._problem(line, f"{what}: tenant {tenant!r} is not in the list `tenants`")

    def _use(self, line: int, bridge: str | None, interface: str, what: str) -> None:
        """Refuse an interface that something else has; without a bridge it may be any."""
        users = self._users.setdefault(interface, [])
        for other, by, at in users:
            if bridge is None or other is None or bridge == other:
                self._problem(
                    line, f"{what}: interface {interface!r} is already used by {by} in line {at}"
                )
                return
        users.append((bridge, what, line))

    def _once(self, line: int, what: str, *key: str) -> bool:
        if key in self._seen:
            self._problem(line, f"{what} is already declared in line {self._seen[key]}")
            return False
        self._seen[key] = line
        return True

    def _mapping(
        self, item: Item, what: str, allowed: Set[str], needed: Set[str] = frozenset()
    ) -> dict[str, Item]:
        if not isinstance(item.value, dict):
            self._problem(
                item.line, f"{what} is written as keys and values: {', '.join(sorted(allowed))}"
            )
            return {}
        for key, value in item.value.items():
            if key not in allowed:
                self._problem(
                    value.line, f"{what} has no key {key!r}; keys: {', '.join(sorted(allowed))}"
                )
        for key in sorted(needed):
            if key not in item.value or item.value[key].value is None:
                self._problem(item.line, f"{what} needs `{key}`")
        return item.value

    def _list(self, values: dict[str, Item], key: str) -> Iterator[Item]:
        item = values.get(key)
        if item is None or item.value is None:
            return
        if not isinstance(item.value, list):
            self._problem(item.line, f"`{key}` is written as a list")
            return
        yield from item.value

    def _text(self, values: dict[str, Item], key: str) -> str | None:
        item = values.get(key)
        if item is None or item.value is None:
            return None
        if not isinstance(item.value, str):
            self._problem(item.line, f"`{key}` is one value, not a list or mapping")
            return None
        return item.value

    def _problem(self, line: int, sentence: str) -> None:
        self.problems.append(Problem(line, sentence))

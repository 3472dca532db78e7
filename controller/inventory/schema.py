"""The schema of an inventory file: reads its YAML into values, and collects every problem."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Set

from netaddr import EUI, AddrFormatError, IPAddress

from controller.inventory.values import DeclaredBridge, InterfaceName, LinkHint, PortHint
from controller.inventory.yaml_lines import Item, Problems
from controller.process import Yielder
from flows.errors import InvalidValue
from flows.model import (
    NAME,
    BridgeReference,
    Dpid,
    Label,
    Network,
    NetworkId,
    Port,
    PortId,
    PortKind,
    TenantName,
    check_name,
    parse_mac,
)

IPS_MAX = 256
"""Most IP addresses of one port: each is a flow of its bridge."""
LABELS_MAX = 64
"""Most labels of one port."""
NETWORK_NAMESPACE = uuid.UUID("7d0a2c53-5b0e-4f0a-9f6b-2f8f7a1f6c11")
"""Namespace of the ids of networks: uuid5 of ``tenant/name``, the same in every run."""

KEYS: Mapping[str, frozenset[str]] = {
    "networks": frozenset({"name", "tenant", "id"}),
    "ports": frozenset(
        {"id", "name", "tenant", "network", "kind", "mac", "ips", "anti_spoofing"}
        | {"bridge", "interface", "labels"}
    ),
    "links": frozenset({"from", "to"}),
    "bridges": frozenset({"datapath_id", "name", "host", "certificate", "database"}),
}
"""The keys that entries of each list may have; `tenants` is a list of names."""

_INTERFACE = re.compile(r"[!-~]{1,64}")


class InventoryShape:
    """The shape of an inventory: see yaml_lines.load."""

    def has_key(self, key: object) -> bool:
        """Whether an inventory may have this key."""
        return key == "tenants" or key in KEYS

    def fits(self, key: str, entry: Item) -> bool:
        """Whether an entry of the list ``key`` has the form of one; its values do not matter."""
        if key == "tenants":
            return isinstance(entry.value, str)
        return isinstance(entry.value, dict) and entry.value.keys() <= KEYS.get(key, frozenset())


class Reader:
    """Reads one inventory: the declared objects by id, and every problem with its line."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self.tenants: dict[TenantName, None] = {}
        self.networks: dict[NetworkId, Network] = {}
        self.ports: dict[PortId, Port] = {}
        self.hints: dict[PortId, PortHint] = {}
        self.links: list[LinkHint] = []
        self.bridges: dict[Dpid, DeclaredBridge] = {}
        self._network_by_name: dict[tuple[str, str], Network] = {}
        self._lines: dict[tuple[str, ...], int] = {}
        self._claims: dict[str, dict[str | None, tuple[str, int]]] = {}
        self._yielder = Yielder()

    def read(self, item: Item) -> None:
        """Read a whole document; call it once.

        Raises:
            TooManyProblems: see Problems.
        """
        top = self._mapping(item, "the inventory", {"tenants", *KEYS})
        for tenant in self._take(top, "tenants"):
            self._guarded(self._tenant, tenant)
        for network in self._take(top, "networks"):
            self._guarded(self._network, network)
        for port in self._take(top, "ports"):
            self._guarded(self._port, port)
        for link in self._take(top, "links"):
            self._guarded(self._link, link)
        for bridge in self._take(top, "bridges"):
            self._guarded(self._bridge, bridge)

    def _guarded(self, read: Callable[[Item], None], item: Item) -> None:
        self._yielder.pause()
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
        self._declare(item.line, f"tenant {name!r}", "tenant", name)
        self.tenants[TenantName(name)] = None

    def _network(self, item: Item) -> None:
        values = self._mapping(item, "a network", KEYS["networks"], {"name", "tenant"})
        name, tenant = self._text(values, "name"), self._text(values, "tenant")
        if name is None or tenant is None:
            return
        what = f"network {name!r}"
        self._check_tenant(values["tenant"].line, what, tenant)
        key = self._text(values, "id") or str(uuid.uuid5(NETWORK_NAMESPACE, f"{tenant}/{name}"))
        check_name("network id", key)
        network = Network(NetworkId(key), name, TenantName(tenant))
        is_new = self._declare(item.line, f"{what} of tenant {tenant!r}", "network", tenant, name)
        if is_new and self._declare(item.line, f"network id {key!r}", "network id", key):
            self.networks[network.id] = network
            self._network_by_name[tenant, name] = network

    def _port(self, item: Item) -> None:
        values = self._mapping(item, "a port", KEYS["ports"], {"id", "tenant"})
        key, tenant = self._text(values, "id"), self._text(values, "tenant")
        if key is None or tenant is None:
            return
        name = self._text(values, "name") or key
        what = f"port {name!r}"
        self._check_tenant(values["tenant"].line, what, tenant)
        before = self._problems.count
        kind = self._kind(values, what)
        network = self._network_of(values, what, tenant)
        mac = self._mac(values, what)
        ips = self._ips(values, what)
        anti_spoofing = self._boolean(values, what, "anti_spoofing", default=mac is not None)
        labels = self._labels(values, what)
        if kind is PortKind.TAP:
            self._check_tap(values, what)
        if self._problems.count > before:
            return
        port = Port(
            PortId(key), name, TenantName(tenant), network, kind, mac, ips, anti_spoofing, labels
        )
        self._declare(item.line, f"port id {key!r}", "port id", key)
        self._declare(item.line, f"{what} of tenant {tenant!r}", "port", tenant, name)
        if mac is not None and network is not None:
            line = values["mac"].line
            self._declare(
                line, f"{what}: MAC {str(mac)!r} in its network", "mac", network, str(mac)
            )
        self.ports[port.id] = port
        self._hint(port.id, values, what)

    def _hint(self, port: PortId, values: dict[str, Item], what: str) -> None:
        bridge = self._interface_name(values, what, "bridge")
        interface = self._interface_name(values, what, "interface")
        if interface is None:
            if bridge is not None:
                self._problem(values["bridge"].line, f"{what}: `bridge` needs `interface` with it")
            return
        self._claim(values["interface"].line, bridge, interface, what)
        self.hints[port] = PortHint(bridge, interface)

    def _link(self, item: Item) -> None:
        values = self._mapping(item, "a link", KEYS["links"], {"from", "to"})
        ends: list[InterfaceName] = []
        for side in ("from", "to"):
            if side not in values:
                continue
            both = {"bridge", "interface"}
            end = self._mapping(values[side], f"`{side}` of a link", both, both)
            bridge = self._interface_name(end, "a link", "bridge")
            interface = self._interface_name(end, "a link", "interface")
            if bridge is not None and interface is not None:
                ends.append(InterfaceName(bridge, interface))
        if len(ends) != 2:
            return
        a, b = ends
        if a.bridge == b.bridge:
            self._problem(
                item.line,
                f"a link joins bridge {a.bridge!r} to itself: if two hosts have bridges of this "
                f"name, write the hosts, too, like {a.bridge}@HOST",
            )
            return
        for end_name in ends:
            self._claim(item.line, end_name.bridge, end_name.interface, "a link")
        self.links.append(LinkHint(a, b))

    def _bridge(self, item: Item) -> None:
        values = self._mapping(item, "a bridge", KEYS["bridges"], {"datapath_id"})
        text = self._text(values, "datapath_id")
        dpid = BridgeReference(text).dpid if text is not None else None
        if text is None or dpid is None:
            if text is not None:
                self._problem(
                    values["datapath_id"].line,
                    f"a bridge: {text!r} is not a datapath id: write it like 0x51, or with 16 "
                    "hexadecimal digits",
                )
            return
        what = f"bridge {text}"
        name = self._interface_name(values, what, "name")
        host = self._interface_name(values, what, "host")
        is_new = self._declare(item.line, f"datapath id {text}", "datapath id", f"{dpid:016x}")
        if name is not None:
            key = ("bridge", name, host or "")
            is_new &= self._declare(item.line, f"bridge {name!r} of this host", *key)
        if is_new:
            words = (self._text(values, key) for key in ("certificate", "database"))
            self.bridges[dpid] = DeclaredBridge(dpid, name, host, *words)

    # --- fields -----------------------------------------------------------------------------

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
        mac = parse_mac(text, separators=":-")
        if mac is not None and int(mac):
            return mac
        self._problem(
            values["mac"].line,
            f"{what}: MAC {text!r} is not an address: write six bytes like 02:00:00:00:00:01",
        )
        return None

    def _ips(self, values: dict[str, Item], what: str) -> tuple[IPAddress, ...]:
        found: dict[IPAddress, None] = {}
        for number, item in enumerate(self._list(values, "ips")):
            if number == IPS_MAX:
                self._problem(item.line, f"{what}: more than {IPS_MAX} IP addresses")
                break
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
                found[ip] = None
        return tuple(found)

    def _labels(self, values: dict[str, Item], what: str) -> tuple[Label, ...]:
        item = values.get("labels")
        if item is None or item.value is None:
            return ()
        if not isinstance(item.value, dict):
            self._problem(item.line, f"{what}: labels are written like `labels: {{tier: web}}`")
            return ()
        if len(item.value) > LABELS_MAX:
            self._problem(item.line, f"{what}: more than {LABELS_MAX} labels")
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

    def _boolean(self, values: dict[str, Item], what: str, key: str, *, default: bool) -> bool:
        text = self._text(values, key)
        if text is None:
            return default
        if text.lower() not in ("true", "false"):
            self._problem(values[key].line, f"{what}: {key} is {text!r}: say true or false")
        return text.lower() == "true"

    def _interface_name(self, values: dict[str, Item], what: str, key: str) -> str | None:
        text = self._text(values, key)
        if text is not None and not _INTERFACE.fullmatch(text):
            self._problem(
                values[key].line,
                f"{what}: {key} {text!r} is not a name: use 1 to 64 visible ASCII characters",
            )
            return None
        return text

    def _check_tap(self, values: dict[str, Item], what: str) -> None:
        for key in ("network", "ips", "anti_spoofing", "labels"):
            if key in values and values[key].value is not None:
                self._problem(
                    values[key].line,
                    f"tap {what} may not have `{key}`: it only receives copies",
                )

    # --- structure and uniqueness -----------------------------------------------------------

    def _check_tenant(self, line: int, what: str, tenant: str) -> None:
        if tenant not in self.tenants:
            self._problem(line, f"{what}: tenant {tenant!r} is not in the list `tenants`")

    def _claim(self, line: int, bridge: str | None, interface: str, what: str) -> None:
        """Record who uses an interface; a problem if another does. Without a bridge it is any."""
        claims = self._claims.setdefault(interface, {})
        if bridge is None:
            other = next(iter(claims.values()), None)
        else:
            other = claims.get(bridge) or claims.get(None)
        if other is not None:
            by, at = other
            self._problem(
                line, f"{what}: interface {interface!r} is already used by {by} in line {at}"
            )
            return
        claims[bridge] = (what, line)

    def _declare(self, line: int, what: str, *key: str) -> bool:
        """Record where a key is declared; False, and a problem, if it was declared before."""
        if key in self._lines:
            self._problem(line, f"{what} is already declared in line {self._lines[key]}")
            return False
        self._lines[key] = line
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

    def _take(self, values: dict[str, Item], key: str) -> Iterator[Item]:
        """The items of a list, which are not kept: they take more memory than what is made of
        them."""
        left = list(self._list(values, key))
        values.pop(key, None)
        left.reverse()
        while left:
            yield left.pop()

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
        self._problems.add(line, sentence)

"""A first inventory for bridges that run already, with a comment wherever a person must decide.

Nothing is guessed silently: what is taken from the bridge is a line, and what it cannot tell (who
owns a port, which one is an uplink or a tap port) is a line in comments that begins with DECIDE. As
it is, the draft keeps what the bridges do now: whoever shares a VLAN shares a network.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from netaddr import EUI

from controller.inventory.port_lines import flow_line, free_id, place_values, quoted, shown_mac
from controller.inventory.values import InterfaceName
from flows.model import NAME

UNDECIDED = "undecided"
"""The tenant of everything until somebody decides."""
ADDRESSES_NAMED = 3
"""So many of the MAC addresses of one port are named in a comment."""
NO_CARD_DRIVERS = frozenset(["", "dummy", "openvswitch", "tap", "tun", "veth"])
"""Drivers of devices that are no network card (``driver_name`` in ``status`` of Interface)."""


@dataclass(frozen=True, slots=True)
class SeenInterface:
    """One interface of a bridge, as its database and its host tell.

    ``mac`` is that of the workload, as the hypervisor has noted it; ``learned`` are those that the
    bridge has learned. ``peer`` is the name of the other end of a patch port or veth pair, if that
    is known. ``gets_copies``: a Mirror of Open vSwitch sends to it.
    """

    bridge: str
    name: str
    type: str = ""
    iface_id: str | None = None
    mac: EUI | None = None
    learned: tuple[EUI, ...] = ()
    peer: str = ""
    driver: str = ""
    error: str = ""
    tag: int | None = None
    is_trunk: bool = False
    is_bonded: bool = False
    is_tunnel: bool = False
    is_ours: bool = False
    gets_copies: bool = False

    @property
    def place(self) -> InterfaceName:
        """Its bridge and its name."""
        return InterfaceName(self.bridge, self.name)

    def __str__(self) -> str:
        return f"{self.name!r} of bridge {self.bridge!r}"


@dataclass(frozen=True, slots=True)
class Sight:
    """Some bridges of one host, by name; ``bridge_of`` says which bridge any interface is on.

    ``source`` is where this was read. ``knows_learned``: whether learned addresses could be read.
    """

    source: str
    bridges: Mapping[str, Sequence[SeenInterface]]
    bridge_of: Mapping[str, str] = field(default_factory=dict)
    knows_learned: bool = True


def draft(sight: Sight, tenant: str = "") -> str:
    """The text of an inventory for some bridges; without a ``tenant`` its name must be decided."""
    return "\n".join(_Draft(sight, tenant or UNDECIDED, is_decided=bool(tenant)).lines()) + "\n"


class _Draft:
    def __init__(self, sight: Sight, tenant: str, *, is_decided: bool) -> None:
        self._sight, self._tenant, self._is_decided = sight, tenant, is_decided
        self._all = [i for interfaces in sight.bridges.values() for i in interfaces]
        counts = Counter(i.iface_id for i in self._all if i.iface_id is not None)
        self._shared_ids = {iface_id for iface_id, count in counts.items() if count > 1}
        self._links = list(self._find_links())
        self._ends = {end for pair in self._links for end in (pair[0].place, pair[1].place)}
        self._segment = self._find_segments()
        self._ids: set[str] = set()
        self._macs: defaultdict[str, set[EUI]] = defaultdict(set)
        self._networks: dict[str, str] = {}

    def lines(self) -> Iterator[str]:
        """The draft, line by line."""
        ports = [line for name in self._sight.bridges for line in self._bridge(name)]
        yield from self._head()
        hint = "" if self._is_decided else "  # DECIDE: who owns the ports? One name for each owner"
        yield f"tenants: [{quoted(self._tenant)}]{hint}"
        yield "networks:" if self._networks else "networks: []"
        for network, what in self._networks.items():
            yield f"  {flow_line({'name': network, 'tenant': self._tenant})}  # {what}"
        is_empty = not any(line.lstrip().startswith("- ") for line in ports)
        yield "ports: []" if is_empty else "ports:"
        yield from ports
        if self._links:
            yield "links:"
        for a, b in self._links:
            ends = ", ".join(
                f"{side}: {{bridge: {quoted(i.bridge)}, interface: {quoted(i.name)}}}"
                for side, i in (("from", a), ("to", b))
            )
            kind = "patch ports" if a.type == "patch" else "a veth pair"
            yield f"  - {{{ends}}}  # {kind}"

    def _head(self) -> Iterator[str]:
        names = ", ".join(self._sight.bridges)
        yield f"# Draft of an inventory for {names}, read from {self._sight.source}."
        yield "# As it is, whoever shares a VLAN shares a network. Look at each line with DECIDE;"
        yield "# a line without # in front is in force, all others are not. A tap port is written"
        yield "# {id: ..., tenant: ..., kind: tap, interface: ..., bridge: ...}, without a network."
        yield "# Add `ips: [...]` to keep a workload from sending with other IP addresses."
        if not self._sight.knows_learned:
            yield "# The addresses that the bridges have learned could not be read: that works on"
            yield "# their host only. A port without `mac` is found by what it sends."

    # --- ports ------------------------------------------------------------------------------------

    def _bridge(self, name: str) -> Iterator[str]:
        yield f"  # bridge {name}"
        for interface in self._sight.bridges[name]:
            if interface.place in self._ends or interface.is_ours:
                continue
            yield from self._port(interface)

    def _port(self, seen: SeenInterface) -> Iterator[str]:
        if seen.is_tunnel and not seen.iface_id:
            yield f"  # {seen.name}: a {seen.type} tunnel: what comes from it is no workload"
            return
        if seen.type == "patch" or seen.peer in self._sight.bridge_of:
            yield f"  # {seen.name}: {self._cable(seen)}"
            return
        doubt = _doubt(seen)
        if seen.iface_id in self._shared_ids:
            doubt = f"which one? Several interfaces have external_ids:iface-id {seen.iface_id!r}"
        if seen.gets_copies:
            values = {"id": self._id(seen), "tenant": self._tenant, "kind": "tap"}
            yield "  # DECIDE: a tap port? A Mirror of the bridge sends its copies there"
            yield f"  # {flow_line(values | place_values(seen.place, seen.iface_id, None))}"
        elif doubt:
            yield f"  # DECIDE: {doubt}"
            yield f"  # {self._workload(seen, None)}"
        else:
            mac, why = self._mac(seen)
            yield f"  {self._workload(seen, mac)}{f'  # {why}' if why else ''}"

    def _cable(self, seen: SeenInterface) -> str:
        """What is to be said of a cable to a bridge that is not in the draft."""
        kind = "patch port" if seen.type == "patch" else "veth pair"
        other = self._sight.bridge_of.get(seen.peer)
        if other is None:
            return f"a {kind} to {seen.peer!r}, which is on no bridge of this host"
        return (
            f"DECIDE: a {kind} to {seen.peer!r} of bridge {other!r}: if workloads reach each "
            "other through it, name that bridge in the draft, too"
        )

    def _workload(self, seen: SeenInterface, mac: EUI | None) -> str:
        values = {"id": self._id(seen), "tenant": self._tenant, "network": self._network(seen)}
        return flow_line(values | place_values(seen.place, self._iface_id(seen), mac))

    def _iface_id(self, seen: SeenInterface) -> str | None:
        is_usable = seen.iface_id is not None and NAME.fullmatch(seen.iface_id)
        return seen.iface_id if is_usable else None

    def _id(self, seen: SeenInterface) -> str:
        found = self._iface_id(seen) or free_id(seen.place, self._ids)
        self._ids.add(found)
        return found

    def _network(self, seen: SeenInterface) -> str:
        """The network of a VLAN, of the bridges that are linked."""
        name = "lan" if seen.tag is None else f"vlan-{seen.tag}"
        what = "ports without a VLAN tag" if seen.tag is None else f"ports with tag {seen.tag}"
        segment = self._segment[seen.bridge]
        if len(set(self._segment.values())) > 1:
            name, what = f"{name}-{segment}", f"{what} of {self._members(segment)}"
        if not NAME.fullmatch(name):
            name = free_id(InterfaceName("network", name), self._networks)
        self._networks.setdefault(name, what)
        return name

    def _members(self, segment: str) -> str:
        return ", ".join(bridge for bridge, at in self._segment.items() if at == segment)

    def _mac(self, seen: SeenInterface) -> tuple[EUI | None, str]:
        """The MAC address of a workload, and what is to be said of it."""
        mac, why = seen.mac, ""
        if mac is None and len(seen.learned) == 1:
            mac = seen.learned[0]
            why = "DECIDE: is this MAC address its own? The bridge has learned no other one there"
        if mac is not None and mac in self._macs[self._network(seen)]:
            return None, f"DECIDE: {shown_mac(mac)} is that of another port, too"
        if mac is not None:
            self._macs[self._network(seen)].add(mac)
        return mac, why

    # --- links ------------------------------------------------------------------------------------

    def _find_links(self) -> Iterator[tuple[SeenInterface, SeenInterface]]:
        """The pairs of interfaces that name each other as their peers, on different bridges."""
        by_name = {interface.name: interface for interface in self._all}
        for one in self._all:
            other = by_name.get(one.peer)
            if other is None or other.peer != one.name or other.type != one.type:
                continue
            if one.bridge != other.bridge and one.place < other.place:
                yield one, other

    def _find_segments(self) -> dict[str, str]:
        """For each bridge the first of those that it is linked with."""
        found = {name: name for name in self._sight.bridges}
        for a, b in self._links:
            old, new = found[b.bridge], found[a.bridge]
            found = {name: new if at == old else at for name, at in found.items()}
        return found


def _doubt(seen: SeenInterface) -> str:
    """Why an interface may be no workload; empty if nothing says so."""
    if seen.iface_id is not None and not NAME.fullmatch(seen.iface_id):
        return f"external_ids:iface-id {seen.iface_id!r} cannot be an id: give it another one"
    if seen.is_bonded:
        return f"{seen.name!r} is part of a bond: an uplink? Bonds cannot be workloads"
    if seen.driver not in NO_CARD_DRIVERS or seen.type in ("dpdk", "afxdp"):
        return f"an uplink? {seen.name!r} is a network card ({seen.driver or seen.type})"
    if seen.is_trunk:
        return f"an uplink? {seen.name!r} carries several VLANs"
    if len(seen.learned) > 1:
        some = ", ".join(shown_mac(mac) for mac in seen.learned[:ADDRESSES_NAMED])
        return f"an uplink, or a router? {len(seen.learned)} addresses were learned there ({some})"
    if seen.error:
        return f"is it still needed? Open vSwitch could not open it: {seen.error}"
    return ""

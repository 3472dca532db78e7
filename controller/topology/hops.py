"""What is known of every port as a hop of copies: its MTU, rate, and settings that stop packets."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

from controller.southbound import LOCAL_PORT, PortChange, PortReason, SwitchPort
from controller.southbound.ovsdb import Device, InterfaceRow, OvsdbSnapshot
from flows.model import OFPORT_MAX, Dpid, Hop, Link, Ofport, Placement, PortId, Setting

HopsOfBridge = dict[Placement, Hop]


class Hops:
    """Collects what bridges (OpenFlow) and databases report of ports, from any thread.

    Settings of OpenFlow come from the bridge, everything else from its database. What was reported
    last counts while either is out of reach.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ports: dict[Dpid, dict[int, SwitchPort]] = {}
        self._names: dict[Dpid, str] = {}
        self._rows: dict[Dpid, tuple[InterfaceRow, ...]] = {}
        self._by_number: dict[Dpid, dict[int, InterfaceRow]] = {}
        self._bridges: dict[Dpid, tuple[str, bool]] = {}
        """The name of each bridge that a database reports, and whether its switch is restoring."""
        self._by_dpid: dict[Dpid, HopsOfBridge] = {}
        self._version = 0
        self._asked: tuple[int, Mapping[PortId, Placement], Sequence[Link]] = -1, {}, ()
        self._known: Mapping[Placement, Hop] = {}

    def report_ports(self, dpid: Dpid, ports: Iterable[SwitchPort]) -> bool:
        """A bridge has reported all its ports; whether something else is known now."""
        found = {port.ofport: port for port in ports}
        with self._lock:
            local = found.pop(LOCAL_PORT, None)
            if local is not None:
                self._names[dpid] = local.name
            self._ports[dpid] = {n: p for n, p in found.items() if 1 <= n <= OFPORT_MAX}
            return self._refresh(dpid)

    def report_port(self, dpid: Dpid, change: PortChange) -> bool:
        """A port was added, deleted or modified; whether something else is known now."""
        number = change.port.ofport
        if not 1 <= number <= OFPORT_MAX:
            return False
        with self._lock:
            ports = self._ports.setdefault(dpid, {})
            if change.reason is PortReason.DELETED:
                ports.pop(number, None)
            else:
                ports[number] = change.port
            return self._refresh_port(dpid, number)

    def report_interfaces(self, snapshot: OvsdbSnapshot) -> bool:
        """The databases have changed; whether something else is known now."""
        rows = {key[0]: found for key, found in snapshot.by_bridge.items()}
        bridges = {row.dpid: (row.name, row.is_restoring) for row in snapshot.bridges}
        with self._lock:
            before = self._rows
            changed = [
                dpid
                for dpid in bridges.keys() | self._bridges.keys()
                if bridges.get(dpid) != self._bridges.get(dpid)
                or rows.get(dpid) is not before.get(dpid)
            ]
            self._rows, self._bridges = rows, bridges
            for dpid in changed:
                self._by_number.pop(dpid, None)
                if dpid in rows:
                    self._by_number[dpid] = {int(r.ofport): r for r in rows[dpid] if r.ofport}
            return True in [self._refresh(dpid) for dpid in changed]

    def forget(self, dpid: Dpid) -> bool:
        """Forget what a bridge has reported over OpenFlow; whether something else is known now."""
        with self._lock:
            self._ports.pop(dpid, None)
            self._names.pop(dpid, None)
            return self._refresh(dpid)

    def known(
        self, placements: Mapping[PortId, Placement], links: Sequence[Link]
    ) -> Mapping[Placement, Hop]:
        """What is known of these ports and ends of links; the same value until that changes.

        Nothing else concerns the world: a bridge may report any number of ports.
        """
        with self._lock:
            version, placed, linked = self._asked
            if version != self._version or placed is not placements or linked is not links:
                self._asked = self._version, placements, links
                ends = (end for link in links for end in (link.a, link.b))
                places = dict.fromkeys((*placements.values(), *ends))
                found = {p: self._by_dpid.get(p.dpid, {}).get(p) for p in places}
                known = {place: hop for place, hop in found.items() if hop is not None}
                if known != self._known:
                    self._known = known
            return self._known

    def _refresh(self, dpid: Dpid) -> bool:
        """Compute the hops of a bridge again; whether they differ. With the lock held."""
        numbers = self._by_number.get(dpid, {}).keys() | self._ports.get(dpid, {}).keys()
        found = {number: self._hop_at(dpid, number) for number in numbers}
        hops = {Placement(dpid, Ofport(n)): hop for n, hop in found.items() if hop is not None}
        if hops == self._by_dpid.get(dpid, {}):
            return False
        if hops:
            self._by_dpid[dpid] = hops
        else:
            del self._by_dpid[dpid]
        self._version += 1
        return True

    def _refresh_port(self, dpid: Dpid, number: int) -> bool:
        """The same for one port: what it costs does not grow with the ports of its bridge."""
        place, hop = Placement(dpid, Ofport(number)), self._hop_at(dpid, number)
        hops = self._by_dpid.get(dpid, {})
        if hops.get(place) == hop:
            return False
        if hop is not None:
            self._by_dpid.setdefault(dpid, hops)[place] = hop
        else:
            del hops[place]
            if not hops:
                del self._by_dpid[dpid]
        self._version += 1
        return True

    def _hop_at(self, dpid: Dpid, number: int) -> Hop | None:
        row = self._by_number.get(dpid, {}).get(number)
        port = self._ports.get(dpid, {}).get(number)
        if row is None and port is None:
            return None
        name, is_restoring = self._bridges.get(dpid, (self._names.get(dpid, ""), False))
        settings = set(() if port is None else port.settings)
        if is_restoring:
            settings.add(Setting.RESTORING)
        interface = row.name if row is not None else port.name if port is not None else ""
        device = Device() if row is None else row.device
        return _hop(name, interface, device, settings, dpid in self._bridges)


def _hop(
    bridge: str, interface: str, device: Device, settings: set[Setting], is_reported: bool
) -> Hop:
    if device.is_protected:
        settings.add(Setting.PROTECTED)
    if device.is_blocked:
        settings.add(Setting.NOT_FORWARDING)
    return Hop(
        bridge=bridge,
        interface=interface,
        mtu=device.mtu,
        longest=None if device.takes_any_length else device.mtu,
        rate_kbps=device.rate_kbps,
        settings=frozenset(settings),
        is_reported=is_reported,
        truncates=not device.is_patch,
    )

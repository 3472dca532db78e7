"""What is known of every port as a hop of copies: its MTU, rate, and settings that stop packets."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from controller.southbound import LOCAL_PORT, PortChange, PortReason, SwitchPort
from controller.southbound.ovsdb import Device, InterfaceRow, OvsdbSnapshot
from flows.model import OFPORT_MAX, Dpid, Hop, Ofport, Placement, Setting

HopsOfBridge = Mapping[Placement, Hop]


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
        self._bridges: dict[Dpid, tuple[str, bool]] = {}
        """The name of each bridge that a database reports, and whether its switch is restoring."""
        self._by_dpid: dict[Dpid, HopsOfBridge] = {}
        self._all: Mapping[Placement, Hop] | None = {}

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
            return self._refresh(dpid)

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
            return True in [self._refresh(dpid) for dpid in changed]

    def forget(self, dpid: Dpid) -> bool:
        """Forget what a bridge has reported over OpenFlow; whether something else is known now."""
        with self._lock:
            self._ports.pop(dpid, None)
            self._names.pop(dpid, None)
            return self._refresh(dpid)

    def known(self) -> Mapping[Placement, Hop]:
        """What is known of every port; the same value again until something else is reported."""
        with self._lock:
            if self._all is None:
                self._all = {p: hop for hops in self._by_dpid.values() for p, hop in hops.items()}
            return self._all

    def _refresh(self, dpid: Dpid) -> bool:
        """Compute the hops of a bridge again; whether they differ. With the lock held."""
        hops = self._hops_of(dpid)
        if hops == self._by_dpid.get(dpid, {}):
            return False
        if hops:
            self._by_dpid[dpid] = hops
        else:
            del self._by_dpid[dpid]
        self._all = None
        return True

    def _hops_of(self, dpid: Dpid) -> HopsOfBridge:
        name, is_restoring = self._bridges.get(dpid, (self._names.get(dpid, ""), False))
        by_number = {int(row.ofport): row for row in self._rows.get(dpid, ()) if row.ofport}
        ports = self._ports.get(dpid, {})
        found: dict[Placement, Hop] = {}
        for number in by_number.keys() | ports.keys():
            row, port = by_number.get(number), ports.get(number)
            settings = set(() if port is None else port.settings)
            if is_restoring:
                settings.add(Setting.RESTORING)
            place = Placement(dpid, Ofport(number))
            interface = row.name if row is not None else port.name if port is not None else ""
            device = Device() if row is None else row.device
            found[place] = _hop(name, interface, device, settings, dpid in self._bridges)
        return found


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

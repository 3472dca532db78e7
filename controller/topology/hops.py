"""What is known of every port as a hop of copies: its MTU, rate, and settings that stop packets."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

from controller.southbound import LOCAL_PORT, PortChange, PortReason, SwitchPort
from controller.southbound.ovsdb import (
    Device,
    InterfaceRow,
    OvsdbSnapshot,
    segmenter_of,
    tunnel_name,
)
from controller.topology.attachments import Tap, seen_from_tap
from flows.model import (
    OFPORT_MAX,
    Datapath,
    Dpid,
    Hop,
    Offloads,
    Ofport,
    PairState,
    Placement,
    Segmenter,
    Setting,
    TunnelKind,
    datapath_of,
)

HopsOfBridge = dict[Placement, Hop]
PortNumbers = Mapping[Dpid, Set[int]]
"""The numbers of ports, by the bridge that has them."""
NO_TAPS: Mapping[Dpid, Tap] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Bridge:
    """What a port has from its bridge; ``is_reported``: a database reports it."""

    name: str = ""
    is_restoring: bool = False
    is_kernel: bool = False
    is_here: bool = False
    is_reported: bool = True


class Hops:
    """Collects what bridges (OpenFlow) and databases report of ports, from any thread.

    Settings of OpenFlow come from the bridge, everything else from its database. What was reported
    last counts while either is out of reach. A report of one port costs the same on a bridge with
    any number of them. Everything is known by the bridge that has it, and told of a bridge that is
    tapped as its tap bridge has it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ports: dict[Dpid, dict[int, SwitchPort]] = {}
        self._names: dict[Dpid, str] = {}
        self._rows: dict[Dpid, tuple[InterfaceRow, ...]] = {}
        self._by_number: dict[Dpid, dict[int, InterfaceRow]] = {}
        """The rows of each bridge whose ports have numbers."""
        self._bridges: dict[Dpid, _Bridge] = {}
        """The bridges that databases report."""
        self._offloads: Mapping[Placement, Offloads] = {}
        """What was seen of the devices of tap ports on this host."""
        self._datapaths: Mapping[Dpid, Datapath] = {}
        self._segmenters: dict[Dpid, Segmenter] = {}
        self._pairs: Mapping[Dpid, PairState] = {}
        """What was seen of the devices of segmenting pairs on this host."""
        self._by_dpid: dict[Dpid, HopsOfBridge] = {}
        self._known: Mapping[Placement, Hop] = {}
        self._is_outdated = False
        self._wanted: PortNumbers | None = None
        """The ports of which somebody wants to know; None: all."""
        self._taps = NO_TAPS

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
        bridges = {
            row.dpid: _Bridge(row.name, row.is_restoring, row.is_kernel, row.is_here)
            for row in snapshot.bridges
        }
        kinds = ((row.dpid, datapath_of(row.datapath_type)) for row in snapshot.bridges)
        datapaths = {dpid: kind for dpid, kind in kinds if kind is not None}
        with self._lock:
            before, has_changed = self._rows, datapaths != self._datapaths
            if has_changed:
                self._datapaths = datapaths
            changed = [
                dpid
                for dpid in bridges.keys() | self._bridges.keys()
                if bridges.get(dpid) != self._bridges.get(dpid)
                or rows.get(dpid) is not before.get(dpid)
            ]
            self._rows, self._bridges = rows, bridges
            for dpid in changed:
                numbered = {int(row.ofport): row for row in rows.get(dpid, ()) if row.ofport}
                self._by_number[dpid] = numbered
                if not numbered:
                    del self._by_number[dpid]
            has_changed |= self._take_pairs(changed)
            return True in [has_changed, *(self._refresh(dpid) for dpid in changed)]

    def _take_pairs(self, changed: Iterable[Dpid]) -> bool:
        """Look for the segmenting pairs of bridges again; whether one differs. With the lock
        held.
        """
        before = dict(self._segmenters)
        for dpid in changed:
            self._segmenters.pop(dpid, None)
            pair = segmenter_of(self._rows.get(dpid, ()))
            if pair is not None:
                state = _pair_state(self._bridges.get(dpid), pair.state, self._pairs.get(dpid))
                self._segmenters[dpid] = replace(pair, state=state)
        return before != self._segmenters

    def report_pairs(self, states: Mapping[Dpid, PairState]) -> bool:
        """This was seen of the devices of segmenting pairs on this host; whether something else is
        known now.
        """
        with self._lock:
            before, self._pairs = self._pairs, states
            return before is not states and self._take_pairs(before.keys() | states.keys())

    def datapaths(self, wanted: PortNumbers) -> Mapping[Dpid, Datapath]:
        """The datapaths of some bridges, as far as databases report them."""
        with self._lock:
            known = self._datapaths
            return {dpid: known[dpid] for dpid in wanted if dpid in known}

    def segmenters(self, wanted: PortNumbers) -> Mapping[Dpid, Segmenter]:
        """The segmenting pairs of some bridges; a port where something is placed is no end."""
        with self._lock:
            found = {dpid: self._segmenters[dpid] for dpid in wanted if dpid in self._segmenters}
            return {
                dpid: pair
                for dpid, pair in found.items()
                if wanted[dpid].isdisjoint((pair.out, pair.back))
            }

    def report_offloads(self, offloads: Mapping[Placement, Offloads]) -> bool:
        """This was seen of the devices of tap ports on this host; whether something else is known
        now.
        """
        with self._lock:
            before, self._offloads = self._offloads, offloads
            if before is offloads:
                return False
            changed = {
                place
                for place in before.keys() | offloads.keys()
                if before.get(place) is not offloads.get(place)
            }
            return True in [self._refresh_port(place.dpid, place.ofport) for place in changed]

    def forget(self, dpid: Dpid) -> bool:
        """Forget what a bridge has reported over OpenFlow; whether something else is known now."""
        with self._lock:
            self._ports.pop(dpid, None)
            self._names.pop(dpid, None)
            return self._refresh(dpid)

    def known(
        self, wanted: PortNumbers | None = None, taps: Mapping[Dpid, Tap] = NO_TAPS
    ) -> Mapping[Placement, Hop]:
        """What is known of some ports, and of those for tunnels on their bridges; None: of all.

        ``taps`` are the tap bridges by the bridges of others. The same value again until something
        else is known of these.
        """
        with self._lock:
            if self._is_outdated or wanted is not self._wanted or taps != self._taps:
                self._wanted, self._taps, self._is_outdated = wanted, taps, False
                hops = self._hops_wanted(wanted)
                found = {seen_from_tap(taps, place): hop for place, hop in hops}
                self._known = self._known if found == self._known else found
            return self._known

    def _hops_wanted(self, wanted: PortNumbers | None) -> Iterator[tuple[Placement, Hop]]:
        for dpid in self._by_dpid if wanted is None else wanted:
            hops = self._by_dpid.get(dpid, {}).items()
            if wanted is None:
                yield from hops
                continue
            numbers, tunnels = wanted[dpid], names_of_tunnels(dpid)
            yield from (
                (place, hop)
                for place, hop in hops
                if place.ofport in numbers or hop.interface in tunnels
            )

    def _refresh(self, dpid: Dpid) -> bool:
        """Compute the hops of a bridge again; whether they differ. With the lock held."""
        hops = self._hops_of(dpid)
        if hops == self._by_dpid.get(dpid, {}):
            return False
        if hops:
            self._by_dpid[dpid] = hops
        else:
            del self._by_dpid[dpid]
        self._is_outdated |= self._wanted is None or dpid in self._wanted
        return True

    def _refresh_port(self, dpid: Dpid, number: int) -> bool:
        """Compute the hop of one port again; whether it differs. With the lock held."""
        place, hop = Placement(dpid, Ofport(number)), self._hop_at(dpid, number)
        hops = self._by_dpid.get(dpid, {})
        before = hops.get(place)
        if before == hop:
            return False
        if hop is not None:
            self._by_dpid.setdefault(dpid, hops)[place] = hop
        else:
            del hops[place]
            if not hops:
                del self._by_dpid[dpid]
        names = {known.interface for known in (before, hop) if known is not None}
        self._is_outdated |= self._wanted is None or is_wanted(self._wanted, dpid, number, names)
        return True

    def _hops_of(self, dpid: Dpid) -> HopsOfBridge:
        found: HopsOfBridge = {}
        for number in self._by_number.get(dpid, {}).keys() | self._ports.get(dpid, {}).keys():
            hop = self._hop_at(dpid, number)
            if hop is not None:
                found[Placement(dpid, Ofport(number))] = hop
        return found

    def _hop_at(self, dpid: Dpid, number: int) -> Hop | None:
        """What both report of a port; None if neither has it."""
        row = self._by_number.get(dpid, {}).get(number)
        port = self._ports.get(dpid, {}).get(number)
        if row is None and port is None:
            return None
        unknown = _Bridge(self._names.get(dpid, ""), is_reported=False)
        bridge = self._bridges.get(dpid, unknown)
        settings = set(() if port is None else port.settings)
        interface = row.name if row is not None else port.name if port is not None else ""
        device = Device() if row is None else row.device
        seen = self._offloads.get(Placement(dpid, Ofport(number)))
        return _hop(bridge, interface, device, settings, _offloads(bridge, device, seen))


@lru_cache(maxsize=4096)
def names_of_tunnels(dpid: Dpid) -> frozenset[str]:
    """The names of the ports for tunnels on a bridge."""
    return frozenset(tunnel_name(dpid, kind) for kind in TunnelKind)


def is_wanted(wanted: PortNumbers, dpid: Dpid, number: int, names: Set[str]) -> bool:
    """Whether a port is one of these, or one for tunnels on their bridges; by its ``names``."""
    numbers = wanted.get(dpid)
    if numbers is None:
        return False
    return number in numbers or not names.isdisjoint(names_of_tunnels(dpid))


def _hop(
    bridge: _Bridge,
    interface: str,
    device: Device,
    settings: set[Setting],
    offloads: Offloads,
) -> Hop:
    if bridge.is_restoring:
        settings.add(Setting.RESTORING)
    if device.is_protected:
        settings.add(Setting.PROTECTED)
    if device.is_blocked:
        settings.add(Setting.NOT_FORWARDING)
    return Hop(
        bridge=bridge.name,
        interface=interface,
        mtu=device.mtu,
        longest=None if device.takes_any_length else device.mtu,
        rate_kbps=device.rate_kbps,
        settings=frozenset(settings),
        is_reported=bridge.is_reported,
        truncates=not device.is_patch,
        offloads=offloads,
    )


def _pair_state(bridge: _Bridge | None, told: PairState, seen: PairState | None) -> PairState:
    """What is known of the devices of a segmenting pair; what was ``seen`` counts, not what the
    database has ``told``.
    """
    if seen is not None and seen.is_known:
        return seen
    is_missed = bridge is not None and bridge.is_here and told is PairState.FAR
    return PairState.UNSEEN if is_missed else told


def _offloads(bridge: _Bridge, device: Device, seen: Offloads | None) -> Offloads:
    """What is known of the offloads of a port's device; what was ``seen`` counts, not a record."""
    if not bridge.is_kernel:
        return Offloads.FINISHED
    if seen is not None and seen is not Offloads.UNSEEN:
        return seen
    is_missed = bridge.is_here and device.offloads is Offloads.FAR
    return Offloads.UNSEEN if is_missed else device.offloads

"""Which sensors do not receive (no link, a silent probe), and what is known of ports on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from netaddr import AddrFormatError, IPAddress, IPNetwork

from controller.inventory import Inventory
from controller.process import ChangeSignal, Coalescer
from controller.southbound import PortChange, SwitchPort
from controller.southbound.ovsdb import OvsdbSnapshot
from controller.topology.attachments import seen_from_tap, seen_on_bridge
from controller.topology.hops import Hops, PortNumbers, is_wanted
from controller.topology.link_state import LinkStates
from controller.topology.offloads import NoOffloads
from controller.topology.pairs import NoPairs
from controller.topology.placements import PlacementsSnapshot
from controller.topology.probe import HealthProbe
from flows.model import (
    CollectorId,
    Datapath,
    Down,
    Dpid,
    Hop,
    Offloads,
    PairState,
    Placement,
    PortId,
    Segmenter,
    Sensor,
)

Probes = Mapping[tuple[CollectorId, Sensor], str]
"""The address to connect to that shows whether a sensor receives, by collector and sensor."""
LINKS_PAUSE_S = 0.02
"""The least time between two evaluations of changed links, in seconds."""


class Offloading(Protocol):
    """Who knows what devices of tap ports on this host do with super-frames."""

    def known(self) -> Mapping[Placement, Offloads]:
        """What is known of each; the same value again until something else is known."""
        ...

    def wake(self) -> None:
        """The databases report something else."""
        ...


class Pairing(Protocol):
    """Who knows what the devices of segmenting pairs on this host do."""

    def known(self) -> Mapping[Dpid, PairState]:
        """What is known of each; the same value again until something else is known."""
        ...

    def wake(self) -> None:
        """The databases report something else."""
        ...


NO_OFFLOADS, NO_PAIRS = NoOffloads(), NoPairs()


class SensorHealth:
    """Takes reports of ports from any thread, and signals a change when other sensors are down, or
    something else is known of ports that are declared, of ends of links, or of tunnel ports.

    Reports of other ports are noted and cause nothing: these may be anybody's.
    ``may_probe`` are the networks whose addresses the operator lets tenants have probed.
    """

    def __init__(
        self,
        inventory: Callable[[], Inventory],
        placements: Callable[[], PlacementsSnapshot],
        changes: ChangeSignal,
        may_probe: Sequence[IPNetwork] = (),
        offloads: Offloading = NO_OFFLOADS,
        pairs: Pairing = NO_PAIRS,
    ) -> None:
        self._inventory, self._placements, self._changes = inventory, placements, changes
        self._may_probe, self._offloads, self._pairs = may_probe, offloads, pairs
        self._links, self._hops = LinkStates(), Hops()
        self._passed_on: Mapping[Placement, Hop] = self._hops.known()
        self._datapaths: Mapping[Dpid, Datapath] = {}
        self._segmenters: Mapping[Dpid, Segmenter] = {}
        self._places = PlacementsSnapshot()
        self._used: PortNumbers = {}
        """Where something was placed when the world was made last, and the tap bridges of that."""
        self._without_link: frozenset[PortId | Placement] = frozenset()
        self._timer: threading.Timer | None = None
        self._looking = Coalescer(self._look, "links", LINKS_PAUSE_S)
        self.probe: HealthProbe[tuple[CollectorId, Sensor]] = HealthProbe(changes.changed)

    def ports_reported(self, dpid: Dpid, ports: Iterable[SwitchPort]) -> None:
        """A bridge has reported all its ports."""
        ports = tuple(ports)
        if self._links.report_ports(dpid, ports) | self._hops.report_ports(dpid, ports):
            self._ask(dpid)

    def port_changed(self, dpid: Dpid, change: PortChange) -> None:
        """A port of a bridge has come, gone or changed."""
        has_changed = self._links.report_port(dpid, change) | self._hops.report_port(dpid, change)
        if has_changed and is_wanted(self._used, dpid, change.port.ofport, {change.port.name}):
            self._looking.ask()

    def bridge_forgotten(self, dpid: Dpid) -> None:
        """What a bridge has reported over OpenFlow does not count any more."""
        if self._links.forget(dpid) | self._hops.forget(dpid):
            self._ask(dpid)

    def interfaces_changed(self, snapshot: OvsdbSnapshot) -> None:
        """The databases report something else."""
        if self._links.report_interfaces(snapshot) | self._hops.report_interfaces(snapshot):
            self._looking.ask()
        self._offloads.wake()
        self._pairs.wake()

    def down(self, probes: Probes) -> frozenset[Down]:
        """The sensors and ends of links that are down now; these are the probes from now on."""
        self.probe.watch({key: probe for key, probe in probes.items() if self._is_allowed(probe)})
        self._note_used()  # before: what is reported of these from now on counts
        self._without_link = self._links_down()
        return self._without_link | self.probe.down

    def _is_allowed(self, probe: str) -> bool:
        """Whether the address of a probe is in a network that the operator allows."""
        try:
            address = IPAddress(urlsplit(probe).hostname or "")
        except (AddrFormatError, ValueError):
            return False
        return any(address in network for network in self._may_probe)

    def hops(self) -> Mapping[Placement, Hop]:
        """What is known of the ports where something is placed, and of tunnel ports beside them.

        The same value again until something else is known.
        """
        self._note_used()
        self._hops.report_offloads(self._offloads.known())
        self._passed_on = self._hops.known(self._used, self._places.taps)
        return self._passed_on

    def datapaths(self) -> Mapping[Dpid, Datapath]:
        """The datapaths of the bridges where something is placed, as far as databases report them.

        The same value again until it changes.
        """
        self._note_used()
        found = self._hops.datapaths(self._used)
        if found != self._datapaths:
            self._datapaths = found
        return self._datapaths

    def segmenters(self) -> Mapping[Dpid, Segmenter]:
        """The segmenting pairs of these bridges; the same value again until it changes."""
        self._note_used()
        self._hops.report_pairs(self._pairs.known())
        found = self._hops.segmenters(self._used)
        if found != self._segmenters:
            self._segmenters = found
        return self._segmenters

    def links_down(self) -> frozenset[Placement]:
        """The ports whose link is down, whatever they are for."""
        down, taps = self._links.all_down(), self._placements().taps
        return frozenset(seen_from_tap(taps, place) for place in down) if taps else down

    def stop(self) -> None:
        """Stop evaluating links and probing."""
        self._looking.stop()
        if self._timer is not None:
            self._timer.cancel()
        self.probe.stop()

    def _ask(self, dpid: Dpid) -> None:
        """Look again, if this bridge matters; when it comes to matter, a new world is made."""
        if dpid in self._used:
            self._looking.ask()

    def _note_used(self) -> None:
        """Note where something is placed now; the caller makes a new world."""
        places = self._placements()
        before, self._places = self._places, places
        is_same = before.placements is places.placements and before.links == places.links
        if is_same and before.taps == places.taps:
            return
        ends = (end for link in places.links for end in (link.a, link.b))
        used: dict[Dpid, set[int]] = {}
        for place in (*places.placements.values(), *ends):
            used.setdefault(place.dpid, set())
            at = seen_on_bridge(place)
            used.setdefault(at.dpid, set()).add(at.ofport)
        if used != self._used:
            self._used = used
            self._looking.ask()  # links that are new among these may have flapped

    def _look(self) -> None:
        """Signal a change if links that matter have changed, or something else is known."""
        if (
            due := self._links.due(self._used)
        ) is not None:  # a link that has flapped is to be used again
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(max(0.0, due - time.monotonic()), self._looking.ask)
            self._timer.daemon = True
            self._timer.start()
        hops = self._hops.known(self._used, self._places.taps)
        is_other = (
            hops is not self._passed_on
            or self._hops.datapaths(self._used) != self._datapaths
            or self._hops.segmenters(self._used) != self._segmenters
        )
        if is_other or self._links_down() != self._without_link:
            self._changes.changed()

    def _links_down(self) -> frozenset[PortId | Placement]:
        places = self._placements()
        return self._links.down(self._inventory(), places.placements, places.links)

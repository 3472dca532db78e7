"""Offloads of the devices of tap ports on this host: found, and switched off where that is wanted.

The kernel datapath sends super-frames with unfinished checksums to a tap port, and a virtual device
with checksum offload hands them to the sensor as they are (see Offloads).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from operator import is_
from typing import Any, Protocol

import structlog

from controller.devices import (
    DeviceName,
    TransmitOffload,
    is_virtual,
    read_offloads,
    switch_off_offloads,
)
from controller.inventory import Inventory
from controller.southbound.ovsdb import BridgeRow, InterfaceRow, OvsdbSnapshot
from controller.topology.look_loop import LookLoop
from controller.topology.placements import PlacementsSnapshot
from flows.model import Offloads, Placement, PortId, PortKind

DEVICES_LOOK_S = 2.0
"""How often devices are looked at, in seconds: a virtual machine that starts again switches the
offloads of its device on (TUNSETOFFLOAD of linux/if_tun.h), and nothing reports that."""
SAID_PAUSE_S = 60.0
"""That one device was switched off again is logged at most so often, in seconds."""

log = structlog.get_logger(__name__)


class TapOffloads(Enum):
    """What is done about the offloads of tap ports' devices."""

    OFF = "off"
    """They are switched off."""
    KEEP = "keep"
    """They are left as they are, and sessions say what that means."""


class Devices(Protocol):
    """Who knows the network devices of this machine."""

    def read(self, devices: Iterable[DeviceName]) -> Mapping[DeviceName, TransmitOffload]:
        """What some devices do; those that cannot be seen are left out."""
        ...

    def switch_off(self, devices: Iterable[DeviceName]) -> Mapping[DeviceName, str]:
        """Switch offloads off; why that failed, by device: empty if a device has no such switch."""
        ...


class HostDevices(Devices):
    """The devices themselves. ``run`` calls what may block (see run_blocking)."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run

    def read(self, devices: Iterable[DeviceName]) -> Mapping[DeviceName, TransmitOffload]:
        """See Devices."""
        found: Mapping[DeviceName, TransmitOffload] = self._run(read_offloads, tuple(devices))
        return found

    def switch_off(self, devices: Iterable[DeviceName]) -> Mapping[DeviceName, str]:
        """See Devices."""
        found: Mapping[DeviceName, str] = self._run(switch_off_offloads, tuple(devices))
        return found


@dataclass(frozen=True, slots=True)
class _Tap:
    """A tap port with a virtual device on a bridge of this host that has the kernel datapath."""

    place: Placement
    port: str
    bridge: str
    device: DeviceName


class OffloadWatch:
    """Looks at the devices of placed tap ports, in a thread, and signals when something is new.

    Only those of databases on this machine can be looked at, and only virtual ones matter. Devices
    of workloads, uplinks, and every port that is no declared tap port are left alone.
    ``databases`` returns what is believed of them; ``changed`` is called when something is new.
    """

    def __init__(
        self,
        *,
        inventory: Callable[[], Inventory],
        placements: Callable[[], PlacementsSnapshot],
        databases: Callable[[], OvsdbSnapshot],
        changed: Callable[[], object],
        devices: Devices,
        taps: TapOffloads = TapOffloads.OFF,
        every_s: float = DEVICES_LOOK_S,
    ) -> None:
        self._inventory, self._placements, self._databases = inventory, placements, databases
        self._changed, self._devices, self._do = changed, devices, taps
        self._looking = threading.Lock()
        self._found: Mapping[Placement, Offloads] = {}
        self._looked_at: frozenset[_Tap] = frozenset()
        self._taps_of: tuple[tuple[object, ...], frozenset[_Tap]] = (None, None, None), frozenset()
        """Snapshot, placements and inventory, and the tap ports that they make."""
        self._stuck: frozenset[DeviceName] = frozenset()
        """The devices that have no such switch."""
        self._said: dict[DeviceName, tuple[str | None, float]] = {}
        """What was logged last of devices, and when."""
        self._loop = LookLoop(
            "offloads",
            look=self._look_and_tell,
            is_outdated=lambda: self._taps() != self._looked_at,
            every_s=every_s,
        )
        self.start, self.stop, self.wake = self._loop.start, self._loop.stop, self._loop.wake

    def known(self) -> Mapping[Placement, Offloads]:
        """What is known of the devices of tap ports; those of new ones are looked at first.

        The same value again until something else is known.
        """
        if not self._taps() <= self._looked_at:
            self._look()
        return self._found

    def _look_and_tell(self) -> None:
        before = self._found
        self._look()
        if self._found is not before:
            self._changed()

    def _look(self) -> None:
        """Look at all devices of tap ports, and switch offloads off if they should be."""
        with self._looking:
            taps = self._taps()
            seen = self._devices.read({tap.device for tap in taps}) if taps else {}
            on = {device for device, each in seen.items() if each.is_on and is_virtual(each.driver)}
            off = self._switch_off(on, taps) if self._do is TapOffloads.OFF and on else frozenset()
            self._said = {device: said for device, said in self._said.items() if device in seen}
            found = {tap.place: self._state(tap.device, seen, on - off) for tap in taps}
            self._looked_at = taps
            if found != self._found:
                self._found = found

    def _state(
        self, device: DeviceName, seen: Mapping[DeviceName, object], on: set[DeviceName]
    ) -> Offloads:
        """What is known of one device."""
        if device not in seen:
            return Offloads.UNSEEN
        if device not in on:
            return Offloads.FINISHED
        return Offloads.ALWAYS_LEFT if device in self._stuck else Offloads.LEFT

    def _switch_off(self, on: set[DeviceName], taps: frozenset[_Tap]) -> frozenset[DeviceName]:
        """Switch the offloads of devices off; those of which it was done."""
        refused = self._devices.switch_off(on)
        self._stuck = frozenset(device for device, why in refused.items() if not why)
        for tap in sorted(taps, key=lambda each: each.place):
            if tap.device in on:
                self._say(tap, refused.get(tap.device))
        return frozenset(on - refused.keys())

    def _say(self, tap: _Tap, refused: str | None) -> None:
        """Log what was done to a device: that it was, once in a while; why it was not, once."""
        now, (said, at) = time.monotonic(), self._said.get(tap.device, ("", 0.0))
        is_first = tap.device not in self._said
        if not is_first and said == refused and (refused is not None or now - at < SAID_PAUSE_S):
            return
        self._said[tap.device] = refused, now
        what = {"port": tap.port, "bridge": tap.bridge, "device": tap.device.name}
        if refused is None:
            log.info("offloads of tap port switched off", **what, again=not is_first)
        else:
            why = refused or "the device has no such setting"
            log.warning("offloads of tap port not switched off", **what, reason=why)

    def _taps(self) -> frozenset[_Tap]:
        """The tap ports whose devices are looked at; found again when something has changed."""
        parts = self._databases(), self._placements().placements, self._inventory()
        before, taps = self._taps_of
        if not all(map(is_, before, parts)):
            taps = self._find_taps(*parts)
            self._taps_of = parts, taps
        return taps

    def _find_taps(
        self, snapshot: OvsdbSnapshot, places: Mapping[PortId, Placement], inventory: Inventory
    ) -> frozenset[_Tap]:
        here = {row.dpid: row for row in snapshot.bridges if row.is_here and row.is_kernel}
        if not here:
            return frozenset()
        declared = (port for port in inventory.ports if port.kind is PortKind.TAP)
        named = {places[port.id]: port.name for port in declared if port.id in places}
        dpids = {place.dpid for place in named}
        found: list[_Tap] = []
        for (dpid, database, uuid), rows in snapshot.by_bridge.items():
            bridge = here.get(dpid) if dpid in dpids else None
            if bridge is not None and (bridge.database, bridge.row) == (database, uuid):
                found += _taps_among(rows, bridge, named)
        return frozenset(found)


def _taps_among(
    rows: Iterable[InterfaceRow], bridge: BridgeRow, named: Mapping[Placement, str]
) -> Iterator[_Tap]:
    for row in rows:
        if row.ofport is None or row.device.ifindex is None or not row.device.is_virtual:
            continue
        place = Placement(row.dpid, row.ofport)
        if place in named:
            device = DeviceName(row.name, row.device.ifindex)
            yield _Tap(place, named[place], bridge.name, device)


class NoOffloads:
    """Nobody looks at devices."""

    def known(self) -> Mapping[Placement, Offloads]:
        """Nothing is known."""
        return {}

    def wake(self) -> None:
        """Nobody looks."""

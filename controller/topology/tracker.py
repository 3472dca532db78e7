"""What is reported about places: passed on to the writers, and remembered for the next start."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog

from controller.process.coalescer import Folding
from controller.topology.placements import Places, PlacesSnapshot
from controller.southbound.ovsdb.rows import OvsdbSnapshot
from controller.southbound.switch import Switch
from controller.southbound.wire.message import PortChange, SwitchPort
from controller.store import BridgeRecord
from flows.errors import CloudtapError
from flows.model.session import Dpid

TOGETHER = 8
"""Bridges that are remembered in one change of the database, before others may run."""

log = structlog.get_logger(__name__)


def _nobody(dpid: Dpid, ports: Sequence[SwitchPort]) -> None:
    """Nobody else wants to know."""


class Memory(Protocol):
    """What is asked of the store."""

    def remember_bridges(self, bridges: Iterable[BridgeRecord]) -> None:
        """Replace what is known of some bridges."""
        ...

    def forget_bridge(self, dpid: Dpid, name: str, who: str) -> None:
        """Forget one bridge, and what it may be making copies of."""
        ...


class Movements:
    """Takes reports about ports, from any thread, and lets writers and store know of them.

    Reports that come close together make one new version of the world. ``changed`` is called when
    something is elsewhere than it was.
    """

    def __init__(self, places: Places, changed: Callable[[], object], memory: Memory) -> None:
        self._places, self._changed, self._memory = places, changed, memory
        self._port_changes: Counter[Dpid] = Counter()
        self._passed_on = 0
        self._remembered: dict[Dpid, BridgeRecord] = {}
        self._remembering = threading.Lock()
        self.problem = ""
        """Why the places could not be remembered; empty when they are."""
        self._folding = Folding(self._pass_on, "movements")

    @property
    def waiting(self) -> int:
        """Reports that no version of the world knows of yet."""
        return self._folding.waiting

    def greeted(
        self, switch: Switch, tell: Callable[[Dpid, Sequence[SwitchPort]], None] = _nobody
    ) -> None:
        """A bridge has connected: its ports are known, and in the world, when this returns.

        Who else wants to know of them is told, too.

        When a thousand bridges come back as they were, not one of them hears of the others.
        """
        while True:  # again if a port changed meanwhile: the list may be older
            seen = self._port_changes[switch.dpid]
            ports = switch.ports()
            self._places.report_ports(switch.dpid, ports)
            tell(switch.dpid, ports)
            if self._port_changes[switch.dpid] == seen:
                break
        if self._places.version != self._passed_on or not self._folding.is_idle:
            self._folding.wait(self._folding.ask())

    def port_changed(self, dpid: Dpid, change: PortChange) -> None:
        """A port of a bridge has come, gone or changed."""
        self._port_changes[dpid] += 1
        self._places.report_port(dpid, change)
        self._ask()

    def interfaces_changed(self, snapshot: OvsdbSnapshot) -> None:
        """The databases say something else."""
        self._places.report_interfaces(snapshot)
        self._ask()

    def forget(self, dpid: Dpid, who: str) -> None:
        """Forget a bridge that will not come back, here and in the store.

        Raises:
            CloudtapError: the store cannot be written; then nothing was forgotten.
        """
        with self._remembering:  # or an older report of it could be remembered after that
            self._memory.forget_bridge(dpid, self._places.bridge_name(dpid), who)
            self._places.forget(dpid)
            self._remembered.pop(dpid, None)
        self._ask()

    def retry(self) -> None:
        """Try again to remember what could not be."""
        if self.problem:
            self._folding.ask()

    def stop(self) -> None:
        """Pass on no more."""
        self._folding.stop()

    def _ask(self) -> None:
        if self._places.version != self._passed_on:
            self._folding.ask()

    def _pass_on(self) -> None:
        places = self._places.snapshot()
        if places.version != self._passed_on:
            self._changed()
            self._passed_on = places.version
        try:
            self._remember(places)
            self.problem = ""
        except CloudtapError as problem:  # switches must not wait until a disk has room again
            self.problem = f"the places of ports are not remembered: {problem}"
            log.warning("places not remembered", reason=str(problem))

    def _remember(self, places: PlacesSnapshot) -> None:
        new = [r for r in places.records if self._remembered.get(r.dpid) is not r]
        for first in range(0, len(new), TOGETHER):
            with self._remembering:
                known = self._places.bridge_names()
                some = [r for r in new[first : first + TOGETHER] if r.dpid in known]
                self._memory.remember_bridges(some)
                self._remembered |= {record.dpid: record for record in some}
            time.sleep(0)

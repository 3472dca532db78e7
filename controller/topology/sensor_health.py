"""Which sensors do not receive: tap ports without a link, and targets of probes that are silent."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from controller.reconcile.snapshot import Probes
from controller.process.coalescer import Folding
from controller.topology.probe import HealthProbe
from controller.inventory.file import Inventory
from controller.topology.link_state import Links
from controller.topology.placements import PlacesSnapshot
from controller.southbound.ovsdb.rows import OvsdbSnapshot
from controller.southbound.wire.message import PortChange, SwitchPort
from flows.model.session import CollectorId, Dpid, PortId, Sensor
from flows.model.world import Down

PAUSE_S = 0.02
"""Between two looks at links that change, in seconds."""


class SensorHealth:
    """Takes reports of ports from any thread; ``changed`` is called when other sensors are down."""

    def __init__(
        self,
        inventory: Callable[[], Inventory],
        places: Callable[[], PlacesSnapshot],
        changed: Callable[[], object],
    ) -> None:
        self._inventory, self._places, self._changed = inventory, places, changed
        self._links = Links()
        self._without_link: frozenset[PortId] = frozenset()
        self._looking = Folding(self._look, "links", PAUSE_S)
        self.probe: HealthProbe[tuple[CollectorId, Sensor]] = HealthProbe(changed)

    def ports_reported(self, dpid: Dpid, ports: Iterable[SwitchPort]) -> None:
        """A bridge has told all its ports."""
        if self._links.report_ports(dpid, ports):
            self._looking.ask()

    def port_changed(self, dpid: Dpid, change: PortChange) -> None:
        """A port of a bridge has come, gone or changed."""
        if self._links.report_port(dpid, change):
            self._looking.ask()

    def interfaces_changed(self, snapshot: OvsdbSnapshot) -> None:
        """The databases say something else."""
        if self._links.report_interfaces(snapshot):
            self._looking.ask()

    def down(self, probes: Probes) -> frozenset[Down]:
        """The sensors that are down now; these are the probes from now on."""
        self.probe.watch(probes)
        self._without_link = self._links.down(self._inventory(), self._places().placements)
        return self._without_link | self.probe.down

    def stop(self) -> None:
        """Look and ask no more."""
        self._looking.stop()
        self.probe.stop()

    def _look(self) -> None:
        """Let the world know if it is tap ports whose links have changed."""
        down = self._links.down(self._inventory(), self._places().placements)
        if down != self._without_link:
            self._changed()

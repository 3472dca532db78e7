"""The world at this moment: what is declared, what tenants want, and where everything is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Protocol

from controller.inventory.file import Inventory
from controller.store import Desired, Limits
from flows.compile import Survey
from flows.model.session import (
    CollectorId,
    Delivery,
    Dpid,
    FilterId,
    NetworkId,
    Ofport,
    PortId,
    Rate,
    Sensor,
    SessionId,
    TagMode,
)
from flows.semantics.tags import transport_keys
from flows.model.world import (
    LINK_MTU,
    UNDERLAY_MTU,
    Down,
    Link,
    Numbers,
    Placement,
    World,
    tag_keys,
)


class Wishes(Protocol):
    """What the world needs of the store."""

    def desired(self) -> Desired:
        """What tenants want now, all of one moment."""
        ...

    def numbers_for(
        self,
        networks: list[NetworkId],
        ports: list[PortId],
        sessions: list[SessionId],
        tag_keys: list[str],
        filters: list[FilterId],
        collectors: list[CollectorId],
        meters: list[SessionId],
    ) -> Numbers:
        """The numbers of these names; new names get new numbers."""
        ...

    def numbered(self) -> Numbers:
        """Everything that has a number."""
        ...

    def changed_between(self, before: int, now: int) -> Set[SessionId] | None:
        """The sessions that may differ in what was wanted at two moments; None: any may."""
        ...

    def release(
        self,
        networks: Iterable[NetworkId],
        ports: Iterable[PortId],
        sessions: Iterable[SessionId],
        tag_keys: Iterable[str],
        filters: Iterable[FilterId],
        collectors: Iterable[CollectorId],
        meters: Iterable[SessionId],
    ) -> None:
        """The numbers of these names may be given to others."""
        ...


class PlacesView(Protocol):
    """Where ports and links are, at one moment."""

    @property
    def placements(self) -> Mapping[PortId, Placement]:
        """The place of each port that has one."""
        ...

    @property
    def links(self) -> tuple[Link, ...]:
        """The links whose two ends are known."""
        ...


Probes = Mapping[tuple[CollectorId, Sensor], str]
"""What says whether a sensor receives: an address to connect to, by collector and sensor."""


@dataclass(frozen=True)
class Reach:
    """How copies get to sensors: the tunnel ports of bridges, and the sensors that are down."""

    tunnels: Mapping[tuple[Dpid, Delivery], Ofport] = field(default_factory=dict)
    down: frozenset[Down] = frozenset()


@dataclass(frozen=True)
class Snapshot:
    """One version of the world; a higher ``version`` knows everything that a lower one knew.

    ``stopped`` says why a session is stopped, ``limits`` when the running ones will be.
    """

    version: int
    survey: Survey
    deleting: tuple[SessionId, ...]
    numbers: Numbers
    stopped: Mapping[SessionId, str] = field(default_factory=dict)
    limits: Mapping[SessionId, Limits] = field(default_factory=dict)

    @property
    def session_by_number(self) -> Mapping[int, SessionId]:
        """Which session a number in a cookie stands for."""
        return {number: session for session, number in self.numbers.session.items()}


class DesiredWorld:
    """Makes a snapshot of the world whenever somebody asks after something has changed.

    ``underlay_mtu``, ``bridge_rate`` and ``link_mtu`` are what the operator allows copies (see
    World).
    """

    def __init__(
        self,
        wishes: Wishes,
        inventory: Callable[[], Inventory],
        places: Callable[[], PlacesView],
        underlay_mtu: int = UNDERLAY_MTU,
        bridge_rate: Rate | None = None,
        reach: Callable[[Probes], Reach] = lambda probes: Reach(),
        link_mtu: int = LINK_MTU,
    ) -> None:
        self._wishes, self._inventory, self._places = wishes, inventory, places
        self._underlay_mtu, self._bridge_rate = underlay_mtu, bridge_rate
        self._link_mtu = link_mtu
        self._reach = reach
        self._lock = threading.Lock()
        self._building = threading.Lock()
        self._version = 1
        self._snapshot: Snapshot | None = None
        self._moment = 0
        self._unmetered: set[SessionId] = set()
        self._declared: Inventory | None = None

    def touch(self) -> int:
        """Say that something has changed; returns the version that will know of it."""
        with self._lock:
            self._version += 1
            return self._version

    def snapshot(self) -> Snapshot:
        """The world as it is now; the same value again while nothing was touched.

        Raises:
            CloudtapError: the store cannot be read, or the parts contradict each other.
        """
        with self._building:
            with self._lock:
                version = self._version
            if self._snapshot is None or self._snapshot.version != version:
                self._snapshot = self._build(version)
            return self._snapshot

    def release_numbers(self, version: int) -> None:
        """Free the numbers that this version does not use; nothing if a newer one was made.

        While this runs no snapshot is made, so a name that comes back finds its old number or gets
        a new one, but never shares one.

        Raises:
            CloudtapError: the store cannot be written.
        """
        with self._building:
            if self._snapshot is None or self._snapshot.version != version:
                return
            used, given = self._snapshot.numbers, self._wishes.numbered()
            self._wishes.release(
                given.network.keys() - used.network.keys(),
                given.port.keys() - used.port.keys(),
                given.session.keys() - used.session.keys(),
                given.tag.keys() - used.tag.keys(),
                given.filter.keys() - used.filter.keys(),
                given.collector.keys() - used.collector.keys(),
                given.meter.keys() - used.meter.keys(),
            )

    def _build(self, version: int) -> Snapshot:
        inventory, wishes, places = self._inventory(), self._wishes.desired(), self._places()
        reach = self._reach(wishes.probes)
        before = self._snapshot if self._declared is inventory else None
        changed = self._wishes.changed_between(self._moment, wishes.moment)
        numbers = self._numbers(inventory, wishes, places, before, changed)
        time.sleep(0)  # of 100,000 ports each step takes 0.1 s: others may run in between
        if before is not None and before.survey.has_same_numbers(numbers):
            old = before.survey.world.with_reach(reach.tunnels, reach.down)
            if old.placements is not places.placements or old.links != places.links:
                old = old.with_places(places.placements, places.links, numbers)
            parts = (wishes.collectors, wishes.session_by_id, wishes.filters, numbers)
            survey = Survey(old.with_wishes(*parts), before.survey, changed=changed)
        else:
            world = self._world(inventory, wishes, places, numbers, reach)
            time.sleep(0)
            survey = Survey(world)
        self._declared, self._moment = inventory, wishes.moment
        return Snapshot(version, survey, wishes.deleting, numbers, wishes.stopped, wishes.limits)

    def _world(
        self, inventory: Inventory, wishes: Desired, places: PlacesView, numbers: Numbers,
        reach: Reach,
    ) -> World:  # fmt: skip
        """Everything of one moment; nothing is taken from an earlier one."""
        return World(
            networks=inventory.networks,
            ports=inventory.ports,
            collectors=wishes.collectors,
            sessions=wishes.sessions,
            placements=places.placements,
            links=places.links,
            numbers=numbers,
            filters=wishes.filters,
            underlay_mtu=self._underlay_mtu,
            bridge_rate=self._bridge_rate,
            link_mtu=self._link_mtu,
            tunnels=reach.tunnels,
            down=reach.down,
        )

    def _numbers(
        self,
        inventory: Inventory,
        wishes: Desired,
        places: PlacesView,
        before: Snapshot | None,
        changed: Set[SessionId] | None,
    ) -> Numbers:
        """A number for everything; only sessions are asked for when only they may be new."""
        if before is None or changed is None:
            return self._all_numbers(inventory, wishes, bool(places.links))
        if not _asks_same(before.survey.world, wishes, places):
            return self._all_numbers(inventory, wishes, bool(places.links))
        live = {s for s in changed if s in wishes.session_by_id or s in wishes.deleting}
        session, meter = dict(before.numbers.session), dict(before.numbers.meter)
        for gone in changed - live:
            session.pop(gone, None)
        capped = self._capped(wishes, changed | self._unmetered)
        for key in changed - capped:
            meter.pop(key, None)
        new, unmetered = sorted(live - session.keys()), sorted(capped - meter.keys())
        if new or unmetered:
            given = self._wishes.numbers_for([], [], new, [], [], [], unmetered)
            session |= given.session
            meter |= given.meter
        self._unmetered = capped - meter.keys()
        return replace(before.numbers, session=session, meter=meter)

    def _all_numbers(self, inventory: Inventory, wishes: Desired, has_links: bool) -> Numbers:
        """A number for everything; tags of tagged copies on links come after those they need."""
        networks, ports = inventory.networks, inventory.ports
        is_tagged = any(c.tenant_tag is TagMode.AUTO for c in wishes.collectors)
        keys = tag_keys(networks, ports) if has_links or is_tagged else []
        sessions = [*wishes.session_by_id, *wishes.deleting]
        named = ([network.id for network in networks], [port.id for port in ports], sessions)
        pools = [c.id for c in wishes.collectors if len(c.sensors) > 1]
        capped = self._capped(wishes, wishes.session_by_id.keys())
        others = ([each.id for each in wishes.filters], pools, sorted(capped))
        numbers = self._wishes.numbers_for(*named, keys, *others)
        extra = transport_keys(wishes.collectors, networks, numbers) if has_links else []
        if extra:
            numbers = self._wishes.numbers_for(*named, keys + extra, *others)
        self._unmetered = capped - numbers.meter.keys()
        return numbers

    def _capped(self, wishes: Desired, among: Set[SessionId]) -> set[SessionId]:
        """The sessions that need a meter."""
        known = wishes.session_by_id
        return {key for key in among if key in known and known[key].max_rate is not None}


def _asks_same(world: World, wishes: Desired, places: PlacesView) -> bool:
    """Whether collectors, filters and links need the numbers that they have."""
    has_same_filters = [f.id for f in world.filters] == [f.id for f in wishes.filters]
    has_same_collectors = world.collectors == wishes.collectors
    return has_same_filters and has_same_collectors and bool(world.links) == bool(places.links)

"""Snapshots of the world: inventory, desired state and placements, joined and resolved."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from netaddr import IPAddress

from controller.inventory import Inventory
from controller.process import ChangeSignal
from controller.reconcile.protocols import (
    AllTold,
    DesiredStateSource,
    NoRoutes,
    NoSensorStates,
    NoTunnels,
    PlacementsView,
    Routing,
    SensorStates,
    Telling,
    Tunnelling,
)
from controller.store import DesiredState, Limits
from flows.model import (
    LINK_MTU,
    METERS,
    UNDERLAY_MTU,
    CopyWay,
    Datapath,
    Down,
    Dpid,
    Hop,
    Names,
    Numbers,
    Ofport,
    Placement,
    Rate,
    Route,
    Segmenter,
    Session,
    SessionId,
    TagMode,
    TunnelKind,
    World,
    declared_names,
    transport_keys,
)
from flows.plan import owner_of_meter
from flows.resolve import ResolvedWorld

NO_TUNNELS, NO_SENSOR_STATES, NO_ROUTES = NoTunnels(), NoSensorStates(), NoRoutes()
ALL_TOLD = AllTold()


@dataclass(frozen=True)
class Snapshot:
    """One version of the world; a higher ``version`` includes every change of a lower one.

    ``stopped`` says why a session is stopped, ``limits`` when the running ones will be.
    """

    version: int
    resolved: ResolvedWorld
    deleting: Mapping[SessionId, Session]
    numbers: Numbers
    stopped: Mapping[SessionId, str] = field(default_factory=dict)
    limits: Mapping[SessionId, Limits] = field(default_factory=dict)

    @cached_property
    def session_by_meter(self) -> Mapping[int, int]:
        """Numbers of the sessions that have, or had, a meter for their rate, by its number."""
        numbers = self.numbers
        return {n: numbers.session[s] for s, n in numbers.meter.items() if s in numbers.session}

    def is_counted_by(self, meter: int) -> bool:
        """Whether a meter counts, or has counted, for a session that exists."""
        if meter in METERS:
            return meter in self.session_by_meter
        session = owner_of_meter(meter)
        return session is not None and session in self._session_numbers

    @cached_property
    def _session_numbers(self) -> Set[int]:
        return frozenset(self.numbers.session.values())

    @property
    def session_by_number(self) -> Mapping[int, SessionId]:
        """Which session a number in a cookie stands for."""
        return {number: session for session, number in self.numbers.session.items()}


class SnapshotBuilder:
    """Builds a snapshot when one is asked for after a change.

    ``underlay_mtu``, ``bridge_rate`` and ``link_mtu`` are what the operator allows copies (see
    World). ``telling`` knows which bridges cannot be told what has changed.
    """

    def __init__(
        self,
        desired: DesiredStateSource,
        inventory: Callable[[], Inventory],
        placements: Callable[[], PlacementsView],
        *,
        changes: ChangeSignal,
        tunnels: Tunnelling = NO_TUNNELS,
        sensors: SensorStates = NO_SENSOR_STATES,
        routes: Routing = NO_ROUTES,
        telling: Telling = ALL_TOLD,
        underlay_mtu: int = UNDERLAY_MTU,
        bridge_rate: Rate | None = None,
        link_mtu: int = LINK_MTU,
    ) -> None:
        self._desired, self._inventory, self._placements = desired, inventory, placements
        self.changes, self._tunnels, self._sensors = changes, tunnels, sensors
        self._routes, self._telling = routes, telling
        self._underlay_mtu, self._bridge_rate = underlay_mtu, bridge_rate
        self._link_mtu = link_mtu
        self._building = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._moment = self._last_held = 0
        self._unmetered: set[SessionId] = set()
        self._declared: Inventory | None = None
        self._ended_before: frozenset[SessionId] | None = None
        """The sessions that had ended before the start."""

    def snapshot(self) -> Snapshot:
        """The world as it is now; the same value again while no change was reported.

        Raises:
            CloudtapError: the store cannot be read, or the parts contradict each other.
        """
        with self._building:
            version = self.changes.version
            if self._snapshot is None or self._snapshot.version != version:
                self._snapshot = self._build(version)
            return self._snapshot

    def links_down(self) -> frozenset[Placement]:
        """The ports whose link is down, those of workloads included: no snapshot has these."""
        return self._sensors.links_down()

    @property
    def latest(self) -> Snapshot | None:
        """The snapshot that was built last; it may be outdated."""
        return self._snapshot

    def release_numbers(self, version: int) -> None:
        """Free the numbers that this version does not use, and the tunnel keys that had been given
        up when it was made; nothing if a newer one was made.

        While this runs no snapshot is made, so a name that comes back finds its old number or gets
        a new one, but never shares one.

        Raises:
            CloudtapError: the store cannot be written.
        """
        with self._building:
            if self._snapshot is None or self._snapshot.version != version:
                return
            self._desired.release_all_but(self._snapshot.numbers)
            self._desired.release_keys(self._last_held)

    def follow_told(self) -> None:
        """Report a change once bridges were told what the last snapshot takes for untold: sessions
        need not fade any more, or have the ways of their copies.
        """
        latest = self._snapshot
        if latest is None:
            return
        world, numbers = latest.resolved.world, latest.numbers.session
        unheard = self._telling.unheard() if world.fading else frozenset()
        has_faded = any(numbers[session] not in unheard for session in world.fading)
        known = self._telling.known_ways() if world.known_ways else world.known_ways
        if has_faded or world.known_ways.keys() - known.keys():
            self.changes.changed()

    def _build(self, version: int) -> Snapshot:
        inventory, desired, places = self._inventory(), self._desired.desired(), self._placements()
        self._tunnels.refresh()
        reach = _Reach(
            self._tunnels.tunnels,
            self._sensors.down(desired.probes),
            self._sensors.hops(),
            self._routes.watch(_addresses_in_use(desired)),
            self._sensors.datapaths(),
            self._sensors.segmenters(),
        )
        before = self._snapshot if self._declared is inventory else None
        changed = self._desired.changed_between(self._moment, desired.moment)
        numbers = self._numbers(inventory, desired, places, before, changed)
        told = self._told(desired, places, numbers)
        time.sleep(0)  # of 100,000 ports each step takes 0.1 s: others may run in between
        if before is not None and before.resolved.has_same_numbers(numbers):
            old = before.resolved.world.with_reachability(*reach)
            is_same = old.placements is places.placements and old.links == places.links
            if not is_same or old.contests != places.contests:
                old = old.with_placements(places.placements, places.links, numbers, places.contests)
            if old.attachments is not places.attachments:
                old = old.with_attachments(places.attachments)
            parts = (desired.collectors, desired.session_by_id, desired.filters, numbers)
            resolved = ResolvedWorld(
                old.with_desired_state(*parts, *told), before.resolved, changed=changed
            )
        else:
            world = self._world(inventory, desired, places, numbers, reach, told)
            time.sleep(0)
            resolved = ResolvedWorld(world)
        self._declared, self._moment = inventory, desired.moment
        self._last_held = desired.last_held
        return Snapshot(
            version, resolved, desired.deleting, numbers, desired.stopped, desired.limits
        )

    def _world(
        self,
        inventory: Inventory,
        desired: DesiredState,
        places: PlacementsView,
        numbers: Numbers,
        reach: _Reach,
        told: _Told,
    ) -> World:
        """A world of the parts of one moment, without reuse of an earlier one."""
        return World(
            networks=inventory.networks,
            ports=inventory.ports,
            collectors=desired.collectors,
            sessions=desired.sessions,
            placements=places.placements,
            links=places.links,
            contests=places.contests,
            attachments=places.attachments,
            numbers=numbers,
            filters=desired.filters,
            underlay_mtu=self._underlay_mtu,
            bridge_rate=self._bridge_rate,
            link_mtu=self._link_mtu,
            tunnels=reach.tunnels,
            down=reach.down,
            hops=reach.hops,
            routes=reach.routes,
            datapaths=reach.datapaths,
            segmenters=reach.segmenters,
            fading=told.fading,
            untold=told.untold,
            known_ways=told.known_ways,
        )

    def _told(self, desired: DesiredState, places: PlacementsView, numbers: Numbers) -> _Told:
        """What bridges cannot be told; copies go from one to another only where links are."""
        if self._ended_before is None:
            self._ended_before = _ended(desired)
        if not places.links:
            return _Told(frozenset(), frozenset(), {})
        unheard = self._telling.unheard()
        ended = _ended(desired) - self._ended_before if unheard else frozenset()
        fading = frozenset(key for key in ended if numbers.session.get(key) in unheard)
        return _Told(fading, self._telling.untold(), self._telling.known_ways())

    def _numbers(
        self,
        inventory: Inventory,
        desired: DesiredState,
        places: PlacementsView,
        before: Snapshot | None,
        changed: Set[SessionId] | None,
    ) -> Numbers:
        """The numbers of everything; only sessions are looked up when only they can be new."""
        if before is None or changed is None:
            return self._all_numbers(inventory, desired, bool(places.links))
        if not _asks_same(before.resolved.world, desired, places):
            return self._all_numbers(inventory, desired, bool(places.links))
        live = {s for s in changed if s in desired.session_by_id or s in desired.deleting}
        session, meter = dict(before.numbers.session), dict(before.numbers.meter)
        for gone in changed - live:
            session.pop(gone, None)
            meter.pop(gone, None)
        capped = self._capped(desired, changed | self._unmetered)
        new, unmetered = sorted(live - session.keys()), sorted(capped - meter.keys())
        if new or unmetered:
            given = self._desired.numbers_for(Names(session=new, meter=unmetered))
            session |= given.session
            meter |= given.meter
        self._unmetered = capped - meter.keys()
        return replace(before.numbers, session=session, meter=meter)

    def _all_numbers(self, inventory: Inventory, desired: DesiredState, has_links: bool) -> Numbers:
        """The numbers of everything. Link tags of tagged copies need network tags first."""
        networks, ports = inventory.networks, inventory.ports
        is_tagged = any(c.tenant_tag is TagMode.AUTO for c in desired.collectors)
        declared = declared_names(networks, ports)
        keys = declared.tag if has_links or is_tagged else {}
        live = [*desired.session_by_id, *desired.deleting]
        capped = self._capped(desired, desired.session_by_id.keys())
        names = replace(
            declared,
            session=live,
            tag=keys,
            filter=[each.id for each in desired.filters],
            collector=[c.id for c in desired.collectors if len(c.sensors) > 1],
            # a meter that was used goes on to count what outdated megaflows drop
            meter=sorted(capped | self._desired.numbered().meter.keys() & set(live)),
        )
        numbers = self._desired.numbers_for(names)
        extra = transport_keys(desired.collectors, networks, ports, numbers) if has_links else {}
        if extra:
            numbers = self._desired.numbers_for(replace(names, tag={**keys, **extra}))
        self._unmetered = capped - numbers.meter.keys()
        return numbers

    def _capped(self, desired: DesiredState, among: Set[SessionId]) -> set[SessionId]:
        """The sessions that need a meter."""
        known = desired.session_by_id
        return {key for key in among if key in known and known[key].max_rate is not None}


class _Reach(NamedTuple):
    """What is known of the ways to sensors (see World)."""

    tunnels: Mapping[tuple[Dpid, TunnelKind], Ofport]
    down: frozenset[Down]
    hops: Mapping[Placement, Hop]
    routes: Mapping[tuple[Dpid, IPAddress], Route]
    datapaths: Mapping[Dpid, Datapath]
    segmenters: Mapping[Dpid, Segmenter]


class _Told(NamedTuple):
    """What bridges cannot be told (see World)."""

    fading: frozenset[SessionId]
    untold: frozenset[int]
    known_ways: Mapping[Dpid, frozenset[CopyWay]]


def _ended(desired: DesiredState) -> frozenset[SessionId]:
    """The sessions that were switched off, or have reached a limit."""
    return frozenset(key for key, one in desired.session_by_id.items() if not one.enabled)


def _addresses_in_use(desired: DesiredState) -> frozenset[IPAddress]:
    """The remote sensors that enabled sessions deliver to."""
    remote = {c.id: c.addresses for c in desired.collectors if c.is_tunnelled}
    if not remote:
        return frozenset()
    used = {session.collector for session in desired.sessions if session.enabled}
    return frozenset(address for key in used & remote.keys() for address in remote[key])


def _asks_same(world: World, desired: DesiredState, places: PlacementsView) -> bool:
    """Whether collectors, filters and links need the numbers that they have."""
    has_same_filters = [f.id for f in world.filters] == [f.id for f in desired.filters]
    has_same_collectors = world.collectors == desired.collectors
    return has_same_filters and has_same_collectors and bool(world.links) == bool(places.links)

"""The flows of one bridge, kept up to date: a change of sessions costs what it touches.

What all sessions share (lists of sessions at a station, rules of a filter, the way of copies to a
tap port, how a sender is identified) is counted, and made again only when somebody joins or leaves.
A bridge that is compiled from nothing goes the same way, so there is one compiler only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from flows.resolve.arbitration import Chain
from flows.compile.deliver import (
    bridge_meter,
    deliver,
    delivery_frame,
    long_meter_of,
    meter_of,
    pool,
    tags_of,
    transport,
)
from flows.compile.exclusive import NO_SHARE, Share, contest_frame, share
from flows.compile.filter import filter_frame, filter_rules
from flows.compile.flow_set import PAUSE_AFTER, FlowSet
from flows.compile.sink import Outlet
from flows.compile.production import compile_production
from flows.compile.select import (
    NOTHING_SELECTED,
    Station,
    identify,
    select,
    selection_frame,
    station,
)
from flows.resolve.bridge_view import Site
from flows.resolve.session import Standing
from flows.resolve.world import Survey
from flows.plan.plan import Delta
from flows.model.filter import Filter
from flows.openflow.flow import Flow
from flows.plan.meters import Meter
from flows.model.session import CollectorId, Dpid, FilterId, NetworkId, Port, PortId, SessionId

K = TypeVar("K")
Carried = tuple[PortId, int | None]
"""Copies for a tap port with a tag of their own, or without."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one session has on the bridge, and what it shares with others."""

    number: int
    standing: Standing
    flows: tuple[Flow, ...] = ()
    stations: tuple[Station, ...] = ()
    senders: tuple[Port, ...] = ()
    filters: tuple[FilterId, ...] = ()
    carried: tuple[Carried, ...] = ()
    pools: tuple[CollectorId, ...] = ()
    meters: tuple[Meter, ...] = ()


class _Users(Generic[K]):
    """How many sessions use each of some shared things."""

    def __init__(self) -> None:
        self.count: Counter[K] = Counter()
        self._before: dict[K, int] = {}

    def change(self, keys: Iterable[K], by: int) -> None:
        """So many users more, or fewer, of each."""
        for key in keys:
            count = self.count.get(key, 0)
            self._before.setdefault(key, count)
            self.count[key] = count + by

    @property
    def touched(self) -> list[K]:
        """What was joined or left since ``turned`` was asked before."""
        return list(self._before)

    def turned(self) -> tuple[list[K], list[K]]:
        """What has lost its last user, and what has got its first, since this was asked before."""
        before, self._before = self._before, {}
        gone = [key for key, count in before.items() if count and not self.count[key]]
        new = [key for key, count in before.items() if not count and self.count[key]]
        for key in before:
            if not self.count[key]:
                del self.count[key]
        return gone, new


class Program:
    """The compiled flows of one bridge, and which session put them there.

    ``update`` brings it to another survey. Not for use by two threads at once. On a bridge that
    has meters (``has_meters``) what is too long for its path is counted by them.
    """

    def __init__(self, dpid: Dpid) -> None:
        self.dpid = dpid
        self._has_meters = False
        self.flows = FlowSet()
        self.meters: dict[int, Meter] = {}
        """The meters that flows name, by their numbers."""
        self._survey: Survey | None = None
        self._pause: Callable[[], None] = lambda: None
        self._forget()

    @property
    def has_meters(self) -> bool:
        """Whether the bridge has meters; with another answer all is compiled anew."""
        return self._has_meters

    @has_meters.setter
    def has_meters(self, has_meters: bool) -> None:
        if has_meters != self._has_meters:
            self._has_meters, self._survey = has_meters, None

    def serves(self, session: SessionId) -> bool:
        """Whether this bridge makes copies for a session."""
        part = self._parts.get(session)
        return part is not None and bool(part.stations)

    @property
    def served(self) -> frozenset[int]:
        """The numbers of the sessions that this bridge makes copies for."""
        return frozenset(self._served)

    def update(
        self,
        survey: Survey,
        pause: Callable[[], None] = lambda: None,
        outlet: Outlet | None = None,
    ) -> Delta:
        """Bring the flows to what ``survey`` asks for; cheap when it follows the one before.

        ``pause`` is called again and again, for who must not be kept waiting by a large bridge.
        When all is compiled anew, ``outlet`` gets the flows as soon as they are made.

        Raises:
            InvalidFlow: the compiler broke the contract of a table: a defect of ours.
        """
        site, self._pause = Site(self.dpid, survey, has_meters=self._has_meters), pause
        changed = survey.changed_since(self._survey, self.dpid)
        delta = self._anew(site, outlet) if changed is None else self._follow(site, changed)
        self._survey = survey
        return delta

    def _anew(self, site: Site, outlet: Outlet | None) -> Delta:
        """Compile everything; nothing of the sort that was there before is taken for granted."""
        old, self.flows = self.flows, FlowSet(outlet)
        self.flows.pause = self._pause
        self._forget()
        self.flows.put(compile_production(site))
        self.flows.end_stage()
        frame = (*selection_frame(), *contest_frame(), *delivery_frame(site), filter_frame())
        self.flows.put(frame)
        self.meters = {meter.number: meter for meter in bridge_meter(site)}
        self._replace(site, site.survey.sessions_at(self.dpid))
        self.flows.end_stage()
        return self.flows.changes_from(old)

    def _follow(self, site: Site, changed: Iterable[SessionId]) -> Delta:
        """Compile what changed sessions touch."""
        self.flows.pause = self._pause
        self.flows.note()
        self._replace(site, changed)
        return self.flows.changes()

    def _forget(self) -> None:
        self._parts: dict[SessionId, _Part] = {}
        self._served: set[int] = set()
        self._stations: dict[Station, dict[int, Standing]] = {}
        self._chains: dict[Station, Chain] = {}
        self._shares: dict[NetworkId, Share] = {}
        self._senders: _Users[PortId] = _Users()
        self._carried: _Users[Carried] = _Users()
        self._used: _Users[FilterId] = _Users()
        self._filters: dict[FilterId, tuple[Filter, tuple[Flow, ...]]] = {}
        self._pooled: _Users[CollectorId] = _Users()
        self._pools: dict[CollectorId, tuple[Flow, ...]] = {}

    def _replace(self, site: Site, changed: Iterable[SessionId]) -> None:
        """Take out and put in again what changed sessions have, and what they share."""
        touched: dict[Station, None] = {}
        contested: dict[NetworkId, None] = {}
        for number, session in enumerate(changed):
            if number % PAUSE_AFTER == 0:
                self._pause()
            old = self._parts.pop(session, None)
            if old is not None:
                self._leave(old, touched)
                contested |= _contested(old.standing)
            standing = site.survey.standings.get(session)
            if standing is not None and standing.is_served:
                self._join(_part(site, standing), touched)
                contested |= _contested(standing)
        self.flows.end_stage()  # nobody asks for these sessions yet
        for network in contested:
            self._share(network, share(site, network), touched)
        left = [place for place in touched if not self._stations.get(place)]
        empty = {place for place in left if place not in self._chains}
        self.flows.take_away([station(site, place, {}, ()) for place in empty])
        self.flows.put(
            station(site, place, self._stations.get(place, {}), self._chains.get(place, ()))
            for place in touched
            if place not in empty
        )
        for place in left:
            self._stations.pop(place, None)
        self._settle_shared(site)

    def _share(self, network: NetworkId, new: Share, touched: dict[Station, None]) -> None:
        """Exchange what the exclusive sessions of a network have here."""
        old = self._shares.pop(network, NO_SHARE)
        for by, those in ((-1, old), (1, new)):
            self._senders.change((port.id for port in those.senders), by)
            self._used.change(those.filters, by)
            touched |= dict.fromkeys(those.chains)
        self.flows.take_away(old.flows)
        self.flows.put(new.flows)
        for place in old.chains:
            del self._chains[place]
        self._chains |= new.chains
        if new is not NO_SHARE:
            self._shares[network] = new

    def _leave(self, part: _Part, touched: dict[Station, None]) -> None:
        self._served.discard(part.number)
        for meter in part.meters:
            if self.meters[meter.number] is meter:
                del self.meters[meter.number]  # else it is another session's by now
        self.flows.take_away(part.flows)
        for place in _own_stations(part):
            del self._stations[place][part.number]
            touched[place] = None
        self._count(part, -1)

    def _join(self, part: _Part, touched: dict[Station, None]) -> None:
        self._parts[part.standing.session.id] = part
        for meter in part.meters:
            self.meters[meter.number] = meter
        self.flows.put(part.flows)
        if part.stations:
            self._served.add(part.number)
        for place in _own_stations(part):
            self._stations.setdefault(place, {})[part.number] = part.standing
            touched[place] = None
        self._count(part, 1)

    def _count(self, part: _Part, by: int) -> None:
        self._senders.change([port.id for port in part.senders], by)
        self._carried.change(part.carried, by)
        self._used.change(part.filters, by)
        self._pooled.change(part.pools, by)

    def _settle_shared(self, site: Site) -> None:
        """Make, or remove, what has got its first or lost its last user."""
        ports = site.world.port_by_id
        gone_senders, new_senders = self._senders.turned()
        for port in gone_senders:
            self.flows.take_away(identify(site, ports[port]))
        for port in new_senders:
            self.flows.put(identify(site, ports[port]))
        gone_ways, new_ways = self._carried.turned()
        for tap, tag in gone_ways:
            self.flows.take_away(transport(site, ports[tap], tag))
        for tap, tag in new_ways:
            self.flows.put(transport(site, ports[tap], tag))
        self._settle_filters(site)
        self._settle_pools(site)

    def _settle_filters(self, site: Site) -> None:
        numbers, known = site.world.numbers.filter, site.world.filter_by_id
        gone, new = self._used.turned()
        for old in gone:
            self.flows.take_away(self._filters.pop(old)[1])
        changed = [f for f, (held, _) in self._filters.items() if held is not known[f]]
        for wanted in (*new, *changed):
            if wanted in self._filters:
                self.flows.take_away(self._filters[wanted][1])
            rules = tuple(filter_rules(numbers[wanted], known[wanted]))
            self.flows.put(rules)
            self._filters[wanted] = (known[wanted], rules)

    def _settle_pools(self, site: Site) -> None:
        """Make pools again whose sessions stand otherwise: sensors may have come, gone or moved."""
        touched = self._pooled.touched
        gone, _ = self._pooled.turned()
        if self._survey is None or self._survey.world.down != site.world.down:
            touched = [*self._pooled.count, *gone]
        for wanted in touched:
            self.flows.take_away(self._pools.pop(wanted, ()))
            if self._pooled.count[wanted]:
                self._pools[wanted] = tuple(pool(site, site.world.collector_by_id[wanted]))
                self.flows.put(self._pools[wanted])


def _contested(standing: Standing) -> dict[NetworkId, None]:
    """The networks where others have to be looked at again when a session changes."""
    return dict.fromkeys(sorted(standing.networks)) if standing.is_exclusive else {}


def _own_stations(part: _Part) -> tuple[Station, ...]:
    """Where a session stands for itself; exclusive ones stand in the chains of their networks."""
    return () if part.standing.is_exclusive else part.stations


def _part(site: Site, standing: Standing) -> _Part:
    """What a served session has on this bridge: perhaps only the way of its copies through it."""
    collector = standing.collector
    assert collector is not None, "a served session has a collector"
    number = site.world.numbers.session[standing.session.id]
    carried: tuple[Carried, ...] = ()
    if site.link_ports:
        tags = dict.fromkeys(tags_of(site, standing).values())
        carried = tuple((tap.id, tag) for tap in standing.taps for tag in tags)
    is_reached = any(site.way_to(sensor, collector) is not None for sensor in collector.sensors)
    selected = select(site, standing) if is_reached else NOTHING_SELECTED
    if not selected.stations:
        return _Part(number, standing, carried=carried)
    flows = (*selected.flows, *deliver(site, standing))
    # the filters of exclusive sessions are asked where they compete
    asks_here = not (standing.is_plain or standing.is_exclusive)
    filters = (standing.session.filter,) if asks_here else ()
    pools = (collector.id,) if len(collector.sensors) > 1 else ()
    return _Part(
        number, standing, flows, selected.stations, selected.senders, filters, carried, pools,
        tuple(filter(None, (meter_of(site, standing), long_meter_of(site, standing)))),
    )  # fmt: skip

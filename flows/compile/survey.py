"""What a world means for switches: which sessions are served, and who is where from a bridge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from functools import cached_property
from itertools import compress
from operator import is_not
from typing import TypeVar

from netaddr import IPAddress

from flows.capacity import COHORTS_PER_NETWORK, SESSIONS_PER_NETWORK, weight
from flows.compile.contest import Contest
from flows.compile.lineage import Lineage
from flows.compile.rivals import Rivals
from flows.compile.standing import Standing
from flows.errors import NoLinkTagLeft, Refused, TooManyOverlaps, TooManySessions
from flows.fabric import Fabric
from flows.model import (
    ALL,
    Collector,
    CollectorId,
    Dpid,
    NetworkId,
    Port,
    Session,
    SessionId,
    SourceKind,
    TagMode,
)
from flows.pipeline import LINK_TAGS
from flows.source import watched_by
from flows.tags import receiving_places, transport_key
from flows.tenancy import check_session
from flows.tunnel import path_limit
from flows.world import Numbers, World, tag_keys

K = TypeVar("K")


class Survey:
    """A world, its fabric, and the standing of every session; made once, used for each bridge.

    A survey that follows a ``previous`` one of the same estate (networks, ports, places, links,
    numbers) looks only at the sessions that changed, and remembers which.
    """

    def __init__(
        self,
        world: World,
        previous: Survey | None = None,
        sessions_per_network: int = SESSIONS_PER_NETWORK,
        changed: Set[SessionId] | None = None,
        cohorts_per_network: int = COHORTS_PER_NETWORK,
    ) -> None:
        self.world = world
        self.sessions_per_network = sessions_per_network
        self.cohorts_per_network = cohorts_per_network
        self.fabric: Fabric
        self._lineage: Lineage
        self._sessions = world.session_by_id
        self._begin()
        if previous is not None and previous.has_same_estate(world) and not previous._is_full:
            self.fabric = previous.fabric
            self._follow(previous, changed)
            if not self._is_full:
                return
            self._begin()  # who is refused for want of room depends on everybody
        self.fabric, self._lineage = Fabric(world.links), Lineage()
        self._take({}, self._sessions)

    def _begin(self) -> None:
        self._serial = 0
        self._without_room: set[SessionId] = set()
        self._taken: Counter[NetworkId] = Counter()
        self._heard_at: dict[str, Counter[NetworkId]] = {}
        self._gives: dict[SessionId, tuple[tuple[str, ...], frozenset[NetworkId]]] = {}
        self.standings: dict[SessionId, Standing] = {}
        self._rivals = Rivals(self.world.numbers.session, self._root)

    def has_same_estate(self, world: World) -> bool:
        """Whether another world differs in sessions, filters, collectors and their health."""
        one, other = self.world, world
        return (
            one.networks is other.networks
            and one.ports is other.ports
            and one.placements is other.placements
            and one.links == other.links
            and one.tunnels == other.tunnels
            and (one.underlay_mtu, one.bridge_rate) == (other.underlay_mtu, other.bridge_rate)
            and self.has_same_numbers(other.numbers)
        )

    def has_same_numbers(self, numbers: Numbers) -> bool:
        """Whether other numbers differ in those of sessions and filters at most."""
        own = self.world.numbers
        kinds = (
            (own.network, numbers.network), (own.port, numbers.port), (own.tag, numbers.tag)
        )  # fmt: skip
        return all(one is other or one == other for one, other in kinds)

    def changed_since(self, before: Survey | None) -> Set[SessionId] | None:
        """The sessions that may stand otherwise than in an older survey; None: anything may."""
        if before is None or before._lineage is not self._lineage:
            return None
        return self._lineage.between(before._serial, self._serial)

    def contest(self, network: NetworkId, dpid: Dpid) -> Contest | None:
        """The exclusive sessions that watch a network where its packets can reach a bridge."""
        return self._rivals.contests(network).get(self.fabric.component(dpid))

    def tag_of_copy(self, session: Session, network: NetworkId) -> int | None:
        """The tag on a session's copies of the packets of a network (see flows.tags)."""
        collector = self.world.collector_by_id[session.collector]
        match collector.tenant_tag:
            case int(number):
                return number
            case TagMode.AUTO if self._is_tagged(session):
                return self.world.numbers.tag.get(f"network:{network}")
            case _:
                return None

    def _is_tagged(self, session: Session) -> bool:
        """Whether copies wear the tag of their network: the tap port serves several."""
        collector = self.world.collector_by_id[session.collector]
        return collector.tenant_tag is TagMode.AUTO and any(
            len(self._heard_at.get(place, ())) > 1 for place in receiving_places(collector)
        )

    @property
    def _is_full(self) -> bool:
        """Whether a session was refused for want of room: then one that goes makes room."""
        return bool(self._without_room)

    def _follow(self, previous: Survey, asked: Set[SessionId] | None) -> None:
        """Take over what has not changed since the previous survey."""
        self.standings = dict(previous.standings)
        self._taken = Counter(previous._taken)
        self._heard_at = {tap: Counter(heard) for tap, heard in previous._heard_at.items()}
        self._gives = dict(previous._gives)
        self._rivals = Rivals(self.world.numbers.session, self._root, previous._rivals)
        old, new = previous._sessions, self._sessions
        if asked is None:
            others = compress(new, map(is_not, new.values(), map(old.get, new)))
            asked = old.keys() - new.keys() | set(others)
        changed = {key for key in asked if old.get(key) != new.get(key)}
        other_collectors = _others(previous.world.collector_by_id, self.world.collector_by_id)
        other_filters = previous.world.filter_by_id.keys() ^ self.world.filter_by_id.keys()
        other_collectors |= self._of_other_health(previous)
        if other_collectors or other_filters:
            changed |= {
                key
                for key, session in new.items()
                if session.collector in other_collectors or session.filter in other_filters
            }
        was_tagged = {place for place, heard in self._heard_at.items() if len(heard) > 1}
        self._take(
            {k: old[k] for k in changed if k in old}, {k: new[k] for k in changed if k in new}
        )
        is_tagged = {place for place, heard in self._heard_at.items() if len(heard) > 1}
        turned = was_tagged ^ is_tagged
        if turned:
            pools = {
                collector.id: turned.intersection(receiving_places(collector))
                for collector in self.world.collectors
            }
            changed |= {key for key in self._gives if pools.get(new[key].collector)}
        self._lineage = previous._lineage
        self._serial = self._lineage.note(previous._serial, changed)

    def _of_other_health(self, previous: Survey) -> Set[CollectorId]:
        """The collectors of which a sensor has failed, or has come back."""
        turned = previous.world.down ^ self.world.down
        if not turned:
            return set()
        return {c.id for c in self.world.collectors if turned.intersection(c.sensors)}

    def _take(self, gone: Mapping[SessionId, Session], new: Mapping[SessionId, Session]) -> None:
        """Let sessions go, then look at others, in the order of their numbers."""
        for key in gone:
            standing = self.standings.pop(key)
            if standing.is_served:
                self._occupy(standing, -1)
                self._rivals.leave(standing)
            places, networks = self._gives.pop(key, ((), frozenset()))
            for place in places:
                self._heard_at[place].subtract(networks)
                self._heard_at[place] = +self._heard_at[place]
        number = self.world.numbers.session
        for session in sorted(new.values(), key=lambda s: number[s.id]):
            standing = self._stand(session)
            if standing.is_served:
                standing = self._within_limit(standing)
            self.standings[session.id] = standing
            if standing.is_served:
                self._rivals.join(standing)
            if isinstance(standing.refused, TooManySessions):
                self._without_room.add(session.id)
            self._give(standing)
        self._untangle({n for key in new for n in self.standings[key].networks})

    def _root(self, port: Port) -> Dpid:
        return self.fabric.component(self.place(port))

    def _untangle(self, networks: set[NetworkId]) -> None:
        """Refuse exclusive sessions that compete in more ways than a switch can note."""
        limit = self.cohorts_per_network
        while tangled := self._rivals.tangled(networks, limit):
            for standing, network in self._rivals.surplus(tangled, limit):
                self._refuse(standing, network)
                networks |= standing.networks

    def _refuse(self, standing: Standing, network: NetworkId) -> None:
        """No room among the exclusive sessions of a network."""
        session, name = standing.session, self.world.network_by_id[network].name
        refusal = TooManyOverlaps(session.name, name, self.cohorts_per_network)
        self._occupy(standing, -1)
        self._rivals.leave(standing)
        self.standings[session.id] = Standing(session, refused=refusal)
        self._without_room.add(session.id)

    def _give(self, standing: Standing) -> None:
        """Note which networks a tap port hears of by a session that is wanted and allowed."""
        session = standing.session
        collector = self.world.collector_by_id.get(session.collector)
        is_allowed = standing.refused is None or isinstance(standing.refused, TooManySessions)
        if session.enabled and collector is not None and is_allowed:
            watched = watched_by(session, self._declared(session))
            networks = frozenset(p.network for p in watched if p.network is not None)
            places = receiving_places(collector)
            self._gives[session.id] = (places, networks)
            for place in places:
                self._heard_at.setdefault(place, Counter()).update(networks)

    def _declared(self, session: Session) -> Iterable[Port]:
        """The ports among which a session's are, whether they run or not."""
        if session.source.kind is SourceKind.PORT:
            known = self.world.port_by_id
            return (known[p] for p in session.source.ports if p in known)
        return self.world.workloads

    @cached_property
    def served(self) -> tuple[Standing, ...]:
        """The sessions that get copies, by number."""
        return tuple(standing for standing in self.standings.values() if standing.is_served)

    @cached_property
    def untagged(self) -> tuple[NoLinkTagLeft, ...]:
        """What should cross links and cannot, because all link tags are taken."""
        if not self.world.links:
            return ()
        wanted = dict.fromkeys(tag_keys(self.world.networks, self.world.ports))
        for standing in self.served:
            wanted |= dict.fromkeys(self.uncarried(standing))
        tags = self.world.numbers.tag
        return tuple(NoLinkTagLeft(key, len(LINK_TAGS)) for key in wanted if key not in tags)

    def uncarried(self, standing: Standing) -> tuple[str, ...]:
        """The names of the tags without which some copies of a session go wrong, or nowhere."""
        tags, keys = self.world.numbers.tag, set[str]()
        for tap in standing.taps:
            far = [port for port in standing.watched if self.place(port) != self.place(tap)]
            networks = {port.network for port in far if port.network is not None}
            keys |= {transport_key(tap.id, self.tag_of_copy(standing.session, n)) for n in networks}
        if standing.collector is not None and self._is_tagged(standing.session):
            keys |= {f"network:{p.network}" for p in standing.watched}
        return tuple(sorted(key for key in keys if key not in tags))

    def is_staged(self, standing: Standing) -> bool:
        """Whether more than one flow makes the copies: they may be capped, cut, or spread."""
        session, collector = standing.session, standing.collector
        is_capped = session.max_rate is not None or self.world.bridge_rate is not None
        return is_capped or session.packet_length is not None or (
            collector is not None and (collector.is_tunnelled or len(collector.sensors) > 1)
        )  # fmt: skip

    def limit_of(self, session: Session) -> int | None:
        """Bytes of the longest original frame whose copy fits every path to its sensors.

        None for tap ports: what production can carry, a tap port can.
        """
        collector = self.world.collector_by_id[session.collector]
        mtu, is_tagged = self.world.underlay_mtu, self.wears_tags(session)
        return min(
            (path_limit(collector, a, mtu, is_tagged) for a in collector.addresses), default=None
        )

    def wears_tags(self, session: Session) -> bool:
        """Whether copies of a session wear a tag of ours."""
        tag = self.world.collector_by_id[session.collector].tenant_tag
        return isinstance(tag, int) or self._is_tagged(session)

    def is_joined(self, one: Dpid, other: Dpid) -> bool:
        """Whether packets can go from one bridge to the other."""
        return self.fabric.component(one) == self.fabric.component(other)

    def place(self, port: Port) -> Dpid:
        """The bridge that a placed port is on."""
        return self.world.placements[port.id].dpid

    def _stand(self, session: Session) -> Standing:
        world = self.world
        try:
            check_session(
                session,
                world.port_by_id,
                world.collector_by_id,
                world.filter_by_id,
                world.network_by_id,
            )
        except Refused as refusal:
            return Standing(session, refused=refusal)
        if session.filter != ALL and session.filter not in world.filter_by_id:
            return Standing(session, missing=("its filter is gone",))
        missing: list[str] = []
        collector = world.collector_by_id.get(session.collector)
        taps = self._taps(collector, missing)
        by_name = session.source.kind is SourceKind.PORT
        known = world.port_by_id
        gone = [port_id for port_id in session.source.ports if port_id not in known]
        missing += [f"port {port_id!r} is in no inventory" for port_id in gone]
        watched: list[Port] = []
        for port in watched_by(session, self._declared(session)):
            if port.id not in world.placements:
                # a list of ports means each of them; of the others, some may be switched off
                missing += [f"port {port.name!r} is on no bridge"] * by_name
            elif collector is not None and (way := self._blocked(port, collector, taps)):
                missing.append(way)
            else:
                watched.append(port)
        if not watched and not missing:
            missing.append("no port that it should watch is on a bridge now")
        return Standing(session, tuple(watched), taps, collector, tuple(missing))

    def _blocked(self, port: Port, collector: Collector, taps: tuple[Port, ...]) -> str:
        """Why copies of a port's packets reach no sensor; empty when they reach one."""
        if collector.is_tunnelled:
            if (self.place(port), collector.delivery) in self.world.tunnels:
                return ""
            kind = collector.delivery.value
            return f"the bridge of port {port.name!r} has no tunnel port for {kind}"
        if not taps or any(self.is_deliverable(self.place(port), tap) for tap in taps):
            return ""
        names = " or ".join(repr(tap.name) for tap in taps)
        return f"no link leads from port {port.name!r} to tap port {names}"

    def is_deliverable(self, here: Dpid, tap: Port) -> bool:
        """Whether copies that a bridge makes reach a placed tap port."""
        there = self.place(tap)
        has_tag = transport_key(tap.id, None) in self.world.numbers.tag
        return here == there or (has_tag and self.is_joined(here, there))

    def _taps(self, collector: Collector | None, missing: list[str]) -> tuple[Port, ...]:
        """The placed tap ports of a collector; what is wrong with its sensors is noted."""
        if collector is None:
            missing.append("its collector is gone")
            return ()
        placed: list[Port] = []
        for port_id in collector.tap_ports:
            tap = self.world.port_by_id.get(port_id)
            if tap is None:
                missing.append(f"tap port {port_id!r} is in no inventory")
            elif tap.id not in self.world.placements:
                missing.append(f"tap port {tap.name!r} is on no bridge")
            else:
                placed.append(tap)
        for sensor in collector.sensors:
            if sensor in self.world.down:
                tap = None if isinstance(sensor, IPAddress) else self.world.port_by_id.get(sensor)
                name = str(sensor) if tap is None else tap.name
                missing.append(f"sensor {name!r} is down")
        return tuple(placed)

    def _within_limit(self, standing: Standing) -> Standing:
        more = self._weight(standing)
        for network in sorted(standing.networks):
            if self._taken[network] + more > self.sessions_per_network:
                name = self.world.network_by_id[network].name
                refusal = TooManySessions(standing.session.name, name, self.sessions_per_network)
                return Standing(standing.session, refused=refusal)
        self._occupy(standing, 1)
        return standing

    def _weight(self, standing: Standing) -> int:
        """How many plain sessions cost as much as this one."""
        return weight(standing.session, self.is_staged(standing))

    def _occupy(self, standing: Standing, by: int) -> None:
        for network in standing.networks:
            self._taken[network] += by * self._weight(standing)


def _others(one: Mapping[K, object], other: Mapping[K, object]) -> Set[K]:
    """The keys under which two mappings hold different objects."""
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}

"""What a world means for switches: which sessions are served, and who is where from a bridge."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set
from functools import cached_property, partial
from itertools import compress
from operator import is_not

from flows.resolve.capacity import COHORTS_PER_NETWORK, SESSIONS_PER_NETWORK, weight
from flows.resolve.arbitration import Contest
from flows.resolve.estate import Estate
from flows.resolve.history import ByHome, History, moved_ports, other_keys
from flows.resolve.rivals import Rivals, Root
from flows.resolve.session import Standing
from flows.errors import NoLinkTagLeft, TooManyOverlaps, TooManySessions
from flows.model.spanning_tree import Fabric
from flows.model.session import (
    CollectorId,
    Dpid,
    NetworkId,
    Port,
    PortId,
    Session,
    SessionId,
    SourceKind,
    TagMode,
)
from flows.pipeline.tables import LINK_TAGS
from flows.model.source import watched_by
from flows.semantics.tags import receiving_places, transport_key
from flows.model.tunnel import link_limit, path_limit
from flows.model.world import Numbers, Placement, World, tag_keys


class Survey:
    """A world, its fabric, and the standing of every session; made once, used for each bridge.

    A survey that follows a ``previous`` one of the same estate (networks, ports, links, numbers)
    looks only at sessions that changed or have to do with a port that moved, and remembers which.
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
        self._history: History
        self._sessions = world.session_by_id
        if previous is not None and previous.has_same_estate(world) and not previous._is_full:
            self._begin(previous.fabric)
            moved = moved_ports(previous.world.placements, world.placements)
            self._follow(previous, changed, moved)
            if not self._is_full:
                return
        self._begin(Fabric(world.links))  # who has no room depends on everybody
        self._history = History()
        self._take({}, self._sessions)

    def _begin(self, fabric: Fabric) -> None:
        self.fabric, self._estate = fabric, Estate(self.world, fabric)
        # nothing that a survey has knows the survey: so it goes when nobody has it any more
        self._root: Root = partial(_root_of, fabric, self.world.placements)
        self._serial = 0
        self._without_room: set[SessionId] = set()
        self._taken: Counter[NetworkId] = Counter()
        self._heard_at: dict[str, Counter[NetworkId]] = {}
        self._borrowed: set[str] = set()  # places whose counts are the previous survey's
        self._gives: dict[SessionId, tuple[tuple[str, ...], frozenset[NetworkId]]] = {}
        self.standings: dict[SessionId, Standing] = {}
        self._rivals = Rivals(self.world.numbers.session, self._root)

    def has_same_estate(self, world: World) -> bool:
        """Whether only sessions, filters, collectors, their health and places may differ."""
        one, other = self.world, world
        return (
            one.networks is other.networks
            and one.ports is other.ports
            and one.links == other.links
            and one.tunnels == other.tunnels
            and (one.underlay_mtu, one.bridge_rate) == (other.underlay_mtu, other.bridge_rate)
            and one.link_mtu == other.link_mtu
            and self.has_same_numbers(other.numbers)
        )

    def has_same_numbers(self, numbers: Numbers) -> bool:
        """Whether other numbers differ in those of wishes at most."""
        own = self.world.numbers
        kinds = (
            (own.network, numbers.network), (own.port, numbers.port), (own.tag, numbers.tag)
        )  # fmt: skip
        return all(one is other or one == other for one, other in kinds)

    def changed_since(self, before: Survey | None, dpid: Dpid) -> Set[SessionId] | None:
        """The sessions that may have other flows on a bridge than in an older survey.

        None: everything on this bridge may be other. See also ``sessions_at``.
        """
        if before is None or before._history is not self._history:
            return None
        return self._history.between(before._serial, self._serial, self.fabric.component(dpid))

    def sessions_at(self, dpid: Dpid) -> Set[SessionId]:
        """The sessions that may have flows on a bridge: they watch or deliver where links lead."""
        return self._served_by_home.get(self.fabric.component(dpid), frozenset())

    @cached_property
    def _served_by_home(self) -> ByHome:
        return _by_home((self,), self.standings)

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
        """Whether copies wear the tag of their network: one of the sensors serves several."""
        collector = self.world.collector_by_id[session.collector]
        return collector.tenant_tag is TagMode.AUTO and any(
            len(self._heard_at.get(place, ())) > 1 for place in receiving_places(collector)
        )

    @property
    def _is_full(self) -> bool:
        """Whether a session was refused for want of room: then one that goes makes room."""
        return bool(self._without_room)

    def _follow(self, previous: Survey, asked: Set[SessionId] | None, moved: Set[PortId]) -> None:
        """Take over what has not changed since the previous survey."""
        self.standings = dict(previous.standings)
        self._taken = Counter(previous._taken)
        self._heard_at, self._borrowed = dict(previous._heard_at), set(previous._heard_at)
        self._gives = dict(previous._gives)
        self._rivals = Rivals(self.world.numbers.session, self._root, previous._rivals)
        old, new = previous._sessions, self._sessions
        if asked is None:
            others = compress(new, map(is_not, new.values(), map(old.get, new)))
            asked = old.keys() - new.keys() | set(others)
        changed = {key for key in asked if old.get(key) != new.get(key)}
        changed |= other_keys(previous.world.numbers.meter, self.world.numbers.meter) & new.keys()
        other_collectors = other_keys(previous.world.collector_by_id, self.world.collector_by_id)
        other_filters = previous.world.filter_by_id.keys() ^ self.world.filter_by_id.keys()
        other_collectors |= self._of_other_health(previous)
        if other_collectors or other_filters:
            changed |= {
                key
                for key, session in new.items()
                if session.collector in other_collectors or session.filter in other_filters
            }
        if moved:
            changed |= self._concerned(moved)
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
        self._history = previous._history
        places = [w.placements.get(p) for w in (previous.world, self.world) for p in moved]
        homes = frozenset(self.fabric.component(place.dpid) for place in places if place)
        by_home = _by_home((previous, self), changed)
        self._serial = self._history.note(previous._serial, by_home, homes)

    def _concerned(self, moved: Set[PortId]) -> set[SessionId]:
        """The sessions that may watch one of these ports, or have their copies sent to one."""
        known, found = self.world.port_by_id, set()
        networks = {known[port].network for port in moved if port in known}
        for key, session in self._sessions.items():
            collector = self.world.collector_by_id.get(session.collector)
            if session.source.kind is SourceKind.PORT:
                is_source = not moved.isdisjoint(session.source.ports)
            else:  # who was refused or is switched off has given nothing: look again
                gives = self._gives.get(key)
                is_source = gives is None or not networks.isdisjoint(gives[1])
            if is_source or (collector and not moved.isdisjoint(collector.tap_ports)):
                found.add(key)
        return found

    def _of_other_health(self, previous: Survey) -> Set[CollectorId]:
        """The collectors of which a sensor has failed, or has come back."""
        turned = previous.world.down ^ self.world.down
        if not turned:
            return set()
        return {
            c.id
            for c in self.world.collectors
            if any(sensor in turned or (c.id, sensor) in turned for sensor in c.sensors)
        }

    def _take(self, gone: Mapping[SessionId, Session], new: Mapping[SessionId, Session]) -> None:
        """Let sessions go, then look at others, in the order of their numbers."""
        # one that goes may have kept others from meeting: it took everything before them
        touched = {network for key in gone for network in self.standings[key].networks}
        for key in gone:
            standing = self.standings.pop(key)
            if standing.is_served:
                self._occupy(standing, -1)
                self._rivals.leave(standing)
            places, networks = self._gives.pop(key, ((), frozenset()))
            self._hear(places, networks, -1)
        number = self.world.numbers.session
        for session in sorted(new.values(), key=lambda s: number[s.id]):
            standing = self._estate.stand(session)
            if standing.is_served:
                standing = self._within_limit(standing)
            self.standings[session.id] = standing
            if standing.is_served:
                self._rivals.join(standing)
            if isinstance(standing.refused, TooManySessions):
                self._without_room.add(session.id)
            self._give(standing)
        self._untangle(touched | {n for key in new for n in self.standings[key].networks})

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
        """Note which networks a sensor hears of by a session that is wanted and allowed."""
        session = standing.session
        collector = self.world.collector_by_id.get(session.collector)
        is_allowed = standing.refused is None or isinstance(standing.refused, TooManySessions)
        if session.enabled and collector is not None and is_allowed:
            watched = watched_by(session, self._estate.declared(session))
            networks = frozenset(p.network for p in watched if p.network is not None)
            places = receiving_places(collector)
            self._gives[session.id] = (places, networks)
            self._hear(places, networks, 1)

    def _hear(self, places: Iterable[str], networks: Iterable[NetworkId], by: int) -> None:
        """So many sessions more, or fewer, by which sensors hear of networks."""
        for place in places:
            heard = self._heard_at.get(place)
            if heard is None or place in self._borrowed:
                self._borrowed.discard(place)
                heard = self._heard_at[place] = Counter(heard)
            for network in networks:
                heard[network] += by
                if not heard[network]:
                    del heard[network]

    def homes(self, session: SessionId) -> set[Dpid]:
        """The parts of the fabric in which a session has flows."""
        standing = self.standings.get(session)
        if standing is None or not standing.is_served:
            return set()
        dpids = {self.place(port) for port in (*standing.watched, *standing.taps)}
        return set(map(self.fabric.component, dpids))

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
        """Whether copies pass all stages: they may be capped, cut, spread, or tunnelled."""
        session, collector = standing.session, standing.collector
        is_capped = session.max_rate is not None or self.world.bridge_rate is not None
        return is_capped or session.packet_length is not None or (
            collector is not None and (collector.is_tunnelled or len(collector.sensors) > 1)
        )  # fmt: skip

    def limit_of(self, session: Session) -> int | None:
        """Bytes of the longest original frame whose copy fits every path to its sensors.

        None when none crosses a link: what production can carry, a tap port can.
        """
        standing = self.standings.get(session.id)
        if standing is not None and standing.is_far:
            return link_limit(self.world.link_mtu)
        return self._path_limit(session)

    def limit_at(self, here: Dpid, session: Session) -> int | None:
        """The same for the copies that one bridge makes of a session."""
        standing = self.standings[session.id]
        if standing.is_far and any(
            here != self.place(tap) and self.is_deliverable(here, tap) for tap in standing.taps
        ):
            return link_limit(self.world.link_mtu)
        return self._path_limit(session)

    def _path_limit(self, session: Session) -> int | None:
        collector = self.world.collector_by_id[session.collector]
        if not collector.is_tunnelled:
            return None
        mtu, is_tagged = self.world.underlay_mtu, self.wears_tags(session)
        return min(
            (path_limit(collector, a, mtu, is_tagged) for a in collector.addresses), default=None
        )

    def wears_tags(self, session: Session) -> bool:
        """Whether copies of a session wear a tag of ours."""
        tag = self.world.collector_by_id[session.collector].tenant_tag
        return isinstance(tag, int) or self._is_tagged(session)

    def is_deliverable(self, here: Dpid, tap: Port) -> bool:
        """Whether copies that a bridge makes reach a placed tap port."""
        return self._estate.is_deliverable(here, tap)

    def is_joined(self, one: Dpid, other: Dpid) -> bool:
        """Whether packets can go from one bridge to the other."""
        return self.fabric.component(one) == self.fabric.component(other)

    def place(self, port: Port) -> Dpid:
        """The bridge that a placed port is on."""
        return self.world.placements[port.id].dpid

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
        return weight(standing.session, self.is_staged(standing), standing.is_far)

    def _occupy(self, standing: Standing, by: int) -> None:
        for network in standing.networks:
            self._taken[network] += by * self._weight(standing)


def _root_of(fabric: Fabric, placements: Mapping[PortId, Placement], port: Port) -> Dpid:
    """The lowest bridge that links join with that of a placed port."""
    return fabric.component(placements[port.id].dpid)


def _by_home(surveys: Iterable[Survey], sessions: Iterable[SessionId]) -> ByHome:
    """Where sessions have flows in one of these surveys."""
    found: defaultdict[Dpid, dict[SessionId, None]] = defaultdict(dict)
    wanted = tuple(sessions)
    for survey in surveys:
        for session in wanted:
            for home in survey.homes(session):
                found[home][session] = None
    return {home: there.keys() for home, there in found.items()}

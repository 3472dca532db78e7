"""A resolved world: which sessions are served in a world, and the answers that bridges share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from functools import cached_property, partial
from itertools import compress
from operator import is_not

from netaddr import IPAddress

from flows.errors import NoLinkTagLeft, TooManySessions
from flows.model import (
    CollectorId,
    CopyWay,
    Direction,
    Down,
    Dpid,
    FilterId,
    NetworkId,
    Numbers,
    Placement,
    Port,
    PortId,
    Rate,
    Session,
    SessionId,
    SourceKind,
    SpanningTree,
    World,
    link_limit,
    path_limit,
    tag_keys,
    tap_limit,
    watched_by,
)
from flows.openflow import VLAN_IDS
from flows.resolve.admission import Admission
from flows.resolve.arbitration import Arbitration
from flows.resolve.capacity import COHORTS_PER_NETWORK, SESSIONS_PER_NETWORK, NetworkLimits
from flows.resolve.history import (
    RegionHistory,
    SessionsByRegion,
    changed_keys,
    moved_claims,
    moved_ports,
)
from flows.resolve.mirror_room import MirrorRoom
from flows.resolve.mirrors import MirrorUse
from flows.resolve.output_count import CrowdedNetwork, crowded_networks
from flows.resolve.port_share import share_ports
from flows.resolve.reach import longest_of
from flows.resolve.session import (
    NO_SHARES,
    ResolvedSession,
    candidate_ports,
    is_deliverable,
    resolve_session,
)
from flows.resolve.tags import CopyTags


class ResolvedWorld:
    """A world with the spanning tree of its links and the resolved state of every session.

    It is built once for each world and shared by all bridges. With the ``previous`` one (same
    networks, ports, links and numbers) only sessions that changed, or that have to do with a port
    that moved, are resolved again. ``changed`` names the sessions that may differ from those of
    ``previous``; without it all are compared.
    """

    def __init__(
        self,
        world: World,
        previous: ResolvedWorld | None = None,
        sessions_per_network: int = SESSIONS_PER_NETWORK,
        changed: Set[SessionId] | None = None,
        cohorts_per_network: int = COHORTS_PER_NETWORK,
    ) -> None:
        self.world = world
        limits = NetworkLimits(sessions_per_network, cohorts_per_network)
        if previous is not None and previous.has_same_declarations(world):
            self._begin(previous.spanning_tree, limits, previous)
            self._follow(previous, changed)
            return
        self._begin(SpanningTree(world.links), limits)
        self._history, self._serial = RegionHistory(), 0
        if world.attachments:
            self._claim((), world.session_by_id.values())
        networks = self._add(world.session_by_id.values())
        self._refuse_overlaps(networks)

    def _begin(
        self,
        spanning_tree: SpanningTree,
        limits: NetworkLimits,
        previous: ResolvedWorld | None = None,
    ) -> None:
        """Start with the sessions of the previous world, or with none."""
        # No part refers to the resolved world: reference counting frees it, without a cycle.
        region_of = partial(_region_of, spanning_tree, self.world.placements)
        self.spanning_tree = spanning_tree
        self.sessions: dict[SessionId, ResolvedSession] = (
            {} if previous is None else dict(previous.sessions)
        )
        self._admission: Admission = Admission(
            self.world, region_of, limits, None if previous is None else previous._admission
        )
        self._tags: CopyTags = CopyTags(self.world, None if previous is None else previous._tags)
        rooms = None if previous is None else previous._rooms
        self._rooms: MirrorRoom = MirrorRoom(self.world, rooms)
        self._first: dict[SessionId, ResolvedSession] = {}

    # --- following the world before ---------------------------------------------------------

    def has_same_declarations(self, world: World) -> bool:
        """Whether another world differs at most in sessions, filters, collectors and placements.

        The state of sensors may differ, too.
        """
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
        """Whether networks, ports and link tags have the same numbers."""
        own = self.world.numbers
        kinds = ((own.network, numbers.network), (own.port, numbers.port), (own.tag, numbers.tag))
        return all(one is other or one == other for one, other in kinds)

    def has_same_session(self, session: SessionId, other: ResolvedWorld) -> bool:
        """Whether a session, its filter and the places of its tap ports are as in another world."""
        one, another = self.sessions.get(session), other.sessions.get(session)
        if one is None or one != another:
            return False
        wanted, here, there = one.session.filter, self.world, other.world
        return here.filter_by_id.get(wanted) == there.filter_by_id.get(wanted) and all(
            here.placements[tap.id] == there.placements[tap.id] for tap in one.taps
        )

    def changed_since(self, before: ResolvedWorld | None, dpid: Dpid) -> Set[SessionId] | None:
        """The sessions whose flows on a bridge may differ from those in an older world.

        None: every flow of the bridge may differ. See also ``sessions_at``.
        """
        if before is None or before._history is not self._history:
            return None
        region = self.spanning_tree.component(dpid)
        return self._history.between(before._serial, self._serial, region)

    def affected_since(self, before: ResolvedWorld, dpid: Dpid) -> Set[SessionId] | None:
        """The same as ``changed_since``, with the sessions of which only the rules differ."""
        changed = self.changed_since(before, dpid)
        filters = changed_keys(before.world.filter_by_id, self.world.filter_by_id)
        if changed is None or not filters:
            return changed
        found = {k for k in self.sessions_at(dpid) if self.sessions[k].session.filter in filters}
        return changed | found

    def mirrors_for(self, session: Session) -> tuple[MirrorUse, ...]:
        """The Mirrors that a session would need on bridges of others if it were one of these."""
        if not self.world.attachments:
            return ()
        return self._rooms.uses_if(resolve_session(session, self.world, self.spanning_tree))

    def concerns(self, before: ResolvedWorld, dpid: Dpid) -> bool:
        """Whether flows of a bridge may differ from those in an older world, rules included."""
        affected = self.affected_since(before, dpid)
        return affected is None or bool(affected)

    def sessions_at(self, dpid: Dpid) -> Set[SessionId]:
        """The sessions that may have flows on a bridge: they watch or deliver in its region."""
        return self._served_by_region.get(self.spanning_tree.component(dpid), frozenset())

    @cached_property
    def _served_by_region(self) -> SessionsByRegion:
        return _by_region((self,), self.sessions)

    def _follow(self, previous: ResolvedWorld, asked: Set[SessionId] | None) -> None:
        """Resolve again what changed since the previous world, and record it in the history."""
        moved = moved_ports(previous.world.placements, self.world.placements)
        old, new = previous.world.session_by_id, self.world.session_by_id
        changed = self._changed_sessions(previous, asked)
        moved = moved | self._attached_elsewise(previous)
        if moved:
            changed |= self._affected_by(moved)
        changed |= self._affected_by_hops(previous)
        if self.world.attachments or previous.world.attachments:
            here = [new[key] for key in changed if key in new]
            changed |= self._claim(changed, here) & new.keys()
        before = self._tags.shared_places()
        changed |= self._replace(
            [key for key in changed if key in old], [new[key] for key in changed if key in new]
        )
        turned = before ^ self._tags.shared_places()
        if turned:
            changed |= self._tags.sessions_at(turned)
        changed |= changed_keys(previous.port_caps, self.port_caps)
        self._history = previous._history
        places = [w.placements.get(p) for w in (previous.world, self.world) for p in moved]
        places += moved_claims(previous.world.contests, self.world.contests)
        dpids = {place.dpid for place in places if place}
        dpids |= changed_keys(previous.world.attachments, self.world.attachments)
        regions = frozenset(map(self.spanning_tree.component, dpids))
        by_region = _by_region((previous, self), changed)
        self._serial = self._history.note(previous._serial, by_region, regions)

    def _changed_sessions(
        self, previous: ResolvedWorld, asked: Set[SessionId] | None
    ) -> set[SessionId]:
        """The sessions that differ themselves, or whose collector, filter or meter does.

        Other rules of a filter change nothing of a session; another edition of it does.
        """
        old, new = previous.world.session_by_id, self.world.session_by_id
        if asked is None:
            others = compress(new, map(is_not, new.values(), map(old.get, new)))
            asked = old.keys() - new.keys() | set(others)
        changed = {key for key in asked if old.get(key) != new.get(key)}
        changed |= changed_keys(previous.world.numbers.meter, self.world.numbers.meter) & new.keys()
        changed |= (previous.world.fading ^ self.world.fading) & new.keys()
        changed |= self._affected_by_ways(previous)
        turned = changed_keys(previous.world.datapaths, self.world.datapaths)
        for dpid in turned | changed_keys(previous.world.segmenters, self.world.segmenters):
            changed |= previous.sessions_at(dpid) & new.keys()
        if turned:  # a bridge may have the tunnel port that it needs now, or lack it
            known = self.world.collector_by_id
            tunnelled = {key for key, collector in known.items() if collector.is_tunnelled}
            changed |= {key for key, session in new.items() if session.collector in tunnelled}
        if self.world.broken_links != previous.world.broken_links:
            changed |= {key for key, found in previous.sessions.items() if found.is_far}
        collectors = changed_keys(previous.world.collector_by_id, self.world.collector_by_id)
        collectors |= self._collectors_of_changed_sensors(previous)
        filters = changed_keys(_editions(previous.world), _editions(self.world))
        if self.world.attachments:  # whether both lists of rules are equal decides about Mirrors
            filters |= changed_keys(previous.world.filter_by_id, self.world.filter_by_id)
        if collectors or filters:
            changed |= {
                key
                for key, session in new.items()
                if session.collector in collectors or session.filter in filters
            }
        return changed

    def _attached_elsewise(self, previous: ResolvedWorld) -> Set[PortId]:
        """The ports on bridges of others where Mirrors, or ports, have changed."""
        turned = changed_keys(previous.world.attachments, self.world.attachments)
        placed = self.world.placements.items()
        return {port for port, place in placed if place.dpid in turned} if turned else frozenset()

    def _affected_by(self, moved: Set[PortId]) -> set[SessionId]:
        """The sessions that may watch one of these ports, or deliver to one."""
        known, found = self.world.port_by_id, set()
        networks = {known[port].network for port in moved if port in known}
        for key, session in self.world.session_by_id.items():
            collector = self.world.collector_by_id.get(session.collector)
            if session.source.kind is SourceKind.PORT:
                is_source = not moved.isdisjoint(session.source.ports)
            else:  # unknown for a session that was refused or disabled: resolve it again
                watched = self._tags.find_networks(key)
                is_source = watched is None or not networks.isdisjoint(watched)
            if is_source or (collector and not moved.isdisjoint(collector.tap_ports)):
                found.add(key)
        return found

    def _affected_by_ways(self, previous: ResolvedWorld) -> Set[SessionId]:
        """The sessions whose copies a bridge that went away, or is back, does not let pass."""
        one, other = previous.world.known_ways, self.world.known_ways
        turned = changed_keys(one, other)
        known = [(d, ways[d]) for ways in (one, other) for d in turned if d in ways]
        if not known:
            return frozenset()
        far = ((key, found) for key, found in previous.sessions.items() if found.is_far)
        return {key for key, found in far if previous.lacks_ways(found, known)}

    def lacks_ways(
        self,
        resolved_session: ResolvedSession,
        known: Iterable[tuple[Dpid, frozenset[CopyWay]]],
    ) -> bool:
        """Whether one of these bridges has not all ways for copies of a session in its region."""
        session, taps = resolved_session.session, resolved_session.taps
        tags = {self.tag_of_copy(session, network) for network in resolved_session.networks}
        wanted = {CopyWay(tap.id, tag, tap.tenant) for tap in taps for tag in tags}
        places = {self.place(tap) for tap in taps}
        return any(
            not wanted <= ways and any(self.is_joined(dpid, place) for place in places)
            for dpid, ways in known
        )

    def _affected_by_hops(self, previous: ResolvedWorld) -> Set[SessionId]:
        """The sessions with a port on their path, or a link, of which something else is known."""
        places = changed_keys(previous.world.hops, self.world.hops)
        if not places:
            return frozenset()
        if previous.world.link_mtu_now != self.world.link_mtu_now or any(
            end in places for link in self.world.links for end in (link.a, link.b)
        ):
            return self.world.session_by_id.keys()
        ports = [p for p in map(self.world.port_by_placement.get, places) if p is not None]
        found = self._affected_by({port.id for port in ports}) | self._tunnelled_by(places)
        networks = {port.network for port in ports if port.network is not None}
        for key in self.world.session_by_id.keys() - found if networks else ():
            watched = self._tags.find_networks(key)
            if watched is None or not networks.isdisjoint(watched):
                found.add(key)
        return found

    def _tunnelled_by(self, places: Set[Placement]) -> Set[SessionId]:
        """The sessions whose copies may leave by a tunnel port at one of these places."""
        kinds = {
            kind.delivery
            for (dpid, kind), number in self.world.tunnels.items()
            if Placement(dpid, number) in places
        }
        known = self.world.collector_by_id
        collectors = {key for key, found in known.items() if found.delivery in kinds}
        if not collectors:
            return frozenset()
        sessions = self.world.session_by_id.items()
        return {key for key, session in sessions if session.collector in collectors}

    def _collectors_of_changed_sensors(self, previous: ResolvedWorld) -> Set[CollectorId]:
        """The collectors with a sensor that went down or came back, or has another route."""
        turned: Set[Down] = previous.world.down ^ self.world.down
        routes = changed_keys(previous.world.routes, self.world.routes)
        turned |= {address for _, address in routes}
        if not turned:
            return set()
        return {
            c.id
            for c in self.world.collectors
            if any(sensor in turned or (c.id, sensor) in turned for sensor in c.sensors)
        }

    def _replace(self, gone: Iterable[SessionId], new: Iterable[Session]) -> set[SessionId]:
        """Remove sessions, then resolve and admit others; the others that this affects.

        Those are sessions that got room, or lost it. Only networks that the sessions ask for, and
        networks that share sessions with them, can be affected.
        """
        before, refused = dict(self.sessions), dict(self._admission.refused)
        networks: set[NetworkId] = set()
        for key in gone:
            networks |= refused.get(key, self.sessions[key].networks)
            self._admission.release(self.sessions.pop(key))
            self._tags.remove(key)
        waiting = self._admission.refused.copy()
        networks |= self._add(new)
        self._refuse_overlaps(networks)
        is_contended = self._admission.refused != waiting or any(
            not networks.isdisjoint(wanted) for wanted in waiting.values()
        )
        if not is_contended:
            return set()
        self._admit_again(networks)
        return {key for key, one in self.sessions.items() if _is_other(before.get(key), one)}

    def _add(self, sessions: Iterable[Session]) -> set[NetworkId]:
        """Resolve and admit sessions in the order of their numbers; the networks that they want."""
        number, networks = self.world.numbers.session, set[NetworkId]()
        for session in sorted(sessions, key=lambda session: number[session.id]):
            resolved_session = self._resolve(session)
            networks |= resolved_session.networks
            self.sessions[session.id] = self._admission.admit(resolved_session)
            self._add_tags(self.sessions[session.id])
        return networks

    def _claim(self, gone: Iterable[SessionId], new: Iterable[Session]) -> Set[SessionId]:
        """Note what sessions want of bridges of others; those that get other Mirrors by that."""
        first = [resolve_session(session, self.world, self.spanning_tree) for session in new]
        changed = self._rooms.follow(gone, first)
        self._first = {
            one.session.id: one for one in first if not self._rooms.shares_of(one.session.id)
        }
        return changed

    def _resolve(self, session: Session) -> ResolvedSession:
        """Resolve one session, with the Mirrors that it gets where some share one."""
        shares = self._rooms.shares_of(session.id) if self.world.attachments else NO_SHARES
        first = None if shares else self._first.pop(session.id, None)
        return first or resolve_session(session, self.world, self.spanning_tree, shares)

    def _refuse_overlaps(self, networks: Set[NetworkId]) -> None:
        for refused in self._admission.refuse_overlaps(networks):
            self.sessions[refused.session.id] = refused

    def _admit_again(self, networks: Set[NetworkId]) -> None:
        """Give the room of networks, and of those that share sessions with them, out again."""
        wanted = {key: one.networks for key, one in self.sessions.items() if one.is_served}
        wanted |= self._admission.refused
        networks, size = set(networks), 0
        while len(networks) > size:
            size = len(networks)
            for those in wanted.values():
                if not networks.isdisjoint(those):
                    networks |= those
        number = self.world.numbers.session
        again = [key for key, those in wanted.items() if not networks.isdisjoint(those)]
        served = {key: self.sessions[key] for key in again if self.sessions[key].is_served}
        for key in again:
            self._admission.release(self.sessions[key])
        for key in sorted(again, key=lambda key: number[key]):
            candidate = served.get(key) or self._resolve(self.sessions[key].session)
            self.sessions[key] = self._admission.admit(candidate)
        self._refuse_overlaps(networks)

    def _add_tags(self, resolved_session: ResolvedSession) -> None:
        """Count a session for the tags of copies if it is enabled and allowed, served or not.

        One that fades away counts, so that its copies wear the tags that they have worn.
        """
        session, refused = resolved_session.session, resolved_session.refused
        is_allowed = refused is None or isinstance(refused, TooManySessions)
        is_wanted = (session.enabled and is_allowed) or resolved_session.is_fading
        if is_wanted and session.collector in self.world.collector_by_id:
            watched = watched_by(session, candidate_ports(session, self.world))
            networks = frozenset(port.network for port in watched if port.network is not None)
            self._tags.add(session, networks)

    # --- sessions ---------------------------------------------------------------------------

    @cached_property
    def served(self) -> tuple[ResolvedSession, ...]:
        """The sessions that get copies."""
        return tuple(s for s in self.sessions.values() if s.is_served)

    def is_staged(self, resolved_session: ResolvedSession) -> bool:
        """Whether copies pass all delivery tables: they are capped, cut, spread or tunnelled."""
        return resolved_session.is_staged(self.world.bridge_rate)

    def arbitration(
        self, network: NetworkId, dpid: Dpid, failed: Set[int] = frozenset()
    ) -> Arbitration | None:
        """The arbitration among the exclusive sessions of a network in the region of a bridge.

        ``failed`` are the numbers of sessions that can have no flows on this bridge. They do not
        compete, unless it has links: the other bridges of its region do not know of them.
        """
        arbitrations = self._admission.exclusive.arbitrations(network)
        found = arbitrations.get(self.spanning_tree.component(dpid))
        if found is None or not failed or self.spanning_tree.link_ports(dpid):
            return found
        return found.without(failed)

    def starving_sessions(
        self, resolved_session: ResolvedSession, port: Port, failed: Set[int] = frozenset()
    ) -> Mapping[Direction, Session]:
        """The exclusive sessions that take every packet of a watched port before a session.

        By direction; see Arbitration.starving_sessions. ``failed`` is as in ``arbitration``.
        """
        if not resolved_session.is_exclusive or port.network is None:
            return {}
        arbitration = self.arbitration(port.network, self.place(port), failed)
        return {} if arbitration is None else arbitration.starving_sessions(resolved_session, port)

    def regions_of(self, session: SessionId) -> set[Dpid]:
        """The regions in which a session has flows."""
        resolved_session = self.sessions.get(session)
        if resolved_session is None or not resolved_session.has_flows:
            return set()
        dpids = {self.place(port) for port in (*resolved_session.watched, *resolved_session.taps)}
        return set(map(self.spanning_tree.component, dpids))

    # --- tags -------------------------------------------------------------------------------

    def tag_of_copy(self, session: Session, network: NetworkId) -> int | None:
        """The tag on a session's copies of the packets of a network; None: no tag."""
        return self._tags.tag_of_copy(session, network)

    def missing_link_tags(self, resolved_session: ResolvedSession) -> tuple[str, ...]:
        """The keys of the tags that copies of a session need, and for which no number was left."""
        return self._tags.missing_link_tags(resolved_session, self.world.placements)

    @cached_property
    def link_tag_shortages(self) -> tuple[NoLinkTagLeft, ...]:
        """What should cross links and cannot, because all link tags are taken."""
        if not self.world.links:
            return ()
        wanted = dict.fromkeys(tag_keys(self.world.networks, self.world.ports))
        for resolved_session in self.served:
            wanted |= dict.fromkeys(self.missing_link_tags(resolved_session))
        tags = self.world.numbers.tag
        return tuple(NoLinkTagLeft(key, len(VLAN_IDS)) for key in wanted if key not in tags)

    # --- paths ------------------------------------------------------------------------------

    def limit_of(self, session: Session) -> int | None:
        """Bytes of the longest original frame whose copy fits every path to its sensors.

        None when no copy crosses a link or tunnel, and every one fits its tap port.
        """
        resolved_session = self.sessions.get(session.id)
        if resolved_session is None:
            return self._tunnel_limit(session, ())
        here = {self.place(port) for port in resolved_session.watched}
        far = link_limit(self.world.link_mtu_now) if resolved_session.is_far else None
        return _least(
            far, self._tap_limit(resolved_session), self._tunnel_limit(session, sorted(here))
        )

    def limit_at(self, here: Dpid, session: Session) -> int | None:
        """The same for the copies that one bridge makes of a session."""
        resolved_session, far = self.sessions[session.id], None
        if resolved_session.is_far and any(
            here != self.place(tap) and is_deliverable(here, tap, self.world, self.spanning_tree)
            for tap in resolved_session.taps
        ):
            far = link_limit(self.world.link_mtu_now)
        return _least(far, self._tap_limit(resolved_session), self._tunnel_limit(session, (here,)))

    def _tap_limit(self, resolved_session: ResolvedSession) -> int | None:
        """The same for the last hop: the tap ports themselves."""
        if not resolved_session.is_guarded:
            return None
        world, is_tagged = self.world, self._tags.wears_tags(resolved_session.session)
        longest = longest_of(world, resolved_session.networks)
        return _least(
            *(
                tap_limit(world.hop_of(tap.id), longest, is_tagged=is_tagged)
                for tap in resolved_session.taps
            )
        )

    def _tunnel_limit(self, session: Session, bridges: Iterable[Dpid]) -> int | None:
        collector = self.world.collector_by_id[session.collector]
        if not collector.is_tunnelled:
            return None
        is_tagged = self._tags.wears_tags(session)
        return _least(
            *(
                path_limit(collector, address, mtu, is_tagged)
                for address in collector.addresses
                for mtu in self._underlay_mtus(address, bridges)
            )
        )

    def _underlay_mtus(self, address: IPAddress, bridges: Iterable[Dpid]) -> Iterator[int]:
        """The MTU of the network between hosts, and those of devices on the way that are known."""
        yield self.world.underlay_mtu
        for dpid in bridges:
            route = self.world.routes.get((dpid, address))
            if route is not None and route.mtu is not None:
                yield min(route.mtu, self.world.underlay_mtu)

    @cached_property
    def crowded(self) -> Mapping[Dpid, tuple[CrowdedNetwork, ...]]:
        """The networks whose packets may need too many outputs, by bridge."""
        return crowded_networks(self.world, self.served, self._admission.load_of)

    @cached_property
    def port_caps(self) -> Mapping[SessionId, Rate]:
        """The caps of sessions whose copies pass ports that send little: each gets its share."""
        return share_ports(self.served)

    def is_joined(self, one: Dpid, other: Dpid) -> bool:
        """Whether links connect two bridges: whether they are in one region."""
        return self.spanning_tree.component(one) == self.spanning_tree.component(other)

    def place(self, port: Port) -> Dpid:
        """The bridge of a placed port."""
        return self.world.placements[port.id].dpid


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _is_other(before: ResolvedSession | None, now: ResolvedSession) -> bool:
    """Whether the flows of a session may differ: a session that is not served has none."""
    is_served = before is not None and before.is_served, now.is_served
    return any(is_served) and before is not now


def _editions(world: World) -> Mapping[FilterId, int]:
    return {each.id: each.edition for each in world.filters}


def _region_of(
    spanning_tree: SpanningTree, placements: Mapping[PortId, Placement], port: Port
) -> Dpid:
    return spanning_tree.component(placements[port.id].dpid)


def _by_region(
    resolved_worlds: Iterable[ResolvedWorld], sessions: Iterable[SessionId]
) -> SessionsByRegion:
    """The regions in which sessions have flows, in one of these worlds."""
    found: defaultdict[Dpid, dict[SessionId, None]] = defaultdict(dict)
    wanted = tuple(sessions)
    for resolved in resolved_worlds:
        for session in wanted:
            for region in resolved.regions_of(session):
                found[region][session] = None
    return {region: those.keys() for region, those in found.items()}

"""What a world means for switches: which sessions are served, and who is where from a bridge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from flows.errors import NoLinkTagLeft, Refused, TooManySessions
from flows.fabric import Fabric
from flows.model import (
    ALL,
    Dpid,
    NetworkId,
    Ofport,
    Port,
    PortId,
    Session,
    SessionId,
    SourceKind,
)
from flows.pipeline import FILTERED_WEIGHT, LINK_TAGS, SESSIONS_PER_NETWORK
from flows.source import watched_by
from flows.tags import transport_key
from flows.tenancy import check_session
from flows.world import World, tag_keys


@dataclass(frozen=True, slots=True)
class Standing:
    """How one session stands in the world, before any switch was asked.

    ``watched`` are its placed source ports, ``tap`` the placed tap port; ``missing`` says in
    sentences what is not there, ``refused`` why nothing may be copied at all.
    """

    session: Session
    watched: tuple[Port, ...] = ()
    tap: Port | None = None
    missing: tuple[str, ...] = ()
    refused: Refused | None = None

    @property
    def is_served(self) -> bool:
        """Whether at least one port can be watched and copies have a place to go."""
        return bool(self.session.enabled and self.watched and self.tap and not self.refused)


@dataclass
class Survey:
    """A world, its fabric, and the standing of every session; made once, used for each bridge."""

    world: World
    sessions_per_network: int = SESSIONS_PER_NETWORK
    fabric: Fabric = field(init=False)

    def __post_init__(self) -> None:
        self.fabric = Fabric(self.world.links)

    @cached_property
    def standings(self) -> Mapping[SessionId, Standing]:
        """The standing of every session, in the order in which sessions got their numbers."""
        number = self.world.numbers.session
        taken: dict[NetworkId, int] = defaultdict(int)
        found: dict[SessionId, Standing] = {}
        for session in sorted(self.world.sessions, key=lambda s: number[s.id]):
            standing = self._stand(session)
            if standing.is_served:
                standing = self._within_limit(standing, taken)
            found[session.id] = standing
        return found

    @cached_property
    def served(self) -> tuple[Standing, ...]:
        """The sessions that get copies, by number."""
        return tuple(standing for standing in self.standings.values() if standing.is_served)

    @cached_property
    def untagged(self) -> tuple[NoLinkTagLeft, ...]:
        """What should cross links and cannot, because all link tags are taken."""
        if not self.world.links:
            return ()
        wanted = tag_keys(self.world.networks, self.world.ports)
        tags = self.world.numbers.tag
        return tuple(NoLinkTagLeft(key, len(LINK_TAGS)) for key in wanted if key not in tags)

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
        tap = self._tap(session, missing)
        by_name = session.source.kind is SourceKind.PORT
        known = world.port_by_id
        gone = [port_id for port_id in session.source.ports if port_id not in known]
        missing += [f"port {port_id!r} is in no inventory" for port_id in gone]
        watched: list[Port] = []
        for port in self._sources(session):
            if port.id not in world.placements:
                # a list of ports means each of them; of the others, some may be switched off
                missing += [f"port {port.name!r} is on no bridge"] * by_name
            elif tap is not None and not self._is_deliverable(port, tap):
                missing.append(f"no link leads from port {port.name!r} to tap port {tap.name!r}")
            else:
                watched.append(port)
        if not watched and not missing:
            missing.append("no port that it should watch is on a bridge now")
        return Standing(session, tuple(watched), tap, tuple(missing))

    def _sources(self, session: Session) -> tuple[Port, ...]:
        if session.source.kind is SourceKind.PORT:
            known = self.world.port_by_id
            return tuple(known[p] for p in session.source.ports if p in known)
        return watched_by(session, self.world.workloads)

    def _is_deliverable(self, port: Port, tap: Port) -> bool:
        here, there = self.place(port), self.place(tap)
        has_tag = f"tap:{tap.id}" in self.world.numbers.tag
        return here == there or (has_tag and self.is_joined(here, there))

    def _tap(self, session: Session, missing: list[str]) -> Port | None:
        collector = self.world.collector_by_id.get(session.collector)
        if collector is None:
            missing.append("its collector is gone")
            return None
        tap = self.world.port_by_id.get(collector.sensor)
        if tap is None:
            missing.append(f"tap port {collector.sensor!r} is in no inventory")
        elif tap.id not in self.world.placements:
            missing.append(f"tap port {tap.name!r} is on no bridge")
            return None
        return tap

    def _within_limit(self, standing: Standing, taken: dict[NetworkId, int]) -> Standing:
        networks = {port.network for port in standing.watched if port.network is not None}
        weight = 1 if standing.session.filter == ALL else FILTERED_WEIGHT
        for network in sorted(networks):
            if taken[network] + weight > self.sessions_per_network:
                name = self.world.network_by_id[network].name
                refusal = TooManySessions(standing.session.name, name, self.sessions_per_network)
                return Standing(standing.session, refused=refusal)
        for network in networks:
            taken[network] += weight
        return standing


class Site:
    """One bridge in a survey: its own ports, and what lies beyond each of its links."""

    def __init__(self, dpid: Dpid, survey: Survey) -> None:
        self.dpid = dpid
        self.survey = survey
        self.world = survey.world
        self.first_hops = survey.fabric.first_hops(dpid)
        self.link_ports = survey.fabric.link_ports(dpid)

    @cached_property
    def workloads(self) -> tuple[Port, ...]:
        """The workloads on this bridge."""
        return tuple(p for p in self.world.workloads if self.is_here(p))

    @cached_property
    def tap_ports(self) -> tuple[Port, ...]:
        """The tap ports on this bridge."""
        return tuple(p for p in self.world.tap_ports if self.is_here(p))

    @cached_property
    def members(self) -> Mapping[NetworkId, tuple[Port, ...]]:
        """The members of each network that has to do with this bridge, wherever they are.

        A network has to do with it when a member is here, or when two members can reach each
        other only through here. Members that cannot be reached are left out.
        """
        found: dict[NetworkId, tuple[Port, ...]] = {}
        for network, ports in self.world.members_by_network.items():
            reached = tuple(p for p in ports if self.way(p) is not None)
            ways = {self.way(p) for p in reached if not self.is_here(p)}
            if len(ways) > 1 or (len(reached) > 0 and any(self.is_here(p) for p in reached)):
                found[network] = reached
        return found

    def is_here(self, port: Port) -> bool:
        """Whether a port is on this bridge now."""
        placement = self.world.placements.get(port.id)
        return placement is not None and placement.dpid == self.dpid

    def way(self, port: Port) -> Ofport | None:
        """The OpenFlow port that leads to ``port``, its own or a link's; None when none does."""
        placement = self.world.placements.get(port.id)
        if placement is None:
            return None
        if placement.dpid == self.dpid:
            return placement.ofport
        return self.first_hops.get(placement.dpid) if self.tag_towards(port) else None

    def tag_towards(self, port: Port) -> int | None:
        """The link tag that the packets of the port's network, or copies for a tap port, wear."""
        key = f"tap:{port.id}" if port.network is None else f"network:{port.network}"
        return self.world.numbers.tag.get(key)

    def link_tag_of_copies(self, tap: Port, tag: int | None) -> int | None:
        """The link tag of copies that shall wear ``tag`` at a tap port of another bridge."""
        return self.world.numbers.tag.get(transport_key(tap.id, tag))

    def tag_of_sender(self, port: Port) -> int | None:
        """The link tag that says "sent by a protected port of this network", or "by this port"."""
        key = f"network:{port.network}" if port.is_protected else f"port:{port.id}"
        return self.world.numbers.tag.get(key)

    def links_with(self, network: NetworkId) -> tuple[Ofport, ...]:
        """The links beyond which the network has members, ascending."""
        return tuple(sorted({self.ofport(p) for p in self.members[network] if not self.is_here(p)}))

    def remote_senders(self) -> Iterator[tuple[Ofport, Port]]:
        """Every workload of another bridge whose packets may arrive, with the link they come by."""
        for ports in self.members.values():
            for port in ports:
                if not self.is_here(port):
                    yield self.ofport(port), port

    def ofport(self, port: Port) -> Ofport:
        """The OpenFlow port that leads to a port of which it is known that it can be reached."""
        way = self.way(port)
        assert way is not None, f"port {port.id} cannot be reached from {self.dpid:016x}"
        return way

    def number(self, port_id: PortId) -> int:
        """The number of a port in the registers."""
        return self.world.numbers.port[port_id]

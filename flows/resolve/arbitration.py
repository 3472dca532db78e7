"""Arbitration among the exclusive sessions of one network: the order in which they are asked.

Every bridge of a region computes the same order by itself, from the same world.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass

from flows.model import Direction, Dpid, NetworkId, Port, PortId, Session, SessionId
from flows.resolve.session import ResolvedSession

Chain = tuple[ResolvedSession, ...]
"""The exclusive sessions that are asked about the packets of a port, in order.

It ends with the first that accepts everything: sessions after that one never get a packet.
"""
Rank = tuple[bool, int, int, bool]
"""The position of a session in the order: whether none of its copies can arrive, its number, its
register number, whether it is plain."""
RegionOf = Callable[[Port], Dpid]
"""The region of a placed port, named by its lowest datapath id."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """The ports for whose received packets the same sessions compete, in the same order.

    ``bit`` is the register bit that notes that a session has taken the packet; None when only one
    session watches these ports.
    """

    chain: Chain
    ports: tuple[Port, ...]
    bit: int | None


class Arbitration:
    """The exclusive sessions of one network in one region, and for which ports they compete.

    ``entries`` are sessions with the ports of the region that they watch; ``region`` is its lowest
    datapath id. ``sent`` and ``received`` are the chains of the ports whose packets are watched in
    that direction, by port id.
    """

    def __init__(
        self,
        entries: Iterable[tuple[ResolvedSession, Iterable[Port]]],
        numbers: Mapping[SessionId, int],
        region: Dpid | None = None,
    ) -> None:
        ordered = sorted(entries, key=lambda entry: rank(entry[0], numbers, region))
        self.sessions: Chain = tuple(resolved_session for resolved_session, _ in ordered)
        self.ports = {port.id: port for _, ports in ordered for port in ports}
        self.sent = _chains(ordered, Direction.EGRESS)
        self.received = _chains(ordered, Direction.INGRESS)
        self.cohorts = _cohorts(self.received, self.ports, numbers)
        self._entries, self._numbers, self._region = ordered, numbers, region
        self._cohorts_by_session: dict[SessionId, list[Cohort]] = defaultdict(list)
        for cohort in self.cohorts:
            for resolved_session in cohort.chain:
                self._cohorts_by_session[resolved_session.session.id].append(cohort)

    @property
    def bits(self) -> int:
        """How many register bits switches need for its cohorts."""
        return sum(cohort.bit is not None for cohort in self.cohorts)

    def without(self, failed: Set[int]) -> Arbitration:
        """The same without the sessions of these numbers."""
        left = [
            entry for entry in self._entries if self._numbers[entry[0].session.id] not in failed
        ]
        return (
            self
            if len(left) == len(self._entries)
            else Arbitration(left, self._numbers, self._region)
        )

    @property
    def by_id(self) -> Mapping[SessionId, ResolvedSession]:
        """Its sessions."""
        return {s.session.id: s for s in self.sessions}

    def without_sessions(self, gone: Set[SessionId]) -> Arbitration:
        """The same without some sessions."""
        return self.without({self._numbers[session] for session in gone})

    def cohorts_of(self, resolved_session: ResolvedSession) -> tuple[Cohort, ...]:
        """The cohorts in which a session may get received packets."""
        return tuple(self._cohorts_by_session.get(resolved_session.session.id, ()))

    def in_order(self, sessions: Iterable[SessionId]) -> Chain:
        """Some of its sessions, in the order in which they are asked."""
        wanted = set(sessions)
        return tuple(s for s in self.sessions if s.session.id in wanted)

    def starving_sessions(
        self, resolved_session: ResolvedSession, port: Port
    ) -> Mapping[Direction, Session]:
        """The sessions that take every packet of a watched port before one, by direction.

        Empty when in some direction of the session packets of the port may be left for it. A
        session takes every packet if it accepts everything; rules of filters are not evaluated.
        """
        found: dict[Direction, Session] = {}
        for direction, chains in (
            (Direction.EGRESS, self.sent),
            (Direction.INGRESS, self.received),
        ):
            if resolved_session.session.direction.includes(direction):
                chain = chains.get(port.id)
                if not chain or not chain[-1].is_plain:  # one that takes everything ends a chain
                    return {}
                if self._rank(chain[-1]) >= self._rank(resolved_session):
                    return {}
                found[direction] = chain[-1].session
        return found

    def _rank(self, resolved_session: ResolvedSession) -> Rank:
        return rank(resolved_session, self._numbers, self._region)


class ExclusiveSessions:
    """The exclusive sessions that are served, by network; arbitrations are computed on demand."""

    def __init__(
        self,
        numbers: Mapping[SessionId, int],
        region_of: RegionOf,
        previous: ExclusiveSessions | None = None,
    ) -> None:
        self._numbers, self._region_of = numbers, region_of
        self._sessions: dict[NetworkId, dict[SessionId, ResolvedSession]] = {}
        self._arbitrations: dict[NetworkId, Mapping[Dpid, Arbitration]] = {}
        if previous is not None:
            self._sessions = {network: dict(those) for network, those in previous._sessions.items()}
            self._arbitrations = dict(previous._arbitrations)

    def add(self, resolved_session: ResolvedSession) -> None:
        """Add a served session; ignored unless it is exclusive."""
        if resolved_session.is_exclusive:
            session = resolved_session.session.id
            for network in resolved_session.networks:
                self._sessions.setdefault(network, {})[session] = resolved_session
                self._arbitrations.pop(network, None)

    def remove(self, resolved_session: ResolvedSession) -> None:
        """Remove a session that was added."""
        if resolved_session.is_exclusive:
            for network in resolved_session.networks:
                del self._sessions[network][resolved_session.session.id]
                self._arbitrations.pop(network, None)

    @property
    def networks(self) -> Set[NetworkId]:
        """The networks in which exclusive sessions are, or were, served."""
        return self._sessions.keys()

    def watching(self, network: NetworkId) -> Collection[ResolvedSession]:
        """The exclusive sessions that watch a network."""
        return self._sessions.get(network, {}).values()

    def arbitrations(self, network: NetworkId) -> Mapping[Dpid, Arbitration]:
        """The arbitration of a network in each region."""
        if network not in self._arbitrations:
            watching = self.watching(network)
            self._arbitrations[network] = _arbitrations(
                network, watching, self._numbers, self._region_of
            )
        return self._arbitrations[network]


def rank(
    resolved_session: ResolvedSession, numbers: Mapping[SessionId, int], region: Dpid | None
) -> Rank:
    """The position of a session among the exclusive ones of a region; the lowest is asked first.

    One whose copies cannot arrive comes after all others: it takes from nobody, and what nobody
    else takes counts as lost to it.
    """
    session, is_cut_off = resolved_session.session, region in resolved_session.cut_off
    return is_cut_off, session.number, numbers[session.id], resolved_session.is_plain


def _arbitrations(
    network: NetworkId,
    resolved_sessions: Iterable[ResolvedSession],
    numbers: Mapping[SessionId, int],
    region_of: RegionOf,
) -> Mapping[Dpid, Arbitration]:
    entries: dict[Dpid, dict[SessionId, tuple[ResolvedSession, list[Port]]]] = defaultdict(dict)
    for resolved_session in resolved_sessions:
        for port in resolved_session.watched:
            if port.network == network:
                key = resolved_session.session.id
                entries[region_of(port)].setdefault(key, (resolved_session, []))[1].append(port)
    return {
        region: Arbitration(found.values(), numbers, region) for region, found in entries.items()
    }


def _chains(
    ordered: Iterable[tuple[ResolvedSession, Iterable[Port]]], direction: Direction
) -> Mapping[PortId, Chain]:
    """The chain of each port in one direction."""
    chains: dict[PortId, list[ResolvedSession]] = defaultdict(list)
    for resolved_session, ports in ordered:
        if resolved_session.session.direction.includes(direction):
            for port in ports:
                chain = chains[port.id]
                if not (chain and chain[-1].is_plain):
                    chain.append(resolved_session)
    return {port: tuple(chains[port]) for port in sorted(chains)}


def _cohorts(
    received: Mapping[PortId, Chain],
    ports: Mapping[PortId, Port],
    numbers: Mapping[SessionId, int],
) -> tuple[Cohort, ...]:
    """Group ports by their chains; the order, and so each bit, is the same on every bridge."""
    members: dict[tuple[int, ...], list[Port]] = defaultdict(list)
    chain_by_key: dict[tuple[int, ...], Chain] = {}
    for port_id, chain in received.items():
        key = tuple(numbers[resolved_session.session.id] for resolved_session in chain)
        members[key].append(ports[port_id])
        chain_by_key[key] = chain
    cohorts: list[Cohort] = []
    bits = 0
    for key in sorted(members):
        is_contended = len(key) > 1
        bit = bits if is_contended else None
        cohorts.append(Cohort(chain_by_key[key], tuple(members[key]), bit))
        bits += is_contended
    return tuple(cohorts)

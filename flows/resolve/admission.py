"""Admission: which sessions switches have room for, network by network; the others are refused."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Set

from flows.errors import TooManyOverlaps, TooManySessions
from flows.model import Dpid, NetworkId, Port, PortId, SessionId, World
from flows.resolve.arbitration import ExclusiveSessions, Rank, RegionOf, rank
from flows.resolve.capacity import NetworkLimits, weight
from flows.resolve.session import ResolvedSession


class Admission:
    """The capacity of each network that admitted sessions use, in a world.

    Sessions must be admitted in the order of their register numbers: then it is the newest that
    are refused. ``previous`` is the admission of the world before, with the same networks.
    """

    def __init__(
        self,
        world: World,
        region_of: RegionOf,
        limits: NetworkLimits,
        previous: Admission | None = None,
    ) -> None:
        self._numbers, self._bridge_rate = world.numbers.session, world.bridge_rate
        self._network_by_id = world.network_by_id
        self._region_of, self._limits = region_of, limits
        self._load: Counter[NetworkId] = Counter()
        if previous is not None:
            self._load.update(previous._load)
        self.exclusive: ExclusiveSessions = ExclusiveSessions(
            self._numbers, region_of, None if previous is None else previous.exclusive
        )
        self.refused: dict[SessionId, frozenset[NetworkId]] = {}
        """The sessions that were refused for lack of room, and the networks that they asked for."""
        if previous is not None:
            self.refused.update(previous.refused)

    def load_of(self, network: NetworkId) -> int:
        """The room that is taken in a network: at least the number of sessions that watch it."""
        return self._load[network]

    def admit(self, resolved_session: ResolvedSession) -> ResolvedSession:
        """Take room for a session; the session, refused if one of its networks has no room.

        A session that is not served needs no room.
        """
        if not resolved_session.is_served:
            return resolved_session
        session, more = resolved_session.session, weight(resolved_session, self._bridge_rate)
        for network in sorted(resolved_session.networks):
            if self._load[network] + more > self._limits.sessions:
                self.refused[session.id] = resolved_session.networks
                name = self._network_by_id[network].name
                refusal = TooManySessions(session.name, name, self._limits.sessions)
                return ResolvedSession(session, refused=refusal)
        for network in resolved_session.networks:
            self._load[network] += more
        self.exclusive.add(resolved_session)
        return resolved_session

    def release(self, resolved_session: ResolvedSession) -> None:
        """Give back the room of a session that ``admit`` returned, or forget its refusal."""
        self.refused.pop(resolved_session.session.id, None)
        if resolved_session.is_served:
            less = weight(resolved_session, self._bridge_rate)
            for network in resolved_session.networks:
                self._load[network] -= less
            self.exclusive.remove(resolved_session)

    def refuse_overlaps(self, networks: Set[NetworkId]) -> list[ResolvedSession]:
        """Refuse admitted sessions until every arbitration of some networks has bits enough.

        A session that is refused may let others compete in its further networks: these are checked,
        too.
        """
        networks, refused = set(networks), list[ResolvedSession]()
        while overloaded := self._overloaded(networks):
            for resolved_session, network in self._surplus(overloaded):
                self.release(resolved_session)
                self.refused[resolved_session.session.id] = resolved_session.networks
                networks |= resolved_session.networks
                session, name = resolved_session.session, self._network_by_id[network].name
                refusal = TooManyOverlaps(session.name, name, self._limits.cohorts)
                refused.append(ResolvedSession(session, refused=refusal))
        return refused

    def _overloaded(self, networks: Set[NetworkId]) -> Set[NetworkId]:
        """Those of some networks whose cohorts need more register bits than there are."""
        limit = self._limits.cohorts
        return {
            network
            for network in networks & self.exclusive.networks
            if any(a.bits > limit for a in self.exclusive.arbitrations(network).values())
        }

    def _surplus(self, networks: Set[NetworkId]) -> list[tuple[ResolvedSession, NetworkId]]:
        """The newest sessions, without which overloaded networks have bits enough."""
        limit = self._limits.cohorts
        overlaps = {
            network: _Overlaps(self._region_of, limit, self._numbers) for network in networks
        }
        competing = {s.session.id: s for n in networks for s in self.exclusive.watching(n)}
        found: list[tuple[ResolvedSession, NetworkId]] = []
        for resolved_session in sorted(
            competing.values(), key=lambda s: self._numbers[s.session.id]
        ):
            if not resolved_session.session.direction.is_ingress:
                continue  # cohorts are about received packets only
            for network in sorted(resolved_session.networks & networks):
                ports = [port for port in resolved_session.watched if port.network == network]
                if not overlaps[network].admit(resolved_session, ports):
                    found.append((resolved_session, network))
                    break
        return found


class _Overlaps:
    """Counts the contended cohorts of one network while sessions are admitted one by one."""

    def __init__(self, region_of: RegionOf, limit: int, numbers: Mapping[SessionId, int]) -> None:
        self._region_of, self._limit, self._numbers = region_of, limit, numbers
        self._ranks: dict[PortId, list[Rank]] = defaultdict(list)
        self._cohorts: Counter[tuple[Dpid, tuple[Rank, ...]]] = Counter()
        """Ports of each cohort, by region and by the ranks of its chain."""

    def admit(self, resolved_session: ResolvedSession, ports: Iterable[Port]) -> bool:
        """Add a session with some of its ports; False, and nothing is changed, if its cohorts
        would be too many.
        """
        ports = tuple(ports)
        for port in ports:
            self._change(resolved_session, port, insort)
        contended = Counter(region for region, ranks in self._cohorts if len(ranks) > 1)
        if max(contended.values(), default=0) <= self._limit:
            return True
        for port in ports:
            self._change(resolved_session, port, _remove)
        return False

    def _change(
        self,
        resolved_session: ResolvedSession,
        port: Port,
        change: Callable[[list[Rank], Rank], None],
    ) -> None:
        ranks, region = self._ranks[port.id], self._region_of(port)
        before = region, _chain_ranks(ranks)
        change(ranks, rank(resolved_session, self._numbers, region))
        self._cohorts[before] -= 1
        self._cohorts[region, _chain_ranks(ranks)] += 1
        if not self._cohorts[before]:
            del self._cohorts[before]


def _chain_ranks(ranks: list[Rank]) -> tuple[Rank, ...]:
    """The ranks up to the first session that accepts everything."""
    last = next((n for n, (*_, is_plain) in enumerate(ranks, 1) if is_plain), len(ranks))
    return tuple(ranks[:last])


def _remove(ranks: list[Rank], own: Rank) -> None:
    del ranks[bisect_left(ranks, own)]

"""The exclusive sessions that are served, by network, and whether a switch can follow them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Set

from flows.resolve.arbitration import Contest, Rank, contests, rank
from flows.resolve.session import Standing
from flows.model.session import Dpid, NetworkId, Port, PortId, SessionId

Root = Callable[[Port], Dpid]
"""The lowest bridge that links join with that of a port."""


class Rivals:
    """Who competes in each network; where they meet is worked out when it is asked for."""

    def __init__(
        self, numbers: Mapping[SessionId, int], root: Root, before: Rivals | None = None
    ) -> None:
        self.numbers, self.root = numbers, root
        self._rivals: dict[NetworkId, dict[SessionId, Standing]] = {}
        self._contests: dict[NetworkId, Mapping[Dpid, Contest]] = {}
        if before is not None:
            self._rivals = {network: dict(those) for network, those in before._rivals.items()}
            self._contests = dict(before._contests)

    def contests(self, network: NetworkId) -> Mapping[Dpid, Contest]:
        """The contests of a network by the lowest of the bridges that links join."""
        if network not in self._contests:
            rivals = self._rivals.get(network, {}).values()
            self._contests[network] = contests(network, rivals, self.numbers, self.root)
        return self._contests[network]

    def join(self, standing: Standing) -> None:
        """A session is served from now on; of no interest unless it is exclusive."""
        if standing.is_exclusive:
            for network in standing.networks:
                self._rivals.setdefault(network, {})[standing.session.id] = standing
                self._contests.pop(network, None)

    def leave(self, standing: Standing) -> None:
        """A session that was served is gone."""
        if standing.is_exclusive:
            for network in standing.networks:
                del self._rivals[network][standing.session.id]
                self._contests.pop(network, None)

    def tangled(self, networks: Set[NetworkId], limit: int) -> Set[NetworkId]:
        """Those of some networks with more contested cohorts than switches have bits for."""
        return {
            network
            for network in networks & self._rivals.keys()
            if any(contest.bits > limit for contest in self.contests(network).values())
        }

    def surplus(self, networks: Set[NetworkId], limit: int) -> list[tuple[Standing, NetworkId]]:
        """The sessions without which some tangled networks have bits enough; the newest go."""
        overlaps = {network: _Overlaps(self.root, limit) for network in networks}
        rivals = {s.session.id: s for n in networks for s in self._rivals[n].values()}
        found: list[tuple[Standing, NetworkId]] = []
        for standing in sorted(rivals.values(), key=lambda s: self.numbers[s.session.id]):
            for network in sorted(standing.networks & networks):
                ports = [port for port in standing.watched if port.network == network]
                is_asked = standing.session.direction.is_ingress
                at = rank(standing, self.numbers)
                if is_asked and not overlaps[network].admit(ports, at):
                    found.append((standing, network))
                    break
        return found


class _Overlaps:
    """Counts contested cohorts of one network while sessions are admitted one by one."""

    def __init__(self, root: Root, limit: int) -> None:
        self._root, self._limit = root, limit
        self._ranks: dict[PortId, list[Rank]] = defaultdict(list)
        self._ports: Counter[tuple[Dpid, tuple[Rank, ...]]] = Counter()

    def admit(self, ports: Iterable[Port], at: Rank) -> bool:
        """Take one more session in; False, and nothing is changed, if these are too many."""
        ports = tuple(ports)
        for port in ports:
            self._change(port, at, insort)
        contested = Counter(root for root, ranks in self._ports if len(ranks) > 1)
        if max(contested.values(), default=0) <= self._limit:
            return True
        for port in ports:
            self._change(port, at, _take_out)
        return False

    def _change(self, port: Port, at: Rank, change: Callable[[list[Rank], Rank], None]) -> None:
        ranks, root = self._ranks[port.id], self._root(port)
        before = root, _cut(ranks)
        change(ranks, at)
        self._ports[before] -= 1
        self._ports[root, _cut(ranks)] += 1
        if not self._ports[before]:
            del self._ports[before]


def _cut(ranks: list[Rank]) -> tuple[Rank, ...]:
    """The ranks up to the first session that accepts everything."""
    last = next((n for n, (_, _, is_plain) in enumerate(ranks, 1) if is_plain), len(ranks))
    return tuple(ranks[:last])


def _take_out(ranks: list[Rank], at: Rank) -> None:
    del ranks[bisect_left(ranks, at)]

"""Who competes for the packets of one network: its exclusive sessions, port by port, in order.

The same for every bridge that a packet can reach: each of them comes to the same order alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flows.resolve.session import Standing
from flows.model.session import Direction, Dpid, NetworkId, Port, PortId, SessionId

Chain = tuple[Standing, ...]
"""The exclusive sessions that are asked about the packets of a port, first one first.

It ends with the first that accepts everything: whoever comes later never gets a packet.
"""
Rank = tuple[int, int, bool]
"""The place of a session among others: its number, the one in registers, and is it plain."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """The ports that the same sessions contest, in the same order, when they receive.

    ``bit`` is where switches note that somebody has taken the packet; None: there is no contest.
    """

    chain: Chain
    ports: tuple[Port, ...]
    bit: int | None


class Contest:
    """The exclusive sessions of one network on bridges that links join, and where they meet.

    ``entries`` are sessions with the ports there that they watch.
    """

    def __init__(
        self, entries: Iterable[tuple[Standing, Iterable[Port]]], numbers: Mapping[SessionId, int]
    ) -> None:
        ordered = sorted(entries, key=lambda entry: rank(entry[0], numbers))
        self.standings: Chain = tuple(standing for standing, _ in ordered)
        self.ports = {port.id: port for _, ports in ordered for port in ports}
        self.sent = _chains(ordered, Direction.EGRESS)
        self.heard = _chains(ordered, Direction.INGRESS)
        self.cohorts = _cohorts(self.heard, self.ports, numbers)
        self._cohorts_by_session: dict[SessionId, list[Cohort]] = defaultdict(list)
        for cohort in self.cohorts:
            for standing in cohort.chain:
                self._cohorts_by_session[standing.session.id].append(cohort)

    @property
    def bits(self) -> int:
        """How many bits switches need to follow it."""
        return sum(cohort.bit is not None for cohort in self.cohorts)

    def cohorts_of(self, standing: Standing) -> tuple[Cohort, ...]:
        """Where a session may get packets that ports receive."""
        return tuple(self._cohorts_by_session.get(standing.session.id, ()))

    def in_order(self, sessions: Iterable[SessionId]) -> Chain:
        """Some of its sessions as they are asked."""
        wanted = set(sessions)
        return tuple(s for s in self.standings if s.session.id in wanted)


def rank(standing: Standing, numbers: Mapping[SessionId, int]) -> Rank:
    """Where a session stands among the exclusive ones; lower is asked first."""
    session = standing.session
    return session.number, numbers[session.id], standing.is_plain


def contests(
    network: NetworkId, standings: Iterable[Standing], numbers: Mapping[SessionId, int],
    root: Callable[[Port], Dpid],
) -> Mapping[Dpid, Contest]:  # fmt: skip
    """The contests of one network, one for each ``root``: bridges that links join have the same."""
    entries: dict[Dpid, dict[SessionId, tuple[Standing, list[Port]]]] = defaultdict(dict)
    for standing in standings:
        for port in standing.watched:
            if port.network == network:
                key = standing.session.id
                entries[root(port)].setdefault(key, (standing, []))[1].append(port)
    return {place: Contest(found.values(), numbers) for place, found in entries.items()}


def _chains(
    ordered: Iterable[tuple[Standing, Iterable[Port]]], direction: Direction
) -> Mapping[PortId, Chain]:
    """Who is asked about the packets of each port, by port id."""
    chains: dict[PortId, list[Standing]] = defaultdict(list)
    for standing, ports in ordered:
        if standing.session.direction.includes(direction):
            for port in ports:
                chain = chains[port.id]
                if not (chain and chain[-1].is_plain):
                    chain.append(standing)
    return {port: tuple(chains[port]) for port in sorted(chains)}


def _cohorts(
    heard: Mapping[PortId, Chain], ports: Mapping[PortId, Port], numbers: Mapping[SessionId, int]
) -> tuple[Cohort, ...]:
    """The ports that hear, by who contests them; numbered in an order that depends on nothing."""
    members: dict[tuple[int, ...], list[Port]] = defaultdict(list)
    chain_by_key: dict[tuple[int, ...], Chain] = {}
    for port_id, chain in heard.items():
        key = tuple(numbers[standing.session.id] for standing in chain)
        members[key].append(ports[port_id])
        chain_by_key[key] = chain
    cohorts: list[Cohort] = []
    bits = 0
    for key in sorted(members):
        is_contested = len(key) > 1
        bit = bits if is_contested else None
        cohorts.append(Cohort(chain_by_key[key], tuple(members[key]), bit))
        bits += is_contested
    return tuple(cohorts)

"""Which sessions want a packet, and on which of its stations each of them takes its one copy.

The sender's own bridge makes the copy of a session that watches the sender. Else the bridge that
delivers a unicast packet makes it; and of a packet that is flooded, the lowest bridge on which the
session watches a port that hears it. Every bridge decides alone, from who sent the packet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from flows.compile.survey import Site, Standing
from flows.field import ETH_SRC, IN_PORT, Term
from flows.flow import PRODUCTION, Action, Flow, Load, Match, Resubmit
from flows.model import Dpid, NetworkId, Port
from flows.pipeline import (
    CAST,
    DELIVER,
    EGRESS,
    IDENTIFY,
    INGRESS,
    NETWORK,
    ONCE,
    OUT,
    SENDER,
    SESSION,
    Cast,
    Table,
)


class Selection:
    """The selection tables of one bridge, with the sessions and senders that they ask about."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.number = site.world.numbers
        self.standings = tuple(
            s for s in site.survey.served if s.tap and site.way(s.tap) is not None
        )
        self.flows: list[Flow] = []
        self.served: dict[int, Standing] = {}
        self._senders: dict[int, Port] = {}
        self._egress()
        self._ingress()
        self._identify()

    def _egress(self) -> None:
        wanted: dict[int, list[Standing]] = defaultdict(list)
        for standing in self.standings:
            if standing.session.direction.is_egress:
                for port in self._here(standing.watched):
                    wanted[self.site.ofport(port)].append(standing)
        self._add(EGRESS, "nothing", (), (), "nobody watches what this port sends")
        for place, standings in wanted.items():
            why = f"{len(standings)} session(s) watch what this port sends"
            self._add(EGRESS, "port", (IN_PORT.eq(place),), self._each(standings, DELIVER), why)

    def _ingress(self) -> None:
        by_place: dict[int, list[Standing]] = defaultdict(list)
        by_cast: dict[tuple[NetworkId, Cast], list[Standing]] = defaultdict(list)
        self._add(INGRESS, "nothing", (), (), "nobody watches where this went")
        self._add(ONCE, "first", (), (Resubmit(DELIVER.number),), "not copied before")
        for standing in self.standings:
            if not standing.session.direction.is_ingress:
                continue
            for network, ports in _by_network(standing.watched).items():
                here = self._here(ports)
                for port in here:
                    by_place[self.site.ofport(port)].append(standing)
                if here and self.site.link_ports:
                    by_cast[network, Cast.LATE_FLOOD].append(standing)
                if self._floods(standing, network, ports):
                    by_cast[network, Cast.FLOOD].append(standing)
                if here:
                    self._sent_before(standing, ports)
        for place, standings in by_place.items():
            terms = (CAST.eq(Cast.UNICAST), OUT.eq(place))
            why = f"{len(standings)} session(s) watch what this port receives"
            self._add(INGRESS, "port", terms, self._each(standings, ONCE), why)
        for (network, cast), standings in by_cast.items():
            terms = (CAST.eq(cast), NETWORK.eq(self.number.network[network]))
            why = f"{len(standings)} session(s) watch a port that hears a flooded packet"
            self._add(INGRESS, "network", terms, self._each(standings, ONCE), why)

    def _sent_before(self, standing: Standing, ports: tuple[Port, ...]) -> None:
        """What a watched port sent was copied on the sender's bridge."""
        if standing.session.direction.is_egress:
            for port in ports:
                if self.site.way(port) is not None:
                    terms = (self._session(standing), self._sender(port))
                    self._add(ONCE, "sent", terms, (), f"copied when {port.id} sent it")

    def _floods(self, standing: Standing, network: NetworkId, ports: tuple[Port, ...]) -> bool:
        """Whether this bridge makes the session's copy of some flooded packets; which, says ONCE.

        The lowest bridge with a watched port makes it. Only when the sender itself is the one
        watched port there does the next bridge step in; a watched sender of a session in both
        directions needs no such care, because its own bridge has made the copy.
        """
        places = _by_bridge(self.site, ports)
        bridges = sorted(places)
        first = bridges[0]
        alone = places[first][0] if len(places[first]) == 1 else None
        steps_in = len(bridges) > 1 and alone is not None and bridges[1] == self.site.dpid
        if standing.session.direction.is_egress:
            return first == self.site.dpid
        session, flooded = self._session(standing), CAST.eq(Cast.FLOOD)
        if first == self.site.dpid:
            if alone is not None:
                terms = (session, self._sender(alone), flooded)
                self._add(ONCE, "sender", terms, (), "its one watched port here sent it")
            return True
        if steps_in and alone is not None:
            in_network = NETWORK.eq(self.number.network[network])
            here = (session, self._sender(alone), flooded, in_network)
            deliver = (Resubmit(DELIVER.number),)
            self._add(ONCE, "sender", here, deliver, f"{alone.id} sent it, so we copy it here")
            elsewhere = (session, flooded, in_network)
            self._add(ONCE, "elsewhere", elsewhere, (), "another bridge copies it")
            return True
        return False

    def _identify(self) -> None:
        self._add(IDENTIFY, "nothing", (), (), "no session asks who sent it")
        for number, port in self._senders.items():
            if not self.site.is_here(port) and port.is_protected and port.mac is not None:
                network = NETWORK.eq(self.number.network[_network(port)])
                terms = (network, ETH_SRC.eq(int(port.mac)))
                why = f"{port.id} alone may use this address"
                self._add(IDENTIFY, "address", terms, (Load(SENDER, number),), why)

    def _here(self, ports: Iterable[Port]) -> list[Port]:
        return [port for port in ports if self.site.is_here(port)]

    def _session(self, standing: Standing) -> Term:
        return SESSION.eq(self.number.session[standing.session.id])

    def _sender(self, port: Port) -> Term:
        number = self.site.number(port.id)
        self._senders[number] = port
        return SENDER.eq(number)

    def _each(self, standings: Iterable[Standing], table: Table) -> Iterator[Action]:
        for standing in standings:
            number = self.number.session[standing.session.id]
            self.served[number] = standing
            yield Load(SESSION, number)
            yield Resubmit(table.number)

    def _add(
        self, table: Table, priority: str, terms: Iterable[Term], actions: Iterable[Action],
        why: str,
    ) -> None:  # fmt: skip
        match = Match.of(*terms)
        self.flows.append(
            Flow(table.number, table[priority], match, tuple(actions), PRODUCTION, why)
        )


def _by_network(ports: Iterable[Port]) -> Mapping[NetworkId, tuple[Port, ...]]:
    grouped: dict[NetworkId, list[Port]] = defaultdict(list)
    for port in ports:
        grouped[_network(port)].append(port)
    return {network: tuple(members) for network, members in grouped.items()}


def _by_bridge(site: Site, ports: Iterable[Port]) -> Mapping[Dpid, list[Port]]:
    grouped: dict[Dpid, list[Port]] = defaultdict(list)
    for port in ports:
        grouped[site.survey.place(port)].append(port)
    return grouped


def _network(port: Port) -> NetworkId:
    assert port.network is not None, "only workloads are watched"
    return port.network

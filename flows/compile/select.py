"""Which sessions want a packet, and on which of its stations each of them takes its one copy.

The sender's own bridge makes the copy of a session that watches the sender, if the filter accepts
it. Else the bridge that
delivers a unicast packet makes it; and of a packet that is flooded, the lowest bridge on which the
session watches a port that hears it. Every bridge decides alone, from who sent the packet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from flows.compile.survey import Site, Standing
from flows.field import ETH_SRC, IN_PORT, Term
from flows.filter import Filter
from flows.flow import PRODUCTION, Action, Flow, Load, Match, Resubmit
from flows.model import ALL, Dpid, NetworkId, Port
from flows.pipeline import (
    ACCEPT,
    CAST,
    DECIDE,
    DELIVER,
    EGRESS,
    FILTER,
    FILTER_ID,
    IDENTIFY,
    INGRESS,
    NETWORK,
    ONCE,
    OUT,
    RULES,
    SENDER,
    SESSION,
    UNSENT,
    VERDICT,
    Cast,
    Rules,
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
        self._once()
        self._accept()
        self._identify()

    def filters(self) -> list[tuple[int, Filter]]:
        """The filters that this bridge asks, each with its number, in the order of the numbers."""
        used = {s.session.filter for s in self.served.values()} - {ALL}
        numbered = ((self.number.filter[f], self.site.world.filter_by_id[f]) for f in used)
        return sorted(numbered, key=lambda pair: pair[0])

    def _egress(self) -> None:
        wanted: dict[int, list[Standing]] = defaultdict(list)
        for standing in self.standings:
            if standing.session.direction.is_egress:
                for port in self._here(standing.watched):
                    wanted[self.site.ofport(port)].append(standing)
        self._add(EGRESS, "nothing", (), (), "nobody watches what this port sends")
        for place, standings in wanted.items():
            why = f"{len(standings)} session(s) watch what this port sends"
            steps = (Load(RULES, Rules.EGRESS), *self._each(standings, None))
            self._add(EGRESS, "port", (IN_PORT.eq(place),), steps, why)

    def _ingress(self) -> None:
        by_place: dict[int, list[Standing]] = defaultdict(list)
        by_cast: dict[tuple[NetworkId, Cast], list[Standing]] = defaultdict(list)
        self._add(INGRESS, "nothing", (), (), "nobody watches where this went")
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
            self._add(INGRESS, "port", terms, self._heard(standings), why)
        for (network, cast), standings in by_cast.items():
            terms = (CAST.eq(cast), NETWORK.eq(self.number.network[network]))
            why = f"{len(standings)} session(s) watch a port that hears a flooded packet"
            self._add(INGRESS, "network", terms, self._heard(standings), why)

    def _once(self) -> None:
        go = (Resubmit(ACCEPT.number),)
        self._add(ONCE, "first", (), go, "nobody has copied it before")
        self._add(UNSENT, "unsent", (), go, "the sender's bridge had no reason to copy it")
        self._add(UNSENT, "sent", (VERDICT.eq(1),), (), "the sender's bridge has copied it")

    def _accept(self) -> None:
        copy = (Resubmit(DELIVER.number),)
        self._add(ACCEPT, "nothing", (), (), "no such session any more")
        self._add(DECIDE, "rejected", (), (), "the filter rejects it")
        self._add(DECIDE, "accepted", (VERDICT.eq(1),), copy, "the filter accepts it")
        for standing in self.served.values():
            session = standing.session
            steps: tuple[Action, ...] = copy
            if session.filter == ALL:
                why = f"session {session.name} has no filter"
            else:
                steps = (*self._ask(standing), Resubmit(DECIDE.number))
                name = self.site.world.filter_by_id[session.filter].name
                why = f"session {session.name} has filter {name}"
            self._add(ACCEPT, "session", (self._session(standing),), steps, why)

    def _sent_before(self, standing: Standing, ports: tuple[Port, ...]) -> None:
        """What a watched port sent was copied on the sender's bridge, if the filter accepts it."""
        if standing.session.direction.is_egress:
            for port in ports:
                if self.site.way(port) is not None:
                    terms = (self._session(standing), self._sender(port))
                    why = f"copied when {port.id} sent it"
                    self._add(ONCE, "sent", terms, self._unless_sent(standing), why)

    def _unless_sent(self, standing: Standing) -> tuple[Action, ...]:
        """Go on with a packet of a watched sender only if its bridge has not copied it."""
        if not standing.session.direction.is_egress:
            return (Resubmit(ACCEPT.number),)
        if standing.session.filter == ALL:
            return ()
        back = (Load(RULES, Rules.INGRESS), Resubmit(UNSENT.number))
        return (Load(RULES, Rules.EGRESS), *self._ask(standing), *back)

    def _ask(self, standing: Standing) -> tuple[Action, ...]:
        """Have the filter of a session say what it thinks of the packet."""
        number = self.number.filter[standing.session.filter]
        return (Load(FILTER_ID, number), Load(VERDICT, 0), Resubmit(FILTER.number))

    def _floods(self, standing: Standing, network: NetworkId, ports: tuple[Port, ...]) -> bool:
        """Whether this bridge makes the session's copy of some flooded packets; which, says ONCE.

        The lowest bridge with a watched port makes it. Only when the sender itself is the one
        watched port there does the next bridge step in.
        """
        places = _by_bridge(self.site, ports)
        bridges = sorted(places)
        first = bridges[0]
        alone = places[first][0] if len(places[first]) == 1 else None
        session, flooded = self._session(standing), CAST.eq(Cast.FLOOD)
        if first == self.site.dpid:
            if alone is not None:
                terms = (session, self._sender(alone), flooded)
                self._add(ONCE, "sender", terms, (), "its one watched port here sent it")
            return True
        if alone is None or bridges[1:2] != [self.site.dpid]:
            return False
        in_network = NETWORK.eq(self.number.network[network])
        here = (session, self._sender(alone), flooded, in_network)
        why = f"{alone.id} sent it, so nobody lower copies it"
        self._add(ONCE, "sender", here, self._unless_sent(standing), why)
        elsewhere = (session, flooded, in_network)
        self._add(ONCE, "elsewhere", elsewhere, (), "another bridge copies it")
        return True

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

    def _heard(self, standings: Iterable[Standing]) -> Iterator[Action]:
        yield Load(RULES, Rules.INGRESS)
        yield from self._each(standings, ONCE)

    def _each(self, standings: Iterable[Standing], table: Table | None) -> Iterator[Action]:
        """Serve one session after the other; without a table, straight to its filter or copy."""
        for standing in standings:
            number = self.number.session[standing.session.id]
            self.served[number] = standing
            is_plain = standing.session.filter == ALL
            yield Load(SESSION, number)
            yield Resubmit((table or (DELIVER if is_plain else ACCEPT)).number)

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

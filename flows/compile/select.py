"""Which sessions want a packet, and on which of its stations each of them takes its one copy.

The sender's own bridge makes the copy of a session that watches the sender, if the filter accepts
it. Else the bridge that delivers a unicast packet makes it; and of a packet that is flooded, the
lowest bridge on which the session watches a port that hears it. Every bridge decides alone, from
who sent the packet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flows.resolve.bridge_view import Site
from flows.resolve.session import Standing
from flows.openflow.field import ETH_SRC, IN_PORT, Term
from flows.openflow.flow import (
    NOTHING,
    PRODUCTION,
    Action,
    Flow,
    Load,
    Match,
    Pattern,
    Resubmit,
    Steps,
    make_flow,
)
from flows.model.session import Direction, Dpid, NetworkId, Ofport, Port, Session
from flows.pipeline.tables import (
    ACCEPT,
    ALONE,
    CAST,
    CLAIM,
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
    PROBE,
    RULES,
    SENDER,
    SESSION,
    TAKEN,
    UNSENT,
    VERDICT,
    WINNER,
    Cast,
    Rules,
    Table,
)

TO_ONCE, TO_ACCEPT, TO_DELIVER, TO_FILTER, TO_CLAIM = (
    Resubmit(table.number) for table in (ONCE, ACCEPT, DELIVER, FILTER, CLAIM)
)
OF_EGRESS, OF_INGRESS = Load(RULES, Rules.EGRESS), Load(RULES, Rules.INGRESS)
ACCEPTED, COPIED = Steps.of(TO_ACCEPT), Steps.of(TO_DELIVER)

# what flows ask for, of which there is one for each port, network or session
SENT = EGRESS.pattern("port", IN_PORT)
HEARD = INGRESS.pattern("port", OUT, CAST.eq(Cast.UNICAST))
FLOODED = INGRESS.pattern("network", NETWORK, CAST)
SENDS = IDENTIFY.pattern("address", NETWORK, ETH_SRC)
SENT_BEFORE = ONCE.pattern("sent", SENDER, SESSION)
SENT_ALONE = ONCE.pattern("sender", SENDER, CAST.eq(Cast.FLOOD), SESSION)
SESSIONS = ACCEPT.pattern("session", SESSION)

Station = tuple[int, Ofport] | tuple[int, NetworkId, Cast]
"""Where sessions are asked, by table: what a port sends, or hears, or what a network hears."""


@dataclass(frozen=True, slots=True)
class Selected:
    """What one session adds to the selection tables of a bridge.

    ``stations`` are the lists that it stands in, ``senders`` the ports that it asks about.
    """

    flows: tuple[Flow, ...]
    stations: tuple[Station, ...]
    senders: tuple[Port, ...]


NOTHING_SELECTED = Selected((), (), ())


def selection_frame() -> Iterator[Flow]:
    """The flows of the selection tables that are there whatever sessions there are."""
    go = (Resubmit(ACCEPT.number),)
    copy = (Resubmit(DELIVER.number),)
    yield flow(EGRESS, "nothing", (), (), "nobody watches what this port sends")
    yield flow(INGRESS, "nothing", (), (), "nobody watches where this went")
    yield flow(ONCE, "first", (), go, "nobody has copied it before")
    yield flow(UNSENT, "unsent", (), go, "the sender's bridge had no reason to copy it")
    yield flow(UNSENT, "sent", (VERDICT.eq(1),), (), "the sender's bridge has copied it")
    yield flow(ACCEPT, "nothing", (), (), "no such session any more")
    yield flow(DECIDE, "rejected", (), (), "the filter rejects it")
    yield flow(DECIDE, "accepted", (VERDICT.eq(1),), copy, "the filter accepts it")
    yield flow(IDENTIFY, "nothing", (), (), "no session asks who sent it")


def select(site: Site, standing: Standing) -> Selected:
    """Where a session takes its copies on this bridge; no stations when it takes none here."""
    return _Selection(site, standing).selected()


def station(
    site: Site, place: Station, standings: Mapping[int, Standing], chain: tuple[Standing, ...]
) -> Flow:
    """The flow that asks the sessions of one station in turn, by their numbers.

    The exclusive ones, ``chain``, come last.
    """
    ordered = sorted(standings.items()) if len(standings) > 1 else list(standings.items())
    competing = tuple(compete(site, chain)) if chain else ()
    count = len(ordered) + len(chain)
    match place:
        case (EGRESS.number, int(ofport)):
            steps = Steps.of(OF_EGRESS, *_ask_each(ordered, None), *competing)
            why = f"{count} session(s) watch what this port sends"
            return make_flow(SENT, (ofport,), steps, PRODUCTION, why)
        case (_, int(ofport)):
            steps = Steps.of(*_heard(Cast.UNICAST, ordered, competing))
            why = f"{count} session(s) watch what this port receives"
            return make_flow(HEARD, (ofport,), steps, PRODUCTION, why)
        case (_, network, cast):
            values = site.world.numbers.network[network], cast.value
            steps = Steps.of(*_heard(cast, ordered, competing))
            why = f"{count} session(s) watch a port that hears a flooded packet"
            return make_flow(FLOODED, values, steps, PRODUCTION, why)
        case _:
            raise AssertionError(f"no station {place}")


def identify(site: Site, port: Port) -> Iterator[Flow]:
    """What a sender on another bridge is known by, if neither its link tag nor its port says it."""
    if site.is_here(port) or not port.is_protected or port.mac is None:
        return
    values = site.world.numbers.network[_network(port)], int(port.mac)
    load = Steps.of(Load(SENDER, site.number(port.id)))
    yield make_flow(SENDS, values, load, PRODUCTION, f"{port.id} alone may use this address")


def ask(site: Site, session: Session) -> tuple[Action, ...]:
    """Have the filter of a session say what it thinks of the packet."""
    number = site.world.numbers.filter[session.filter]
    return (Load(FILTER_ID, number), Load(VERDICT, 0), TO_FILTER)


def compete(site: Site, chain: Iterable[Standing]) -> Iterator[Action]:
    """Let exclusive sessions claim the packet, one after the other."""
    for standing in chain:
        yield Load(SESSION, site.world.numbers.session[standing.session.id])
        yield TO_CLAIM


class Turns(NamedTuple):
    """Who makes a session's copy of flooded packets: the lowest bridge with a watched port.

    When the one watched port there, ``alone``, is the sender itself, the ``second`` one steps in.
    """

    first: Dpid
    alone: Port | None
    second: Dpid | None


def turns(site: Site, ports: Sequence[Port]) -> Turns:
    """Which bridges make copies of what some ports of one network hear, at least one port."""
    if len(ports) == 1:
        return Turns(site.survey.place(ports[0]), ports[0], None)
    places: dict[Dpid, list[Port]] = defaultdict(list)
    for port in ports:
        places[site.survey.place(port)].append(port)
    first, *others = sorted(places)
    if len(places[first]) > 1:
        return Turns(first, None, None)
    return Turns(first, places[first][0], others[0] if others else None)


def flow(
    table: Table, priority: str, terms: Iterable[Term], actions: Iterable[Action], why: str
) -> Flow:
    """A flow that belongs to no session alone."""
    return Flow(table.number, table[priority], Match.of(*terms), tuple(actions), PRODUCTION, why)


class _Selection:
    """Collects what one session needs on one bridge."""

    def __init__(self, site: Site, standing: Standing) -> None:
        self.site, self.standing = site, standing
        self.session = standing.session
        self.number = site.world.numbers.session[standing.session.id]
        self.is_plain, self.is_exclusive = standing.is_plain, standing.is_exclusive
        # what happens on bridges that no link leads to is decided there, and only there
        self.watched = tuple([p for p in standing.watched if site.is_joined(p)])
        self._flows: list[Flow] = []
        self._stations: list[Station] = []
        self._senders: dict[str, Port] = {}

    def selected(self) -> Selected:
        """Everything, in a stable order."""
        if self.session.direction.is_egress:
            self._egress()
        if self.session.direction.is_ingress:
            for network, ports in _by_network(self.watched).items():
                self._ingress(network, ports)
        if self._stations:
            self._accept()
            if self.is_exclusive and self.session.direction is Direction.BOTH:
                terms = (SESSION.eq(self.number), WINNER.eq(self.number))
                self._add(ONCE, "won", terms, (), "copied when it was sent")
        senders = tuple(self._senders.values())
        return Selected(tuple(self._flows), tuple(self._stations), senders)

    def _egress(self) -> None:
        for port in self.watched:
            if self.site.is_here(port):
                self._stations.append((EGRESS.number, self.site.ofport(port)))

    def _ingress(self, network: NetworkId, ports: tuple[Port, ...]) -> None:
        here = [port for port in ports if self.site.is_here(port)]
        self._stations += [(INGRESS.number, self.site.ofport(port)) for port in here]
        if here and self.site.link_ports:
            self._stations.append((INGRESS.number, network, Cast.LATE_FLOOD))
        if self._floods(network, ports):
            self._stations.append((INGRESS.number, network, Cast.FLOOD))
        if here and self.session.direction.is_egress and not self.is_exclusive:
            unless_sent = self._unless_sent
            for port in ports:
                if self.site.way(port) is not None:
                    values = self._sender(port), self.number
                    self._make(SENT_BEFORE, values, unless_sent, f"copied when {port.id} sent it")

    def _accept(self) -> None:
        steps, why = COPIED, f"session {self.session.name} has no filter"
        if self.is_exclusive:
            why = f"session {self.session.name} has taken it"
        elif not self.is_plain:
            steps = Steps.of(*ask(self.site, self.session), Resubmit(DECIDE.number))
            name = self.site.world.filter_by_id[self.session.filter].name
            why = f"session {self.session.name} has filter {name}"
        self._make(SESSIONS, (self.number,), steps, why)

    def _floods(self, network: NetworkId, ports: tuple[Port, ...]) -> bool:
        """Whether the copy of some flooded packets is made here; of which, says ONCE."""
        turn = turns(self.site, ports)
        alone = turn.alone
        if turn.first == self.site.dpid:
            if alone is not None:
                values = self._sender(alone), self.number
                self._make(SENT_ALONE, values, NOTHING, "its one watched port here sent it")
            return True
        if alone is None or turn.second != self.site.dpid:
            return False
        terms = (
            NETWORK.eq(self.site.world.numbers.network[network]),
            *(CAST.eq(Cast.FLOOD), SESSION.eq(self.number)),
        )
        here, why = SENDER.eq(self._sender(alone)), f"{alone.id} sent it, so nobody lower copies it"
        self._add(ONCE, "sender", (*terms, here), self._unless_sent.actions, why)
        self._add(ONCE, "elsewhere", terms, (), "another bridge copies it")
        return True

    @property
    def _unless_sent(self) -> Steps:
        """Go on with a packet of a watched sender only if its bridge has not copied it."""
        if self.is_exclusive or not self.session.direction.is_egress:
            return ACCEPTED
        if self.is_plain:
            return NOTHING
        back = (OF_INGRESS, Resubmit(UNSENT.number))
        return Steps.of(OF_EGRESS, *ask(self.site, self.session), *back)

    def _sender(self, port: Port) -> int:
        self._senders[port.id] = port
        return self.site.number(port.id)

    def _make(self, pattern: Pattern, values: tuple[int, ...], steps: Steps, why: str) -> None:
        self._flows.append(make_flow(pattern, values, steps, PRODUCTION, why))

    def _add(
        self, table: Table, priority: str, terms: Iterable[Term], actions: Iterable[Action],
        why: str,
    ) -> None:  # fmt: skip
        self._flows.append(flow(table, priority, terms, actions, why))


def _heard(
    cast: Cast, ordered: Sequence[tuple[int, Standing]], competing: tuple[Action, ...]
) -> list[Action]:
    before: list[Action] = []
    if competing:
        alone = [Resubmit(ALONE.number)] if cast is Cast.FLOOD else []
        before = [Resubmit(PROBE.number), *alone, Load(TAKEN, 0)]
    return [*before, OF_INGRESS, *_ask_each(ordered, TO_ONCE), *competing]


def _ask_each(ordered: Sequence[tuple[int, Standing]], go: Resubmit | None) -> list[Action]:
    """Serve one session after the other; if not told where, straight to its filter or copy."""
    found: list[Action] = []
    for number, standing in ordered:
        found.append(Load(SESSION, number))
        found.append(go or (TO_DELIVER if standing.is_plain else TO_ACCEPT))
    return found


def _by_network(ports: tuple[Port, ...]) -> Mapping[NetworkId, tuple[Port, ...]]:
    if len(ports) == 1:
        return {_network(ports[0]): ports}
    grouped: dict[NetworkId, list[Port]] = defaultdict(list)
    for port in ports:
        grouped[_network(port)].append(port)
    return {network: tuple(members) for network, members in grouped.items()}


def _network(port: Port) -> NetworkId:
    assert port.network is not None, "only workloads are watched"
    return port.network

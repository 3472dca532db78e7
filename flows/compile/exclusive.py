"""Exclusive sessions on one bridge: which of them takes a packet, decided alone from the packet.

A port's sessions are asked in turn until one accepts (claim); that one takes the packet from those
after it (won) and has its copy made where a copy session would have it (once). Of a flooded packet
every cohort of ports is followed with a bit of its own. What the sender's bridge has copied already
is asked again elsewhere (probe), so that no session has the packet twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from flows.resolve.arbitration import Chain, Cohort, Contest
from flows.compile.select import Station, ask, compete, flow, turns
from flows.resolve.bridge_view import Site
from flows.resolve.session import Standing
from flows.openflow.field import RegField, Term
from flows.openflow.flow import Action, Flow, Load, Resubmit
from flows.model.session import FilterId, NetworkId, Port, PortId, SessionId
from flows.pipeline.tables import (
    ALONE,
    BY_LINK,
    CAST,
    CLAIM,
    COHORTS,
    DELIVER,
    EGRESS,
    INGRESS,
    NETWORK,
    ONCE,
    PROBE,
    RULES,
    SENDER,
    SESSION,
    TAKEN,
    VERDICT,
    WINNER,
    WON,
    Cast,
    Rules,
    Table,
)

BITS = COHORTS[0].bits
"""Cohorts in one register."""


@dataclass(frozen=True, slots=True)
class Share:
    """What the exclusive sessions of one network have on one bridge.

    ``chains`` are asked at the stations, after the copy sessions there; ``senders`` are the ports
    that flows ask about, ``filters`` those whose rules must be here.
    """

    flows: tuple[Flow, ...]
    chains: Mapping[Station, Chain]
    senders: tuple[Port, ...]
    filters: tuple[FilterId, ...]


NO_SHARE = Share((), {}, (), ())


def contest_frame() -> Iterator[Flow]:
    """The flows of the tables of exclusive sessions that are there whatever sessions there are."""
    yield flow(PROBE, "nothing", (), (), "no exclusive session here has copied it")
    yield flow(ALONE, "nothing", (), (), "its cohort has other ports, or is not contested")
    yield flow(CLAIM, "taken", (TAKEN.eq(1),), (), "an exclusive session has taken it")
    yield flow(CLAIM, "nothing", (), (), "no such session any more")
    yield flow(WON, "nothing", (), (), "the filter rejects it")


def share(site: Site, network: NetworkId) -> Share:
    """What one bridge has for the exclusive sessions of a network."""
    contest = site.survey.contest(network, site.dpid)
    return NO_SHARE if contest is None else _Sharing(site, network, contest).share()


class _Sharing:
    """Collects what the exclusive sessions of one network need on one bridge."""

    def __init__(self, site: Site, network: NetworkId, contest: Contest) -> None:
        self.site, self.contest, self.network = site, contest, network
        self.in_network = NETWORK.eq(site.world.numbers.network[network])
        self._flows: list[Flow] = []
        self._chains: dict[Station, Chain] = {}
        self._senders: dict[str, Port] = {}
        self._asked: dict[SessionId, Standing] = {}

    def share(self) -> Share:
        """Everything, in a stable order."""
        here = [port for port in self.contest.ports.values() if self.site.is_here(port)]
        self._sent_here(here)
        self._heard_here(here)
        if self.site.link_ports:
            self._flooded_late(here)
        self._flooded()
        self._probe()
        for standing in self.contest.in_order(self._asked):
            self._ask(standing)
        filters = {s.session.filter for s in self._asked.values() if not s.is_plain}
        senders = tuple(self._senders.values())
        return Share(tuple(self._flows), self._chains, senders, tuple(sorted(filters)))

    def _sent_here(self, here: Iterable[Port]) -> None:
        """The sender's own bridge makes the copy of the session that takes what it sends."""
        for standing in self._stand(EGRESS, here, self.contest.sent):
            terms = (RULES.eq(Rules.EGRESS), BY_LINK.eq(0))
            then = (*self._as_winner(standing), Resubmit(DELIVER.number))
            self._wins(standing, terms, then, "takes what a port here sends")

    def _heard_here(self, here: Iterable[Port]) -> None:
        """The receiver's bridge makes the copy of a unicast packet."""
        for standing in self._stand(INGRESS, here, self.contest.heard):
            terms = (RULES.eq(Rules.INGRESS), CAST.eq(Cast.UNICAST))
            then = (Load(TAKEN, 1), Resubmit(ONCE.number))
            self._wins(standing, terms, then, "takes what a port here receives")

    def _stand(self, table: Table, here: Iterable[Port], chains: Mapping[PortId, Chain]) -> Chain:
        """Line up at the stations of the ports of this bridge; all who stand there."""
        found = {port: chains[port.id] for port in here if port.id in chains}
        for port, chain in found.items():
            self._chains[table.number, self.site.ofport(port)] = chain
        return self._union(found.values())

    def _flooded(self) -> None:
        """Ask everybody who may take a cohort from a session whose copy is made here."""
        made_here = {s.session.id for s in self.contest.standings if self._is_made_here(s)}
        cohorts = [
            cohort
            for cohort in self.contest.cohorts
            if any(standing.session.id in made_here for standing in cohort.chain)
        ]
        chain = self._union(cohort.chain for cohort in cohorts)
        if not chain:
            return
        self._chains[INGRESS.number, self.network, Cast.FLOOD] = chain
        for standing in chain:
            own = self.contest.cohorts_of(standing)
            is_made_here = standing.session.id in made_here
            self._takes(standing, Cast.FLOOD, (Resubmit(ONCE.number),) if is_made_here else ())
            alone = next((c.ports for c in own if c.bit is None), None)
            if alone is None:
                self._loses(standing, Cast.FLOOD, own, (), "others have taken it everywhere")
            elif len(alone) == 1:
                why = f"others have taken it everywhere, as {alone[0].id} does not hear itself"
                self._loses(standing, Cast.FLOOD, own, (self._sender(alone[0]),), why)
        for cohort in cohorts:
            if cohort.bit is not None and len(cohort.ports) == 1:
                port = cohort.ports[0]
                why = f"{port.id} does not hear itself"
                self._add(ALONE, "sender", (self._sender(port),), _mark((cohort,)), why)

    def _is_made_here(self, standing: Standing) -> bool:
        ports = [port for port in standing.watched if port.id in self.contest.ports]
        if not standing.session.direction.is_ingress:
            return False
        turn = turns(self.site, ports)
        return self.site.dpid in (turn.first, turn.second)

    def _flooded_late(self, here: Iterable[Port]) -> None:
        """A bridge that floods late serves its own ports; the sender is elsewhere."""
        present = {port.id for port in here}
        chain = self._union(chain for p in present if (chain := self.contest.heard.get(p)))
        if not chain:
            return
        self._chains[INGRESS.number, self.network, Cast.LATE_FLOOD] = chain
        for standing in chain:
            self._takes(standing, Cast.LATE_FLOOD, (Resubmit(ONCE.number),))
            own = [
                cohort
                for cohort in self.contest.cohorts_of(standing)
                if any(port.id in present for port in cohort.ports)
            ]
            if all(cohort.bit is not None for cohort in own):
                self._loses(standing, Cast.LATE_FLOOD, own, (), "others have taken it here")

    def _probe(self) -> None:
        """Who has copied what a port of another bridge sent, as far as it is asked here again."""
        heard = [chain for place, chain in self._chains.items() if place[0] == INGRESS.number]
        matters = {standing.session.id for chain in heard for standing in chain}
        asked: list[Chain] = []
        for port_id, chain in self.contest.sent.items():
            port = self.contest.ports[port_id]
            last = max((n for n, s in enumerate(chain, 1) if s.session.id in matters), default=0)
            if last and not self.site.is_here(port) and self.site.way(port) is not None:
                asked.append(chain[:last])
                steps = (Load(RULES, Rules.EGRESS), *compete(self.site, asked[-1]))
                why = f"{last} exclusive session(s) may have copied it when {port.id} sent it"
                self._add(PROBE, "sender", (self._sender(port),), steps, why)
        for standing in self._union(asked):
            terms = (RULES.eq(Rules.EGRESS), BY_LINK.eq(1))
            why = "has taken it when it was sent"
            self._wins(standing, terms, self._as_winner(standing), why)

    def _union(self, chains: Iterable[Chain]) -> Chain:
        """The sessions of several chains in order; they are asked here."""
        found = {standing.session.id: standing for chain in chains for standing in chain}
        self._asked |= found
        return self.contest.in_order(found)

    def _ask(self, standing: Standing) -> None:
        """Have a session accept or reject the packet."""
        steps: tuple[Action, ...] = (Load(VERDICT, 1),)
        what = "accepts everything"
        if not standing.is_plain:
            steps = ask(self.site, standing.session)
            what = f"has filter {self.site.world.filter_by_id[standing.session.filter].name}"
        why = f"session {standing.session.name} {what}"
        terms = (self._session(standing), self.in_network)
        self._add(CLAIM, "session", terms, (*steps, Resubmit(WON.number)), why)

    def _takes(self, standing: Standing, cast: Cast, then: tuple[Action, ...]) -> None:
        """A session that accepts a flooded packet takes it in all its cohorts."""
        marks = tuple(_mark(self.contest.cohorts_of(standing)))
        terms = (RULES.eq(Rules.INGRESS), CAST.eq(cast))
        self._wins(standing, terms, (*marks, *then), "takes what its ports hear")

    def _loses(
        self, standing: Standing, cast: Cast, cohorts: Iterable[Cohort], more: tuple[Term, ...],
        why: str,
    ) -> None:  # fmt: skip
        """A session is not asked about a flooded packet that others have in all its cohorts."""
        cast_here = (RULES.eq(Rules.INGRESS), CAST.eq(cast))
        terms = (self._session(standing), self.in_network, *cast_here, *more, *_marked(cohorts))
        self._add(CLAIM, "lost", terms, (), why)

    def _wins(
        self, standing: Standing, terms: tuple[Term, ...], then: tuple[Action, ...], what: str
    ) -> None:
        accepted = (self._session(standing), self.in_network, VERDICT.eq(1), *terms)
        self._add(WON, "session", accepted, then, f"session {standing.session.name} {what}")

    def _as_winner(self, standing: Standing) -> tuple[Action, ...]:
        return Load(TAKEN, 1), Load(WINNER, self.site.world.numbers.session[standing.session.id])

    def _session(self, standing: Standing) -> Term:
        return SESSION.eq(self.site.world.numbers.session[standing.session.id])

    def _sender(self, port: Port) -> Term:
        self._senders[port.id] = port
        return SENDER.eq(self.site.number(port.id))

    def _add(
        self, table: Table, priority: str, terms: Iterable[Term], actions: Iterable[Action],
        why: str,
    ) -> None:  # fmt: skip
        self._flows.append(flow(table, priority, terms, actions, why))


def _mark(cohorts: Iterable[Cohort]) -> Iterator[Action]:
    """Note that somebody has taken the packet in some cohorts; one action for bits in a row."""
    for register, bits in _bits(cohorts).items():
        for first in (bit for bit in bits if bit - 1 not in bits):
            last = next(bit for bit in range(first, BITS) if bit + 1 not in bits)
            part = RegField(register.name, register.reg, first, last)
            yield Load(part, (1 << part.bits) - 1)


def _marked(cohorts: Iterable[Cohort]) -> Iterator[Term]:
    """That somebody has taken the packet in all of some cohorts, those without rivals left out."""
    for register, bits in _bits(cohorts).items():
        mask = sum(1 << bit for bit in bits)
        yield register.field.masked(mask, mask)


def _bits(cohorts: Iterable[Cohort]) -> Mapping[RegField, list[int]]:
    """The bits of cohorts in each register, ascending."""
    found: dict[RegField, list[int]] = defaultdict(list)
    for bit in sorted(cohort.bit for cohort in cohorts if cohort.bit is not None):
        found[COHORTS[bit // BITS]].append(bit % BITS)
    return found

"""Exclusive sessions on one bridge: which of them takes a packet, decided from the packet alone.

The sessions of a port are asked in order until one accepts (table claim); it takes the packet from
those after it (won), and its copy is made where that of a copy session would be (once). For a
flooded packet a register bit for each cohort notes that a session has taken it there. Other bridges
evaluate again what the sender's bridge has copied already (probe), so that no session gets a packet
twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

from flows.compile.select import TapPoint, ask, compete, designated_bridge, shared_flow
from flows.model import FilterId, NetworkId, Port, PortId, SessionId
from flows.openflow import Action, Flow, Load, RegField, Resubmit, Term
from flows.pipeline import (
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
from flows.resolve import Arbitration, BridgeView, Chain, Cohort, ResolvedSession

BITS = COHORTS[0].bits
"""Cohorts in one register."""


@dataclass(frozen=True, slots=True)
class ExclusiveFlows:
    """What the exclusive sessions of one network have on one bridge.

    ``chains`` are asked at tap points, after the copy sessions there. ``senders`` are the ports
    that ``flows`` must be able to identify, ``filters`` those whose rules they resubmit to.
    """

    flows: tuple[Flow, ...]
    chains: Mapping[TapPoint, Chain]
    senders: tuple[Port, ...]
    filters: tuple[FilterId, ...]


NO_EXCLUSIVE_FLOWS = ExclusiveFlows((), {}, (), ())


def fixed_exclusive_flows() -> Iterator[Flow]:
    """The flows of the tables of exclusive sessions that do not depend on sessions."""
    yield shared_flow(PROBE, "nothing", (), (), "no exclusive session here has copied it")
    yield shared_flow(ALONE, "nothing", (), (), "its cohort has other ports, or one session only")
    yield shared_flow(CLAIM, "taken", (TAKEN.eq(1),), (), "an exclusive session has taken it")
    yield shared_flow(CLAIM, "nothing", (), (), "no such session any more")
    yield shared_flow(WON, "nothing", (), (), "the filter rejects it")


def compile_exclusive(
    view: BridgeView, network: NetworkId, failed: Set[int] = frozenset()
) -> ExclusiveFlows:
    """What one bridge has for the exclusive sessions of a network.

    ``failed`` are the numbers of sessions whose flows it cannot have (see
    ResolvedWorld.arbitration).
    """
    arbitration = view.resolved.arbitration(network, view.dpid, failed)
    if arbitration is None:
        return NO_EXCLUSIVE_FLOWS
    return _ExclusiveNetwork(view, network, arbitration).compiled()


def compile_meanwhile(
    view: BridgeView,
    network: NetworkId,
    before: Arbitration | None,
    failed: Set[int] = frozenset(),
    ending: Set[SessionId] = frozenset(),
) -> ExclusiveFlows | None:
    """What the bridge has while other bridges change from ``before`` to what they have now.

    A packet that an exclusive session takes before and after the change is copied by the winner
    before, by the one after, or by both, whichever bridges have changed. Of the sessions that have
    ended, those in ``ending`` may be asked for a moment more. None: nothing stands in.
    """
    after = view.resolved.arbitration(network, view.dpid, failed)
    if before is None or after is None:
        return None
    ended = before.by_id.keys() - after.by_id.keys()
    ending = ended & ending if _is_left_to_others(view, before, after, ended & ending) else set()
    left = before.without_sessions(ended - ending)
    return _ExclusiveNetwork(view, network, after, left, ending).compiled()


def _is_left_to_others(
    view: BridgeView, before: Arbitration, after: Arbitration, ending: Set[SessionId]
) -> bool:
    """Whether packets that sessions take which end may be copied by another bridge from now on."""
    taken = {port.id for key in ending for port in before.by_id[key].watched}
    ports = before.ports.keys() | after.ports.keys()
    placements = view.world.placements
    dpids = {placements[port].dpid for port in ports if port in placements}
    return not taken.isdisjoint(after.ports) and len(dpids) > 1


class _ExclusiveNetwork:
    """Collects what the exclusive sessions of one network have on one bridge.

    ``before`` is the arbitration that other bridges may follow still, without sessions that have
    ended, except those ``ending``: these go on to copy what ports here send, and flooded packets,
    until the other bridges copy what these sessions take now.
    """

    def __init__(
        self,
        view: BridgeView,
        network: NetworkId,
        arbitration: Arbitration,
        before: Arbitration | None = None,
        ending: Set[SessionId] = frozenset(),
    ) -> None:
        self.view, self.arbitration, self.network = view, arbitration, network
        self.before, self.ending = before, ending
        self.in_network = NETWORK.eq(view.world.numbers.network[network])
        self._flows: list[Flow] = []
        self._chains: dict[TapPoint, Chain] = {}
        self._senders: dict[str, Port] = {}
        self._asked: dict[SessionId, ResolvedSession] = {}

    def compiled(self) -> ExclusiveFlows:
        """All of it, in a stable order."""
        known = self.arbitration.ports if self.before is None else self._ports_of_both
        here = [port for port in known.values() if self.view.is_here(port)]
        self._compile_sent(here)
        self._compile_received(here)
        if self.view.link_ports:
            self._compile_late_flood(here)
        self._compile_flood()
        self._compile_probe()
        asked = self._in_order(self._asked, self.arbitration)
        for resolved_session in asked:
            self._compile_claim(resolved_session)
        filters = {s.session.filter for s in asked if not s.is_plain}
        senders = tuple(self._senders.values())
        return ExclusiveFlows(tuple(self._flows), self._chains, senders, tuple(sorted(filters)))

    def _compile_sent(self, here: Iterable[Port]) -> None:
        """The sender's own bridge makes the copy of the session that takes what it sends."""
        before = {} if self.before is None else self.before.sent
        for resolved_session in self._ask_at_ports(EGRESS, here, self.arbitration.sent, before):
            terms = (RULES.eq(Rules.EGRESS), BY_LINK.eq(0))
            then = (*self._as_winner(resolved_session), Resubmit(DELIVER.number))
            self._add_won(resolved_session, terms, then, "takes what a port here sends")

    def _compile_received(self, here: Iterable[Port]) -> None:
        """The receiver's bridge makes the copy of a unicast packet."""
        before = {} if self.before is None else self.before.without_sessions(self.ending).received
        for resolved_session in self._ask_at_ports(
            INGRESS, here, self.arbitration.received, before
        ):
            terms = (RULES.eq(Rules.INGRESS), CAST.eq(Cast.UNICAST))
            then = (Load(TAKEN, 1), Resubmit(ONCE.number))
            self._add_won(resolved_session, terms, then, "takes what a port here receives")

    def _ask_at_ports(
        self,
        table: Table,
        here: Iterable[Port],
        chains: Mapping[PortId, Chain],
        before: Mapping[PortId, Chain],
    ) -> Chain:
        """Set the chains at the tap points of this bridge's ports; all sessions in them."""
        found = {
            port: chain
            for port in here
            if (chain := self._with_leaving(chains.get(port.id, ()), before.get(port.id, ())))
        }
        for port, chain in found.items():
            self._chains[table.number, self.view.ofport(port)] = chain
        return self._merge(found.values())

    @property
    def _ports_of_both(self) -> Mapping[PortId, Port]:
        """The ports for which sessions compete, or did so before."""
        before = {} if self.before is None else self.before.ports
        return {**before, **self.arbitration.ports}

    def _with_leaving(self, chain: Chain, before: Chain) -> Chain:
        """A chain, and after it the sessions that were asked before and have left it; those that
        end are asked where they were.

        Who is asked first takes the packet: the winner of now, or the one of before.
        """
        if before and not (chain and chain[-1].is_plain):
            left = self.arbitration.by_id
            there = {s.session.id for s in chain} | self.ending
            chain += tuple(left[s.session.id] for s in before if s.session.id not in there)
        if self.before is not None:
            for one in before:
                if one.session.id in self.ending:
                    chain = _with_ending(chain, one, self.before)
        return chain

    def _compile_flood(self) -> None:
        """Ask every session that may take a cohort from one whose copy is made here.

        While others may follow the order of before, what only that makes here is made as before,
        and sessions that end are asked beside the others.
        """
        made_here = self._made_here(self.arbitration)
        left = None if self.before is None else self.before.without_sessions(self.ending)
        before = set() if left is None else self._made_here(left)
        if left is not None and before and not made_here:
            self._compile_flood_of(left, before)
        else:
            self._compile_flood_of(self.arbitration, made_here | before)
        if self.before is not None:
            for session in self.before.in_order(self._made_here(self.before) & self.ending):
                self._compile_flood_of_ending(session, self.before)

    def _made_here(self, arbitration: Arbitration) -> set[SessionId]:
        """The sessions of which this bridge copies some flooded packets."""
        found = (s for s in arbitration.sessions if self._is_made_here(s, arbitration))
        return {resolved_session.session.id for resolved_session in found}

    def _compile_flood_of(self, arbitration: Arbitration, made_here: Set[SessionId]) -> None:
        cohorts = [
            cohort
            for cohort in arbitration.cohorts
            if any(resolved_session.session.id in made_here for resolved_session in cohort.chain)
        ]
        chain = self._merge((cohort.chain for cohort in cohorts), arbitration)
        if not chain:
            return
        self._chains[INGRESS.number, self.network, Cast.FLOOD] = chain
        for resolved_session in chain:
            own = arbitration.cohorts_of(resolved_session)
            is_made_here = resolved_session.session.id in made_here
            then = (Resubmit(ONCE.number),) if is_made_here else ()
            self._add_taken(resolved_session, Cast.FLOOD, own, then)
            uncontended = next((c.ports for c in own if c.bit is None), None)
            if uncontended is None:
                self._add_lost(
                    resolved_session, Cast.FLOOD, own, (), "others have taken it everywhere"
                )
            elif len(uncontended) == 1:
                [port] = uncontended
                why = f"others have taken it everywhere but at {port.id}, which sent it"
                self._add_lost(resolved_session, Cast.FLOOD, own, (self._sender(port),), why)
        for cohort in cohorts:
            if cohort.bit is not None and len(cohort.ports) == 1:
                port = cohort.ports[0]
                why = f"{port.id} does not receive its own packets"
                self._add(ALONE, "sender", (self._sender(port),), _set_taken((cohort,)), why)

    def _compile_flood_of_ending(self, ending: ResolvedSession, before: Arbitration) -> None:
        """A session that has ended copies flooded packets as before, but takes none: who gets them
        now may be on another bridge.

        It is asked where it was in the order, and not about what others have taken before.
        """
        point = INGRESS.number, self.network, Cast.FLOOD
        self._chains[point] = _with_ending(self._chains.get(point, ()), ending, before)
        self._asked[ending.session.id] = ending
        self._add_taken(ending, Cast.FLOOD, (), (Resubmit(ONCE.number),))
        ports = {port.id for port in ending.watched if port.id in before.ports}
        own = [c for c in self.arbitration.cohorts if any(p.id in ports for p in c.ports)]
        known = {port.id for cohort in own for port in cohort.ports}
        if ports <= known and all(cohort.bit is not None for cohort in own):
            self._add_lost(ending, Cast.FLOOD, own, (), "others have taken it everywhere")

    def _is_made_here(self, resolved_session: ResolvedSession, arbitration: Arbitration) -> bool:
        ports = [port for port in resolved_session.watched if port.id in arbitration.ports]
        if not resolved_session.session.direction.is_ingress:
            return False
        designated = designated_bridge(self.view, ports)
        return self.view.dpid in (designated.dpid, designated.backup)

    def _compile_late_flood(self, here: Iterable[Port]) -> None:
        """A bridge that floods late copies for its own ports; the sender is on another bridge."""
        present = {port.id for port in here}
        chain = self._merge(chain for p in present if (chain := self.arbitration.received.get(p)))
        if not chain:
            return
        self._chains[INGRESS.number, self.network, Cast.LATE_FLOOD] = chain
        for resolved_session in chain:
            cohorts = self.arbitration.cohorts_of(resolved_session)
            self._add_taken(resolved_session, Cast.LATE_FLOOD, cohorts, (Resubmit(ONCE.number),))
            own = [cohort for cohort in cohorts if any(port.id in present for port in cohort.ports)]
            if all(cohort.bit is not None for cohort in own):
                self._add_lost(
                    resolved_session, Cast.LATE_FLOOD, own, (), "others have taken it here"
                )

    def _compile_probe(self) -> None:
        """Evaluate again who has copied, at its sender, a packet that arrives over a link.

        Chains end with the last session that is asked about received packets here.
        """
        received = [chain for point, chain in self._chains.items() if point[0] == INGRESS.number]
        matters = {resolved_session.session.id for chain in received for resolved_session in chain}
        asked: list[Chain] = []
        for port_id, chain in self.arbitration.sent.items():
            port = self.arbitration.ports[port_id]
            last = max((n for n, s in enumerate(chain, 1) if s.session.id in matters), default=0)
            if last and not self.view.is_here(port) and self.view.next_hop(port) is not None:
                asked.append(chain[:last])
                steps = (Load(RULES, Rules.EGRESS), *compete(self.view, asked[-1]))
                why = f"{last} exclusive session(s) may have copied it when {port.id} sent it"
                if not self._is_settled(port_id, chain):
                    asked.pop()
                    steps, why = (), f"the bridge of {port.id} may not know yet who copies it"
                self._add(PROBE, "sender", (self._sender(port),), steps, why)
        for resolved_session in self._merge(asked):
            terms = (RULES.eq(Rules.EGRESS), BY_LINK.eq(1))
            why = "has taken it when it was sent"
            self._add_won(resolved_session, terms, self._as_winner(resolved_session), why)

    def _is_settled(self, port: PortId, chain: Chain) -> bool:
        """Whether the same session takes what a port sends before and after a change."""
        if self.before is None:
            return True
        before = self.before.sent.get(port, ())
        return [s.filtering for s in before] == [s.filtering for s in chain]

    def _merge(self, chains: Iterable[Chain], arbitration: Arbitration | None = None) -> Chain:
        """The sessions of several chains, in order; all of them are asked on this bridge."""
        found = {
            resolved_session.session.id: resolved_session
            for chain in chains
            for resolved_session in chain
        }
        self._asked |= found
        return self._in_order(found, arbitration or self.arbitration)

    @staticmethod
    def _in_order(found: Mapping[SessionId, ResolvedSession], arbitration: Arbitration) -> Chain:
        """The order in which sessions are asked; those that the arbitration lacks come last."""
        known = arbitration.by_id
        others = (one for session, one in found.items() if session not in known)
        return (*arbitration.in_order(found), *others)

    def _compile_claim(self, resolved_session: ResolvedSession) -> None:
        """The flow in which a session accepts or rejects the packet."""
        steps: tuple[Action, ...] = (Load(VERDICT, 1),)
        what = "accepts everything"
        if not resolved_session.is_plain:
            steps = ask(self.view, resolved_session.session)
            what = f"has filter {self.view.filter_by_id[resolved_session.session.filter].name}"
        why = f"session {resolved_session.session.name} {what}"
        terms = (self._session(resolved_session), self.in_network)
        self._add(CLAIM, "session", terms, (*steps, Resubmit(WON.number)), why)

    def _add_taken(
        self,
        resolved_session: ResolvedSession,
        cast: Cast,
        cohorts: Iterable[Cohort],
        then: tuple[Action, ...],
    ) -> None:
        """A session that accepts a flooded packet takes it in all its cohorts."""
        marks = tuple(_set_taken(cohorts))
        terms = (RULES.eq(Rules.INGRESS), CAST.eq(cast))
        self._add_won(resolved_session, terms, (*marks, *then), "takes what its ports receive")

    def _add_lost(
        self,
        resolved_session: ResolvedSession,
        cast: Cast,
        cohorts: Iterable[Cohort],
        more: tuple[Term, ...],
        why: str,
    ) -> None:
        """A session is not asked about a flooded packet that is taken in all its cohorts."""
        terms = (
            self._session(resolved_session),
            self.in_network,
            RULES.eq(Rules.INGRESS),
            CAST.eq(cast),
            *more,
            *_match_taken(cohorts),
        )
        self._add(CLAIM, "lost", terms, (), why)

    def _add_won(
        self,
        resolved_session: ResolvedSession,
        terms: tuple[Term, ...],
        then: tuple[Action, ...],
        what: str,
    ) -> None:
        accepted = (self._session(resolved_session), self.in_network, VERDICT.eq(1), *terms)
        self._add(WON, "session", accepted, then, f"session {resolved_session.session.name} {what}")

    def _as_winner(self, resolved_session: ResolvedSession) -> tuple[Action, ...]:
        return Load(TAKEN, 1), Load(
            WINNER, self.view.world.numbers.session[resolved_session.session.id]
        )

    def _session(self, resolved_session: ResolvedSession) -> Term:
        return SESSION.eq(self.view.world.numbers.session[resolved_session.session.id])

    def _sender(self, port: Port) -> Term:
        self._senders[port.id] = port
        return SENDER.eq(self.view.number(port.id))

    def _add(
        self,
        table: Table,
        priority: str,
        terms: Iterable[Term],
        actions: Iterable[Action],
        why: str,
    ) -> None:
        self._flows.append(shared_flow(table, priority, terms, actions, why))


def _with_ending(chain: Chain, ending: ResolvedSession, before: Arbitration) -> Chain:
    """A chain in which a session that ends is asked where it was before."""
    order = [s.session.id for s in before.sessions]
    earlier = set(order[: order.index(ending.session.id)])
    at = next((n for n, s in enumerate(chain) if s.session.id not in earlier), len(chain))
    return (*chain[:at], ending, *chain[at:])


def _set_taken(cohorts: Iterable[Cohort]) -> Iterator[Action]:
    """Note that the packet is taken in some cohorts; one action for consecutive bits."""
    for register, bits in _bits(cohorts).items():
        for first in (bit for bit in bits if bit - 1 not in bits):
            last = next(bit for bit in range(first, BITS) if bit + 1 not in bits)
            part = RegField(register.name, register.reg, first, last)
            yield Load(part, (1 << part.bits) - 1)


def _match_taken(cohorts: Iterable[Cohort]) -> Iterator[Term]:
    """Match packets that are taken in all of some cohorts; cohorts without a bit are left out."""
    for register, bits in _bits(cohorts).items():
        mask = sum(1 << bit for bit in bits)
        yield register.field.masked(mask, mask)


def _bits(cohorts: Iterable[Cohort]) -> Mapping[RegField, list[int]]:
    """The bits of cohorts in each register, ascending."""
    found: dict[RegField, list[int]] = defaultdict(list)
    for bit in sorted(cohort.bit for cohort in cohorts if cohort.bit is not None):
        found[COHORTS[bit // BITS]].append(bit % BITS)
    return found

"""Why a packet is, or is not, copied: session by session, from the flows that are desired.

Settings of ports and links that stop the packet, or its copies, are taken into account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, replace

from flows.compile import Program, leads_nowhere
from flows.explain.trace import Interpreter, Trace
from flows.model import (
    ALL,
    Direction,
    Dpid,
    Mode,
    Numbers,
    Placement,
    Port,
    Rule,
    Session,
    SessionId,
    cut_length,
    is_watched,
)
from flows.openflow import Fields, Flow, Metered, read_fields
from flows.pipeline import CUT, DELIVER, EGRESS, INGRESS
from flows.resolve import (
    BridgeView,
    ResolvedSession,
    ResolvedWorld,
    are_protected,
    at_links,
    at_receiver,
    at_sender,
)
from flows.semantics import PortDirection, first_match, may_send, meaning, wants

TRACED_BETWEEN_PAUSES = 256
"""Flows that are read between two calls of ``pause``."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one session does with a packet, and why, in a sentence.

    ``bridge`` makes the copy; ``rule`` decided, unless the session has no filter of its own.
    """

    session: Session
    is_copied: bool
    sentence: str
    bridge: Dpid | None = None
    direction: Direction | None = None
    rule: Rule | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What happens to one packet: its receivers, an answer for each session, and every flow hit.

    ``obstacles`` say what keeps the packet itself from ports that should receive it.
    """

    answers: tuple[Answer, ...]
    receivers: tuple[Port, ...]
    steps: tuple[str, ...]
    obstacles: tuple[str, ...] = ()


def explain(
    resolved: ResolvedWorld,
    sender: Port,
    frame: bytes,
    pause: Callable[[], None] = lambda: None,
    links_down: Set[Placement] = frozenset(),
) -> Explanation:
    """Traces ``frame`` from ``sender``, a placed workload, through the compiled flows.

    Bridges start with no learned addresses, so a destination that no port declares is unknown.
    ``pause`` is called after every few flows, to let other threads run. Ports of workloads at
    ``links_down`` send and receive nothing.

    Raises:
        InvalidValue: ``frame`` is shorter than an Ethernet header.
    """
    world = resolved.world
    fields = read_fields(frame)
    place = world.placements[sender.id]
    reached = [dpid for dpid in world.dpids if resolved.is_joined(dpid, place.dpid)]
    flows = {dpid: _flows(dpid, resolved, pause) for dpid in reached}
    interpreter = Interpreter(flows, world.links)
    wanted = interpreter.send(place, frame)  # as if no setting stopped it
    closed = at_links(world)
    crossed = tuple(closed[end] for end in sorted(wanted.crossed & closed.keys()))
    trace = interpreter.send(place, frame, closed) if crossed else wanted
    expected = meaning(frame, sender, world)
    receivers = tuple(world.port_by_id[port_id] for port_id in sorted(expected.receivers))
    question = _Question(resolved, sender, receivers, fields, expected.taken)
    answers = tuple(
        _answer(question, resolved_session, wanted)
        for resolved_session in resolved.sessions.values()
    )
    if why := at_sender(sender, world, links_down):
        return Explanation(tuple(_withheld(each, why) for each in answers), (), (), (why,))
    if crossed:
        answers = _on_this_side(answers, trace, world.numbers, "; ".join(crossed))
    missed = {port: at_receiver(sender, port, world, links_down) for port in receivers}
    at = {emission.place for emission in trace.emissions}
    gone = {emission.place for emission in wanted.emissions} - at
    return Explanation(
        tuple(_with_missed(each, missed) for each in answers),
        tuple(p for p in receivers if not missed[p] and world.placements[p.id] not in gone),
        tuple(map(str, trace.steps)),
        (*crossed, *filter(None, missed.values())),
    )


def _withheld(answer: Answer, why: str) -> Answer:
    """The answer when the packet does not get to where it would be copied."""
    if not answer.is_copied:
        return answer
    return Answer(answer.session, False, f"not copied: {why}")


def _on_this_side(
    answers: tuple[Answer, ...], trace: Trace, numbers: Numbers, why: str
) -> tuple[Answer, ...]:
    """The answers, without copies that are made behind a link that the packet does not cross."""
    return tuple(
        _withheld(each, why) if _copy(trace, numbers.session[each.session.id]) is None else each
        for each in answers
    )


def _with_missed(answer: Answer, missed: Mapping[Port, str]) -> Answer:
    """An answer, and whether the copy is of a packet that a watched port does not get."""
    if not answer.is_copied or not answer.session.direction.is_ingress:
        return answer
    whys = [why for port, why in missed.items() if why and is_watched(answer.session, port)]
    return replace(answer, sentence="; ".join((answer.sentence, *whys)))


def _flows(dpid: Dpid, resolved: ResolvedWorld, pause: Callable[[], None]) -> Iterator[Flow]:
    """The desired flows of one bridge, compiled when the first one is asked for."""
    for at, flow in enumerate(Program(dpid).update(resolved, pause).put):
        if at % TRACED_BETWEEN_PAUSES == 0:
            pause()
        yield flow


@dataclass(frozen=True, slots=True)
class _Question:
    """One packet in a world; ``taken`` says which exclusive session takes it at which port."""

    resolved: ResolvedWorld
    sender: Port
    receivers: tuple[Port, ...]
    fields: Fields
    taken: Mapping[PortDirection, SessionId]

    @property
    def port_directions(self) -> Iterator[tuple[Port, Direction]]:
        """The port that sends the packet (egress), then those that receive it (ingress)."""
        yield self.sender, Direction.EGRESS
        for port in self.receivers:
            yield port, Direction.INGRESS


def _answer(question: _Question, resolved_session: ResolvedSession, trace: Trace) -> Answer:
    session, resolved, fields = resolved_session.session, question.resolved, question.fields
    number = resolved.world.numbers.session[session.id]
    made = _copy(trace, number)
    if made is not None and _is_lost(resolved, resolved_session, made[0]):
        why = "; ".join(resolved_session.missing)
        return Answer(session, False, f"not copied: no sensor can get it: {why}")
    if made is not None and (why := _shielded(question, resolved_session, made[0])):
        return Answer(session, False, f"not copied: no sensor can get it: {why}")
    if made is not None and _is_skipped(trace, number):
        limit = cut_length(session, resolved.limit_at(made[0], session))
        why = f"it is longer than the {limit} bytes that fit the path to its sensor"
        return Answer(session, False, f"not copied: {why}")
    if made is not None:
        bridge, direction = made
        rule = _rule(resolved, session, direction, fields)
        by = f"rule {rule.number} accepts it" if rule else "it has no filter"
        what = "sent" if direction is Direction.EGRESS else "received"
        sentence = f"copied, as a watched port {what} it: {by}"
        said = "; ".join((sentence, *resolved_session.unknown))
        return Answer(session, True, said, bridge, direction, rule)
    sentence, rule = _why_not(question, resolved_session)
    return Answer(session, False, sentence, rule=rule)


def _copy(trace: Trace, number: int) -> tuple[Dpid, Direction] | None:
    """The bridge that makes the copy of a session, and the direction that it is made for."""
    stage: dict[Dpid, Direction] = {}
    for step in trace.steps:
        if step.flow.table == EGRESS.number:
            stage[step.dpid] = Direction.EGRESS
        elif step.flow.table == INGRESS.number:
            stage[step.dpid] = Direction.INGRESS
        elif step.flow.table == DELIVER.number and step.flow.owner == number:
            return step.dpid, stage[step.dpid]
    return None


def _is_lost(resolved: ResolvedWorld, resolved_session: ResolvedSession, maker: Dpid) -> bool:
    """Whether settings or missing routes keep a copy that a bridge makes from every sensor."""
    view = BridgeView(maker, resolved)
    return leads_nowhere(view, resolved_session)


def _shielded(question: _Question, resolved_session: ResolvedSession, maker: Dpid) -> str:
    """Why every sensor is a protected port, of the bridge of a protected sender; empty if not."""
    world, collector = question.resolved.world, resolved_session.collector
    if collector is None or world.placements[question.sender.id].dpid != maker:
        return ""
    if len(resolved_session.taps) < len(collector.sensors):
        return ""
    whys = [are_protected(question.sender, tap, world) for tap in resolved_session.taps]
    return "; ".join(whys) if all(whys) else ""


def _is_skipped(trace: Trace, number: int) -> bool:
    """Whether the copy of a session is left out because it does not fit its path."""
    steps = [step.flow for step in trace.steps if step.flow.table == CUT.number]
    return any(
        flow.owner == number and all(isinstance(action, Metered) for action in flow.actions)
        for flow in steps
    )


def _why_not(question: _Question, resolved_session: ResolvedSession) -> tuple[str, Rule | None]:
    session, sender, receivers = resolved_session.session, question.sender, question.receivers
    if not session.enabled:
        return "not copied: the session is switched off", None
    if resolved_session.refused is not None:
        return f"not copied: {resolved_session.refused}", None
    if not resolved_session.is_delivered:
        return f"not copied: {'; '.join(resolved_session.missing)}", None
    sends = session.direction.is_egress and is_watched(session, sender)
    receives = session.direction.is_ingress and any(is_watched(session, p) for p in receivers)
    if not sends and not receives:
        return f"not copied: {_unwatched(session, sender, receivers, question.fields)}", None
    if others := _taken_by(question, session):
        return f"not copied: {others}", None
    direction = Direction.EGRESS if sends else Direction.INGRESS
    rule = _rule(question.resolved, session, direction, question.fields)
    what = "what it sends" if sends else "what it receives"
    if rule is None:
        return f"not copied: no rule of its filter for {what} matches", None
    return f"not copied: rule {rule.number} of its filter for {what} rejects it", rule


def _taken_by(question: _Question, session: Session) -> str:
    """The sessions that take the packet before an exclusive session; empty: none."""
    world = question.resolved.world
    names = {other.id: other.name for other in world.sessions}
    found: dict[str, str] = {}
    for port, direction in question.port_directions:
        if wants(session, port, direction, question.fields, world):
            taker = question.taken.get((port.id, direction))
            if session.mode is Mode.EXCLUSIVE and taker not in (None, session.id):
                does = "sends" if direction is Direction.EGRESS else "receives"
                found.setdefault(names[taker], f"what {port.name} {does}")
    return " and ".join(f"exclusive session {name!r} takes {what}" for name, what in found.items())


def _unwatched(session: Session, sender: Port, receivers: tuple[Port, ...], fields: Fields) -> str:
    if is_watched(session, sender):
        return f"it watches {sender.name}, but only what it receives"
    if any(is_watched(session, port) for port in receivers):
        return "it watches a port that receives the packet, but only what that port sends"
    if not may_send(sender, fields):
        return f"anti-spoofing drops it, so nobody receives it, and {sender.name} is not watched"
    return "it watches neither the sender nor anybody who receives the packet"


def _rule(
    resolved: ResolvedWorld, session: Session, direction: Direction, fields: Fields
) -> Rule | None:
    """The first matching rule of the session's filter; None when it has none."""
    if session.filter == ALL:
        return None
    wanted = resolved.world.filter_by_id[session.filter]
    rules = wanted.egress if direction is Direction.EGRESS else wanted.ingress
    return first_match(rules, fields)

"""Why a packet is, or is not, copied: session by session, from the flows bridges should have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from flows.compile import Program, Standing, Survey
from flows.model.filter import Rule
from flows.openflow.flow import Flow, Metered
from flows.semantics.filter import first_match
from flows.semantics.meaning import Touched, may_send, meaning, wants
from flows.model.session import ALL, Direction, Dpid, Mode, Port, Session, SessionId
from flows.openflow.packet import Fields, read_fields
from flows.pipeline.tables import CUT, DELIVER, EGRESS, INGRESS
from flows.model.source import is_watched
from flows.explain.trace import Interpreter, Trace

TOGETHER = 256
"""So many flows are looked at before others may run."""


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
    """What happens to one packet: who receives it, what each session does, and the whole way."""

    answers: tuple[Answer, ...]
    receivers: tuple[Port, ...]
    steps: tuple[str, ...]


def explain(
    survey: Survey, sender: Port, frame: bytes, pause: Callable[[], None] = lambda: None
) -> Explanation:
    """Follow ``frame`` from ``sender``, a placed workload, through the compiled flows.

    Nothing is learned before: an address that no port declares is taken for unknown. ``pause`` is
    called again and again, for who must not be kept waiting by large bridges.

    Raises:
        InvalidValue: ``frame`` is shorter than an Ethernet header.
    """
    world = survey.world
    fields = read_fields(frame)
    place = world.placements[sender.id]
    reached = [d for d in world.dpids if survey.is_joined(d, place.dpid)]
    flows = {dpid: _flows(dpid, survey, pause) for dpid in reached}
    trace = Interpreter(flows, world.links).send(place, frame)
    means = meaning(frame, sender, world)
    receivers = tuple(world.port_by_id[port_id] for port_id in sorted(means.receivers))
    question = _Question(survey, sender, receivers, fields, means.taken)
    answers = tuple(_answer(question, standing, trace) for standing in survey.standings.values())
    return Explanation(answers, receivers, tuple(map(str, trace.steps)))


def _flows(dpid: Dpid, survey: Survey, pause: Callable[[], None]) -> Iterator[Flow]:
    """The flows of one bridge, when they are needed."""
    for at, flow in enumerate(Program(dpid).update(survey, pause).put):
        if at % TOGETHER == 0:
            pause()
        yield flow


@dataclass(frozen=True, slots=True)
class _Question:
    """One packet in a world, and which exclusive sessions take it where."""

    survey: Survey
    sender: Port
    receivers: tuple[Port, ...]
    fields: Fields
    taken: Mapping[Touched, SessionId]

    @property
    def touched(self) -> Iterator[tuple[Port, Direction]]:
        """The ports that the packet concerns."""
        yield self.sender, Direction.EGRESS
        for port in self.receivers:
            yield port, Direction.INGRESS


def _answer(question: _Question, standing: Standing, trace: Trace) -> Answer:
    session, survey, fields = standing.session, question.survey, question.fields
    number = survey.world.numbers.session[session.id]
    made = _copy(trace, number)
    if made is not None and _is_skipped(trace, number):
        limit = survey.limit_at(made[0], session)
        why = f"it is longer than the {limit} bytes that fit the path to its sensor"
        return Answer(session, False, f"not copied: {why}")
    if made is not None:
        bridge, direction = made
        rule = _rule(survey, session, direction, fields)
        by = f"rule {rule.number} accepts it" if rule else "it has no filter"
        what = "sent" if direction is Direction.EGRESS else "received"
        sentence = f"copied, as a watched port {what} it: {by}"
        return Answer(session, True, sentence, bridge, direction, rule)
    sentence, rule = _why_not(question, standing)
    return Answer(session, False, sentence, rule=rule)


def _copy(trace: Trace, number: int) -> tuple[Dpid, Direction] | None:
    """The bridge that made the copy of a session, and for which direction."""
    stage: dict[Dpid, Direction] = {}
    for step in trace.steps:
        if step.flow.table == EGRESS.number:
            stage[step.dpid] = Direction.EGRESS
        elif step.flow.table == INGRESS.number:
            stage[step.dpid] = Direction.INGRESS
        elif step.flow.table == DELIVER.number and step.flow.owner == number:
            return step.dpid, stage[step.dpid]
    return None


def _is_skipped(trace: Trace, number: int) -> bool:
    """Whether the copy of a session would have been too long for its path."""
    steps = [step.flow for step in trace.steps if step.flow.table == CUT.number]
    return any(
        flow.owner == number and all(isinstance(action, Metered) for action in flow.actions)
        for flow in steps
    )


def _why_not(question: _Question, standing: Standing) -> tuple[str, Rule | None]:
    session, sender, receivers = standing.session, question.sender, question.receivers
    if not session.enabled:
        return "not copied: the session is switched off", None
    if standing.refused is not None:
        return f"not copied: {standing.refused}", None
    if not standing.is_served:
        return f"not copied: {'; '.join(standing.missing)}", None
    sends = session.direction.is_egress and is_watched(session, sender)
    hears = session.direction.is_ingress and any(is_watched(session, p) for p in receivers)
    if not sends and not hears:
        return f"not copied: {_unwatched(session, sender, receivers, question.fields)}", None
    if others := _takers(question, session):
        return f"not copied: {others}", None
    direction = Direction.EGRESS if sends else Direction.INGRESS
    rule = _rule(question.survey, session, direction, question.fields)
    what = "what it sends" if sends else "what it receives"
    if rule is None:
        return f"not copied: no rule of its filter for {what} matches", None
    return f"not copied: rule {rule.number} of its filter for {what} rejects it", rule


def _takers(question: _Question, session: Session) -> str:
    """Who takes the packet from an exclusive session wherever it accepts it; empty: nobody."""
    world = question.survey.world
    names = {other.id: other.name for other in world.sessions}
    found: dict[str, str] = {}
    for port, direction in question.touched:
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


def _rule(survey: Survey, session: Session, direction: Direction, fields: Fields) -> Rule | None:
    """The rule of the session's own filter that decides; None without one."""
    if session.filter == ALL:
        return None
    wanted = survey.world.filter_by_id[session.filter]
    rules = wanted.egress if direction is Direction.EGRESS else wanted.ingress
    return first_match(rules, fields)

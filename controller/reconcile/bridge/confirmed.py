"""What a switch has confirmed for one bridge, and what its datapath follows: values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property

from controller.southbound import ForeignFlow, Rejected
from controller.status import SessionCounters, State
from flows.compile import Impact
from flows.model import BRIDGE_METER, PORT_METERS, CopyWay, Dpid, SessionId
from flows.openflow import LEARNED_OBJECT, PRODUCTION, Flow, object_of
from flows.pipeline import BRIDGE_CAP, COUNT, DELIVER
from flows.plan import InstalledFlow, Mark, Meter, session_of_meter
from flows.resolve import ResolvedSession, ResolvedWorld

REFUSALS_AT_ONCE = 64
"""Refusals that are looked at before other threads may run."""


@dataclass(frozen=True)
class AppliedPlan:
    """All plans up to the number ``plan`` are in the flow tables, and what is there then."""

    plan: int = 0
    sessions: frozenset[int] = frozenset()
    """Numbers of the sessions with a copying flow."""
    resolved: ResolvedWorld | None = None
    """What the flows were compiled from."""


@dataclass(frozen=True)
class Confirmed:
    """What one bridge does for one version of the world, as its switch has confirmed it.

    The reply to the barrier that ends each plan is the confirmation.
    """

    version: int = 0
    """All of this version is confirmed."""
    served: frozenset[int] = frozenset()
    """Numbers of the sessions that the bridge should make copies for."""
    resolved: ResolvedWorld | None = None
    rejected: tuple[Rejected, ...] = ()
    foreign: int = 0
    """Number of flows on the bridge that are not ours."""
    flows: int = 0
    """Number of flows on the bridge that are ours."""
    preempted: frozenset[int] = frozenset()
    """Numbers of the sessions whose packets flows that are not ours may take."""
    failure: str | None = None
    """Why the last attempt failed; None when it did not."""
    blockers: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """By session number: why the switch refused flows that the session shares with others."""
    uncompilable: Mapping[int, str] = field(default_factory=dict)
    """By session number: why the session has no flows here although it should."""
    reached: int = 0
    """This version is confirmed, except for the sessions that are held."""
    held: frozenset[SessionId] = frozenset()
    """Sessions whose flows are as before until thousands of rules have come; see Held."""
    ways: frozenset[CopyWay] | None = None
    """The ways by which the bridge lets copies from others pass; None if that is not known."""

    @cached_property
    def session_by_meter(self) -> Mapping[int, int]:
        """Numbers of the sessions that have a meter for their rate, by the number of the meter."""
        if self.resolved is None:
            return {}
        numbers = self.resolved.world.numbers
        return {n: numbers.session[s] for s, n in numbers.meter.items() if s in numbers.session}

    def covers(self, version: int, sessions: Set[SessionId] | None = None) -> bool:
        """Whether a version is confirmed for some sessions; None: for all of them."""
        if self.version >= version:
            return True
        return sessions is not None and self.reached >= version and self.held.isdisjoint(sessions)

    def concerns(self, session: int | None) -> bool:
        """Whether the bridge makes copies of a session, or refused a flow that it needs."""
        return session in self.served or session in self.blockers

    def refusals_of(self, session: int) -> tuple[str, ...]:
        """Why the switch refused what makes the copies of a session, a sentence each."""
        found = (r.reason for r in self.rejected if self._is_about(r.flow, session))
        return tuple(dict.fromkeys(found))

    def blockers_of(self, session: int) -> tuple[str, ...]:
        """Why the switch refused flows that a session shares with others, a sentence each."""
        return self.blockers.get(session, ())

    def _is_about(self, what: Flow | InstalledFlow | Meter, session: int) -> bool:
        """Whether a session makes no copies here, or not all of them, when this is refused."""
        if isinstance(what, Flow):
            return _makes_copies(what, session)
        if isinstance(what, Meter) and self.resolved is not None:
            owners = (
                self.session_by_meter.get(what.number),
                session_of_meter(what.number, PORT_METERS),
            )
            return what.number == BRIDGE_METER or session in owners
        return False


def find_blockers(
    dpid: Dpid, resolved: ResolvedWorld, served: frozenset[int], rejected: tuple[Rejected, ...],
    pause: Callable[[], None],
) -> Mapping[int, tuple[str, ...]]:  # fmt: skip
    """The reasons of refusals, by the sessions that need a refused flow but do not own it.

    ``pause`` is called again and again, because a bridge may refuse all of its flows.
    """
    if not rejected:
        return {}
    impact = Impact(dpid, resolved, served)
    found: dict[int, dict[str, None]] = {}
    for at, each in enumerate(rejected):
        if at % REFUSALS_AT_ONCE == 0:
            pause()
        for session in impact.affected_sessions(each.flow) if isinstance(each.flow, Flow) else ():
            if isinstance(each.flow, Flow) and not _makes_copies(each.flow, session):
                found.setdefault(session, {})[each.reason] = None
    return {session: tuple(reasons) for session, reasons in found.items()}


def find_preempted(
    dpid: Dpid, resolved: ResolvedWorld, served: frozenset[int], foreign: Collection[ForeignFlow]
) -> frozenset[int]:
    """The sessions whose packets foreign flows may take before ours see them."""
    if not foreign:
        return frozenset()
    impact = Impact(dpid, resolved, served)
    found = [impact.preempted_sessions(*each) for each in set(foreign)]
    return frozenset().union(*found)


def copied_sessions(flows: Iterable[Flow]) -> frozenset[int]:
    """The numbers of the sessions that have a copying flow among these."""
    return frozenset(f.owner for f in flows if f.owner != PRODUCTION and f.table == DELIVER.number)


def copied_sessions_of_marks(marks: Iterable[Mark]) -> frozenset[int]:
    """The same, of flows that are known by their marks alone."""
    numbers = {object_of(cookie) for table, _, cookie in marks if table == DELIVER.number}
    return frozenset(numbers - {PRODUCTION, LEARNED_OBJECT})


def _makes_copies(flow: Flow, session: int) -> bool:
    """Whether a session makes no copies, or not all of them, without this flow.

    Without a flow that counts them it makes them all, and nobody knows how many.
    """
    if flow.table == COUNT.number:
        return False
    return flow.owner == session or flow.table == BRIDGE_CAP.number


@dataclass(frozen=True)
class WriterView:
    """What is known of one bridge that is, or was, connected: a copy for those who answer."""

    dpid: Dpid
    name: str
    confirmed: Confirmed
    settled: ResolvedWorld | None
    """What the datapath is known to follow."""
    state: State
    reasons: tuple[str, ...]
    plans: int
    errors: int
    session_counters: SessionCounters
    is_connected: bool
    is_contested: bool = False
    """Whether somebody else keeps changing its flows."""
    certain: ResolvedWorld | None = None
    """What its flow tables were compiled from; None if that is not certain."""

    def certain_of(self, session: SessionId) -> ResolvedWorld | None:
        """The world of which it has a session; None if that is not certain."""
        return None if session in self.confirmed.held else self.certain


def knows(resolved: ResolvedWorld | None, resolved_session: ResolvedSession) -> bool:
    """Whether a resolved world contains this session, and resolves it in the same way."""
    return (
        resolved is not None
        and resolved.sessions.get(resolved_session.session.id) == resolved_session
    )

"""What was verified on one bridge, how closely, and how far its data path follows: values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

from controller.southbound.switch import Rejected
from flows.compile import Needs, Survey
from flows.plan.plan import Installed, Mark
from flows.openflow.flow import LEARNED_OBJECT, PRODUCTION, Flow, object_of
from flows.plan.meters import Meter
from flows.model.session import Dpid
from flows.pipeline.tables import BRIDGE_CAP, BRIDGE_METER, DELIVER

PAUSE_AFTER = 64
"""Refusals that are looked at before other threads may run."""


class Depth(IntEnum):
    """How closely the flows of a bridge are read again."""

    COOKIES = 1
    """Which flows are there; a cookie stands for the actions that were sent with it."""
    ACTIONS = 2
    """The actions of each flow too: somebody may have changed them under their cookie."""


@dataclass(frozen=True)
class Done:
    """How far a bridge has come: its plans up to ``plan`` are in its tables, with this result."""

    plan: int = 0
    holding: frozenset[int] = frozenset()
    survey: Survey | None = None


@dataclass(frozen=True)
class Verified:
    """What was verified on one bridge: after its barrier, for one version of the world."""

    version: int = 0
    served: frozenset[int] = frozenset()
    survey: Survey | None = None
    rejected: tuple[Rejected, ...] = ()
    foreign: int = 0
    flows: int = 0
    failure: str | None = None
    hindrances: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Why the switch refused what each session needs of others, or shares with them."""

    @cached_property
    def session_by_meter(self) -> Mapping[int, int]:
        """Which session each meter of a cap belongs to, by number."""
        if self.survey is None:
            return {}
        numbers = self.survey.world.numbers
        return {n: numbers.session[s] for s, n in numbers.meter.items() if s in numbers.session}

    def concerns(self, session: int | None) -> bool:
        """Whether the bridge makes copies of a session, or refused what it needs of it."""
        return session in self.served or session in self.hindrances

    def refusals_of(self, session: int) -> tuple[str, ...]:
        """Why the switch refused what makes the copies of a session here, a sentence each."""
        found = (r.reason for r in self.rejected if self._is_about(r.flow, session))
        return tuple(dict.fromkeys(found))

    def hindrances_of(self, session: int) -> tuple[str, ...]:
        """Why the switch refused what a session needs of others, or shares with them."""
        return self.hindrances.get(session, ())

    def _is_about(self, what: Flow | Installed | Meter, session: int) -> bool:
        """Whether a session makes no copies here, or not all, when this is refused."""
        if isinstance(what, Flow):
            return _makes_copies(what, session)
        if isinstance(what, Meter) and self.survey is not None:
            return what.number == BRIDGE_METER or self.session_by_meter.get(what.number) == session
        return False


def find_hindrances(
    dpid: Dpid, survey: Survey, served: frozenset[int], rejected: tuple[Rejected, ...],
    pause: Callable[[], None],
) -> Mapping[int, tuple[str, ...]]:  # fmt: skip
    """The reasons of refusals by the sessions that need what was refused, but are not its owners.

    ``pause`` is called again and again: a bridge may refuse all of its flows.
    """
    if not rejected:
        return {}
    needs = Needs(dpid, survey, served)
    found: dict[int, dict[str, None]] = {}
    for at, each in enumerate(rejected):
        if at % PAUSE_AFTER == 0:
            pause()
        for session in needs.of(each.flow) if isinstance(each.flow, Flow) else ():
            if isinstance(each.flow, Flow) and not _makes_copies(each.flow, session):
                found.setdefault(session, {})[each.reason] = None
    return {session: tuple(reasons) for session, reasons in found.items()}


def copying(flows: Iterable[Flow]) -> frozenset[int]:
    """The numbers of the sessions that have a copying flow among these."""
    return frozenset(f.owner for f in flows if f.owner != PRODUCTION and f.table == DELIVER.number)


def sessions_of(had: Iterable[Mark]) -> frozenset[int]:
    """The numbers of the sessions that have a copying flow among these."""
    numbers = {object_of(cookie) for table, _, cookie in had if table == DELIVER.number}
    return frozenset(numbers - {PRODUCTION, LEARNED_OBJECT})


def _makes_copies(flow: Flow, session: int) -> bool:
    """Whether a session makes no copies, or not all, where this flow is missing."""
    return flow.owner == session or flow.table == BRIDGE_CAP.number

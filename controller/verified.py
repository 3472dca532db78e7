"""What was verified on one bridge, how closely, and how far its data path follows: values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from controller.southbound.switch import Rejected
from flows.compile import Survey
from flows.diff import Installed, Mark
from flows.flow import LEARNED_OBJECT, PRODUCTION, Flow, object_of
from flows.meter import Meter
from flows.pipeline import BRIDGE_CAP, BRIDGE_METER, DELIVER


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

    @cached_property
    def session_by_meter(self) -> Mapping[int, int]:
        """Which session each meter of a cap belongs to, by number."""
        if self.survey is None:
            return {}
        numbers = self.survey.world.numbers
        return {n: numbers.session[s] for s, n in numbers.meter.items() if s in numbers.session}

    def refusals_of(self, session: int) -> tuple[str, ...]:
        """Why the switch refused what one session needs, alone or with all, a sentence each."""
        found = (r.reason for r in self.rejected if self._is_about(r.flow, session))
        return tuple(dict.fromkeys(found))

    def _is_about(self, what: Flow | Installed | Meter, session: int) -> bool:
        """Whether copies of a session suffer when this is refused."""
        if isinstance(what, Flow):
            return what.owner == session or what.table == BRIDGE_CAP.number
        if isinstance(what, Meter) and self.survey is not None:
            return what.number == BRIDGE_METER or self.session_by_meter.get(what.number) == session
        return False


def copying(flows: Iterable[Flow]) -> frozenset[int]:
    """The numbers of the sessions that have a copying flow among these."""
    return frozenset(f.owner for f in flows if f.table == DELIVER.number) - {PRODUCTION}


def sessions_of(had: Iterable[Mark]) -> frozenset[int]:
    """The numbers of the sessions that have a copying flow among these."""
    numbers = {object_of(cookie) for table, _, cookie in had if table == DELIVER.number}
    return frozenset(numbers - {PRODUCTION, LEARNED_OBJECT})

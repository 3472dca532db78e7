"""What was verified on one bridge, and how far its data path follows: values of its writer."""

from __future__ import annotations

from dataclasses import dataclass

from controller.southbound.switch import Rejected
from flows.compile import Survey
from flows.diff import Installed
from flows.flow import Flow
from flows.meter import Meter
from flows.pipeline import BRIDGE_CAP, BRIDGE_METER


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

    def refusals_of(self, session: int) -> tuple[str, ...]:
        """Why the switch refused what one session needs, alone or with all, a sentence each."""
        found = (r.reason for r in self.rejected if self._is_about(r.flow, session))
        return tuple(dict.fromkeys(found))

    def _is_about(self, what: Flow | Installed | Meter, session: int) -> bool:
        """Whether copies of a session suffer when this is refused."""
        if isinstance(what, Flow):
            return what.owner == session or what.table == BRIDGE_CAP.number
        if isinstance(what, Meter) and self.survey is not None:
            numbers = self.survey.world.numbers
            of_session = {numbers.session[s] for s, n in numbers.meter.items() if n == what.number}
            return what.number == BRIDGE_METER or session in of_session
        return False

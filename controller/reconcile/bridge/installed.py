"""What is installed on one bridge, as far as it is known without asking the switch: bookkeeping."""

from __future__ import annotations

from collections.abc import Mapping

from controller.reconcile.bridge.confirmed import AppliedPlan
from controller.southbound import ForeignFlow, FragmentsMatched
from flows.compile import Epoch
from flows.model import BRIDGE_METER
from flows.openflow import Flow
from flows.plan import InstalledFlow, Mark, Meter
from flows.resolve import ResolvedWorld

Flows = Mapping[Mark, Flow | InstalledFlow]
Meters = Mapping[int, Meter | None]
"""Meters by number; None stands for one that does something else than ours do."""


class Installed:
    """Flows and meters that a bridge has of ours, and which plans its datapath follows.

    Flows and meters are known, or have to be read from the switch. They are changed by the thread
    of the writer alone. Plans are counted by several threads, so whoever calls ``begin_plan``,
    ``confirm`` or ``settle`` holds the lock of the writer.
    """

    def __init__(self) -> None:
        self.is_as_compiled = False
        """Whether it has all flows of the program: then only changes of the program are sent."""
        self.flows: Flows | None = None
        """The flows that it has of ours; None when they have to be read."""
        self.meters: Meters | None = None
        """Its meters; None when they have to be read."""
        self.epoch = Epoch()
        """The flow of the present epoch, which is not among ``flows``."""
        self.foreign: tuple[ForeignFlow, ...] = ()
        """The flows that it has of others, as of the last time that it was read."""
        self.fragments = FragmentsMatched.BEFORE
        """Whether first fragments match their ports, as of the last time that it was asked."""
        self.begun = 1  # what another controller did before counts as the first plan
        """The number of the last plan that was begun."""
        self.applied = AppliedPlan()
        """The last plan that is in the flow tables."""
        self.settled = AppliedPlan()
        """The last plan that the datapath is known to follow."""
        self._copied_since: dict[int, frozenset[int]] = {}
        """The sessions that plans after that one make copies of, by the number of the plan."""

    @property
    def is_unsettled(self) -> bool:
        """Whether megaflows of the datapath may still follow an earlier plan."""
        return self.settled.plan != self.begun

    @property
    def certain(self) -> ResolvedWorld | None:
        """What the flow tables were compiled from; None if a plan may have come in part."""
        return self.applied.resolved if self.applied.plan == self.begun else None

    @property
    def is_capped(self) -> bool:
        """Whether it has a meter of all copies together."""
        return BRIDGE_METER in (self.meters or ())

    def forget(self) -> None:
        """What it has is not known any more: it has to be read before the next plan."""
        self.is_as_compiled, self.flows, self.meters = False, None, None

    def note_meters(self, meters: Meters) -> None:
        """It has these meters."""
        self.meters = meters

    def note_flows(self, flows: Flows | None) -> None:
        """It has these flows, whether it should or not; None: they have to be read."""
        self.flows = flows

    def note_as_compiled(self) -> None:
        """It has all flows of the program, and no others of ours."""
        self.is_as_compiled = True

    def begin_plan(self, sessions: frozenset[int]) -> None:
        """A plan is going to be sent that makes copies of these sessions.

        Until it is settled the datapath may follow either.
        """
        self.begun += 1
        self._copied_since[self.begun] = sessions

    def confirm(self, sessions: frozenset[int], resolved: ResolvedWorld) -> None:
        """All plans that were begun are in the flow tables; these sessions have copying flows."""
        was_settled = not self.is_unsettled  # no plan was needed: no megaflow is outdated
        self.applied = AppliedPlan(self.begun, sessions, resolved)
        if was_settled:
            self.settled = self.applied

    def settle(self, applied: AppliedPlan) -> frozenset[int] | None:
        """The datapath follows this plan; the sessions that it may make copies of from now on.

        These are those of the plan, and of what was begun after it. None: the plan is older than
        the settled one, or nothing was confirmed yet, so that it is not known what was before.
        """
        if applied.plan < max(self.settled.plan, 1):
            return None
        is_last = applied.plan == self.applied.plan  # what needed no plan since is settled as well
        self.settled = self.applied if is_last else applied
        for plan in [plan for plan in self._copied_since if plan <= applied.plan]:
            del self._copied_since[plan]
        return self.settled.sessions.union(*self._copied_since.values())

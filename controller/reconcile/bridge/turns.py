"""Applies a plan in stages, and takes turns with the writers of linked bridges between them.

Rather two copies of a packet for a moment than none: see
docs/decisions/0029-linked-bridges-take-turns.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from enum import IntEnum
from typing import NamedTuple, Protocol

from controller.process import APPLY_SECONDS
from controller.reconcile.bridge.installed import Installed
from controller.southbound import LastCounts, Rejected, Switch
from controller.status import SessionCounters
from flows.compile import Epoch, Stages
from flows.openflow import Flow, MeterCount
from flows.plan import Meter, Plan, meters_after

STAGE_S = 3.0
"""How long at most a writer waits for those of linked bridges before it goes on, in seconds.

Who goes on too early loses copies. On two cores with a load of 20 to 40 writers took up to 2.0 s to
come to a stage, and datapaths 1.9 s to follow; one of another machine is always given 1 s."""


class TurnStage(IntEnum):
    """How far a writer is with a version of the world that concerns several bridges."""

    PREPARED = 1
    """The ways are there by which copies come from other bridges."""
    MAKING = 2
    """It makes its copies of this version, and still those that others shall make."""
    SWITCHED = 3
    """Its copies are made as this version says; ways that others may still use are left."""


class TurnStep(NamedTuple):
    """A stage of one version of the world; later ones are greater."""

    version: int
    stage: TurnStage


class TurnTaker(Protocol):
    """The writer whose plans are applied in turns."""

    def note_plan(self, sessions: frozenset[int]) -> None:
        """A plan that makes copies of these sessions is going to be sent.

        Raises:
            SwitchGone: the writer was stopped.
        """
        ...

    def wait_for_others(self, step: TurnStep, *, settled: bool) -> None:
        """Wait for the writers of linked bridges, and for all their datapaths if ``settled``.

        For a bridge that hangs it does not wait longer than STAGE_S.
        """
        ...


class Turns:
    """Applies plans on one bridge; ``step`` tells the writers of other bridges how far it is.

    What ``installed`` knows is forgotten until the switch has answered, except flows: these the
    writer knows by what it had compiled.
    """

    def __init__(
        self,
        switch: Switch,
        installed: Installed,
        counters: SessionCounters,
        needs_epoch: Callable[[Switch], bool],
    ) -> None:
        self._switch, self._installed, self.counters = switch, installed, counters
        self._needs_epoch = needs_epoch
        self.step = TurnStep(0, TurnStage.SWITCHED)
        """How far it is with the version that it is at work on, or was last."""
        self.sending = threading.Lock()
        """Held while a part of a plan is sent; whoever else holds it keeps plans from coming."""

    def apply(
        self,
        taker: TurnTaker,
        stages: Stages,
        served: frozenset[int],
        version: int,
        caps: Mapping[int, int],
        *,
        is_epoch_due: bool = False,
    ) -> tuple[Rejected, ...]:
        """Send a plan that makes copies of these sessions; what the switch refused of it.

        ``taker`` is the writer: it is not kept, or the two would keep each other in memory.
        ``caps`` are the numbers of the sessions that had or get a meter for their rate, by the
        number of the meter.

        Raises:
            SwitchGone: the writer was stopped.
            CloudtapError: the switch does not take the plan.
        """
        meters, epoch = self._installed.meters or {}, self._installed.epoch
        # a plan of meters alone changes no path of a packet, so no megaflow is outdated by it
        changes_flows = is_epoch_due or any(part.add or part.remove for part in stages.parts)
        if changes_flows and self._needs_epoch(self._switch):
            stages, epoch = self._with_epochs(stages, epoch)
        self._installed.forget()  # not known until the switch has answered
        if changes_flows:
            taker.note_plan(served)
        rejected = self._send_in_turns(taker, stages, version, caps)
        refused = [r.flow for r in rejected if isinstance(r.flow, Meter)]
        for part in (stages.main, stages.late):
            meters = meters_after(meters, part.meters, refused)
        self._installed.note_meters(meters)
        refused_flows = [r.flow for r in rejected if isinstance(r.flow, Flow)]
        self._installed.epoch = epoch.without(refused_flows)
        return rejected

    def _with_epochs(self, stages: Stages, epoch: Epoch) -> tuple[Stages, Epoch]:
        """The same stages, each with the flows of an epoch of its own; the last of these."""
        main, epoch = epoch.follow(self._switch.dpid, stages.main)
        late = stages.late
        if late:
            late, epoch = epoch.follow(self._switch.dpid, late)
        return replace(stages, main=main, late=late), epoch

    def _send_in_turns(
        self, taker: TurnTaker, stages: Stages, version: int, caps: Mapping[int, int]
    ) -> tuple[Rejected, ...]:
        """Send one stage after the other; linked bridges come to the next one together."""
        main, late = stages.main, stages.late
        rejected = self._send(stages.before)
        self._reach(version, TurnStage.PREPARED)
        if stages.has_way_before or stages.changes_copies:
            taker.wait_for_others(self.step, settled=False)
        rejected += self._send_counting(main, caps)
        if late:
            self._reach(version, TurnStage.MAKING)
            taker.wait_for_others(self.step, settled=True)
            rejected += self._send_counting(late, caps)
        self._reach(version, TurnStage.SWITCHED)
        if stages.has_way_after:
            taker.wait_for_others(self.step, settled=True)
        return rejected + self._send(stages.after)

    def _reach(self, version: int, stage: TurnStage) -> None:
        self.step = TurnStep(version, stage)

    def _send(self, parts: Iterable[Plan]) -> tuple[Rejected, ...]:
        with self.sending, APPLY_SECONDS.time():
            return tuple(refused for part in parts for refused in self._switch.apply(part))

    def _send_counting(self, part: Plan, caps: Mapping[int, int]) -> tuple[Rejected, ...]:
        """Send a part that may change meters; what these have counted is kept."""
        meters = part.meters
        if not meters:
            return self._send([part])
        added, changed = ([meter.number for meter in some] for some in (meters.add, meters.change))
        ending = {*changed, *(number for number in meters.remove if number in caps)}

        def take(counted: Mapping[int, MeterCount]) -> None:
            self.counters.update_some(counted, caps)

        with (
            self.sending,
            self.counters.resetting(added, changed, caps),
            APPLY_SECONDS.time(),
        ):
            return self._switch.apply(part, LastCounts(ending, take))

"""One bridge and its one writer: a thread that brings the bridge to what the world asks for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from controller.counters import Counters
from controller.desired import Snapshot
from controller.southbound.errors import NotOurs, SwitchUnfit
from controller.southbound.switch import Rejected, Switch
from controller.status import State
from flows.compile import Standing, compile_bridge
from flows.diff import Installed, Plan, plan
from flows.errors import CloudtapError
from flows.flow import PRODUCTION, Flow, FlowKey
from flows.model import Dpid
from flows.pipeline import DELIVER

RETRY_S = 2.0
"""Seconds after which a bridge that failed is tried again."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Verified:
    """What was verified on one bridge: after its barrier, for one version of the world."""

    version: int = 0
    served: frozenset[int] = frozenset()
    standings: frozenset[Standing] = frozenset()
    rejected: tuple[Rejected, ...] = ()
    foreign: int = 0
    flows: int = 0
    failure: str | None = None

    def refusals_of(self, session: int) -> tuple[str, ...]:
        """Why the switch refused flows of one session, a sentence each."""
        return tuple(
            r.reason for r in self.rejected if isinstance(r.flow, Flow) and r.flow.owner == session
        )


class BridgeWriter:
    """Brings one connected bridge to each new version of the world, until it is stopped.

    ``greet`` is called first: it looks at the bridge, and refuses one that is not fit. ``ready``
    is waited for before the first change; ``tell`` is called after every attempt.
    ``counters`` outlive the connection. What the bridge has is read from it once, then kept in
    mind; ``recheck`` reads it again.
    """

    def __init__(
        self,
        switch: Switch,
        snapshot: Callable[[], Snapshot],
        greet: Callable[[Switch], None],
        ready: threading.Event,
        tell: Callable[[], None],
        counters: Counters,
    ) -> None:
        self.switch = switch
        self._snapshot, self._greet, self._ready, self._tell = snapshot, greet, ready, tell
        self._is_greeted = False
        self._wake = threading.Event()
        self._is_stopped = False
        self._installed: dict[FlowKey, Installed] | None = None
        self.counters = counters
        self.verified = Verified()
        self.plans = 0
        self.errors = 0
        self.is_unsettled = False
        """Whether something was removed that the data path's cache may not have let go of yet."""
        self._thread = threading.Thread(target=self._run, name=f"bridge {switch.name}", daemon=True)

    @property
    def dpid(self) -> Dpid:
        """The datapath id of the bridge."""
        return self.switch.dpid

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def wake(self) -> None:
        """Say that the world has changed."""
        self._wake.set()

    def recheck(self) -> None:
        """Read again what the bridge has, and repair what is not as it should be."""
        self._installed = None
        self._wake.set()

    def stop(self) -> None:
        """Write no more; the flows stay as they are."""
        self._is_stopped = True
        self._wake.set()

    def fail(self, reason: str) -> None:
        """Count an error that happened elsewhere on behalf of this bridge."""
        self.errors += 1
        self.verified = replace(self.verified, failure=reason)

    def count(self) -> None:
        """Read how many copies this bridge has made of each session.

        Raises:
            SouthboundError: the switch does not answer.
        """
        self.counters.update(self.switch.session_copies(DELIVER.number))

    def _run(self) -> None:
        pause: float | None = None
        while not self._is_stopped:
            self._wake.wait(pause)
            self._wake.clear()
            if self._is_stopped:
                return
            pause = None if self._attempt() else RETRY_S

    def _attempt(self) -> bool:
        """One reconciliation; whatever goes wrong is counted, said, and tried again."""
        try:
            if not self._is_greeted:
                self._greet(self.switch)
                self._is_greeted = True
            self._ready.wait()
            self._reconcile(self._snapshot())
        except (SwitchUnfit, NotOurs) as problem:
            self._failed(problem)
            return True
        except CloudtapError as problem:
            self._failed(problem)
        except Exception as problem:  # the edge of the loop: a defect must not end the writer
            log.error("reconciliation failed", bridge=self.switch.name, exc_info=problem)
            self._failed(problem)
        self._tell()
        return self.verified.failure is None

    def _failed(self, problem: Exception) -> None:
        self._installed = None
        self.fail(str(problem) or repr(problem))
        log.warning("bridge not verified", bridge=self.switch.name, reason=str(problem))
        self._tell()

    def _reconcile(self, snapshot: Snapshot) -> None:
        flows = compile_bridge(self.dpid, snapshot.survey)
        foreign = self.verified.foreign
        if self._installed is None:
            self._installed = {flow.key: flow for flow in self.switch.our_flows()}
            foreign = self.switch.count_foreign()
        todo = plan(flows, self._installed.values())
        rejected: tuple[Rejected, ...] = ()
        if todo:
            installed, self._installed = self._installed, None
            rejected = self.switch.apply(todo)
            self._installed = _after(installed, todo, rejected)
            self.plans += 1
            log.info(
                "plan applied", bridge=self.switch.name, added=len(todo.add),
                removed=len(todo.remove), kept=todo.kept, rejected=len(rejected),
            )  # fmt: skip
        standings = frozenset(snapshot.survey.served)
        self.is_unsettled |= bool(self.verified.standings - standings) or bool(
            self.verified.version == 0 and todo.remove
        )
        served = frozenset(
            flow.owner
            for flow in flows
            if flow.owner != PRODUCTION and flow.table == DELIVER.number
        )
        self.verified = Verified(
            snapshot.version, served, standings, rejected, foreign, len(self._installed)
        )

    def state(self) -> tuple[State, tuple[str, ...]]:
        """The standing of the bridge, with reasons."""
        seen = self.verified
        if seen.failure is not None:
            return State.DEGRADED, (seen.failure,)
        if seen.version == 0:
            return State.PENDING, ("its flows are not verified yet",)
        reasons = [f"it refused a flow ({r.flow}): {r.reason}" for r in seen.rejected]
        if seen.foreign:
            reasons.append(
                f"{seen.foreign} flows are not ours: they may break isolation; see "
                f"`ovs-ofctl -O OpenFlow13 dump-flows {self.switch.name}`"
            )
        return (State.DEGRADED if reasons else State.ACTIVE), tuple(reasons)


def _after(
    installed: dict[FlowKey, Installed], todo: Plan, rejected: tuple[Rejected, ...]
) -> dict[FlowKey, Installed]:
    """What the bridge has after a plan, without asking it."""
    gone = {flow.key for flow in todo.remove}
    refused = {r.flow.key for r in rejected}
    left = {key: flow for key, flow in installed.items() if key not in gone}
    for flow in todo.add:
        if flow.key not in refused:
            left[flow.key] = Installed(flow.table, flow.priority, flow.match, flow.cookie)
    return left

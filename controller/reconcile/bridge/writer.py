"""One bridge and its one writer: a thread that brings the bridge to what the world asks for."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cache

import structlog

from controller.reconcile.bridge.early_install import Ahead
from controller.reconcile.snapshot import Snapshot
from controller.reconcile.bridge.drift import Drifts, is_drift
from controller.process.metrics import APPLY_SECONDS, DRIFTS, PLANS
from controller.process.garbage import making_what_stays
from controller.reconcile.protocols import Holdings
from controller.reconcile.bridge.programs import Programs
from controller.southbound.errors import Displaced, NotOurs, SwitchGone, SwitchUnfit
from controller.southbound.switch import Rejected, Switch
from controller.status.session_counters import Tally
from controller.process.time_slices import TURNS
from controller.reconcile.bridge.confirmed import Depth, Done, Verified, copying, find_hindrances, sessions_of
from flows.compile import Outlet, Program
from flows.plan.plan import (
    Delta,
    Installed,
    Mark,
    Plan,
    Scan,
    Wanted,
    had_after,
    plan_from_delta,
    plan_from_scan,
    scan_of,
    wanted_of,
)
from flows.errors import CloudtapError
from flows.openflow.flow import Flow
from flows.plan.meters import Meter, meters_after, plan_meters
from flows.model.session import Dpid
from flows.pipeline.tables import BRIDGE_METER

Find = Callable[[], Wanted]
RETRY_S = 2.0
"""Seconds after which a bridge that failed is tried again."""
DOUBLED_MAX = 5
"""So often at most the wait is doubled, while two controllers displace each other."""

log = structlog.get_logger(__name__)


class BridgeWriter:
    """Brings one connected bridge to each new version of the world, until it is stopped.

    ``greet`` is called first: it looks at the bridge, and refuses one that is not fit. ``ready``
    is waited for before the first change; ``tell`` is called after every attempt, with the bridge
    when it was taken back from another controller.
    ``tally`` outlives the connection. What the bridge has is read from it once, then kept in
    mind; ``recheck`` reads it again. ``holdings`` is told before a session's flows are sent, and
    when the data path has let go of them.
    """

    def __init__(
        self,
        switch: Switch,
        snapshot: Callable[[], Snapshot],
        greet: Callable[[Switch], None],
        ready: threading.Event,
        tell: Callable[[Dpid | None], None],
        tally: Tally,
        holdings: Holdings,
        programs: Programs,
    ) -> None:
        self.switch = switch
        self._snapshot, self._greet, self._ready, self._tell = snapshot, greet, ready, tell
        self._holdings, self._programs = holdings, programs
        self._is_greeted = False
        self._wake = threading.Event()
        self._is_stopped = False
        self._lock = threading.Lock()
        self._depth: Depth | None = None
        self._working_on: int | None = None
        self._had: dict[Mark, Flow | Installed] | None = None
        self._meters: Mapping[int, Meter | None] | None = None
        self._program: Program | None = None
        self._is_followed = False
        self._is_taken_back = False
        self._displacements = 0
        self.tally, self.counters = tally, tally.wanted
        self.verified = Verified()
        self.drifts = Drifts()
        self.plans = self.errors = 0
        self.is_ours = True
        """Whether the configuration lets us write to this bridge."""
        self._begun = 1  # what another controller did before counts as the first plan
        self.done = Done()
        """What is in the tables now; give it to ``settle`` when the data path follows."""
        self.settled = Done()
        """How far the data path is known to follow the tables."""
        self._thread = threading.Thread(target=self._run, name=f"bridge {switch.name}", daemon=True)

    @property
    def dpid(self) -> Dpid:
        """The datapath id of the bridge."""
        return self.switch.dpid

    @property
    def is_greeted(self) -> bool:
        """Whether it was found to be ours and fit."""
        return self._is_greeted and self.is_ours

    @property
    def is_ready(self) -> bool:
        """Whether enough is known of the world to write to it."""
        return self._ready.is_set()

    @property
    def meters(self) -> Mapping[int, Meter | None] | None:
        """What meters it has; None while that is not known."""
        return self._meters

    @property
    def is_capped(self) -> bool:
        """Whether it has a meter of all copies together."""
        return BRIDGE_METER in (self._meters or ())

    @property
    def is_unsettled(self) -> bool:
        """Whether the data path's cache may not follow the last plan yet."""
        return self.settled.plan != self._begun

    @property
    def is_due(self) -> bool:
        """Whether the world has changed and nothing was done about it yet."""
        return self._wake.is_set()

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def wake(self) -> None:
        """Say that the world has changed."""
        self._wake.set()

    def recheck(self, depth: Depth) -> None:
        """Read again what the bridge has, and repair what is not as it should be."""
        with self._lock:
            self._depth = max(depth, self._depth or depth)
        self._wake.set()

    def stop(self) -> None:
        """Write no more; the flows stay as they are."""
        with self._lock:  # what it notes of the bridge, it has noted
            self._is_stopped = True
        self._wake.set()

    def fail(self, reason: str) -> None:
        """Count an error that happened elsewhere on behalf of this bridge."""
        self.errors += 1
        self.verified = replace(self.verified, failure=reason)

    def has_tried(self, version: int) -> bool:
        """Whether it has brought the bridge to this version of the world, or failed to."""
        return self.verified.version >= version or self.verified.failure is not None

    def has_verified(self, version: int) -> bool:
        """Whether the bridge is all that this version asks for, its data path included."""
        seen = self.verified
        is_whole = seen.failure is None and not seen.rejected
        return is_whole and seen.version >= version and not self.is_unsettled

    def may_bring_back(self, version: int) -> bool:
        """Whether it is at work on an older version, and so may send what this one forbids."""
        at_work = self._working_on
        return at_work is not None and at_work < version

    def settle(self, done: Done) -> None:
        """The data path follows the tables as they were."""
        with self._lock:
            if done.plan < self.settled.plan or self._is_stopped:
                return
            self.settled = done
            if done.plan == self._begun:
                self._note(self._holdings.replace, done.holding)

    def _run(self) -> None:
        pause: float | None = None
        while not self._is_stopped and self.is_ours:
            self._wake.wait(pause)
            self._wake.clear()
            if not self._is_stopped:
                pause = None if self._attempt() else self._pause_s
        if self._program is not None:
            self._programs.put(self._program)

    def _attempt(self) -> bool:
        """One reconciliation; whatever goes wrong is counted, said, and tried again."""
        self._is_taken_back = False
        try:
            if not self._is_greeted:
                self._greet(self.switch)
                self._is_greeted = True
            self._ready.wait()
            if self._is_stopped:
                return True
            self._working_on = 0
            snapshot = self._snapshot()
            self._working_on = snapshot.version
            depth = self._depth
            try:
                self._reconcile(snapshot)
            except Displaced as problem:
                self._displaced(problem, depth)
                self._reconcile(snapshot)
            self._displacements = 0
        except (SwitchUnfit, NotOurs) as problem:
            self.is_ours = not isinstance(problem, NotOurs)
            self._failed(problem)
            return True
        except CloudtapError as problem:
            self._failed(problem)
        except Exception as problem:  # the edge of the loop: a defect must not end the writer
            log.error("reconciliation failed", bridge=self.switch.name, exc_info=problem)
            self._failed(problem)
        finally:
            self._working_on = None
        self._tell(self.dpid if self._is_taken_back else None)
        return self.verified.failure is None

    def _displaced(self, problem: Displaced, depth: Depth | None) -> None:
        """Its flows are another's now: begin with what is there, unless a successor does that."""
        log.warning("bridge displaced", bridge=self.switch.name, reason=str(problem))
        if self._is_stopped:
            raise SwitchGone(self.switch.name, "be taken back")
        self._displacements += 1
        with self._lock:
            self._depth = max(Depth.COOKIES, depth or Depth.COOKIES, self._depth or Depth.COOKIES)

    @property
    def _pause_s(self) -> float:
        """Two who displace each other try ever more seldom, and not in step: one gets through."""
        doubled = max(0, min(self._displacements - 1, DOUBLED_MAX))
        return RETRY_S * (1 << doubled) * random.uniform(1, 1.5)

    def _failed(self, problem: Exception) -> None:
        self._forget()
        self.fail(str(problem) or repr(problem))
        if not self._is_stopped:
            log.warning("bridge not verified", bridge=self.switch.name, reason=str(problem))
        self._tell(None)

    def _reconcile(self, snapshot: Snapshot) -> None:
        seen = self.verified
        if seen.version == snapshot.version and seen.failure is None and self._depth is None:
            return  # woken twice for one change: what was refused is not offered again for that
        was_followed, self._is_followed = self._is_followed, False
        # one that fails half-way is compiled anew: nobody has it then
        program, self._program = self._program or self._programs.take(self.dpid), None
        program.has_meters = self.switch.has_meters
        if was_followed and self._depth is None:
            delta = self._compile(snapshot, program)
            self._follow(snapshot, program, plan_from_delta(delta, len(program.flows)))
        else:
            self._compare(snapshot, program)

    def _compile(self, snapshot: Snapshot, program: Program, outlet: Outlet | None = None) -> Delta:
        """Bring a program to what the world asks for."""
        staying = nullcontext() if program.flows else making_what_stays()
        with TURNS.taken(), staying:
            delta = program.update(snapshot.survey, TURNS.pause, outlet)
        self._program = program
        return delta

    def _follow(self, snapshot: Snapshot, program: Program, todo: Plan) -> None:
        """Send what has changed to a bridge that has all that it should have had before."""
        self._had = None
        todo = self._with_meters(program, todo)
        rejected = self._apply(todo, copying(todo.add)) if todo else ()
        if rejected:
            self._compare(snapshot, program)
            return
        self._verify(snapshot, program.served, program.served, (), len(program.flows))

    def _compare(self, snapshot: Snapshot, program: Program) -> None:
        """Bring a bridge to what it should have, whatever it has."""
        is_recheck = self._depth is not None and self.verified.version == snapshot.version

        @cache
        def wanted() -> Wanted:
            if self._program is None:
                self._compile(snapshot, program)
            with TURNS.taken():
                return wanted_of(program.flows)

        seen, foreign = self._look(wanted, snapshot, program)
        desired = wanted()
        with TURNS.taken():
            todo = plan_from_scan(desired, seen)
        todo = self._with_meters(program, todo)
        has_drifted = is_recheck and is_drift(todo, self.verified.rejected)
        has_drifted = has_drifted or self._is_taken_back
        rejected = self._apply(todo, program.served) if todo else ()
        if has_drifted:
            self.drifts.note()
            DRIFTS.labels(self.switch.name).inc()
            how = "bridge taken back" if self._is_taken_back else "flows had drifted"
            log.warning(how, bridge=self.switch.name)
        refused = [r.flow for r in rejected if not isinstance(r.flow, Meter)]
        had = had_after(desired, seen, todo, refused)
        self._had = None if desired.alike else had
        self.verified = replace(self.verified, foreign=foreign)
        self._verify(snapshot, program.served, sessions_of(had), rejected, len(had))

    def _verify(
        self, snapshot: Snapshot, served: frozenset[int], holding: frozenset[int],
        rejected: tuple[Rejected, ...], flows: int,
    ) -> None:  # fmt: skip
        with TURNS.taken():
            hindrances = find_hindrances(self.dpid, snapshot.survey, served, rejected, TURNS.pause)
        with self._lock:
            self.done = Done(self._begun, holding, snapshot.survey)
            if not self.is_unsettled:  # no plan was needed: nothing to let go of
                self.settled = self.done
        self.verified = Verified(
            snapshot.version, served, snapshot.survey, rejected, self.verified.foreign, flows,
            hindrances=hindrances,
        )  # fmt: skip
        self._is_followed = not rejected

    def _look(self, wanted: Find, snapshot: Snapshot, program: Program) -> tuple[Scan, int]:
        """What the bridge has of ours, without what was altered, and the number of others."""
        with self._lock:
            depth, self._depth = self._depth, None
        if depth is None and self._had is not None:
            return scan_of(wanted(), self._had), self.verified.foreign
        self._is_taken_back = self.switch.lead()
        self._meters = self.switch.our_meters()
        count = self.switch.count_flows()
        is_bare = not (program.flows or count.ours)
        seen = self._send_ahead(wanted, snapshot, program) if is_bare else None
        if seen is None:
            seen = self.switch.scan(lambda: wanted().marks)
        if depth is Depth.ACTIONS:  # what was altered is to be written again
            seen = seen.without(self.switch.altered(program.flows))
        return seen, count.foreign

    def _send_ahead(self, wanted: Find, snapshot: Snapshot, program: Program) -> Scan | None:
        """Compile for a bridge that has nothing; what it has got meanwhile, if it has."""
        with Ahead(self.switch, self.note_plan) as ahead:
            self._compile(snapshot, program, ahead)
            marks = wanted().marks
        self.plans += bool(ahead.taken)
        PLANS.labels(self.switch.name).inc(bool(ahead.taken))
        with TURNS.taken():
            return Scan(ahead.known(marks, TURNS.pause)) if ahead.taken else None

    def _apply(self, todo: Plan, served: frozenset[int]) -> tuple[Rejected, ...]:
        meters = self._meters or {}
        self._forget()  # not known until the switch has answered
        self.note_plan(served)
        with APPLY_SECONDS.time():
            rejected = self.switch.apply(todo)
        self.plans += 1
        PLANS.labels(self.switch.name).inc()
        log.info(
            "plan applied", bridge=self.switch.name, added=len(todo.add),
            removed=len(todo.remove), kept=todo.kept, rejected=len(rejected),
        )  # fmt: skip
        refused = [r.flow for r in rejected if isinstance(r.flow, Meter)]
        self._meters = meters_after(meters, todo.meters, refused)
        return rejected

    def note_plan(self, served: frozenset[int]) -> None:
        """Remember that these sessions may be on the bridge; raises SwitchGone once stopped."""
        with self._lock:
            if self._is_stopped:
                raise SwitchGone(self.switch.name, "take a plan")
            self._begun += 1
            self._note(self._holdings.add, served)

    def _with_meters(self, program: Program, todo: Plan) -> Plan:
        """A plan of flows with what their meters need."""
        meters = plan_meters(program.meters, self._meters or {})
        return replace(todo, meters=meters) if meters else todo

    def _forget(self) -> None:
        """What the bridge has is read again before the next plan."""
        self._had = self._meters = None

    def _note(
        self, change: Callable[[Dpid, Iterable[int]], None], sessions: frozenset[int]
    ) -> None:
        try:
            change(self.dpid, sessions)
        except CloudtapError as problem:  # isolation must not wait until a disk has room again
            log.warning("sessions of bridge not stored", reason=str(problem))

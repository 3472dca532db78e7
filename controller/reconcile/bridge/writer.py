"""The one writer of a bridge: a thread that reconciles it with the desired state.

Each attempt takes a snapshot, brings the program (the compiled flows) to it, plans the difference
to what is installed, applies the plan, and confirms it. The phases are those of ``state.py``.
Rules of filters that nothing refers to are sent between attempts, in parts.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Protocol

import structlog

from controller.process import DRIFTS, PLANS, TIME_SLICES, building_permanent_objects
from controller.reconcile.bridge.confirmed import (
    AppliedPlan,
    Confirmed,
    WriterView,
    copied_sessions,
    copied_sessions_of_marks,
    find_blockers,
    find_preempted,
)
from controller.reconcile.bridge.drift import Drift, contested_reason, is_drift
from controller.reconcile.bridge.early_install import EarlyInstall
from controller.reconcile.bridge.installed import Installed
from controller.reconcile.bridge.program_cache import ProgramCache
from controller.reconcile.bridge.state import TRANSITIONS, Depth, Phase, WriterState
from controller.reconcile.bridge.turns import STAGE_S, Turns, TurnStep
from controller.reconcile.bridge.unreferenced import UnreferencedRules
from controller.reconcile.protocols import InstalledSessions
from controller.reconcile.snapshot import Snapshot
from controller.southbound import (
    Displaced,
    FragmentsMatched,
    NotOurs,
    Rejected,
    Switch,
    SwitchGone,
    SwitchUnfit,
    refusals,
)
from controller.status import SessionCounters, State
from flows.compile import (
    NOTHING_HELD,
    NOTHING_READY,
    FlowSink,
    Held,
    Program,
    RulesAhead,
    Stages,
    in_stages,
    without_epoch,
)
from flows.errors import CloudtapError
from flows.model import CopyWay, Dpid, FilterId, SessionId
from flows.plan import (
    NO_OVERLAP,
    Delta,
    DesiredFlows,
    InstalledFlows,
    Meter,
    Overlap,
    Plan,
    desired_flows_of,
    installed_after,
    installed_flows_of,
    plan_from_delta,
    plan_from_scan,
    plan_meters,
)
from flows.resolve import ResolvedWorld

RETRY_S = 2.0
"""Seconds after which a bridge that failed is tried again."""
DOUBLED_MAX = 5
"""How often at most that pause is doubled, while two controllers displace each other."""
PLAN_LOOK_S = 0.005
"""How often one who waits for the end of a plan looks, in seconds."""

NO_FRAGMENTS = (
    "it does not let IP fragments match ports (fragment mode nx-match): filter rules with ports, "
    "ICMP types or TCP flags do not match the first fragment of a packet here"
)

log = structlog.get_logger(__name__)


class WriterObserver(Protocol):
    """Who waits for attempts of writers; called by their threads, without any lock."""

    def begin(self, writer: BridgeWriter, newest: Snapshot) -> Snapshot:
        """Have a writer begin with a version of the world (``BridgeWriter.begin``); returns that.

        It is one that linked bridges are brought to and this one was not, else the newest.
        """
        ...

    def attempt_ended(self) -> None:
        """A writer has confirmed a bridge, or failed to."""
        ...

    def bridge_taken_back(self, dpid: Dpid) -> None:
        """This controller is the master again of a bridge that another one had taken over."""
        ...

    def wait_for_others(self, writer: BridgeWriter, step: TurnStep) -> Sequence[BridgeWriter]:
        """Tell that a writer has come to a step, and wait until those of linked bridges have.

        Returns those; for a bridge that hangs it does not wait longer than a bound.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class WriterContext:
    """What the writers of one controller share.

    ``snapshot`` returns the newest snapshot. ``adopt`` looks at a bridge that has connected, and
    raises NotOurs or SwitchUnfit (see Adoption). ``ready`` is set once the inventory is known.
    ``installed_sessions`` is updated before a session's flows are sent, and once the datapath no
    longer uses megaflows that make copies of the others. ``needs_epoch`` tells whether the datapath
    of a bridge may keep stale megaflows, so that its plans must have all of them made again.
    ``settle`` waits until the datapaths of bridges follow their flow tables. ``counters`` returns
    those of the bridge that has a datapath id now.
    """

    snapshot: Callable[[], Snapshot]
    adopt: Callable[[Switch], None]
    ready: threading.Event
    observer: WriterObserver
    installed_sessions: InstalledSessions
    programs: ProgramCache
    needs_epoch: Callable[[Switch], bool]
    settle: Callable[[Sequence[BridgeWriter], float], bool]
    counters: Callable[[Dpid], SessionCounters]


class BridgeWriter:
    """Reconciles one connected bridge with each new snapshot, until it is stopped.

    What the switch has is read once, and known from then on; ``recheck`` reads it again.
    ``session_counters`` outlive the connection.
    """

    def __init__(
        self, switch: Switch, session_counters: SessionCounters, context: WriterContext
    ) -> None:
        self.switch, self._context = switch, context
        self.session_counters = session_counters
        self.state = WriterState()
        self.installed = Installed()
        self.confirmed = Confirmed()
        self.drift = Drift()
        self.plans = self.errors = 0
        self._unreferenced = UnreferencedRules(switch)
        self._turns = Turns(switch, self.installed, session_counters, context.needs_epoch)
        self._program: Program | None = None
        self._at_work: Snapshot | None = None
        self.wakeup = threading.Event()
        """Set when something has changed; subscribed to the signal of changes."""
        self._lock = threading.Lock()  # never held by who waits for a time slice or a switch
        self._thread = threading.Thread(target=self._run, name=f"bridge {switch.name}", daemon=True)

    @property
    def dpid(self) -> Dpid:
        """The datapath id of the bridge."""
        return self.switch.dpid

    @property
    def _labels(self) -> tuple[str, str]:
        """Name and datapath id, for metrics."""
        return self.switch.name, f"{self.dpid:016x}"

    @property
    def is_ours(self) -> bool:
        """Whether the configuration lets us write to this bridge, as far as that is known."""
        return self.state.phase is not Phase.FOREIGN

    @property
    def is_adopted(self) -> bool:
        """Whether it was found to be ours and fit."""
        return self.state.is_adopted

    @property
    def is_verified(self) -> bool:
        """Whether this connection has brought it to a version of the world, and nothing has failed
        since.
        """
        return self.confirmed.version > 0 and self.confirmed.failure is None

    @property
    def ways(self) -> frozenset[CopyWay] | None:
        """The ways by which it lets copies from others pass; None if that is not certain."""
        is_certain = self.state.phase is Phase.CONFIRMED and not self.confirmed.rejected
        return self.confirmed.ways if is_certain and self.is_verified else None

    @property
    def meters(self) -> Mapping[int, Meter | None] | None:
        """What meters it has; None while that is not known."""
        return self.installed.meters

    @property
    def is_capped(self) -> bool:
        """Whether it has a meter of all copies together."""
        return self.installed.is_capped

    @property
    def applied(self) -> AppliedPlan:
        """What is in the flow tables; for ``note_settled`` once the datapath follows it."""
        return self.installed.applied

    @property
    def settled(self) -> AppliedPlan:
        """What the datapath is known to follow."""
        return self.installed.settled

    @property
    def is_unsettled(self) -> bool:
        """Whether megaflows of the datapath may still follow an earlier plan."""
        return self.installed.is_unsettled

    @property
    def has_unreferenced(self) -> bool:
        """Whether it has rules of filters that nothing refers to, which come or go."""
        return len(self._unreferenced) > 0

    @property
    def is_due(self) -> bool:
        """Whether something has changed and no attempt has begun since."""
        return self.wakeup.is_set()

    def view(self, *, is_connected: bool) -> WriterView:
        """What is known of the bridge now."""
        state, reasons = self._status()
        return WriterView(
            self.dpid, self.switch.name, self.confirmed, self.settled.resolved, state, reasons,
            self.plans, self.errors, self.session_counters, is_connected, self.drift.is_contested,
            self.installed.certain,
        )  # fmt: skip

    def start(self) -> None:
        """Start the thread; the first attempt begins with the first ``wake``."""
        self._thread.start()

    def wake(self) -> None:
        """Something has changed: compare with a new snapshot."""
        self.wakeup.set()

    def recheck(self, depth: Depth) -> None:
        """Read again what the bridge has, and repair what is not as it should be."""
        with self._lock:
            self.state = self.state.rereading(depth)
        self.wakeup.set()

    def recheck_at_rest(self, depth: Depth) -> None:
        """The same, once no rules come or go that nothing refers to: others need not wait then.

        It is put off once: a bridge with new rules all the time is read all the same.
        """
        with self._lock:
            self.state = self.state.rereading_at_rest(depth)
        self.wakeup.set()

    def nudge(self, most_s: float = math.inf) -> None:
        """Make the revalidators of its datapath begin a round now; see Switch.nudge.

        Raises:
            CloudtapError: the switch does not do it. If another controller is its master, what it
                has is read again.
        """
        try:
            self.switch.nudge(most_s)
        except Displaced:
            self.recheck(Depth.COOKIES)
            raise

    def stop(self) -> None:
        """Write no more; the flows stay as they are. Nothing is stored when this has returned."""
        with self._lock:
            if not self.state.is_final:
                self.state = self.state.enter(Phase.STOPPED)
        self.wakeup.set()

    def fail(self, reason: str) -> None:
        """Count an error that happened elsewhere on behalf of this bridge."""
        with self._lock:
            self._note_failure(reason)
            if self.state.phase is Phase.CONFIRMED:
                self.state = self.state.enter(Phase.FAILED)

    def has_tried(self, version: int, sessions: Set[SessionId] | None = None) -> bool:
        """Whether it has reconciled the bridge with this version of the world, or failed to.

        ``sessions`` are those that matter; None: all.
        """
        return self.confirmed.covers(version, sessions) or self.confirmed.failure is not None

    def has_confirmed(self, version: int, sessions: Set[SessionId] | None = None) -> bool:
        """Whether the bridge has all that this version asks for, and its datapath follows.

        ``sessions`` are those that matter; None: all.
        """
        seen = self.confirmed
        is_whole = seen.failure is None and not seen.rejected
        return is_whole and seen.covers(version, sessions) and not self.is_unsettled

    def is_concerned(self, resolved: ResolvedWorld) -> bool:
        """Whether its flows in this world may differ from those that it has confirmed last.

        A bridge that has confirmed nothing yet is concerned if ports of this world are on it; one
        that has refused something is offered that again.
        """
        seen = self.confirmed
        if seen.resolved is None:
            return self.dpid in resolved.world.ports_by_dpid
        if seen.rejected or seen.held:
            return True
        return resolved.concerns(seen.resolved, self.dpid)

    @property
    def at_work(self) -> Snapshot | None:
        """What the bridge is being brought to; None between attempts, and until one is taken."""
        version, snapshot = self.state.version, self._at_work
        return snapshot if snapshot is not None and snapshot.version == version else None

    def may_write_older(self, version: int) -> Set[SessionId] | None:
        """The sessions whose copies it may still install for an older version; None: any."""
        at_work, snapshot = self.state.version, self._at_work
        if at_work is None or at_work >= version:
            return frozenset()
        is_known = snapshot is not None and snapshot.version == at_work
        return snapshot.resolved.sessions_at(self.dpid) if snapshot and is_known else None

    def begin(self, snapshot: Snapshot) -> None:
        """The attempt that has begun brings the bridge to this snapshot."""
        with self._lock:
            self._at_work = snapshot
            self.state = self.state.at_work_on(snapshot.version)
            if not self.has_unreferenced:
                self.state = self.state.at_rest()

    def note_settled(self, applied: AppliedPlan) -> None:
        """The datapath follows the flow tables as they were after this plan."""
        with self._lock:
            if self.state.phase is Phase.STOPPED:
                return
            copied = self.installed.settle(applied)
            if copied is not None:
                self._store(self._context.installed_sessions.replace, copied)

    @contextmanager
    def undisturbed(self, timeout_s: float) -> Iterator[ResolvedWorld | None]:
        """Inside, no plan is sent: what the flow tables were compiled from.

        None: a plan is still under way after so many seconds, or has failed.
        """
        deadline, sending = time.monotonic() + timeout_s, self._turns.sending
        sending.acquire()
        while self.installed.certain is None and time.monotonic() < deadline:
            sending.release()  # the next part of the plan is sent, or it is confirmed
            time.sleep(PLAN_LOOK_S)
            sending.acquire()
        try:
            yield self.installed.certain if self.confirmed.failure is None else None
        finally:
            sending.release()

    def note_plan(self, sessions: frozenset[int]) -> None:
        """A plan that makes copies of these sessions is going to be sent.

        Raises:
            SwitchGone: the writer was stopped.
        """
        with self._lock:
            self._check_not_stopped()
            self.installed.begin_plan(sessions)
            self._store(self._context.installed_sessions.add, sessions)

    def _check_not_stopped(self) -> None:
        if self.state.phase is Phase.STOPPED:
            raise SwitchGone(self.switch.name, "take a plan")

    # --- the loop -----------------------------------------------------------------------------

    def _run(self) -> None:
        pause: float | None = None
        while not self.state.is_final:
            is_due = self.wakeup.wait(pause) or not self._unreferenced.has_part
            self.wakeup.clear()
            if is_due and self._may_go_on:
                self._survive(self._attempt)
            if self._unreferenced.has_part and self._may_go_on:
                self._survive(self._send_part)
            if not self.state.is_final:
                has_failed = self.state.phase is Phase.FAILED
                pause = retry_pause(self.state.displacements) if has_failed else None
                pause = 0.0 if self._unreferenced.has_part and self._may_go_on else pause
        if self._program is not None:
            self._context.programs.put(self._program)

    @property
    def _may_go_on(self) -> bool:
        """Whether it makes sense to send something to the bridge."""
        return not self.state.is_final and self.state.phase is not Phase.GONE

    def _survive(self, step: Callable[[], None]) -> None:
        """Take a step; to say what went wrong in it may go wrong as well, and must not end this."""
        try:
            step()
        except Exception as problem:
            with self._lock:
                if Phase.FAILED in TRANSITIONS[self.state.phase]:
                    self.state = self.state.enter(Phase.FAILED)
                    self._note_failure(str(problem) or repr(problem))
            self._context.observer.attempt_ended()

    def _attempt(self) -> None:
        """One attempt; whatever goes wrong is counted, logged, and tried again."""
        try:
            if not (self._is_prepared() and self._enter(Phase.RECONCILING)):
                return  # stopped meanwhile
            self._reconcile()
        except NotOurs as problem:
            self._end(Phase.FOREIGN, problem)
        except SwitchUnfit as problem:
            self._end(Phase.UNFIT, problem)
        except SwitchGone as problem:
            self._end(Phase.GONE, problem)
        except CloudtapError as problem:
            self._end(Phase.FAILED, problem)
        except Exception as problem:  # the edge of the loop: a defect must not end the writer
            self._end(Phase.FAILED, problem)
            log.error("reconciliation failed", bridge=self.switch.name, exc_info=problem)
        else:
            self._end(Phase.CONFIRMED)
        self._context.observer.attempt_ended()

    def _send_part(self) -> None:
        """Send a part of the rules that nothing refers to; have the bridge read if that fails."""
        self.installed.note_flows(None)
        try:
            is_taken = not self._unreferenced.send_part(self._check_not_stopped)
        except Exception as problem:  # the attempt that follows says what is wrong
            log.info("rules not sent", bridge=self.switch.name, reason=str(problem))
            is_taken = False
        if not is_taken:
            self._unreferenced.clear()
            self.installed.forget()
            self.recheck(Depth.COOKIES)
            return
        if not self._unreferenced.has_part:
            self.wakeup.set()  # what was held can follow
        with self._lock:
            self.confirmed = replace(self.confirmed, flows=self._flow_count)

    @property
    def _flow_count(self) -> int:
        """How many flows of ours a bridge has that follows its program."""
        program = 0 if self._program is None else len(self._program.flows)
        return program + len(self._unreferenced)

    def _is_prepared(self) -> bool:
        """Adopt the bridge, and wait until it may be written to; False when stopped meanwhile."""
        if not self.is_adopted:
            if not self._enter(Phase.ADOPTING):
                return False
            self._context.adopt(self.switch)
        if not self._enter(Phase.WAITING):
            return False
        self._context.ready.wait()
        return True

    def _enter(self, phase: Phase) -> bool:
        """Enter the next phase; False when the writer was stopped meanwhile."""
        with self._lock:
            if self.state.phase is Phase.STOPPED:
                return False
            self.state = self.state.enter(phase)
            return True

    def _end(self, phase: Phase, problem: Exception | None = None) -> None:
        """End an attempt; an event that failed meanwhile (see ``fail``) makes it fail too."""
        with self._lock:
            is_stopped = self.state.phase is Phase.STOPPED
            has_failed = phase is Phase.CONFIRMED and self.confirmed.failure is not None
            if not is_stopped:
                self.state = self.state.enter(Phase.FAILED if has_failed else phase)
            if problem is not None:
                self._note_failure(str(problem) or repr(problem))
        if problem is not None and not is_stopped:
            log.warning("bridge not verified", bridge=self.switch.name, reason=str(problem))

    def _note_failure(self, reason: str) -> None:
        """Count a failure, and show its reason; with the lock held."""
        self.errors += 1
        self.confirmed = replace(self.confirmed, failure=reason)

    # --- one attempt --------------------------------------------------------------------------

    def _reconcile(self) -> None:
        """Take a snapshot and install its desired state; once more if displaced meanwhile."""
        newest = self._context.snapshot()
        snapshot = self._context.observer.begin(self, newest)
        if snapshot.version < newest.version:
            self.wakeup.set()  # the newest comes next
        reread = self.state.reread
        try:
            try:
                self._bring_to(snapshot)
            except Displaced as problem:
                self._read_again(problem, reread)
                self._bring_to(snapshot)
        except Exception:
            self._unreferenced.clear()
            self.installed.forget()
            raise

    def _read_again(self, problem: Displaced, reread: Depth | None) -> None:
        """Have everything read again: another controller may have changed any flow.

        Raises:
            SwitchGone: the writer was stopped; its successor reads the bridge.
        """
        name = self.switch.name
        if not self._enter(Phase.DISPLACED):
            raise SwitchGone(name, "be taken back")
        log.warning("bridge displaced", bridge=name, reason=str(problem))
        with self._lock:
            self.state = self.state.rereading(max(Depth.COOKIES, reread or Depth.COOKIES))
        if not self._enter(Phase.RECONCILING):
            raise SwitchGone(name, "be taken back")

    def _bring_to(self, snapshot: Snapshot) -> None:
        """Install the desired state of a snapshot and confirm it."""
        seen, is_known = self.confirmed, self.state.reread is None
        if is_known and seen.version == snapshot.version and seen.failure is None:
            return  # woken twice for one change: what was refused is not offered again for that
        # a program whose update fails half-way is dropped: it does not match what is installed
        program, self._program = self._program or self._context.programs.take(self.dpid), None
        program.has_meters = self.switch.has_meters
        if is_known and self.installed.is_as_compiled:
            self._follow(snapshot, program)
        else:
            self._compare(snapshot, program)

    def _follow(self, snapshot: Snapshot, program: Program) -> None:
        """Send what has changed to a bridge that has all flows of its program."""
        before = program.filters
        held, ready = self._unreferenced.hold(program, snapshot.resolved)
        if program.follows(snapshot.resolved, held) and not ready:
            self._program, delta = program, Delta()
        else:
            delta = self._compile(snapshot, program, held=held, ready=ready)
        todo = plan_from_delta(delta, len(program.flows))
        todo = self._with_meters(snapshot, program, todo)
        if not (todo or delta.left or self._unreferenced):
            self._confirm_as_known(snapshot, program)
            return
        stages = self._in_stages(todo, before, program, delta.overlap)
        self._unreferenced.leave(delta.left, stages.unused)
        check = self._check_not_stopped
        is_refused = bool(self._unreferenced.make_way(program.filters, check))
        if todo and not is_refused:
            made = copied_sessions(todo.add)
            is_refused = bool(self._apply(stages.without_unused(), made, snapshot))
        if is_refused:
            self.installed.note_flows(None)
            self._compare(snapshot, program)
            return
        self._confirm_as_known(snapshot, program)

    def _confirm_as_known(self, snapshot: Snapshot, program: Program) -> None:
        """Confirm a bridge that has all flows of its program."""
        seen = _Outcome(program.served, self._flow_count, self.confirmed.foreign)
        self._confirm(snapshot, program.served, seen)

    def _compare(self, snapshot: Snapshot, program: Program) -> None:
        """Send the difference between what a bridge has, read if not known, and should have."""
        is_recheck = self.state.reread is not None and self.confirmed.version == snapshot.version
        is_recheck = not self._unreferenced.clear() and is_recheck  # they are no drift

        @cache
        def desired_flows() -> DesiredFlows:
            if self._program is None or program.held_sessions:
                self._compile(snapshot, program)
            with TIME_SLICES.taken():
                return desired_flows_of(program.flows)

        found = self._find_installed(desired_flows, snapshot, program)
        desired = desired_flows()
        with TIME_SLICES.taken():
            todo = plan_from_scan(desired, found.flows)
        todo = self._with_meters(snapshot, program, todo)
        has_drifted = is_recheck and is_drift(todo, self.confirmed.rejected)
        stages = self._in_stages(todo, None, program)
        has_drifted = has_drifted or (is_recheck and found.has_other_fragments)
        is_epoch_due = self._is_epoch_due(found)
        rejected = (
            self._apply(stages, program.served, snapshot, is_epoch_due=is_epoch_due)
            if todo or is_epoch_due
            else ()
        )
        if has_drifted or found.was_displaced:
            self._note_drift(was_displaced=found.was_displaced)
        refused = [r.flow for r in rejected if not isinstance(r.flow, Meter)]
        after = installed_after(desired, found.flows, todo, refused)
        self.installed.note_flows(None if desired.alike else after)
        sessions = copied_sessions_of_marks(after)
        seen = _Outcome(sessions, len(after), found.foreign, rejected)
        self._confirm(snapshot, program.served, seen)

    def _compile(
        self,
        snapshot: Snapshot,
        program: Program,
        sink: FlowSink | None = None,
        held: Held = NOTHING_HELD,
        ready: Mapping[FilterId, RulesAhead] = NOTHING_READY,
    ) -> Delta:
        """Bring a program to what the snapshot asks for, except for what is held."""
        building = nullcontext() if program.flows else building_permanent_objects()
        with TIME_SLICES.taken(), building:
            delta = program.update(snapshot.resolved, TIME_SLICES.pause, sink, held, ready)
        self._program = program
        return delta

    def _find_installed(
        self, desired_flows: Callable[[], DesiredFlows], snapshot: Snapshot, program: Program
    ) -> _Found:
        """What the bridge has of ours, without what was altered; read from it if not known."""
        with self._lock:
            depth, self.state = self.state.reread, self.state.without_reread()
        if depth is None and self.installed.flows is not None:
            known = installed_flows_of(desired_flows(), self.installed.flows)
            return _Found(known, self.confirmed.foreign)
        was_displaced = self.switch.lead()
        if was_displaced:  # at once: if this attempt fails, the next one finds us master already
            self._context.observer.bridge_taken_back(self.dpid)
        self.installed.fragments = self.switch.match_first_fragments()
        self._read_meters(snapshot)
        count = self.switch.count_flows()
        self.installed.foreign = self.switch.foreign_flows() if count.foreign else ()
        is_bare = not (program.flows or count.ours)
        seen = self._install_early(desired_flows, snapshot, program) if is_bare else None
        if seen is None:
            seen = self.switch.scan(lambda: desired_flows().marks)
        seen, self.installed.epoch = without_epoch(seen)
        if depth is Depth.ACTIONS:  # what was altered is to be written again
            seen = seen.without(self.switch.altered(program.flows))
        has_changed = self.installed.fragments is FragmentsMatched.NOW
        return _Found(seen, count.foreign, was_displaced, has_changed)

    def _read_meters(self, snapshot: Snapshot) -> None:
        """Read which meters the bridge has; those that somebody else has altered lack counts."""
        before, now = self.installed.meters or {}, self.switch.our_meters()
        self.installed.note_meters(now)
        altered = [n for n, meter in before.items() if meter is not None and now.get(n) != meter]
        if altered:
            caps = {**self.confirmed.session_by_meter, **snapshot.session_by_meter}
            self.session_counters.note_altered(altered, caps)
            log.warning("meters had been altered", bridge=self.switch.name, meters=len(altered))

    def _install_early(
        self, desired_flows: Callable[[], DesiredFlows], snapshot: Snapshot, program: Program
    ) -> InstalledFlows | None:
        """Compile for a bridge that has no flows; what it took meanwhile, None if nothing."""
        with EarlyInstall(self.switch, self) as early:
            self._compile(snapshot, program, early)
            marks = desired_flows().marks
        self.plans += bool(early.installed)
        PLANS.labels(*self._labels).inc(bool(early.installed))
        with TIME_SLICES.taken():
            known = early.known(marks, TIME_SLICES.pause) if early.installed else None
        return None if known is None else InstalledFlows(known)

    def _with_meters(self, snapshot: Snapshot, program: Program, todo: Plan) -> Plan:
        """A plan of flows with the changes of meters that it needs.

        What meters have counted of a session stays on the switch until the session is deleted.
        """
        there = self.installed.meters or {}
        meters = plan_meters(program.meters, there, snapshot.is_counted_by)
        return replace(todo, meters=meters) if meters else todo

    def _is_epoch_due(self, found: _Found) -> bool:
        """Whether megaflows may be stale that no plan of ours has had made again."""
        is_new = found.has_other_fragments or not self.installed.epoch.flows
        return is_new and self._context.needs_epoch(self.switch)

    def _in_stages(
        self,
        todo: Plan,
        referred_before: frozenset[int] | None,
        program: Program,
        overlap: Overlap = NO_OVERLAP,
    ) -> Stages:
        """A plan in parts that each keep the bridge busy for a short time only."""
        with TIME_SLICES.taken():
            return in_stages(todo, referred_before, program.filters, TIME_SLICES.pause, overlap)

    def has_reached(self, step: TurnStep) -> bool:
        """Whether those who wait for this step need not wait for this writer (any more)."""
        seen, now = self.confirmed, self._turns.step
        is_at_work = seen.failure is None and self.state.phase in (
            Phase.CONFIRMED,
            Phase.WAITING,
            Phase.RECONCILING,
        )
        # at an early stage of a later version it may have none of this one
        is_there = now.version >= step.version and now.stage >= step.stage
        return not is_at_work or is_there or seen.covers(step.version, frozenset())

    def wait_for_others(self, step: TurnStep, *, settled: bool) -> None:
        """Wait for the writers of linked bridges, and for their datapaths; see TurnTaker."""
        others = self._context.observer.wait_for_others(self, step)
        if settled and others:
            self._context.settle([self, *others], STAGE_S)

    def _apply(
        self,
        stages: Stages,
        served: frozenset[int],
        snapshot: Snapshot,
        *,
        is_epoch_due: bool = False,
    ) -> tuple[Rejected, ...]:
        """Send a plan that makes copies of these sessions; what the switch refused of it."""
        caps = {**self.confirmed.session_by_meter, **snapshot.session_by_meter}
        rejected = self._turns.apply(
            self, stages, served, snapshot.version, caps, is_epoch_due=is_epoch_due
        )
        self._note_applied(stages, len(rejected))
        return rejected

    def _note_applied(self, stages: Stages, rejected: int) -> None:
        parts, kept = stages.parts, stages.main.kept
        self.plans += 1
        PLANS.labels(*self._labels).inc()
        log.info(
            "plan applied", bridge=self.switch.name, added=sum(len(p.add) for p in parts),
            removed=sum(len(p.remove) for p in parts), kept=kept, rejected=rejected,
        )  # fmt: skip

    def _note_drift(self, *, was_displaced: bool) -> None:
        """Somebody else has changed the bridge, or was its master."""
        self.drift.note()
        DRIFTS.labels(*self._labels).inc()
        how = "bridge taken back" if was_displaced else "flows had drifted"
        log.warning(how, bridge=self.switch.name)

    def _confirm(self, snapshot: Snapshot, served: frozenset[int], seen: _Outcome) -> None:
        """The switch has confirmed, after a barrier, what it took of this snapshot."""
        if self.session_counters.has_moved:  # and this is no connection that was closed meanwhile
            self.session_counters = self._turns.counters = self._context.counters(self.dpid)
        is_simple = not (seen.rejected or self.installed.foreign)
        with nullcontext() if is_simple else TIME_SLICES.taken():
            blockers = find_blockers(
                self.dpid, snapshot.resolved, served, seen.rejected, TIME_SLICES.pause
            )
            preempted = find_preempted(self.dpid, snapshot.resolved, served, self.installed.foreign)
        if not seen.rejected:
            self.installed.note_as_compiled()
        uncompilable = self._program.uncompilable if self._program is not None else {}
        if uncompilable and uncompilable != self.confirmed.uncompilable:
            number, why = next(iter(uncompilable.items()))
            log.error(
                "sessions not compiled", bridge=self.switch.name, sessions=len(uncompilable),
                number=number, reason=why,
            )  # fmt: skip
        held = self._program.held_sessions if self._program is not None else frozenset()
        with self._lock:
            self.installed.confirm(seen.sessions, snapshot.resolved)
            self.confirmed = Confirmed(
                self.confirmed.version if held else snapshot.version, served, snapshot.resolved,
                seen.rejected, seen.foreign, seen.flows, preempted, blockers=blockers,
                uncompilable=uncompilable, reached=snapshot.version, held=held,
                ways=None if self._program is None else self._program.ways,
            )  # fmt: skip

    def _status(self) -> tuple[State, tuple[str, ...]]:
        """The state of the bridge for people, with reasons."""
        seen = self.confirmed
        if seen.failure is not None:
            return (State.DEGRADED if self.is_ours else State.INACTIVE), (seen.failure,)
        if not self._context.ready.is_set():
            return State.PENDING, ("nothing is written to it before the inventory is known",)
        if seen.version == 0:
            return State.PENDING, ("its flows are not verified yet",)
        reasons = refusals(seen.rejected)
        if seen.uncompilable:
            some = sorted(set(seen.uncompilable.values()))[0]
            reasons.append(
                f"{len(seen.uncompilable)} sessions make no copies here, because their flows "
                f"cannot be compiled: {some}"
            )
        if seen.foreign:
            reasons.append(
                f"{seen.foreign} flows are not ours: they may break isolation; see "
                f"`ovs-ofctl -O OpenFlow13 dump-flows {self.switch.name}`"
            )
        if self.installed.fragments is FragmentsMatched.NOT:
            reasons.append(NO_FRAGMENTS)
        if self.drift.is_contested:
            reasons.append(contested_reason(self.switch.name))
        return (State.DEGRADED if reasons else State.ACTIVE), tuple(reasons)

    def _store(
        self, change: Callable[[Dpid, Iterable[int]], None], sessions: frozenset[int]
    ) -> None:
        """Store which sessions the bridge may make copies of; with the lock held."""
        try:
            change(self.dpid, sessions)
        except CloudtapError as problem:  # isolation must not wait until a disk has room again
            log.warning("sessions of bridge not stored", reason=str(problem))


def retry_pause(displacements: int) -> float:
    """Seconds until a bridge that failed is tried again.

    Two controllers that displace each other try ever more seldom, at random times: then one of
    them gets through.
    """
    doubled = max(0, min(displacements - 1, DOUBLED_MAX))
    return RETRY_S * (1 << doubled) * random.uniform(1, 1.5)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a bridge has: flows of ours, and how many others."""

    flows: InstalledFlows
    foreign: int
    was_displaced: bool = False
    """Whether another controller was its master."""
    has_other_fragments: bool = False
    """Whether its fragment mode was not ours: it matches other packets from now on."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a bridge has once a plan was applied, or none was needed."""

    sessions: frozenset[int]
    """Sessions with a copying flow."""
    flows: int
    foreign: int
    rejected: tuple[Rejected, ...] = ()

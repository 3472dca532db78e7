"""Installs flows on a bridge that has none while the others are still being compiled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence, Set
from queue import Queue
from types import TracebackType
from typing import Protocol

import structlog

from controller.process import BackgroundThread
from controller.reconcile.bridge.confirmed import copied_sessions
from controller.southbound import Switch
from flows.errors import CloudtapError
from flows.openflow import Flow
from flows.pipeline import COUNT
from flows.plan import Mark, need_meters

EARLY_MIN = 10_000
"""A bridge with fewer flows of production gets all its flows in one bundle: that is as soon."""
END_OF_STAGE: tuple[Flow, ...] = ()
"""Ends a stage in the queue; None ends everything, and gives up a stage that was not ended."""

log = structlog.get_logger(__name__)
Part = Sequence[Flow]


class PlanRecorder(Protocol):
    """Who records what may be on a bridge before it is sent."""

    def note_plan(self, sessions: frozenset[int]) -> None:
        """Flows that make copies of these sessions are going to be sent.

        Raises:
            SwitchGone: nothing may be sent any more.
        """
        ...


class EarlyInstall:
    """A sink of flows (FlowSink) that installs them on one switch from a thread of its own.

    Each stage is one bundle; production is the first. ``take`` never waits for the switch. Flows
    that need meters are left out with all that follow, because meters cannot be in a bundle; those
    that only count copies are left out alone.
    ``recorder`` gets each stage before the switch commits it; if it raises, the stage is
    given up.

    A context manager: at its end the switch has committed each stage or refused it, or it was
    given up. Then ``installed`` is the number of flows that the switch has, and ``has_all`` tells
    whether these are all that were taken. What the thread raised is raised there.
    """

    def __init__(self, switch: Switch, recorder: PlanRecorder, min_flows: int = EARLY_MIN) -> None:
        self.has_all = False
        self.installed = 0
        self._installed: list[Part] = []
        self._switch, self._recorder, self._min_flows = switch, recorder, min_flows
        self._parts: Queue[Part | None] = Queue()
        self._count = 0
        self._is_over = False
        self._problem: BaseException | None = None
        self._thread: BackgroundThread | None = None

    def __enter__(self) -> EarlyInstall:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._parts.put(None)
        if self._thread is not None:
            self._thread.wait()
        elsewhere, self._problem = self._problem, None
        if problem is None and elsewhere is not None:
            try:
                raise elsewhere
            finally:
                del elsewhere  # or exception and frame are a cycle that is never collected
        self.installed = sum(map(len, self._installed))
        self.has_all = 0 < self.installed == self._count

    def known(self, marks: Set[Mark], pause: Callable[[], None]) -> Set[Mark]:
        """Those of the marks of compiled flows that the switch has."""
        if self.has_all:
            return marks
        found = set[Mark]()
        for part in self._installed:
            found |= {flow.mark for flow in part}
            pause()
        return marks & found

    def take(self, flows: Part) -> None:
        """Queue flows; the first are sent once there are enough to be worth a bundle."""
        self._count += len(flows)
        flows = [flow for flow in flows if flow.table != COUNT.number]
        self._is_over = self._is_over or need_meters(flows)
        if self._is_over or flows:  # an empty part would end the stage
            self._parts.put(None if self._is_over else flows)
        time.sleep(0)  # let the thread send: the switch should not wait for flows
        if self._thread is None and not self._is_over and self._count >= self._min_flows:
            name = f"early install {self._switch.name}"
            self._thread = BackgroundThread(self._run, name=name)
            self._thread.start()

    def end_stage(self) -> None:
        """The flows that were taken make sense by themselves: they may be committed."""
        self._parts.put(END_OF_STAGE)
        self._is_over = self._is_over or self._thread is None

    def _run(self) -> None:
        try:
            while first := self._parts.get():
                sent = [first]
                if not self._switch.install(self._until_end(sent)):
                    break
                self._installed += sent
                added = sum(map(len, sent))
                log.info("flows installed early", bridge=self._switch.name, added=added)
        except _GivenUp:
            pass
        except BaseException as problem:  # the edge of a thread: __exit__ raises it again
            self._problem = problem.with_traceback(None)

    def _until_end(self, sent: list[Part]) -> Iterator[Part]:
        """The parts of one stage, of which the first has come; they are added to ``sent``."""
        yield sent[0]
        while part := self._parts.get():
            sent.append(part)
            yield part
        if part is None:
            raise _GivenUp
        self._recorder.note_plan(copied_sessions(flow for part in sent for flow in part))


class _GivenUp(CloudtapError):
    """The end of the stage will never come."""

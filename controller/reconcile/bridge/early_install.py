"""Flows that a bridge without any gets while they are still being compiled: production first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from queue import Queue
from types import TracebackType

import structlog

from controller.southbound.switch import Switch
from controller.reconcile.bridge.confirmed import copying
from flows.plan.plan import Mark
from flows.errors import CloudtapError
from flows.openflow.flow import Flow
from flows.plan.meters import need_meters

WORTH_IT = 10_000
"""With fewer flows of production a bridge gets everything in one bundle: it is as soon there."""
END: tuple[Flow, ...] = ()
"""What ends a stage; None ends everything, and gives up a stage that was not ended."""

log = structlog.get_logger(__name__)
Part = Sequence[Flow]


class Ahead:
    """An outlet of flows that leads to one switch, by a thread of its own; a bundle for each stage.

    A context: at its end the switch has taken what came, or refused it, or a bundle is given up.
    Then ``has_all`` tells whether it has everything, and ``taken`` how many flows it has. Taking
    never waits for the switch. What needs meters is left out with all that follows, because meters
    cannot be in bundles. ``note`` is told the numbers of the sessions that a stage makes copies of,
    before the switch does it; if it raises, the stage is given up.
    """

    def __init__(
        self, switch: Switch, note: Callable[[frozenset[int]], None], worth_it: int = WORTH_IT
    ) -> None:
        self.has_all = False
        self.taken = 0
        self._taken: list[Part] = []
        self._switch, self._note, self._worth_it = switch, note, worth_it
        self._parts: Queue[Part | None] = Queue()
        self._count = 0
        self._is_over = False
        self._problem: BaseException | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Ahead:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._parts.put(None)
        if self._thread is not None:
            self._thread.join()
        elsewhere, self._problem = self._problem, None
        if problem is None and elsewhere is not None:
            try:
                raise elsewhere
            finally:
                del elsewhere  # its frames would hold each other for ever
        self.taken = sum(map(len, self._taken))
        self.has_all = 0 < self.taken == self._count

    def known(self, marks: Set[Mark], pause: Callable[[], None]) -> Set[Mark]:
        """Those of the marks of what was compiled that the switch has."""
        if self.has_all:
            return marks
        found = set[Mark]()
        for part in self._taken:
            found |= {flow.mark for flow in part}
            pause()
        return marks & found

    def take(self, flows: Part) -> None:
        """More flows; the first are sent once there are so many that it is worth it."""
        self._is_over = self._is_over or need_meters(flows)
        self._parts.put(None if self._is_over else flows)
        time.sleep(0)  # the switch is not kept waiting
        self._count += len(flows)
        if self._thread is None and not self._is_over and self._count >= self._worth_it:
            name = f"ahead {self._switch.name}"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()

    def end_stage(self) -> None:
        """What has come makes sense by itself: it may come true."""
        self._parts.put(END)
        self._is_over = self._is_over or self._thread is None

    def _run(self) -> None:
        try:
            while first := self._parts.get():
                sent = [first]
                if not self._switch.install(self._until_end(sent)):
                    break
                self._taken += sent
                log.info("sent ahead", bridge=self._switch.name, added=sum(map(len, sent)))
        except _GivenUp:
            pass
        except BaseException as problem:  # the edge of a thread: whoever leaves the context gets it
            self._problem = problem.with_traceback(None)

    def _until_end(self, sent: list[Part]) -> Iterator[Part]:
        """The parts of one stage, of which the first has come."""
        yield sent[0]
        while part := self._parts.get():
            sent.append(part)
            yield part
        if part is None:
            raise _GivenUp
        self._note(copying(flow for part in sent for flow in part))


class _GivenUp(CloudtapError):
    """The end of the stage will never come."""

"""What is done again and again beside the writers: each piece of work in a thread of its own."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from controller.inventory import Inventory, InventoryChange, Pending
from controller.reconcile.bridge import Depth
from controller.reconcile.finalizer import Finalizer
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.writers import Writers
from flows.errors import CloudtapError

TICK_S = 1.0
"""How often the inventory file is looked at, and bridges are looked after, in seconds."""
START_S = 0.05
"""The same until the inventory is known, and until bridges may be written to."""
ASKED_S = 60.0
"""How long it may take until databases are asked, in seconds: then there is something wrong."""
ACTIONS_EVERY = 10
"""The flows of every bridge are read again and again; each tenth time their actions, too."""
SETTLE_S = 5.0
"""How long the datapaths of this machine may take to follow their flow tables, in seconds."""

log = structlog.get_logger(__name__)


class Loop:
    """Repeats a piece of work in a thread; ``work`` returns the seconds until it is due again.

    An error is logged, once while it stays the same, and the work is tried again after ``retry_s``
    seconds.
    """

    def __init__(self, name: str, work: Callable[[], float], retry_s: float = TICK_S) -> None:
        self._name, self._work, self._retry_s = name, work, retry_s
        self._stopping, self._woken = threading.Event(), threading.Event()
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Do it no more; what is being done is finished."""
        self._stopping.set()
        self._woken.set()

    def wake(self) -> None:
        """Do it now, whenever it is due; from any thread."""
        self._woken.set()

    def _run(self) -> None:
        pause = 0.0
        while True:
            self._woken.wait(pause)
            self._woken.clear()
            if self._stopping.is_set():
                return
            try:
                pause = self._work()
                self._problem = ""
            except CloudtapError as problem:
                pause = self._retry_s
                if self._problem != str(problem):
                    log.warning("periodic work not done", work=self._name, reason=str(problem))
                self._problem = str(problem)
            except Exception as problem:  # the edge of the loop: it must go on
                pause = self._retry_s
                log.error("periodic work failed", work=self._name, exc_info=problem)


class InventorySource(Protocol):
    """The inventory in force, and where it comes from; see InventorySources."""

    @property
    def is_known(self) -> bool:
        """Whether a good file was read since the start."""
        ...

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the file now."""
        ...

    @property
    def vanish_limit(self) -> float:
        """The share (0..1) of ports or links that may vanish before a file is pending."""
        ...

    @property
    def pending(self) -> Pending | None:
        """The file that needs a word of the operator."""
        ...

    def accept(self, digest: str) -> None:
        """The operator has said that this file is meant."""
        ...

    def with_others(self, declared: Inventory) -> Inventory:
        """What would be in force if the file declared this."""
        ...

    def trust_file(self) -> None:
        """The operator has said that the file is whole."""
        ...

    def reload_if_changed(self) -> InventoryChange | None:
        """Look at the file once."""
        ...


class Declarations(Protocol):
    """Takes a new inventory into the world."""

    def declare(self, inventory: Inventory) -> None:
        """This is what exists from now on."""
        ...


class DatabaseStates(Protocol):
    """The Open vSwitch databases that should be there."""

    def are_synced(self) -> bool:
        """Whether each has reported everything."""
        ...

    @property
    def are_asked(self) -> bool:
        """Whether it has begun that they are asked."""
        ...


class InventoryReload:
    """Reads the inventory file when it has changed, every ``every_s`` seconds; at first more often.

    ``is_declared`` is set once a good file was read, and all that it declares is in the world.
    """

    def __init__(
        self,
        inventory: InventorySource,
        declarations: Declarations,
        ready: threading.Event,
        every_s: float = TICK_S,
    ) -> None:
        self._inventory, self._declarations = inventory, declarations
        self._ready, self._every_s = ready, every_s
        self._reloading = threading.Lock()
        self.is_declared = False

    def __call__(self) -> float:
        with self._reloading:
            self._reload()
        return self._every_s if self._ready.is_set() else START_S

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the file now, a sentence for each problem."""
        return self._inventory.problems

    @property
    def vanish_limit(self) -> float:
        """The share (0..1) of ports or links that may vanish before a file is pending."""
        return self._inventory.vanish_limit

    @property
    def pending(self) -> Pending | None:
        """The file that is not used because too much is missing from it; or None."""
        return self._inventory.pending

    def trust_file(self) -> None:
        """Have the next look use a file that was written in place without waiting; see there."""
        self._inventory.trust_file()

    def with_others(self, declared: Inventory) -> Inventory:
        """What would be in force if the file declared this."""
        return self._inventory.with_others(declared)

    def accept(self, digest: str) -> None:
        """Use the pending file with this digest; it is in the world when this returns.

        Raises:
            Refused: no file is pending, or another one.
        """
        with self._reloading:
            self._inventory.accept(digest)
            self._reload()

    def _reload(self) -> None:
        change = self._inventory.reload_if_changed()
        if change is not None:
            for problem in change.problems:
                log.warning("inventory has a problem", problem=problem)
            if change.before != change.after:
                self._declarations.declare(change.after)
                log.info("inventory loaded", ports=len(change.after.ports))
        self.is_declared = self._inventory.is_known


class Readiness:
    """Lets bridges be written to once all is known that can be known soon.

    Before the inventory is declared, an empty world would remove every flow. Databases are waited
    for ``patience_s`` seconds: one that is out of reach must not delay the bridges of others. These
    seconds begin when the databases are asked: what they say is not known sooner on a busy machine,
    and flows that are right would be changed without it. That is waited for ASKED_S at most.
    """

    def __init__(
        self,
        inventory: InventoryReload,
        databases: DatabaseStates,
        ready: threading.Event,
        patience_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inventory, self._databases, self._ready = inventory, databases, ready
        self._patience_s, self._now = patience_s, now
        self._began, self._asked_at = now(), math.inf

    def __call__(self) -> float:
        are_synced = self._databases.are_synced()  # asked for ever: a database may come later
        if self._asked_at == math.inf and (self._databases.are_asked or self._is_late()):
            self._asked_at = self._now()
        has_waited = self._now() - self._asked_at >= self._patience_s
        if self._inventory.is_declared and (are_synced or has_waited):
            self._ready.set()
        return TICK_S if self._ready.is_set() else START_S

    def _is_late(self) -> bool:
        return self._now() - self._began >= ASKED_S


class Upkeep:
    """Rechecks bridges, and finishes what could not be finished at once.

    ``retries`` try again to store what could not be stored.
    """

    def __init__(
        self,
        *,
        ready: threading.Event,
        writers: Writers,
        reconciler: Reconciler,
        finalizer: Finalizer,
        retries: Sequence[Callable[[], None]],
        recheck_s: float,
    ) -> None:
        self._ready, self._writers = ready, writers
        self._reconciler, self._finalizer, self._retries = reconciler, finalizer, retries
        self._recheck_s, self._rechecks = recheck_s, 0
        self._every_s = min(TICK_S, recheck_s)
        self._rechecked_at = time.monotonic()

    def __call__(self) -> float:
        if not self._ready.is_set():
            return START_S
        for retry in self._retries:
            retry()
        now = time.monotonic()
        if now - self._rechecked_at >= self._recheck_s:
            self._rechecked_at, self._rechecks = now, self._rechecks + 1
            is_deep = self._rechecks % ACTIONS_EVERY == 0
            self._writers.recheck(Depth.ACTIONS if is_deep else Depth.COOKIES)
        self._reconciler.wait_settled(SETTLE_S)
        self._finalizer.finish_deletions()
        self._finalizer.release_numbers()
        return self._every_s

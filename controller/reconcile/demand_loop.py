"""A thread that has made in databases what sessions need, and looks again after every change."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

import structlog

from controller.process import ChangeSignal
from flows.errors import CloudtapError

LOOK_S = 1.0
"""What bridges need is looked at again at least so often, in seconds."""

K = TypeVar("K", bound=Hashable)

log = structlog.get_logger(__name__)


class DemandLoop(ABC, Generic[K]):
    """Asks for what sessions need, in a thread that these signals wake.

    ``what`` is what is made, for people, and ``name`` that of the thread. Nothing is asked for
    before ``ready``. A change that needs something new expects it before it is brought about.
    """

    def __init__(
        self, what: str, *, name: str, signals: Sequence[ChangeSignal], ready: threading.Event
    ) -> None:
        self._what, self._signals, self._ready = what, signals, ready
        self._wakeup = threading.Event()
        self._expected: Counter[K] = Counter()
        """How many changes are under way that need each."""
        self._lock = threading.Lock()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to look at what bridges need."""
        for signal in self._signals:
            signal.subscribe(self._wakeup)
        self._thread.start()

    def stop(self) -> None:
        """Ask for no more; all that was made stays."""
        self._is_stopping = True
        for signal in self._signals:
            signal.unsubscribe(self._wakeup)
        self._wakeup.set()

    @abstractmethod
    def _want(self) -> None:
        """Ask for what is needed now."""

    def _look(self) -> None:
        """What is done after each change."""
        self._want()

    @contextmanager
    def _expecting(self, keys: Iterable[K]) -> Iterator[None]:
        """Inside, these are needed, whether a session needs them yet or not."""
        wanted = tuple(keys)
        self._expect(wanted, 1)
        try:
            yield
        finally:
            self._expect(wanted, -1)

    def _expect(self, keys: Iterable[K], by: int) -> None:
        with self._lock:
            self._expected.update(dict.fromkeys(keys, by))

    def _all_expected(self) -> frozenset[K]:
        with self._lock:
            return frozenset(+self._expected)

    def _run(self) -> None:
        while not self._is_stopping:
            self._wakeup.wait(LOOK_S)
            self._wakeup.clear()
            try:
                self._look()
            except CloudtapError as problem:
                log.warning(f"{self._what} not looked at", reason=str(problem))
            except Exception as problem:  # the edge of the loop: it must go on
                log.error(f"look at {self._what} failed", exc_info=problem)

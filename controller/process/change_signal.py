"""The signal that something has changed: a version number, and wakeups without data.

Reconciliation is level-triggered, as in Kubernetes controllers: an event only says that something
has changed, and whoever reacts looks at everything anew. Many changes between two looks are one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class ChangeSignal:
    """Counts changes and wakes whoever reacts to them; any thread may call anything.

    Whoever observes a change calls ``changed`` after the new state can be read. Whoever reacts
    subscribes an event of its own, clears it, and then reads the state: so no change is missed.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._version = 1
        self._subscribers: set[threading.Event] = set()

    @property
    def version(self) -> int:
        """The number of the last change; what is read after it knows of that change."""
        return self._version

    def changed(self) -> int:
        """Report a change; returns its version."""
        with self._condition:
            self._version += 1
            version, subscribers = self._version, tuple(self._subscribers)
            self._condition.notify_all()
        for wakeup in subscribers:
            wakeup.set()
        return version

    def subscribe(self, wakeup: threading.Event) -> None:
        """Set this event at each change from now on."""
        with self._condition:
            self._subscribers.add(wakeup)

    def unsubscribe(self, wakeup: threading.Event) -> None:
        """Leave this event alone from now on."""
        with self._condition:
            self._subscribers.discard(wakeup)

    def wait_for(self, is_reached: Callable[[], bool], timeout_s: float) -> bool:
        """Block until ``is_reached``, which is asked now and after each change; False at the end.

        ``is_reached`` may take locks, as long as nobody who holds them reports a change.
        """
        with self._condition:
            return self._condition.wait_for(is_reached, timeout_s)

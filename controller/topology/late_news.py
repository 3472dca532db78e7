"""News of bridges that are nobody's: ever later of a bridge that has some without end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from flows.model import Dpid

BACK_S, BACK_MAX_S = 0.5, 16.0
"""How long the next news of a bridge are held back after the last: at first, and at most. Each time
there were some meanwhile this doubles; after as long a time without any it starts again."""
TOGETHER_S = 0.5
"""The least time between two looks at news that were held back, however many bridges have some."""


@dataclass(slots=True)
class _Turn:
    """When the news of a bridge count next, and whether there are any."""

    hold_s: float
    next_at: float
    has_news: bool = False

    def is_quiet(self, now: float) -> bool:
        """Whether there was nothing for so long that news count at once again."""
        return not self.has_news and now >= self.next_at + self.hold_s


class LateNews:
    """Calls ``look`` for news of bridges: soon for one that has few, seldom for one without end.

    What is held back of many bridges is looked at together. ``now`` returns monotonic seconds.
    """

    def __init__(self, look: Callable[[], None], now: Callable[[], float] = time.monotonic) -> None:
        self._look, self._now = look, now
        self._lock = threading.Lock()
        self._turns: dict[Dpid, _Turn] = {}
        self._looked_at = -TOGETHER_S
        self._timer: threading.Timer | None = None
        self._is_stopped = False

    def note(self, dpid: Dpid) -> None:
        """There are news of a bridge."""
        with self._lock:
            now, turn = self._now(), self._turns.get(dpid)
            if turn is None or turn.is_quiet(now):
                turn = self._turns[dpid] = _Turn(BACK_S / 2, now)
            if turn.has_news:
                return  # the timer is set
            turn.has_news = True
            is_due = now >= max(turn.next_at, self._looked_at + TOGETHER_S)
            if not is_due:
                self._set_timer(now)
        if is_due:
            self.pass_on()

    def pass_on(self) -> None:
        """Look at the news that are due by now."""
        with self._lock:
            now = self._now()
            self._turns = {d: turn for d, turn in self._turns.items() if not turn.is_quiet(now)}
            due = [t for t in self._turns.values() if t.has_news and now >= t.next_at]
            for turn in due:
                turn.has_news = False
                turn.hold_s = min(2 * turn.hold_s, BACK_MAX_S)
                turn.next_at = now + turn.hold_s
            if due:
                self._looked_at = now
            self._set_timer(now)
        if due:
            self._look()

    def forget(self, dpid: Dpid) -> None:
        """A bridge is gone, with what was held back of it."""
        with self._lock:
            self._turns.pop(dpid, None)

    def stop(self) -> None:
        """Look no more."""
        with self._lock:
            self._is_stopped = True
            if self._timer is not None:
                self._timer.cancel()

    def _set_timer(self, now: float) -> None:
        """Look again when the next news are due; with the lock held."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held = [turn.next_at for turn in self._turns.values() if turn.has_news]
        if not held or self._is_stopped:
            return
        at = max(min(held), self._looked_at + TOGETHER_S)
        self._timer = threading.Timer(max(0.0, at - now), self.pass_on)
        self._timer.daemon = True
        self._timer.start()

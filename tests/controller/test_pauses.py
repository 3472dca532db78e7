"""Pauses come when somebody has computed for a while, not after each small step."""

from __future__ import annotations

import pytest

from controller.process import pauses
from controller.process.pauses import SLICE_S, Pauses


class Clock:
    """Time that passes only in work; counts how often others were let run."""

    def __init__(self) -> None:
        self.now, self.pauses = 0.0, 0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds == 0
        self.pauses += 1
        self.now += 10 * SLICE_S  # somebody else's slice is not ours


@pytest.mark.parametrize(("step_s", "pauses_made"), [(SLICE_S * 0.26, 25), (SLICE_S * 2, 100)])
def test_others_run_after_each_slice(
    monkeypatch: pytest.MonkeyPatch, step_s: float, pauses_made: int
) -> None:
    clock = Clock()
    monkeypatch.setattr(pauses, "time", clock)
    mine = Pauses()

    for _ in range(100):
        clock.now += step_s
        mine.pause()

    assert clock.pauses == pauses_made

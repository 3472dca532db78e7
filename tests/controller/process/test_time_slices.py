"""Long work lets other threads run: between time slices, or at intervals with a yielder."""

from __future__ import annotations

import threading
import time

import pytest

from controller.process import Yielder, time_slices
from controller.process.time_slices import YIELD_AFTER_S, TimeSlices


class Clock:
    """Time that passes only in work; counts the yields."""

    def __init__(self) -> None:
        self.now, self.yields = 0.0, 0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds == 0
        self.yields += 1
        self.now += 10 * YIELD_AFTER_S  # the time of other threads is not ours


@pytest.mark.parametrize(
    ("step_s", "yields"), [(YIELD_AFTER_S * 0.26, 25), (YIELD_AFTER_S * 2, 100)]
)
def test_other_threads_run_after_each_interval(
    monkeypatch: pytest.MonkeyPatch, step_s: float, yields: int
) -> None:
    clock = Clock()
    monkeypatch.setattr(time_slices, "time", clock)
    yielder = Yielder()

    for _ in range(100):
        clock.now += step_s
        yielder.pause()

    assert clock.yields == yields


def test_one_thread_computes_at_a_time_and_none_starves() -> None:
    slices, inside, worst, through = TimeSlices(slice_s=0.0), [0], [0], [0]

    def compute() -> None:
        for _ in range(20):
            with slices.taken():
                for _ in range(3):
                    inside[0] += 1
                    worst[0] = max(worst[0], inside[0])
                    inside[0] -= 1
                    slices.pause()
                through[0] += 1

    threads = [threading.Thread(target=compute) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (worst, through) == ([1], [8 * 20])


def test_short_work_runs_between_the_slices_of_long_work() -> None:
    slices, order = TimeSlices(slice_s=0.0), list[str]()
    begun = threading.Event()

    def long() -> None:
        with slices.taken():
            begun.set()
            deadline = time.monotonic() + 10
            while "short" not in order and time.monotonic() < deadline:
                slices.pause()
            order.append("long")

    thread = threading.Thread(target=long)
    thread.start()
    assert begun.wait(10)
    with slices.taken():
        order.append("short")
    thread.join()
    assert order == ["short", "long"]


def test_failing_work_releases_the_time_slices() -> None:
    slices = TimeSlices()
    with pytest.raises(RuntimeError), slices.taken():
        raise RuntimeError("as the test wants")
    with slices.taken():
        pass

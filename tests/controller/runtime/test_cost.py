"""What the messages of a connection may cost is a share of one processor."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from controller.runtime.cost import PAUSE_MAX_S, THROTTLED_MAX_S, Budget, Pool, Quota

ONE, ALL = Quota(share=0.05, burst_s=1.0), Quota(share=0.3, burst_s=10.0)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(0.0001, 0.01), min_size=50, max_size=400))
def test_over_time_a_connection_gets_its_share_and_a_burst(costs: list[float]) -> None:
    clock = Clock()
    budget = Budget(ONE, Pool(ALL, clock), clock)
    used = 0.0
    for cost in costs * 3:
        used += cost
        clock.now += cost + budget.spend(cost)
        assert used <= ONE.burst_s + clock.now * ONE.share + 0.01


def test_within_its_burst_it_is_read_without_a_pause() -> None:
    clock = Clock()
    budget = Budget(ONE, Pool(ALL, clock), clock)
    assert [budget.spend(0.1) for _ in range(10)] == [0.0] * 10
    assert budget.spend(0.01) > 0


def test_no_pause_is_longer_than_its_bound() -> None:
    clock = Clock()
    budget = Budget(ONE, Pool(ALL, clock), clock)
    assert budget.spend(100.0) == PAUSE_MAX_S


def test_who_never_stops_is_exhausted_and_who_stops_is_not() -> None:
    clock = Clock()
    budget, pool = Budget(ONE, Pool(ALL, clock), clock), Pool(ALL, clock)
    burst = Budget(ONE, pool, clock)
    burst.spend(1.2)
    while clock.now < THROTTLED_MAX_S + 5:
        clock.now += 0.01 + budget.spend(0.01)
        burst.spend(0.0)
    assert budget.is_exhausted
    assert not burst.is_exhausted


def test_who_stays_within_its_share_after_a_burst_is_not_exhausted() -> None:
    clock = Clock()
    budget = Budget(ONE, Pool(ALL, clock), clock)
    clock.now += budget.spend(1.2)
    for _ in range(100):
        clock.now += 0.5 + budget.spend(0.015)
        assert not budget.is_exhausted


def test_who_pauses_and_goes_on_with_more_than_its_share_is_exhausted() -> None:
    clock = Clock()
    budget = Budget(ONE, Pool(ALL, clock), clock)
    while clock.now < 2 * THROTTLED_MAX_S + ONE.burst_s / ONE.share:
        clock.now += 0.5 + budget.spend(0.04)
    assert budget.is_exhausted


def test_all_together_have_a_share_which_those_who_pause_divide() -> None:
    clock = Clock()
    pool = Pool(Quota(share=0.1, burst_s=0.0), clock)
    clock.now = 1.0
    assert pool.spend(0.01) > 0
    inside, leave = threading.Semaphore(0), threading.Event()

    def sleep(seconds: float) -> None:
        inside.release()
        leave.wait(10)

    sleeping = [threading.Thread(target=pool.pause, args=(1.0, sleep)) for _ in range(3)]
    for thread in sleeping:
        thread.start()
        inside.acquire()
    assert pool.spend(0.01) == 0.01 * 3 / 0.1
    leave.set()
    for thread in sleeping:
        thread.join()

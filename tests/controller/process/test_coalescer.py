"""Requests that are made close together are answered by one run of the work."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from controller.process import Coalescer
from tests.ovs.waiting import wait_for


class Work:
    """Counts its runs; a run waits until ``leave`` is set."""

    def __init__(self) -> None:
        self.times = 0
        self.fails = False
        self.leave = threading.Event()
        self.leave.set()

    def __call__(self) -> None:
        self.times += 1
        assert self.leave.wait(10)
        if self.fails:
            raise RuntimeError("as the test wants")


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def coalescer(work: Work) -> Iterator[Coalescer]:
    made = Coalescer(work, "test", pause_s=0.01)
    yield made
    work.leave.set()
    made.stop()


def test_all_requests_during_a_run_are_answered_by_one_more_run(
    coalescer: Coalescer, work: Work
) -> None:
    work.leave.clear()
    first = coalescer.ask()
    wait_for(lambda: work.times, lambda times: times == 1)
    asked = [coalescer.ask() for _ in range(1000)]
    assert coalescer.waiting == 1001
    work.leave.set()
    for each in (first, *asked):
        coalescer.wait(each)
    assert work.times == 2
    assert coalescer.is_idle


def test_a_waiter_waits_for_a_run_that_started_after_its_request(
    coalescer: Coalescer, work: Work
) -> None:
    work.leave.clear()
    coalescer.ask()
    wait_for(lambda: work.times, lambda times: times == 1)
    late, done = coalescer.ask(), threading.Event()
    waiter = threading.Thread(target=lambda: (coalescer.wait(late), done.set()))
    waiter.start()
    work.leave.set()
    assert done.wait(10)
    assert work.times == 2
    waiter.join()


def test_failing_work_ends_neither_the_thread_nor_the_waiting(
    coalescer: Coalescer, work: Work
) -> None:
    work.fails = True
    coalescer.wait(coalescer.ask())
    work.fails = False
    coalescer.wait(coalescer.ask())
    assert work.times == 2


def test_nobody_waits_for_a_stopped_coalescer(coalescer: Coalescer, work: Work) -> None:
    work.leave.clear()
    asked = coalescer.ask()
    coalescer.stop()
    coalescer.wait(asked)

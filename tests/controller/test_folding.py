"""Close events make one piece of work, and long work leaves room for everything else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from controller.process.coalescer import Folding
from controller.process.time_slices import Turns
from tests.ovs.waiting import wait_for


class Work:
    """Counts how often it was done, and waits for leave when told to."""

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
def folding(work: Work) -> Iterator[Folding]:
    made = Folding(work, "test", pause_s=0.01)
    yield made
    work.leave.set()
    made.stop()


def test_what_is_asked_for_during_the_work_is_done_once_afterwards(
    folding: Folding, work: Work
) -> None:
    work.leave.clear()
    first = folding.ask()
    wait_for(lambda: work.times, lambda times: times == 1)
    asked = [folding.ask() for _ in range(1000)]
    assert folding.waiting == 1001
    work.leave.set()
    for each in (first, *asked):
        folding.wait(each)
    assert work.times == 2
    assert folding.is_idle


def test_who_waits_is_told_only_of_work_that_began_afterwards(folding: Folding, work: Work) -> None:
    work.leave.clear()
    folding.ask()
    wait_for(lambda: work.times, lambda times: times == 1)
    late, done = folding.ask(), threading.Event()
    waiter = threading.Thread(target=lambda: (folding.wait(late), done.set()))
    waiter.start()
    work.leave.set()
    assert done.wait(10)
    assert work.times == 2
    waiter.join()


def test_work_that_fails_ends_neither_the_thread_nor_the_waiting(
    folding: Folding, work: Work
) -> None:
    work.fails = True
    folding.wait(folding.ask())
    work.fails = False
    folding.wait(folding.ask())
    assert work.times == 2


def test_nobody_waits_for_a_folding_that_was_stopped(folding: Folding, work: Work) -> None:
    work.leave.clear()
    asked = folding.ask()
    folding.stop()
    folding.wait(asked)


def test_only_one_computes_at_a_time_and_all_get_through() -> None:
    turns, inside, worst, through = Turns(slice_s=0.0), [0], [0], [0]

    def compute() -> None:
        for _ in range(20):
            with turns.taken():
                for _ in range(3):
                    inside[0] += 1
                    worst[0] = max(worst[0], inside[0])
                    inside[0] -= 1
                    turns.pause()
                through[0] += 1

    threads = [threading.Thread(target=compute) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (worst, through) == ([1], [8 * 20])


def test_long_work_lets_short_work_in_between() -> None:
    turns, order = Turns(slice_s=0.0), list[str]()
    begun = threading.Event()

    def long() -> None:
        with turns.taken():
            begun.set()
            deadline = time.monotonic() + 10
            while "short" not in order and time.monotonic() < deadline:
                turns.pause()
            order.append("long")

    thread = threading.Thread(target=long)
    thread.start()
    assert begun.wait(10)
    with turns.taken():
        order.append("short")
    thread.join()
    assert order == ["short", "long"]


def test_a_turn_that_fails_is_over() -> None:
    turns = Turns()
    with pytest.raises(RuntimeError), turns.taken():
        raise RuntimeError("as the test wants")
    with turns.taken():
        pass

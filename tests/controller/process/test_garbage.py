"""Permanent objects are not examined while they are built; all others are, as before."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest

from controller.process import building_permanent_objects, expect_many_objects, garbage


class Cycle:
    """A reference cycle: only the garbage collector frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    yield
    gc.unfreeze()
    assert gc.isenabled()


def test_what_is_built_inside_is_frozen_without_a_collection() -> None:
    before = gc.get_freeze_count()
    with building_permanent_objects():
        assert not gc.isenabled()
        kept = [Cycle() for _ in range(1000)]

    assert gc.isenabled()
    assert gc.get_freeze_count() - before >= len(kept)


def test_a_cycle_that_is_built_afterwards_is_collected() -> None:
    with building_permanent_objects():
        pass
    cycle = weakref.ref(Cycle())
    gc.collect()

    assert cycle() is None


def test_the_last_block_to_end_enables_the_collector() -> None:
    with building_permanent_objects():
        with pytest.raises(ZeroDivisionError), building_permanent_objects():
            1 / 0  # noqa: B018
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.fixture
def many_objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings of a controller, with a low limit for freezing."""
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)
    gc.freeze()
    monkeypatch.setattr(garbage, "FREEZE_ABOVE", 1000)
    expect_many_objects()
    yield
    gc.set_threshold(*thresholds)
    gc.callbacks[:] = callbacks


@pytest.mark.usefixtures("many_objects")
def test_many_objects_that_survive_two_collections_are_frozen() -> None:
    before = gc.get_freeze_count()
    kept = [Cycle() for _ in range(2000)]
    gc.collect(1)

    assert gc.get_freeze_count() - before >= len(kept)


@pytest.mark.usefixtures("many_objects")
def test_few_objects_are_collected_again() -> None:
    kept = [Cycle() for _ in range(100)]
    gc.collect(1)
    gone = weakref.ref(kept[0])
    del kept
    gc.collect()

    assert gone() is None


@pytest.fixture
def little_but_quickly_old() -> Iterator[None]:
    """What other tests have allocated is not counted; what survives a collection is soon old."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100, 1, 5)
    yield
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("little_but_quickly_old")
def test_threads_may_fill_tuples_while_old_objects_are_counted() -> None:
    """A list of all objects, seen by another thread, would hold a tuple that it still fills.

    With such a list it takes 25 counts on average until a tuple cannot be filled (measured).
    """
    kept = [[number] for number in range(50_000)]
    gc.collect()
    before, faults, is_over = sys.getswitchinterval(), list[SystemError](), threading.Event()

    def fill() -> None:
        try:
            while not is_over.is_set():
                tuple([number] for number in range(3000))
        except SystemError as fault:
            faults.append(fault)

    thread = threading.Thread(target=fill)
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for _ in range(1000):
            assert garbage.count_old() > len(kept)
    finally:
        sys.setswitchinterval(before)
        is_over.set()
        thread.join()
    assert not faults

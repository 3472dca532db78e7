"""What stays is not searched while it is made; everything else is, as before."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from controller.process import garbage as memory
from controller.process.garbage import expect_many_objects, making_what_stays


class Knot:
    """A cycle: it goes only when it is searched for."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    assert gc.isenabled()


def test_what_is_made_inside_is_set_aside_unsearched() -> None:
    before = gc.get_freeze_count()
    with making_what_stays():
        assert not gc.isenabled()
        kept = [Knot() for _ in range(1000)]

    assert gc.isenabled()
    assert gc.get_freeze_count() - before >= len(kept)


def test_a_knot_that_is_made_afterwards_is_found() -> None:
    with making_what_stays():
        pass
    knot = weakref.ref(Knot())
    gc.collect()

    assert knot() is None


def test_whoever_is_last_switches_the_search_on_again() -> None:
    with making_what_stays():
        with pytest.raises(ZeroDivisionError), making_what_stays():
            1 / 0  # noqa: B018
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.fixture
def many_objects(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The searches of a controller, with few objects that count as many."""
    thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)
    gc.freeze()
    monkeypatch.setattr(memory, "SET_ASIDE", 1000)
    expect_many_objects()
    yield
    gc.set_threshold(*thresholds)
    gc.callbacks[:] = callbacks


@pytest.mark.usefixtures("many_objects")
def test_many_that_outlive_two_searches_are_set_aside() -> None:
    before = gc.get_freeze_count()
    kept = [Knot() for _ in range(2000)]
    gc.collect(1)

    assert gc.get_freeze_count() - before >= len(kept)


@pytest.mark.usefixtures("many_objects")
def test_few_are_searched_again() -> None:
    kept = [Knot() for _ in range(100)]
    gc.collect(1)
    gone = weakref.ref(kept[0])
    del kept
    gc.collect()

    assert gone() is None

"""The signal of change: versions, wakeups, and waiting for what a change brings."""

from __future__ import annotations

import threading

from controller.process import ChangeSignal


def test_each_change_has_a_higher_version() -> None:
    changes = ChangeSignal()
    before = changes.version
    assert changes.changed() == before + 1 == changes.version
    assert changes.changed() == before + 2


def test_whoever_subscribes_is_woken_and_whoever_has_left_is_not() -> None:
    changes, here, gone = ChangeSignal(), threading.Event(), threading.Event()
    for wakeup in (here, gone):
        changes.subscribe(wakeup)
    changes.unsubscribe(gone)
    changes.unsubscribe(gone)
    assert not here.is_set(), "subscribing is no change"
    changes.changed()
    assert here.is_set() and not gone.is_set()


def test_many_changes_wake_once() -> None:
    changes, wakeup = ChangeSignal(), threading.Event()
    changes.subscribe(wakeup)
    for _ in range(100):
        changes.changed()
    assert wakeup.is_set()
    wakeup.clear()
    assert not wakeup.is_set()


def test_the_version_is_there_when_somebody_is_woken() -> None:
    changes, wakeup = ChangeSignal(), threading.Event()
    seen: list[int] = []

    def react() -> None:
        assert wakeup.wait(10)
        seen.append(changes.version)

    changes.subscribe(wakeup)
    reacting = threading.Thread(target=react)
    reacting.start()
    version = changes.changed()
    reacting.join()
    assert seen[0] >= version


def test_waiting_ends_when_a_change_brings_what_is_waited_for() -> None:
    changes, done = ChangeSignal(), threading.Event()
    waited: list[bool] = []
    waiting = threading.Thread(target=lambda: waited.append(changes.wait_for(done.is_set, 10)))
    waiting.start()
    changes.changed()
    done.set()
    changes.changed()
    waiting.join()
    assert waited == [True]


def test_waiting_ends_without_it_when_time_is_up() -> None:
    assert not ChangeSignal().wait_for(lambda: False, 0.01)

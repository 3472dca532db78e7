"""What is repeated beside the writers: reloads, readiness, upkeep, and loops that fail."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from controller.inventory import Inventory, InventoryChange
from controller.reconcile import START_S, TICK_S, InventoryReload, Loop, Readiness, Upkeep
from controller.reconcile.bridge import Depth
from controller.reconcile.periodic import ACTIONS_EVERY, ASKED_S
from flows.errors import Refused
from tests.ovs.waiting import wait_for


class Source:
    """An inventory file that becomes good when a test says so."""

    def __init__(self) -> None:
        self.is_known = self.is_trusted = False
        self.change: InventoryChange | None = None

    def trust_file(self) -> None:
        self.is_trusted = True

    def reload_if_changed(self) -> InventoryChange | None:
        if self.change is not None:
            self.is_known = True
        change, self.change = self.change, None
        return change


class Declared:
    """Takes inventories, and looks at the reload meanwhile."""

    def __init__(self) -> None:
        self.inventories: list[Inventory] = []
        self.looks: list[bool] = []
        self.reload: InventoryReload | None = None

    def declare(self, inventory: Inventory) -> None:
        assert self.reload is not None
        self.looks.append(self.reload.is_declared)
        self.inventories.append(inventory)


@pytest.fixture
def ready() -> threading.Event:
    return threading.Event()


def changed() -> InventoryChange:
    return InventoryChange(Inventory(), Inventory(tenants=("red",)), ())  # type: ignore[arg-type]


def test_the_inventory_is_declared_only_once_it_is_in_the_world(ready: threading.Event) -> None:
    source, declared = Source(), Declared()
    reload = declared.reload = InventoryReload(source, declared, ready)
    assert reload() == START_S and not reload.is_declared
    source.change = changed()
    reload()
    assert declared.looks == [False], "not before it is in the world"
    assert reload.is_declared and len(declared.inventories) == 1


def test_the_file_is_looked_at_often_until_bridges_may_be_written_to(
    ready: threading.Event,
) -> None:
    source, declared = Source(), Declared()
    reload = declared.reload = InventoryReload(source, declared, ready, 0.5)
    source.change = changed()
    assert reload() == START_S
    ready.set()
    assert reload() == 0.5


@pytest.mark.parametrize(
    ("is_declared", "are_synced", "patience_s", "is_ready"),
    [
        (True, True, 600.0, True),
        (True, False, 0.0, True),
        (True, False, 600.0, False),
        (False, True, 0.0, False),
    ],
)
def test_bridges_are_written_to_when_the_inventory_is_declared_and_databases_were_given_time(
    ready: threading.Event, is_declared: bool, are_synced: bool, patience_s: float, is_ready: bool
) -> None:
    inventory: Any = SimpleNamespace(is_declared=is_declared)
    databases: Any = SimpleNamespace(are_synced=lambda: are_synced, are_asked=True)
    pause = Readiness(inventory, databases, ready, patience_s)()
    assert ready.is_set() == is_ready
    assert pause == (TICK_S if is_ready else START_S)


def test_databases_are_asked_for_ever(ready: threading.Event) -> None:
    """One that comes later is expected from then on."""
    asked: list[int] = []
    databases: Any = SimpleNamespace(are_synced=lambda: not asked.append(1), are_asked=True)
    readiness = Readiness(SimpleNamespace(is_declared=True), databases, ready, 0.0)  # type: ignore[arg-type]
    for _ in range(3):
        readiness()
    assert len(asked) == 3


def test_time_that_passes_before_databases_are_asked_is_not_given_to_them(
    ready: threading.Event,
) -> None:
    now = [0.0]
    databases: Any = SimpleNamespace(are_synced=lambda: False, are_asked=False)
    inventory: Any = SimpleNamespace(is_declared=True)
    readiness = Readiness(inventory, databases, ready, 5.0, now=lambda: now[0])
    seen = []
    for now[0] in (5.0, 20.0):
        readiness()
        seen.append(ready.is_set())
    databases.are_asked = True
    for now[0] in (21.0, 25.9, 26.1):
        readiness()
        seen.append(ready.is_set())
    assert seen == [False, False, False, False, True]


def test_bridges_are_written_to_in_the_end_although_databases_are_never_asked(
    ready: threading.Event,
) -> None:
    now = [0.0]
    databases: Any = SimpleNamespace(are_synced=lambda: False, are_asked=False)
    inventory: Any = SimpleNamespace(is_declared=True)
    readiness = Readiness(inventory, databases, ready, 5.0, now=lambda: now[0])
    for now[0] in (ASKED_S - 0.1, ASKED_S + 0.1):
        readiness()
    assert not ready.is_set()
    now[0] = ASKED_S + 5.2
    readiness()
    assert ready.is_set()


def upkeep(ready: threading.Event, done: list[Any], recheck_s: float) -> Upkeep:
    return Upkeep(
        ready=ready,
        writers=SimpleNamespace(recheck=done.append),  # type: ignore[arg-type]
        reconciler=SimpleNamespace(wait_settled=lambda _: done.append("settled")),  # type: ignore[arg-type]
        finalizer=SimpleNamespace(  # type: ignore[arg-type]
            finish_deletions=lambda: done.append("deletions"),
            release_numbers=lambda: done.append("numbers"),
        ),
        retries=(lambda: done.append("retry"),),
        recheck_s=recheck_s,
    )


def test_upkeep_waits_until_bridges_may_be_written_to(ready: threading.Event) -> None:
    done: list[Any] = []
    assert upkeep(ready, done, 0.0)() == START_S
    assert done == []


def test_upkeep_settles_before_it_finishes_what_waits_for_that(ready: threading.Event) -> None:
    done: list[Any] = []
    ready.set()
    assert upkeep(ready, done, 600.0)() == TICK_S
    assert done == ["retry", "settled", "deletions", "numbers"]


def test_every_tenth_recheck_reads_actions_too(ready: threading.Event) -> None:
    done: list[Any] = []
    ready.set()
    work = upkeep(ready, done, 0.0)
    for _ in range(ACTIONS_EVERY):
        work()
    rechecks = [each for each in done if isinstance(each, Depth)]
    assert rechecks == [Depth.COOKIES] * (ACTIONS_EVERY - 1) + [Depth.ACTIONS]


@pytest.mark.parametrize("problem", [Refused("the disk is full"), ValueError("a defect")])
def test_a_loop_goes_on_after_an_error_and_says_so(problem: Exception) -> None:
    problems = [problem, problem]
    done = threading.Event()

    def work() -> float:
        if problems:
            raise problems.pop()
        done.set()
        return 600.0

    with capture_logs() as logs:
        loop = Loop("test", work, retry_s=0.01)
        loop.start()
        assert done.wait(20)
        loop.stop()
    events = [entry["event"] for entry in logs]
    if isinstance(problem, Refused):
        assert events == ["periodic work not done"], "once while it stays the same"
    else:
        assert events == ["periodic work failed"] * 2


def test_a_loop_that_is_woken_works_at_once_and_one_that_is_stopped_ends() -> None:
    times: list[int] = []

    def work() -> float:
        times.append(1)
        return 600.0

    loop = Loop("test", work)
    loop.start()
    wait_for(lambda: len(times), (1).__eq__)
    loop.wake()
    wait_for(lambda: len(times), (2).__eq__)
    loop.stop()
    wait_for(loop._thread.is_alive, lambda there: not there)
    assert len(times) == 2


def test_a_loop_that_fails_waits_before_it_tries_again() -> None:
    times: list[int] = []

    def work() -> float:
        times.append(1)
        raise Refused("no")

    loop = Loop("test", work, retry_s=600.0)
    loop.start()
    wait_for(lambda: times, bool)
    loop.stop()
    assert len(times) == 1

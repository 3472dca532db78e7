"""A target that fails three times in a row is down, and up again with its first answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from controller.topology.probe import (
    FAILURES,
    INTERVAL_S,
    LONGEST_S,
    TIMEOUT_S,
    WORKERS_MAX,
    HealthProbe,
    connects,
)
from tests.ovs.waiting import wait_for

A, B = "tcp://192.0.2.1:1", "tcp://192.0.2.2:2"


class Targets:
    """Targets that answer, or do not; each question waits until ``go`` lets it."""

    def __init__(self) -> None:
        self.silent: set[str] = set()
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0
        self.go = threading.Event()
        self.go.set()
        self._lock = threading.Lock()

    def ask(self, target: str) -> bool:
        with self._lock:
            self.asked.append(target)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        assert self.go.wait(10)
        with self._lock:
            self.at_once -= 1
        if target == "tcp://broken:1":
            raise ValueError("a defect")
        return target not in self.silent


class Probing:
    """A probe of such targets, which writes down what was down at each change."""

    def __init__(self) -> None:
        self.targets, self.changes = Targets(), list[frozenset[str]]()
        self.probe: HealthProbe[str] = HealthProbe(self.changed, self.targets.ask, 0.01, 0.01)

    def changed(self) -> None:
        self.changes.append(self.probe.down)

    def wait_until_down(self, *keys: str) -> None:
        wait_for(lambda: self.probe.down, frozenset(keys).__eq__)


@pytest.fixture
def probing() -> Iterator[Probing]:
    started = Probing()
    yield started
    started.probe.stop()


def test_silence_is_noticed_and_told_and_so_is_an_answer(probing: Probing) -> None:
    probing.probe.watch({"a": A, "b": B})
    probing.targets.silent = {A}
    probing.wait_until_down("a")
    probing.targets.silent = set()
    probing.wait_until_down()
    wait_for(lambda: len(probing.changes), (2).__eq__)
    assert probing.changes == [{"a"}, frozenset()]


def test_fewer_failures_in_a_row_are_no_failure() -> None:
    answers = iter([False] * (FAILURES - 1) + [True] + [False] * (FAILURES - 1) + [True])
    done = threading.Event()

    def ask(target: str) -> bool:
        answer = next(answers, None)
        if answer is None:
            done.set()
        return answer is not False

    changes: list[None] = []
    probe: HealthProbe[str] = HealthProbe(lambda: changes.append(None), ask, 0.001, 0.001)
    probe.watch({"a": A})
    assert done.wait(10)
    probe.stop()
    assert (changes, probe.down) == ([], frozenset())


def test_a_target_that_swallows_everything_is_down_within_a_second() -> None:
    """With a moment for the plan that moves its share."""
    assert LONGEST_S == INTERVAL_S + FAILURES * TIMEOUT_S
    assert LONGEST_S <= 0.9


def test_a_target_that_refuses_at_once_has_as_long_to_recover_as_a_silent_one() -> None:
    asked: list[float] = []
    done = threading.Event()

    def ask(target: str) -> bool:
        asked.append(time.monotonic())
        return False

    probe: HealthProbe[str] = HealthProbe(done.set, ask, 10, 0.05)
    probe.watch({"a": A})
    assert done.wait(10)
    probe.stop()
    assert len(asked) == FAILURES
    assert asked[-1] - asked[0] >= 0.05 * (FAILURES - 1)


def test_keys_that_share_a_target_share_its_fate(probing: Probing) -> None:
    probing.targets.silent = {A}
    probing.probe.watch({"a": A, "same": A, "b": B})
    probing.wait_until_down("a", "same")
    probing.probe.watch({"a": B, "same": A})
    assert probing.probe.down == {"same"}
    probing.probe.watch({})
    assert probing.probe.down == frozenset()


def test_a_target_that_comes_back_begins_anew(probing: Probing) -> None:
    probing.targets.silent = {A}
    probing.probe.watch({"a": A})
    probing.wait_until_down("a")
    probing.probe.watch({})
    probing.targets.silent = set()
    probing.probe.watch({"a": A, "b": B})
    assert probing.probe.down == frozenset()
    before = len(probing.targets.asked)
    wait_for(lambda: probing.targets.asked[before:], lambda seen: A in seen and B in seen)


def test_no_more_threads_ask_than_are_allowed_and_watching_never_waits(probing: Probing) -> None:
    probing.targets.go.clear()
    probing.probe.watch({str(n): f"tcp://192.0.2.{n}:1" for n in range(100)})
    wait_for(lambda: probing.targets.at_once, WORKERS_MAX.__eq__)
    probing.probe.watch({"a": A})
    probing.targets.go.set()
    wait_for(lambda: probing.targets.asked.count(A), lambda count: count > 3)
    assert probing.targets.most_at_once == WORKERS_MAX


def test_a_defect_in_one_question_does_not_end_the_others(probing: Probing) -> None:
    probing.probe.watch({"broken": "tcp://broken:1", "a": A})
    probing.wait_until_down("broken")
    before = len(probing.targets.asked)
    wait_for(lambda: probing.targets.asked[before:], lambda seen: A in seen)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_whoever_accepts_a_connection_is_there(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.bind((host, 0))
        listening.listen()
        target = f"tcp://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        assert connects(target)
    assert not connects(target)

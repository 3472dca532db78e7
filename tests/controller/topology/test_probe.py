"""A target is down after three failures in a row, and up again after one answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from controller.topology.probe import (
    ADDRESS_PAUSE_S,
    FAILURES,
    INTERVAL_S,
    LONGEST_S,
    PROBE_TIMEOUT_S,
    TOTAL_PAUSE_S,
    WORKERS_MAX,
    HealthProbe,
    connects,
)
from tests.ovs.waiting import wait_for

NO_PAUSES = (0.0, 0.0)
A, B = "tcp://192.0.2.1:1", "tcp://192.0.2.2:2"


class Targets:
    """Targets that answer, or do not; each probe waits until ``go`` is set."""

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
    """A probe of such targets, which records what was down at each change."""

    def __init__(self) -> None:
        self.targets, self.changes = Targets(), list[frozenset[str]]()
        self.probe: HealthProbe[str] = HealthProbe(
            self.changed, self.targets.ask, 0.01, 0.01, NO_PAUSES
        )

    def changed(self) -> None:
        self.changes.append(self.probe.down)

    def wait_until_down(self, *keys: str) -> None:
        wait_for(lambda: self.probe.down, frozenset(keys).__eq__)


@pytest.fixture
def probing() -> Iterator[Probing]:
    started = Probing()
    yield started
    started.probe.stop()


def test_probes_begin_as_soon_as_a_thread_can_be_started(
    probing: Probing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    probing.targets.silent = {A}
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        probing.probe.watch({"a": A})
    assert not probing.targets.asked
    probing.probe.watch({"a": A})
    wait_for(lambda: probing.probe.down, lambda down: down == {"a"})


def test_silence_and_an_answer_are_noticed_and_reported(probing: Probing) -> None:
    probing.probe.watch({"a": A, "b": B})
    probing.targets.silent = {A}
    probing.wait_until_down("a")
    probing.targets.silent = set()
    probing.wait_until_down()
    wait_for(lambda: len(probing.changes), (2).__eq__)
    assert probing.changes == [{"a"}, frozenset()]


def test_fewer_failures_in_a_row_do_not_count() -> None:
    answers = iter([False] * (FAILURES - 1) + [True] + [False] * (FAILURES - 1) + [True])
    done = threading.Event()

    def ask(target: str) -> bool:
        answer = next(answers, None)
        if answer is None:
            done.set()
        return answer is not False

    changes: list[None] = []
    probe: HealthProbe[str] = HealthProbe(
        lambda: changes.append(None), ask, 0.001, 0.001, NO_PAUSES
    )
    probe.watch({"a": A})
    assert done.wait(10)
    probe.stop()
    assert (changes, probe.down) == ([], frozenset())


def test_a_silent_target_is_down_within_a_second() -> None:
    """Including some time for the plan that moves its share of the copies."""
    assert LONGEST_S == INTERVAL_S + FAILURES * PROBE_TIMEOUT_S
    assert LONGEST_S <= 0.9


def test_a_target_that_refuses_connections_has_as_long_to_recover_as_a_silent_one() -> None:
    asked: list[float] = []
    done = threading.Event()

    def ask(target: str) -> bool:
        asked.append(time.monotonic())
        return False

    probe: HealthProbe[str] = HealthProbe(done.set, ask, 10, 0.05, NO_PAUSES)
    probe.watch({"a": A})
    assert done.wait(10)
    probe.stop()
    assert len(asked) == FAILURES
    assert asked[-1] - asked[0] >= 0.05 * (FAILURES - 1)


def test_keys_that_share_a_target_share_its_state(probing: Probing) -> None:
    probing.targets.silent = {A}
    probing.probe.watch({"a": A, "same": A, "b": B})
    probing.wait_until_down("a", "same")
    probing.probe.watch({"a": B, "same": A})
    assert probing.probe.down == {"same"}
    probing.probe.watch({})
    assert probing.probe.down == frozenset()


def test_a_target_that_is_watched_again_starts_without_failures(probing: Probing) -> None:
    probing.targets.silent = {A}
    probing.probe.watch({"a": A})
    probing.wait_until_down("a")
    probing.probe.watch({})
    probing.targets.silent = set()
    probing.probe.watch({"a": A, "b": B})
    assert probing.probe.down == frozenset()
    before = len(probing.targets.asked)
    wait_for(lambda: probing.targets.asked[before:], lambda seen: A in seen and B in seen)


def test_the_number_of_workers_is_bounded_and_watch_never_blocks(probing: Probing) -> None:
    probing.targets.go.clear()
    probing.probe.watch({str(n): f"tcp://192.0.2.{n}:1" for n in range(100)})
    wait_for(lambda: probing.targets.at_once, WORKERS_MAX.__eq__)
    probing.probe.watch({"a": A})
    probing.targets.go.set()
    wait_for(lambda: probing.targets.asked.count(A), lambda count: count > 3)
    assert probing.targets.most_at_once == WORKERS_MAX


def test_a_defect_in_one_probe_does_not_end_the_others(probing: Probing) -> None:
    probing.probe.watch({"broken": "tcp://broken:1", "a": A})
    probing.wait_until_down("broken")
    before = len(probing.targets.asked)
    wait_for(lambda: probing.targets.asked[before:], lambda seen: A in seen)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_target_that_accepts_a_connection_is_up(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.bind((host, 0))
        listening.listen()
        target = f"tcp://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        assert connects(target)
    assert not connects(target)


LATE_S = 1.0
"""How late the thread of a probe may run on a busy machine."""


def probes_in(seconds: float, targets: list[str]) -> list[tuple[float, str]]:
    """When each target was probed, in the first seconds."""
    asked: list[tuple[float, str]] = []

    def ask(target: str) -> bool:
        asked.append((time.monotonic(), target))
        return False

    probe: HealthProbe[str] = HealthProbe(lambda: None, ask)
    probe.watch({target: target for target in targets})
    wait_for(lambda: asked and asked[-1][0] - asked[0][0] >= seconds, bool, 60)
    probe.stop()
    return asked


def test_an_address_is_probed_at_a_bounded_rate_whatever_its_ports() -> None:
    targets = [f"tcp://192.0.2.1:{port}" for port in range(1, 41)]
    asked = probes_in(6.0, targets)
    lasted = asked[-1][0] - asked[0][0]
    assert len(asked) <= (lasted + LATE_S) / ADDRESS_PAUSE_S + 2
    assert {target for _, target in asked[:50]} == set(targets), "each gets its turn"


def test_all_probes_together_have_a_bounded_rate() -> None:
    asked = probes_in(2.0, [f"tcp://192.0.2.{n}:1" for n in range(1, 255)])
    assert len(asked) <= (asked[-1][0] - asked[0][0] + LATE_S) / TOTAL_PAUSE_S + 2

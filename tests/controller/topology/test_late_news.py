"""News of bridges that are nobody's are looked at together, and ever later of a noisy one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from controller.topology.late_news import BACK_MAX_S, BACK_S, TOGETHER_S, LateNews
from flows.model import Dpid

NOISY, QUIET = Dpid(1), Dpid(2)
STEP_S = 0.01


class Looks:
    """News by a clock of the test: when they were looked at."""

    def __init__(self) -> None:
        self.now = 100.0
        self.at: list[float] = []
        self.news = LateNews(lambda: self.at.append(self.now), lambda: self.now)

    def go_on(self, seconds: float, *noisy: Dpid) -> None:
        """Let time pass; these bridges have news all the time."""
        for _ in range(round(seconds / STEP_S)):
            self.now += STEP_S
            for dpid in noisy:
                self.news.note(dpid)
            self.news.pass_on()


@pytest.fixture
def looks() -> Iterator[Looks]:
    made = Looks()
    yield made
    made.news.stop()


def test_the_first_news_count_at_once_and_the_next_soon(looks: Looks) -> None:
    looks.news.note(QUIET)
    assert looks.at == [looks.now]
    looks.news.note(QUIET)
    assert len(looks.at) == 1
    looks.go_on(2 * BACK_S)
    assert len(looks.at) == 2


def test_a_bridge_without_end_is_looked_at_ever_more_seldom(looks: Looks) -> None:
    looks.go_on(20 * BACK_MAX_S, NOISY)
    assert len(looks.at) < 30
    assert looks.at[-1] - looks.at[-2] == pytest.approx(BACK_MAX_S, abs=2 * STEP_S)
    before = len(looks.at)
    looks.go_on(BACK_MAX_S)
    assert len(looks.at) == before + 1, "what it said last counts in the end"
    looks.go_on(2 * BACK_MAX_S)
    looks.news.note(NOISY)
    assert looks.at[-1] == looks.now, "it was quiet"


def test_a_noisy_bridge_delays_no_other(looks: Looks) -> None:
    looks.go_on(10 * BACK_MAX_S, NOISY)
    looks.go_on(TOGETHER_S)
    looks.news.note(QUIET)
    assert looks.at[-1] == looks.now


def test_many_noisy_bridges_are_looked_at_together(looks: Looks) -> None:
    many = [Dpid(n) for n in range(10, 110)]
    looks.go_on(60, *many)
    assert len(looks.at) <= 60 / TOGETHER_S + 1


def test_a_bridge_that_is_gone_is_forgotten(looks: Looks) -> None:
    looks.news.note(NOISY)
    looks.news.note(NOISY)
    looks.news.forget(NOISY)
    looks.go_on(2 * BACK_MAX_S)
    assert len(looks.at) == 1

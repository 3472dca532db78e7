"""A port that is claimed at two places moves once it is heard at the second place only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from controller.reconcile import hearing as module
from controller.reconcile.hearing import AWAY_S, LISTEN_S, UNHEARD_S, Hearing
from controller.southbound import SwitchTimeout
from flows.compile import counted_by
from flows.model import Dpid, Placement, PortId, World
from flows.openflow import Match
from tests.flows.hand_made import S1, S2, at, vm, world

WEB = vm("web", at(S1, 1), 0x020000000001)
HERE, THERE = at(S1, 1), at(S2, 7)


@dataclass
class Bridge:
    """A connected bridge and the counters of its flows; it stands for its writer, too."""

    dpid: Dpid
    packets: dict[tuple[int, Match], int] = field(default_factory=dict)
    answers: bool = True
    fail: Callable[[], None] = lambda: None
    name: str = "s1"

    @property
    def switch(self) -> Bridge:
        return self

    def matched(self, table: int) -> dict[Match, int]:
        if not self.answers:
            self.fail()
            raise SwitchTimeout("s1", "list its counters", 10.0)
        return {match: n for (number, match), n in self.packets.items() if number == table}

    def nudge(self) -> None:
        self.matched(0)


class Listening:
    """A workload that is at S1 and claimed at S2, on a clock that only the test moves."""

    def __init__(self) -> None:
        self.time = 0.0
        self.port = next(iter(claimed().ports))
        self.bridges = {dpid: Bridge(dpid) for dpid in (S1, S2)}
        self.world = claimed()
        self.moved: list[tuple[PortId, Placement]] = []
        self.hearing = Hearing(
            lambda: cast(Any, SimpleNamespace(resolved=SimpleNamespace(world=self.world))),
            lambda dpids: cast(Any, [self.bridges[d] for d in sorted(dpids) if d in self.bridges]),
            self,
            lambda: self.time,
        )
        for place in (HERE, THERE):
            self.send(place, 0)

    def move(self, port: PortId, place: Placement) -> None:
        self.moved.append((port, place))

    def send(self, place: Placement, packets: int = 1) -> None:
        counts = self.bridges[place.dpid].packets
        key = counted_by(self.port, place.ofport)
        counts[key] = counts.get(key, 0) + packets

    def listen(self, seconds: float, *sending: Placement) -> None:
        """Let time pass while the workload sends from these places."""
        until = self.time + seconds
        while self.time < until:
            for place in sending:
                self.send(place)
            self.hearing()
            self.time += LISTEN_S


def claimed() -> World:
    of = world(WEB)
    return replace(of, contests={PortId("web"): (THERE,)})


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Listening:
    monkeypatch.setattr(module, "PUSHED_S", 0.0)
    return Listening()


def test_a_silent_claim_moves_nothing(listening: Listening) -> None:
    listening.listen(10, HERE)
    listening.listen(10)
    assert listening.moved == []


def test_a_workload_that_sends_from_both_stays(listening: Listening) -> None:
    listening.listen(20, HERE, THERE)
    assert listening.moved == []


def test_a_workload_that_sends_from_the_second_place_only_has_moved(listening: Listening) -> None:
    listening.listen(2, HERE)
    listening.listen(UNHEARD_S + 3 * LISTEN_S, THERE)
    assert listening.moved[0] == ("web", THERE)


def test_packets_that_a_flow_has_counted_before_are_not_heard(listening: Listening) -> None:
    listening.send(THERE, 500)
    listening.listen(10)
    assert listening.moved == []


def test_while_the_first_bridge_is_away_it_takes_longer(listening: Listening) -> None:
    listening.listen(1, HERE)
    away = listening.bridges.pop(S1)
    listening.listen(AWAY_S / 2, THERE)
    assert listening.moved == []
    listening.bridges[S1] = away
    listening.listen(2, HERE, THERE)
    del listening.bridges[S1]
    listening.listen(AWAY_S + 1, THERE)
    assert listening.moved[0] == ("web", THERE)


def test_a_claim_that_ends_is_forgotten(listening: Listening) -> None:
    listening.listen(UNHEARD_S / 2, THERE)
    listening.world = replace(listening.world, contests={})
    listening.listen(1, HERE)
    listening.world = claimed()
    listening.listen(UNHEARD_S, HERE)
    assert listening.moved == []


def test_a_bridge_that_does_not_answer_does_not_say_that_its_workload_is_silent(
    listening: Listening,
) -> None:
    listening.listen(1, HERE, THERE)
    listening.bridges[S1].answers = False
    listening.listen(AWAY_S / 2, HERE, THERE)
    assert listening.moved == []
    listening.bridges[S1].answers = True
    listening.listen(AWAY_S, HERE, THERE)
    assert listening.moved == []
    listening.bridges[S1].answers = False
    listening.listen(AWAY_S + 1, THERE)
    assert listening.moved[0] == ("web", THERE)


def test_a_bridge_that_does_not_answer_leaves_open_where_a_workload_is_and_that_is_said(
    listening: Listening,
) -> None:
    listening.listen(2, HERE)
    listening.bridges[S2].answers = False
    listening.listen(2, HERE)
    [said] = listening.hearing.silence_of(S2)
    assert "is not certain since" in said and "did not answer" in said
    assert listening.hearing.silences() == {"web": said}
    assert listening.hearing.silence_of(S1) == ()
    listening.bridges[S2].answers = True
    listening.listen(2, HERE)
    assert (listening.hearing.silence_of(S2), listening.hearing.silences()) == ((), {})


def test_who_is_claimed_no_more_leaves_nothing_open(listening: Listening) -> None:
    listening.bridges[S2].answers = False
    listening.listen(2, HERE)
    assert listening.hearing.silence_of(S2)
    listening.world = replace(listening.world, contests={})
    listening.listen(LISTEN_S, HERE)
    assert (listening.hearing.silence_of(S2), listening.hearing.silences()) == ((), {})


def test_without_a_flow_that_counts_nobody_is_silent(listening: Listening) -> None:
    listening.listen(1, HERE, THERE)
    listening.bridges[S1].packets.clear()
    listening.listen(AWAY_S / 2, THERE)
    assert listening.moved == []


def test_what_was_heard_elsewhere_long_ago_moves_nothing_when_its_bridge_goes_away(
    listening: Listening,
) -> None:
    listening.listen(1, HERE, THERE)
    listening.listen(3, HERE)
    listening.listen(AWAY_S + 1)
    del listening.bridges[S1]
    listening.listen(2 * AWAY_S)
    assert listening.moved == []


def test_a_bridge_is_away_since_it_went_and_not_since_its_workload_was_heard(
    listening: Listening,
) -> None:
    listening.listen(1, HERE, THERE)
    listening.listen(2, HERE)
    listening.listen(AWAY_S + 1)
    del listening.bridges[S1]
    listening.listen(AWAY_S / 2, THERE)
    assert listening.moved == []
    listening.listen(AWAY_S / 2 + 1, THERE)
    assert listening.moved[0] == ("web", THERE)


def test_a_place_is_away_since_it_went_and_not_since_another_one_was_heard(
    listening: Listening,
) -> None:
    listening.listen(1, HERE, THERE)
    listening.listen(AWAY_S + 1, HERE)
    listening.world = replace(listening.world, placements={})
    listening.listen(AWAY_S / 2, THERE)
    assert listening.moved == []
    listening.listen(AWAY_S / 2 + 1, THERE)
    assert listening.moved[0] == ("web", THERE)


def test_a_bridge_that_is_waited_for_in_vain_delays_others_a_tenth_of_the_time(
    listening: Listening,
) -> None:
    listening.listen(1, HERE, THERE)
    waited: list[float] = []

    def wait() -> None:
        waited.append(listening.time)
        listening.time += 10.0

    listening.bridges[S1].answers, listening.bridges[S1].fail = False, wait
    listening.listen(1000, HERE, THERE)
    assert 1 < len(waited) < 12

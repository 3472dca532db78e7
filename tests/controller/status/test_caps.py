"""The words about caps say what was shed, on which grounds."""

from __future__ import annotations

from dataclasses import replace

from controller.status import SessionCounters, caps_on, words_of_caps
from flows.model import Hop, Rate, RateUnit
from flows.openflow import MeterCount, PacketCount
from flows.plan import count_meter, port_meter
from flows.resolve import ResolvedWorld
from tests.flows.hand_made import S1, at, tap, vm, watch, world

OWN, SMALL = Rate(RateUnit.KBPS, 5000), Rate(RateUnit.PPS, 9)
OF = world(vm("web", at(S1, 1), 2), tap("ids", at(S1, 9)), watch("s", "web", to="ids"))


def test_a_session_without_caps_has_no_words() -> None:
    assert caps_on(OF.sessions[0], ResolvedWorld(OF)) == ()


def test_each_cap_is_named_with_what_was_shed() -> None:
    capped = replace(OF, sessions=(replace(OF.sessions[0], max_rate=OWN),), bridge_rate=SMALL)
    caps = caps_on(capped.sessions[0], ResolvedWorld(capped))
    words = words_of_caps(caps, 1, SessionCounters())
    assert "5000 kbps (its max_rate): 0 of 0 copies were shed here so far" in words
    assert "9 pps (`bridge_rate` of [bridges]): 0 copies of all sessions" in words


def test_the_share_of_a_slow_tap_port_takes_the_place_of_a_larger_cap() -> None:
    slow = replace(
        OF,
        sessions=(replace(OF.sessions[0], max_rate=OWN),),
        hops={at(S1, 9): Hop("s1", "ids", mtu=1500, rate_kbps=900)},
    )
    caps = caps_on(slow.sessions[0], ResolvedWorld(slow))
    counters = SessionCounters()
    number = port_meter(1, Rate(RateUnit.KBPS, 900)).number
    dropped = MeterCount(PacketCount(604, 60_400), PacketCount(543, 54_300))
    made = MeterCount(PacketCount(61, 6_100), PacketCount())
    counters.update({number: dropped, count_meter(1, is_tagged=False).number: made}, {})
    words = words_of_caps(caps, 1, counters)
    assert "900 kbps (what ports on the way send): 543 of 604 copies were shed here so far" in words
    assert counters.losses(1).by_reason == {"port_rate": 543}
    assert counters.made(1).packets == 61

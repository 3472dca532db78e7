"""What explain answers is what Open vSwitch itself says that it would do with the packet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

import pytest

from flows.compile import Survey
from flows.explain import explain
from flows.flow import is_ours, object_of
from flows.model import PortKind
from flows.pipeline import DELIVER
from tests.ovs.lab import Lab, ofproto_trace
from tests.ovs.stage import Stage
from tests.ovs.worlds import spoil
from tests.random_worlds import Sent, random_packets, random_world

WORLDS, PACKETS, SEED = 16, 40, 8800
VISIT = re.compile(rf"^\s*{DELIVER.number}\. .*cookie (0x[0-9a-f]+)", re.MULTILINE)
TOO_LONG = "not copied: it is longer than"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Lab() as lab:
        yield Stage(lab)


def delivered(text: str) -> set[int]:
    """The numbers of the sessions whose deliver flow a trace of Open vSwitch passes."""
    cookies = [int(cookie, 16) for cookie in VISIT.findall(text)]
    return {object_of(cookie) for cookie in cookies if is_ours(cookie)} - {0}


def compared(stage: Stage, seed: int, damage: str | None = None) -> Iterator[tuple[int, str]]:
    """For each packet: how many sessions copy it, and what is wrong when we and it disagree."""
    rng = Random(seed)
    world = random_world(rng, bridges=1)
    stage.install(world, spoil(damage) if damage else None)
    survey = Survey(world)
    (dpid,) = world.dpids or (None,)
    for sent in random_packets(rng, world, PACKETS):
        if dpid is None or not is_repeatable(sent):
            continue
        answers = explain(survey, sent.sender, sent.frame).answers
        number = world.numbers.session
        said = {
            number[a.session.id] for a in answers if a.is_copied or a.sentence.startswith(TOO_LONG)
        }
        place = world.placements[sent.sender.id]
        text = ofproto_trace(stage.names[dpid], place.ofport, sent.frame)
        wrong = f"{sent.kind} of {sent.sender.id}: we say {said}\n{text}"
        yield len(said), "" if said == delivered(text) else wrong


def is_repeatable(sent: Sent) -> bool:
    """Whether a trace teaches the switch nothing: it learns where unprotected senders are."""
    return sent.sender.kind is PortKind.VM and sent.sender.is_protected


def test_explain_agrees_with_the_trace_of_open_vswitch(stage: Stage) -> None:
    seen = [one for number in range(WORLDS) for one in compared(stage, SEED + number)]
    assert not [wrong for _, wrong in seen if wrong]
    assert sum(copies for copies, _ in seen) > WORLDS


@pytest.mark.parametrize("damage", ["copy-lost", "sender-not-watched"])
def test_a_switch_that_does_something_else_is_noticed(stage: Stage, damage: str) -> None:
    worlds = (compared(stage, SEED + number, damage) for number in range(WORLDS))
    assert any(wrong for seen in worlds for _, wrong in seen)

"""The answer of explain agrees with `ofproto/trace` of Open vSwitch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random

import pytest

from flows.explain import Answer, explain
from flows.model import ALL, Direction, Dpid, Mode, PortKind, World
from flows.openflow import Cookie, Flow
from flows.pipeline import DELIVER, EGRESS, FILTER, INGRESS
from flows.resolve import ResolvedWorld
from tests.generators.random_worlds import Sent, random_packets, random_world
from tests.ovs.bridge_ring import BridgeRing
from tests.ovs.lab import Lab, ofproto_trace
from tests.ovs.worlds import damage_all

WORLDS, PACKETS, SEED = 60, 40, 8800
VISIT = re.compile(r"^\s*\d+\. .*cookie (0x[0-9a-f]+)", re.MULTILINE)
NOT_SENT = ("not copied: it is longer than", "not copied: no sensor can get it")
"""Copies that the deliver table is asked for, and that are only counted."""
NONE = "no rule"


@pytest.fixture(scope="module")
def ring() -> Iterator[BridgeRing]:
    with Lab() as lab:
        yield BridgeRing(lab)


@dataclass(frozen=True)
class Made:
    """A copy: its session, bridge, direction, and the reason of the deciding flow."""

    session: int
    bridge: Dpid
    direction: Direction
    rule: str


def made_by(
    text: str, dpid: Dpid, flows: Mapping[Cookie, Flow], plain: Container[int]
) -> tuple[set[Made], set[str]]:
    """The copies that a trace of Open vSwitch makes, and all rules that rejected the packet.

    ``plain`` are the numbers of sessions that have no rules.
    """
    copies, rejected = set[Made](), set[str]()
    direction, rule = Direction.EGRESS, NONE
    for cookie in VISIT.findall(text):
        flow = flows.get(Cookie(int(cookie, 16)))
        if flow is None:
            continue
        if flow.table in (EGRESS.number, INGRESS.number):
            direction = Direction.EGRESS if flow.table == EGRESS.number else Direction.INGRESS
        elif flow.table == FILTER.number:
            rule = flow.why if flow.match.fields else NONE
            rejected |= {rule} if rule.endswith("reject") else set()
        elif flow.table == DELIVER.number and flow.owner:
            last = NONE if flow.owner in plain else rule
            copies.add(Made(flow.owner, dpid, direction, last))
    return copies, rejected


def explained_by(answer: Answer, world: World) -> Made:
    """A copy in an answer of explain, in the same form."""
    assert answer.bridge is not None, "somebody makes it"
    assert answer.direction is not None, "it is sent or received"
    number = world.numbers.session[answer.session.id]
    rule = NONE
    if answer.rule is not None:
        rule = f"{answer.direction.value} {reason_of(answer, world)}"
    return Made(number, answer.bridge, answer.direction, rule)


def reason_of(answer: Answer, world: World) -> str:
    """The reason of the flow of the deciding rule."""
    assert answer.rule is not None
    name = world.filter_by_id[answer.session.filter].name
    return f"rule {answer.rule.number} of filter {name}: {answer.rule.verdict.value}"


def compared(
    ring: BridgeRing, seed: int, damage: str | None = None
) -> Iterator[tuple[Counter[str], str]]:
    """For each packet: copies of explain by kind, and a text if explain and the trace differ."""
    rng = Random(seed)
    world = random_world(rng, bridges=1)
    ring.install(world, damage_all(damage) if damage else None)
    resolved = ResolvedWorld(world)
    (dpid,) = world.dpids or (None,)
    flows = {} if dpid is None else {f.cookie: f for f in ring.programs[dpid].flows}
    plain = {world.numbers.session[s.id] for s in world.sessions if s.filter == ALL}
    for sent in random_packets(rng, world, PACKETS):
        if dpid is None or not is_repeatable(sent):
            continue
        answers = explain(resolved, sent.sender, sent.frame).answers
        place = world.placements[sent.sender.id]
        text = ofproto_trace(ring.names[dpid], place.ofport, sent.frame)
        made, rejected = made_by(text, dpid, flows, plain)
        unsent = {
            world.numbers.session[a.session.id] for a in answers if a.sentence.startswith(NOT_SENT)
        }
        explained = {explained_by(answer, world) for answer in answers if answer.is_copied}
        # an exclusive session is not evaluated if one before it accepts everything
        copying = [a for a in answers if a.session.mode is Mode.COPY and not a.is_copied]
        against = {reason_of(a, world) for a in copying if a.rule is not None}
        is_right = (
            explained == {one for one in made if one.session not in unsent}
            and unsent <= {one.session for one in made}
            and all(any(words in seen for seen in rejected) for words in against)
        )
        kinds = Counter(
            f"{one.direction.value}, {'rule' if one.rule != NONE else NONE}" for one in explained
        )
        kinds["rejected"] = len(against)
        ours = f"{explained}, {unsent}, {against}"
        wrong = f"{sent.kind} of {sent.sender.id}: we say {ours}, not {made}\n{text}"
        yield kinds, "" if is_right else wrong


def is_repeatable(sent: Sent) -> bool:
    """Whether a trace teaches the switch nothing: it learns where unprotected senders are."""
    return sent.sender.kind is PortKind.VM and sent.sender.is_protected


def test_explain_agrees_with_the_trace_of_open_vswitch(ring: BridgeRing) -> None:
    seen = [one for number in range(WORLDS) for one in compared(ring, SEED + number)]
    assert not [wrong for _, wrong in seen if wrong]
    kinds = sum((kinds for kinds, _ in seen), Counter[str]())
    ends = [f"{end}, {rule}" for end in ("egress", "ingress") for rule in ("rule", NONE)]
    assert all(kinds[kind] >= 5 for kind in (*ends, "rejected")), kinds


@pytest.mark.parametrize("damage", ["copy-lost", "sender-not-watched"])
def test_a_switch_that_does_something_else_is_noticed(ring: BridgeRing, damage: str) -> None:
    worlds = (compared(ring, SEED + number, damage) for number in range(WORLDS))
    assert any(wrong for seen in worlds for _, wrong in seen)


@pytest.mark.parametrize("change", ["direction", "rule", "bridge"])
def test_an_answer_that_is_wrong_in_one_point_is_noticed(
    ring: BridgeRing, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sessions are right; bridge, direction or rule is not."""
    other: dict[str, object] = {
        "direction": Direction.EGRESS, "rule": "rule 7", "bridge": Dpid(0xDD),
    }  # fmt: skip
    whole = explained_by
    monkeypatch.setattr(
        f"{__name__}.explained_by",
        lambda answer, world: replace(whole(answer, world), **{change: other[change]}),
    )
    worlds = (compared(ring, SEED + number) for number in range(WORLDS))
    assert any(wrong for seen in worlds for _, wrong in seen)

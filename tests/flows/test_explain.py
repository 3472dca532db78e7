"""What `explain` answers agrees with the contract, on random worlds, and says why in words."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.compile import Survey
from flows.explain import explain
from flows.meaning import meaning
from flows.model import ALL, PortKind
from tests.random_worlds import random_packets, random_world


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**63))
def test_explain_agrees_with_the_contract(seed: int) -> None:
    rng = Random(seed)
    world = random_world(rng)
    survey = Survey(world)
    for sent in random_packets(rng, world, 4):
        if sent.sender.kind is not PortKind.VM:
            continue
        means = meaning(sent.frame, sent.sender, world)

        answers = explain(survey, sent.sender, sent.frame).answers

        assert {a.session.id for a in answers if a.is_copied} == means.copies
        for answer in answers:
            assert answer.sentence.startswith("copied" if answer.is_copied else "not copied: ")
            assert (answer.bridge is not None) == answer.is_copied
            if answer.is_copied and answer.session.filter != ALL:
                assert answer.rule is not None
                assert answer.rule.verdict.value == "accept"

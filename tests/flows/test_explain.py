"""What `explain` answers agrees with the contract, on random worlds, and says why in words."""

from __future__ import annotations

import dataclasses
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from netaddr import IPAddress

from flows.compile import Survey
from flows.explain.explain import explain
from flows.semantics.meaning import meaning
from flows.model.session import (
    ALL,
    Collector,
    CollectorId,
    Delivery,
    Dpid,
    Mode,
    Ofport,
    Oversize,
    PortKind,
    TenantName,
)
from tests.flows.hand_made import INGRESS, S1, at, packet, tap, vm, watch, world
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
            if " takes what " in answer.sentence:
                taker = answer.sentence.split("'")[1]
                assert taker in means.taken.values() and taker != answer.session.id
                assert answer.session.mode is Mode.EXCLUSIVE


def test_who_takes_a_packet_from_an_exclusive_session_is_named() -> None:
    here = world(
        vm("web", at(S1, 1), 0x020000000001), vm("db", at(S1, 2), 0x020000000002),
        tap("ids", at(S1, 9)),
        watch("first", "web", to="ids", exclusive=1), watch("copy", "web", to="ids"),
        watch("heard", "db", to="ids", direction=INGRESS, exclusive=2),
        watch("late", "web", "db", to="ids", exclusive=3),
    )  # fmt: skip
    sent = explain(Survey(here), here.ports[0], packet(0x020000000002, 0x020000000001))
    assert {a.session.name: a.sentence for a in sent.answers if not a.is_copied} == {
        "late": "not copied: exclusive session 'first' takes what web sends and exclusive session "
        "'heard' takes what db receives"
    }


def test_a_copy_that_is_too_long_for_its_path_is_not_called_a_copy() -> None:
    here = world(
        vm("web", at(S1, 1), 0x020000000001), vm("db", at(S1, 2), 0x020000000002),
        watch("far", "web", to="soc"),
    )  # fmt: skip
    soc = Collector(
        CollectorId("soc"), "soc", TenantName("red"), (IPAddress("192.0.2.9"),),
        delivery=Delivery.VXLAN, key=1,
    )  # fmt: skip
    skipping = dataclasses.replace(here.sessions[0], oversize=Oversize.SKIP)
    tunnels = {(Dpid(S1), Delivery.VXLAN): Ofport(31)}
    here = dataclasses.replace(here, collectors=(soc,), sessions=(skipping,), tunnels=tunnels)
    said = [
        explain(Survey(here), here.ports[0], packet(0x020000000002, 0x020000000001, bytes(size)))
        for size in (1400, 1500)
    ]
    assert [trace.answers[0].is_copied for trace in said] == [True, False]
    assert "longer than the 1464 bytes that fit" in said[1].answers[0].sentence

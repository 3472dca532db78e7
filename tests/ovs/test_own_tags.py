"""Frames that a workload tagged itself, over a link of a real Open vSwitch: one copy each."""

from __future__ import annotations

import pytest

from flows.model import Filter, FilterId, Rule, Session, TenantName, Verdict, World
from tests.flows.compile.test_own_tags import DNS, MATCHES, NOTHING, TAGGED, TAGS, frame, rules
from tests.flows.hand_made import S1, S2, at, cable, tap, vm, watch, world
from tests.ovs.lab import Lab
from tests.ovs.workload_bridges import DB, WEB, WorkloadBridges

PAIR = (vm("web", at(S1, 1), WEB), vm("db", at(S2, 1), DB))


def filtered(name: str, egress: tuple[Rule, ...], ingress: tuple[Rule, ...]) -> Filter:
    return Filter(FilterId(name), name, TenantName("red"), egress=egress, ingress=ingress)


def linked(*things: Filter | Session) -> World:
    taps = (tap("ids", at(S2, 5)), tap("soc", at(S1, 5)))
    return world(*PAIR, *taps, cable(at(S1, 21), at(S2, 22)), *things)


@pytest.mark.parametrize("ingress", ["nothing", "DNS", "tagged", "all"])
def test_both_ends_are_watched(lab: Lab, ingress: str) -> None:
    bridges = WorkloadBridges(lab, bridges=2)
    wanted = filtered("f", rules(DNS), rules(MATCHES[ingress]))
    bridges.install(linked(wanted, watch("s", "web", "db", to="ids", wanted=wanted)))
    for name in ("none", "one", "another", "priority"):
        sent = frame(TAGS[name])
        got = bridges.send(S1, 1, sent)
        assert got == {(S2, 1): [sent], (S2, 5): [sent]}, name


def test_rules_of_the_receiver_read_the_tag_and_what_is_in_it(lab: Lab) -> None:
    bridges = WorkloadBridges(lab, bridges=2)
    dns, tagged = filtered("dns", (), rules(DNS)), filtered("tagged", (), rules(TAGGED))
    nothing = filtered("nothing", (), (*rules(NOTHING), Rule(2, Verdict.REJECT)))
    bridges.install(
        linked(
            *(dns, tagged, nothing),
            watch("s", "db", to="ids", wanted=dns),
            watch("t", "db", to="soc", wanted=tagged),
            watch("u", "db", to="soc", wanted=nothing),
        )
    )
    for name, tags in TAGS.items():
        sent = frame(tags)
        got = bridges.send(S1, 1, sent)
        expected = {(S2, 1): [sent]}
        if name != "two":
            expected[S2, 5] = [sent]
        if name != "none":
            expected[S1, 5] = [sent]
        assert got == expected, name

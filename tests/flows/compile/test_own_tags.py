"""Frames that a workload tagged itself, over a link: one copy, whatever the rules of either end."""

from __future__ import annotations

import pytest

from flows.model import Filter, FilterId, PortRange, Rule, RuleMatch, Tagged, TenantName, Verdict
from tests import frames
from tests.flows.hand_made import EGRESS, INGRESS, S1, S2, S3, at, cable, received, tap, vm, world
from tests.flows.hand_made import watch as session

WEB, DB = 0x020000000001, 0x020000000002
DNS = RuleMatch(protocol=17, destination_port=(PortRange(53, 53),))
TAGGED = RuleMatch(vlan=Tagged.ANY)
NINE = RuleMatch(vlan=9, protocol=17)
NOTHING = RuleMatch(protocol=6)
MATCHES = {"DNS": DNS, "tagged": TAGGED, "tag 9": NINE, "nothing": NOTHING, "all": RuleMatch()}
TAGS = {
    "none": (),
    "one": ((0x8100, 9),),
    "another": ((0x8100, 8),),
    "two": ((0x88A8, 9), (0x8100, 3)),
    "priority": ((0x8100, 0xE000),),
}


def rules(accepted: RuleMatch) -> tuple[Rule, ...]:
    return (Rule(1, Verdict.ACCEPT, accepted),)


def frame(tags: tuple[tuple[int, int], ...]) -> bytes:
    body = frames.ipv4("10.0.0.1", "10.0.0.2", 17, frames.udp(40_000, 53, bytes(20)))
    return frames.pad(frames.ethernet(DB, WEB, 0x0800, body, tags))


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("egress", MATCHES)
@pytest.mark.parametrize("ingress", MATCHES)
@pytest.mark.parametrize("exclusive", [None, 10])
def test_both_ends_are_watched(tags: str, egress: str, ingress: str, exclusive: int | None) -> None:
    wanted = Filter(
        FilterId("f"), "f", TenantName("red"),
        egress=rules(MATCHES[egress]), ingress=rules(MATCHES[ingress]),
    )  # fmt: skip
    of = world(
        vm("web", at(S1, 1), WEB), vm("db", at(S3, 1), DB), tap("ids", at(S2, 5)), wanted,
        cable(at(S1, 9), at(S2, 9)), cable(at(S2, 8), at(S3, 8)),
        session("s", "web", "db", to="ids", wanted=wanted, exclusive=exclusive),
    )  # fmt: skip
    assert received(of, "web", frame(TAGS[tags]))["ids"] <= 1


@pytest.mark.parametrize("tags", TAGS)
def test_rules_of_the_receiver_read_what_the_workload_sent(tags: str) -> None:
    dns, all_tagged = (
        Filter(FilterId(name), name, TenantName("red"), ingress=rules(match))
        for name, match in (("dns", DNS), ("tagged", TAGGED))
    )
    of = world(
        vm("web", at(S1, 1), WEB), vm("db", at(S2, 1), DB), tap("ids", at(S2, 5)),
        tap("soc", at(S1, 5)), dns, all_tagged, cable(at(S1, 9), at(S2, 9)),
        session("s", "db", to="ids", wanted=dns, direction=INGRESS),
        session("t", "db", to="soc", wanted=all_tagged, direction=INGRESS),
        session("u", "web", to="soc", wanted=dns, direction=EGRESS),
    )  # fmt: skip
    seen = received(of, "web", frame(TAGS[tags]))
    assert seen["ids"] == (tags != "two"), "the inner tag hides the packet from every switch"
    assert seen["soc"] == (tags != "none")

"""The check of the scenarios detects every missing, extra and lost frame."""

from __future__ import annotations

from collections import Counter

import pytest
from scenario import frames
from scenario.check import Comparison, compare
from scenario.model import Scenario, Session, TapPort, Workload

SCENARIO = Scenario(
    name="small",
    workloads=(
        Workload("red", "web-1", "s1-eth1", "02:00:00:00:00:01", "10.0.0.1"),
        Workload("red", "web-2", "s1-eth2", "02:00:00:00:00:02", "10.0.0.2"),
        Workload("red", "lb", "s1-eth3", "02:00:00:00:00:03", "10.0.0.3", is_learned=True),
        Workload("blue", "web-1", "s1-eth5", "02:00:00:00:00:01", "10.0.0.1"),
        Workload("blue", "web-2", "s1-eth6", "02:00:00:00:00:02", "10.0.0.2"),
    ),
    tap_ports=(TapPort("red", "ids", "s1-eth4"), TapPort("blue", "ids", "s1-eth8")),
    sessions=(
        Session("red", "both", sources=("web-1", "web-2"), direction="both", tap_port="ids"),
        Session("blue", "received", sources=("web-2",), direction="ingress", tap_port="ids"),
    ),
)
ONE, TWO, LB = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"
LETTER = frames.ethernet(TWO, ONE, frames.EXPERIMENT, b"letter")
CALL = frames.ethernet(frames.BROADCAST, ONE, frames.EXPERIMENT, b"call")


def check(sent: dict[tuple[str, bytes], int], received: dict[tuple[str, bytes], int]) -> Comparison:
    return compare(SCENARIO, Counter(sent), Counter(received), frames.kind_of)


def test_a_frame_between_two_watched_ports_makes_one_copy() -> None:
    sent = {("red_web1", LETTER): 1}
    right = {("red_web2", LETTER): 1, ("red_ids", LETTER): 1}

    assert check(sent, right).is_clean
    assert check(sent, right | {("red_ids", LETTER): 2}).count("extra") == 1
    assert check(sent, right | {("red_ids", LETTER): 0}).count("missing") == 1


def test_a_production_frame_that_does_not_arrive_is_lost_and_one_too_many_is_extra() -> None:
    sent = {("red_web1", CALL): 1}
    right = {(host, CALL): 1 for host in ("red_web2", "red_lb", "red_ids")}

    assert check(sent, right).is_clean
    assert check(sent, right | {("red_lb", CALL): 0}).count("lost") == 1
    assert check(sent, right | {("red_lb", CALL): 2}).count("extra") == 1
    assert check(sent, right | {("red_web1", CALL): 1}).count("extra") == 1


@pytest.mark.parametrize("host", ["blue_web1", "blue_web2", "blue_ids"])
def test_a_frame_that_crosses_to_the_other_tenant_is_extra(host: str) -> None:
    right = {("red_web2", LETTER): 1, ("red_ids", LETTER): 1}

    comparison = check({("red_web1", LETTER): 1}, right | {(host, LETTER): 1})

    assert [(f.what, f.host, f.senders) for f in comparison.deviations] == [
        ("extra", host, ("red_web1",))
    ]


def test_equal_frames_of_both_tenants_are_counted_apart() -> None:
    sent = {("red_web1", LETTER): 2, ("blue_web1", LETTER): 1}
    right = {
        ("red_web2", LETTER): 2,
        ("red_ids", LETTER): 2,
        ("blue_web2", LETTER): 1,
        ("blue_ids", LETTER): 1,
    }

    assert check(sent, right).is_clean
    swapped = check(sent, right | {("red_ids", LETTER): 1, ("blue_ids", LETTER): 2})
    assert (swapped.count("missing"), swapped.count("extra")) == (1, 1)


def test_a_copy_with_one_byte_changed_is_missing_and_extra() -> None:
    changed = LETTER[:-1] + b"!"

    comparison = check(
        {("red_web1", LETTER): 1}, {("red_web2", LETTER): 1, ("red_ids", changed): 1}
    )

    assert (comparison.count("missing"), comparison.count("extra")) == (1, 1)


def test_what_a_tap_port_sends_and_what_has_a_forged_sender_must_go_nowhere() -> None:
    forged = frames.ethernet(TWO, LB, frames.EXPERIMENT, b"forged")

    assert check({("blue_ids", CALL): 1}, {}).is_clean
    assert check({("blue_ids", CALL): 1}, {("blue_web1", CALL): 1}).count("extra") == 1
    assert check({("blue_web1", forged): 1}, {}).is_clean
    assert check({("blue_web1", forged): 1}, {("blue_web2", forged): 1}).count("extra") == 1


def test_a_frame_to_a_learned_address_may_be_flooded_and_is_then_copied_for_its_receivers() -> None:
    story_from_lb = frames.ethernet(LB, TWO, frames.EXPERIMENT, b"to the balancer")
    sent = {("red_web2", story_from_lb): 1}
    direct = {("red_lb", story_from_lb): 1, ("red_ids", story_from_lb): 1}

    assert check(sent, direct).is_clean
    assert check(sent, direct | {("red_web1", story_from_lb): 1}).is_clean
    assert check(sent, {("red_ids", story_from_lb): 1}).count("lost") == 1

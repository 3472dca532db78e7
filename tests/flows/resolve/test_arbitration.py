"""Starvation: which sessions take every packet of a port before another, known from the world."""

from __future__ import annotations

from random import Random

import pytest

from flows.model import (
    Direction,
    Filter,
    FilterId,
    PortId,
    PortKind,
    Rule,
    SessionId,
    TenantName,
    Verdict,
    World,
)
from flows.resolve import ResolvedWorld
from flows.semantics import meaning
from tests.flows.hand_made import (
    BOTH,
    EGRESS,
    INGRESS,
    S1,
    S2,
    at,
    cable,
    tap,
    vm,
    watch,
    world,
)
from tests.generators.random_worlds import random_packets, random_world

WORLDS, PACKETS = 150, 24
PORTS = (vm("web", at(S1, 1), 0x02_0000_000001), vm("db", at(S1, 2), 0x02_0000_000002))
TAPS = (tap("a", at(S1, 7)), tap("b", at(S1, 8)), tap("c", at(S1, 9)))
EVERYTHING = (Rule(1, Verdict.ACCEPT),)
WANTED = Filter(FilterId("f"), "f", TenantName("red"), EVERYTHING, EVERYTHING)


def starved_by(of: World, name: str, port: str = "web") -> dict[Direction, str]:
    """The sessions that take every packet of a port before one, by direction."""
    resolved = ResolvedWorld(of)
    resolved_session = resolved.sessions[SessionId(name)]
    found = resolved.starving_sessions(resolved_session, of.port_by_id[PortId(port)])
    return {direction: str(taker.name) for direction, taker in found.items()}


def test_a_session_with_a_lower_number_and_no_filter_starves_those_after_it() -> None:
    of = world(
        *PORTS, *TAPS,
        watch("first", "web", to="a", exclusive=10),
        watch("second", "web", "db", to="b", exclusive=20),
        watch("third", "web", to="c", exclusive=30),
    )  # fmt: skip
    for name in ("second", "third"):
        assert starved_by(of, name) == {EGRESS: "first", INGRESS: "first"}
    assert starved_by(of, "first") == {}
    assert starved_by(of, "second", "db") == {}, "nobody else watches it"


@pytest.mark.parametrize(
    ("first", "second", "by"),
    [
        (BOTH, EGRESS, {EGRESS: "first"}),
        (BOTH, INGRESS, {INGRESS: "first"}),
        (EGRESS, EGRESS, {EGRESS: "first"}),
        (INGRESS, INGRESS, {INGRESS: "first"}),
        (EGRESS, INGRESS, {}),
        (INGRESS, EGRESS, {}),
        (EGRESS, BOTH, {}),
        (INGRESS, BOTH, {}),
    ],
)
def test_a_session_that_gets_packets_in_one_direction_is_not_starved(
    first: Direction, second: Direction, by: dict[Direction, str]
) -> None:
    of = world(
        *PORTS, *TAPS,
        watch("first", "web", to="a", direction=first, exclusive=10),
        watch("second", "web", to="b", direction=second, exclusive=20),
    )  # fmt: skip
    assert starved_by(of, "second") == by


def test_two_sessions_may_starve_a_third_in_one_direction_each() -> None:
    of = world(
        *PORTS, *TAPS,
        watch("sent", "web", to="a", direction=EGRESS, exclusive=10),
        watch("received", "web", to="b", direction=INGRESS, exclusive=20),
        watch("rest", "web", to="c", exclusive=30),
    )  # fmt: skip
    assert starved_by(of, "rest") == {EGRESS: "sent", INGRESS: "received"}


@pytest.mark.parametrize("what", ["copy", "filtered", "off", "gone", "apart", "later"])
def test_a_session_that_does_not_take_everything_starves_no_other(what: str) -> None:
    first = {
        "copy": watch("first", "web", to="a"),
        "filtered": watch("first", "web", to="a", exclusive=10, wanted=WANTED),
        "off": watch("first", "web", to="a", exclusive=10, enabled=False),
        "gone": watch("first", "web", to="gone", exclusive=10),
        "apart": watch("first", "web", to="far", exclusive=10),
        "later": watch("first", "web", to="a", exclusive=30),
    }[what]
    of = world(
        *PORTS, *TAPS, tap("gone", None), tap("far", at(S2, 7)), WANTED, first,
        watch("second", "web", to="b", exclusive=20),
    )  # fmt: skip
    assert starved_by(of, "second") == {}


def test_a_session_after_a_filtered_one_starves_those_after_itself() -> None:
    of = world(
        vm("web", at(S1, 1), 0x02_0000_000001), *TAPS, vm("db", at(S2, 2), 0x02_0000_000002),
        cable(at(S1, 21), at(S2, 22)), WANTED,
        watch("some", "web", "db", to="a", exclusive=10, wanted=WANTED),
        watch("all", "web", "db", to="b", exclusive=20),
        watch("rest", "web", "db", to="c", exclusive=30),
    )  # fmt: skip
    for port in ("web", "db"):
        assert starved_by(of, "rest", port) == {EGRESS: "all", INGRESS: "all"}
        assert starved_by(of, "all", port) == {}


def test_a_starved_session_gets_no_copy_of_any_random_packet() -> None:
    taken = starved = 0
    for seed in range(WORLDS):
        rng = Random(seed)
        of = random_world(rng)
        resolved = ResolvedWorld(of)
        ports_by_session = {s.session.id: s.watched for s in resolved.served if s.is_exclusive}
        by = {
            (session, port.id, direction): taker.id
            for session, ports in ports_by_session.items()
            for port in ports
            for direction, taker in resolved.starving_sessions(
                resolved.sessions[session], port
            ).items()
        }
        nothing = {
            session
            for session, ports in ports_by_session.items()
            if all(any((session, p.id, d) in by for d in (EGRESS, INGRESS)) for p in ports)
        }
        rank = {s.id: (s.number, of.numbers.session[s.id]) for s in of.sessions}
        learned = None
        for sent in random_packets(rng, of, PACKETS):
            if sent.sender.kind is not PortKind.VM:
                continue
            means = meaning(sent.frame, sent.sender, of, learned)
            learned = means.learned
            touched = {(sent.sender.id, EGRESS), *((port, INGRESS) for port in means.receivers)}
            for (session, port, direction), taker in by.items():
                if (port, direction) in touched:
                    winner = means.taken[port, direction]
                    assert rank[winner] <= rank[taker] < rank[session], (seed, sent.kind)
                    taken += 1
            assert not nothing & means.copies, (seed, sent.kind)
            starved += len(nothing)
    assert taken > 100 and starved > 100, "too few cases happened in the random worlds"

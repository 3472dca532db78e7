"""Ways of copies that are closed while a bridge cannot be told: what comes by them is counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.compile import Program
from flows.model import Session, World
from flows.openflow import IN_PORT, Flow, Metered
from flows.pipeline import START
from flows.plan import dropped_meter
from flows.resolve import ResolvedWorld
from tests.flows.hand_made import S1, S2, at, cable, tap, vm, watch, world

WEB, DB = vm("web", at(S1, 1), 0x020000000001), vm("db", at(S2, 1), 0x020000000002)
SOC, LINK = tap("soc", at(S2, 2)), cable(at(S1, 9), at(S2, 9))
ONE, OTHER = watch("one", "web", to="soc"), watch("other", "web", to="soc")
HAVING = world(WEB, DB, SOC, LINK, ONE, OTHER)
NUMBER = HAVING.numbers.session


def having(*sessions: Session, untold: tuple[Session, ...] = (), of: World = HAVING) -> World:
    numbers = frozenset(NUMBER[session.id] for session in untold)
    return replace(of, sessions=sessions, untold=numbers)


class Bridge:
    """The bridge of the sensor, brought from one world to the next."""

    def __init__(self, *, has_meters: bool = True) -> None:
        self.program = Program(S2)
        self.program.has_meters = has_meters
        self.resolved: ResolvedWorld | None = None

    def follow(self, of: World, *, is_new: bool = False) -> None:
        """Compile the difference, or everything if it is a new world."""
        self.resolved = ResolvedWorld(of, None if is_new else self.resolved)
        if not self.program.follows(self.resolved):
            self.program.update(self.resolved)

    def flows(self, priority: str) -> list[Flow]:
        wanted = START[priority]
        return [f for f in self.program.flows if (f.table, f.priority) == (0, wanted)]

    @property
    def counted(self) -> set[int]:
        """The sessions whose dropped copies are counted; each by a flow and its meter."""
        meters = [
            a.meter for f in self.flows("closed") for a in f.actions if isinstance(a, Metered)
        ]
        found = {NUMBER[s] for s in NUMBER if dropped_meter(NUMBER[s]).number in meters}
        assert set(meters) == {dropped_meter(number).number for number in found}
        assert set(meters) <= self.program.meters.keys()
        kept = {dropped_meter(n).number for n in NUMBER.values()} & self.program.meters.keys()
        assert kept == set(meters)
        return found


@pytest.mark.parametrize("is_new", [False, True])
def test_what_comes_by_a_closed_way_is_counted_until_all_bridges_were_told(is_new: bool) -> None:
    bridge = Bridge()
    bridge.follow(having(ONE))
    [way] = bridge.flows("transport")
    bridge.follow(having(untold=(ONE,)), is_new=is_new)
    assert not bridge.flows("transport")
    [closed] = bridge.flows("closed")
    assert closed.match == way.match and bridge.counted == {NUMBER[ONE.id]}
    bridge.follow(having(untold=(ONE, OTHER)), is_new=is_new)
    assert bridge.counted == {NUMBER[ONE.id]}
    bridge.follow(having(), is_new=is_new)
    assert not bridge.counted


def test_nothing_is_counted_if_nobody_is_untold() -> None:
    bridge = Bridge()
    bridge.follow(having(ONE))
    bridge.follow(having(untold=(OTHER,)))
    assert not bridge.counted
    assert not bridge.flows("transport")


def test_a_bridge_without_meters_counts_nothing() -> None:
    bridge = Bridge(has_meters=False)
    bridge.follow(having(ONE))
    bridge.follow(having(untold=(ONE,)))
    assert not bridge.flows("closed")


def test_a_way_that_is_open_for_another_session_counts_nothing() -> None:
    bridge = Bridge()
    bridge.follow(having(ONE, OTHER))
    bridge.follow(having(OTHER, untold=(ONE, OTHER)))
    assert bridge.flows("transport") and not bridge.counted


@pytest.mark.parametrize("untold", [(ONE,), (OTHER,), (ONE, OTHER)])
def test_copies_are_counted_only_if_it_is_certain_whose_they_are(
    untold: tuple[Session, ...],
) -> None:
    bridge = Bridge()
    bridge.follow(having(ONE, OTHER))
    bridge.follow(having(OTHER, untold=untold))
    bridge.follow(having(untold=untold))
    certain = {NUMBER[session.id] for session in untold}
    assert bridge.counted == (certain if len(untold) == 1 else set())
    bridge.follow(having(untold=(ONE,)))
    bridge.follow(having(ONE, untold=(ONE,)))
    assert bridge.flows("transport") and not bridge.counted
    bridge.follow(having(untold=(ONE,)))
    assert bridge.counted == {NUMBER[ONE.id]}


def test_another_tag_closes_the_way_of_the_old_one() -> None:
    bridge = Bridge()
    bridge.follow(having(ONE))
    [old] = bridge.flows("transport")
    numbers = replace(HAVING.numbers, tag={**HAVING.numbers.tag, "tap-7:soc": 99})
    tagged = replace(
        HAVING, numbers=numbers, collectors=(replace(HAVING.collectors[0], tenant_tag=7),)
    )
    bridge.follow(having(ONE, untold=(ONE,), of=tagged))
    [new] = bridge.flows("transport")
    [closed] = bridge.flows("closed")
    assert closed.match == old.match != new.match
    assert bridge.counted == {NUMBER[ONE.id]}


def test_another_tenant_at_the_tap_port_closes_the_way_of_the_first_one() -> None:
    """Red's copies are counted where they are dropped, though blue's come to the same port."""
    bridge = Bridge()
    app = vm("app", at(S1, 3), 0x020000000003, network="blue-lan")
    bridge.follow(world(WEB, DB, app, SOC, LINK, ONE))
    [old] = bridge.flows("transport")
    theirs = watch("theirs", "app", to="soc", tenant="blue")
    then = world(WEB, DB, app, tap("soc", at(S2, 2), "blue"), LINK, ONE, theirs)
    numbers = replace(then.numbers, tag={**then.numbers.tag, "tap:soc": 99})
    untold = frozenset({NUMBER[ONE.id]})
    bridge.follow(replace(then, numbers=numbers, untold=untold), is_new=True)
    [new] = bridge.flows("transport")
    [closed] = bridge.flows("closed")
    assert closed.match == old.match != new.match
    assert bridge.counted == untold


def test_a_port_that_is_no_link_any_more_keeps_its_frames() -> None:
    """Whatever is at the port of a link by now: what it sends is not counted as copies."""
    bridge = Bridge()
    bridge.follow(having(ONE))
    elsewhere = world(
        WEB, DB, SOC, cable(at(S1, 9), at(S2, 8)), vm("app", at(S2, 9), 3), ONE, OTHER
    )
    bridge.follow(replace(elsewhere, sessions=(), untold=frozenset(NUMBER.values())), is_new=True)
    assert not bridge.flows("closed")
    assert START["closed"] < START["workload"]
    assert [f for f in bridge.flows("workload") if IN_PORT.eq(9) in f.match.terms]

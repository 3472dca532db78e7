"""Rules that nothing refers to are sent in parts; between two parts others get what they want."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from controller.reconcile.bridge import Depth
from controller.store import FilterRecord
from controller.syntax import read_rules
from flows.compile import FLOWS_TOGETHER
from flows.model import Dpid, Filter, FilterId, Rule, SessionId
from flows.openflow import is_ours
from flows.pipeline import FILTER
from tests.controller.rig import RED, Rig
from tests.fake_switches.faults import refuse_nth
from tests.ovs.waiting import wait_for

SYNC_S = 60.0
PARTS = 3
COUNT = PARTS * FLOWS_TOGETHER - 10


def numbered(count: int, action: str) -> tuple[Rule, ...]:
    """So many rules with one flow each."""
    return read_rules(
        "egress",
        [
            {"number": n, "action": action, "match": {"eth_type": f"{0x9000 + n:#x}"}}
            for n in range(1, count + 1)
        ],
    )


LONG = Filter(FilterId("long"), "long", RED, egress=numbered(COUNT, "accept"))


class Seen(NamedTuple):
    """What switch s1 had when something was sent to it."""

    rules: int
    copied: int
    """Sessions that are copied."""
    is_whole: bool
    """Whether the newest version of the world was confirmed."""
    is_whole_for_plain: bool
    """Whether it was for the session that has no filter."""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A session with thousands of rules on the first bridge."""
    built = Rig(tmp_path)
    built.store.filters.add(LONG, "test")
    built.add_session("long", "a", tap="t1")
    set_filter(built, LONG.id)
    for n in (1, 2, 3):
        built.connect(n)
    assert built.reconciler.sync(SYNC_S)
    yield built
    built.close()


def set_filter(rig: Rig, wanted: str) -> None:
    rig.store.sessions.change(
        SessionId("long"),
        lambda record: replace(record, session=replace(record.session, filter=FilterId(wanted))),
        "test",
    )


def change_rules(rig: Rig, rules: tuple[Rule, ...]) -> Filter:
    def change(record: FilterRecord) -> FilterRecord:
        return replace(record, filter=replace(record.filter, egress=rules))

    return rig.store.filters.change(LONG.id, change, "test").filter


def rules_on(rig: Rig) -> int:
    """How many rules of filters switch s1 has."""
    entries = list(rig.models[1].tables.flows.values())
    return sum(e.table == FILTER.number and e.priority > 0 and is_ours(e.cookie) for e in entries)


def watch(rig: Rig, react: Callable[[Seen], None] = lambda seen: None) -> list[Seen]:
    """Note what switch s1 has whenever something is sent to it."""
    found: list[Seen] = []

    def look(dpid: int) -> None:
        if dpid == 1:
            [writer] = rig.writers.find([Dpid(1)])
            version, plain = rig.changes.version, {SessionId("plain")}
            found.append(
                Seen(
                    rules_on(rig),
                    len(rig.copying(1)),
                    writer.has_tried(version),
                    writer.has_tried(version, plain),
                )
            )
            react(found[-1])

    rig.on_send = look
    return found


def wait_at_rest(rig: Rig) -> None:
    [writer] = rig.writers.find([Dpid(1)])
    wait_for(lambda: writer.has_unreferenced, lambda has_any: not has_any, SYNC_S)
    wait_for(lambda: rig.missing(1), lambda missing: not missing, SYNC_S)
    wait_for(lambda: rig.reconciler.sync(SYNC_S), bool, SYNC_S)


def test_a_session_of_another_is_served_while_rules_come(rig: Rig) -> None:
    def add_one(seen: Seen) -> None:
        if seen.rules > COUNT and len(rig.store.sessions.all()) == 1:
            rig.add_session("plain", "a", tap="t1")
            rig.changes.changed()

    found = watch(rig, add_one)
    change_rules(rig, numbered(COUNT, "reject"))
    assert rig.reconciler.sync(SYNC_S)
    wait_at_rest(rig)

    between = [s for s in found if COUNT < s.rules < 2 * COUNT and s.copied == 2]
    assert any(s.is_whole_for_plain and not s.is_whole for s in between), found


def test_a_change_is_confirmed_before_the_old_rules_go(rig: Rig) -> None:
    found = watch(rig)
    change_rules(rig, numbered(COUNT, "reject"))
    assert rig.reconciler.sync(SYNC_S)
    wait_at_rest(rig)

    going = [s for before, s in itertools.pairwise(found) if s.rules < before.rules]
    assert going and all(s.is_whole for s in going), found


def test_a_session_of_another_is_served_while_rules_go(rig: Rig) -> None:
    def add_one(seen: Seen) -> None:
        if seen.is_whole and seen.rules < COUNT and len(rig.store.sessions.all()) == 1:
            rig.add_session("plain", "a", tap="t1")
            rig.changes.changed()

    set_filter(rig, "all")
    found = watch(rig, add_one)
    assert rig.reconciler.sync(SYNC_S)
    wait_at_rest(rig)

    assert any(0 < s.rules < COUNT and s.copied == 2 and s.is_whole for s in found), found


def test_rules_that_change_again_while_they_come(rig: Rig) -> None:
    """Those of the edition in between go, and nothing is left of them."""
    again: list[Filter] = []

    def change_again(seen: Seen) -> None:
        if seen.rules > COUNT and not again:
            again.append(change_rules(rig, numbered(COUNT // 2, "accept")))
            rig.changes.changed()

    watch(rig, change_again)
    change_rules(rig, numbered(COUNT, "reject"))
    assert rig.reconciler.sync(SYNC_S)
    wait_at_rest(rig)

    assert again[0].edition == 2
    assert rules_on(rig) == len(again[0].egress)


def test_an_edition_that_comes_round_does_not_meet_its_old_rules(rig: Rig) -> None:
    """Those that still go are removed first: no packet may match a mix."""
    for number in range(18):
        change_rules(rig, numbered(COUNT - number, "reject" if number % 2 else "accept"))
        assert rig.reconciler.sync(SYNC_S)
    wait_at_rest(rig)

    assert rules_on(rig) == COUNT - 17


def test_reading_a_bridge_again_while_rules_go_finds_no_drift(rig: Rig) -> None:
    [writer] = rig.writers.find([Dpid(1)])

    def read_again(seen: Seen) -> None:
        if seen.is_whole and seen.rules > COUNT:
            rig.on_send = lambda dpid: None
            rig.writers.bridge_taken_back(Dpid(2))

    set_filter(rig, "all")
    assert rig.reconciler.sync(SYNC_S)
    wait_at_rest(rig)
    set_filter(rig, LONG.id)
    change_rules(rig, numbered(COUNT, "reject"))
    assert rig.reconciler.sync(SYNC_S)
    watch(rig, read_again)
    change_rules(rig, numbered(COUNT, "accept"))
    rig.reconciler.sync(SYNC_S)  # what is read again may be under way when this returns
    wait_at_rest(rig)

    assert not writer.drift._found_at


def test_a_part_that_is_refused_has_the_bridge_read_again(rig: Rig) -> None:
    rig.models[1].faults.refuse = refuse_nth(FLOWS_TOGETHER + 5)
    scans = rig.models[1].scans
    change_rules(rig, numbered(COUNT, "reject"))
    assert rig.reconciler.sync(SYNC_S)
    wait_at_rest(rig)

    assert rig.models[1].scans > scans
    assert rules_on(rig) == COUNT


@pytest.mark.parametrize("times", [1, 2])
def test_a_regular_recheck_waits_until_the_rules_are_there_but_only_once(
    rig: Rig, times: int
) -> None:
    before, read, asked = rig.models[1].scans, set[bool](), list[Seen]()
    [writer] = rig.writers.find([Dpid(1)])

    def recheck(seen: Seen) -> None:
        if seen.rules > COUNT and not asked:
            asked.append(seen)
            for _ in range(times):
                rig.writers.recheck(Depth.COOKIES)
        if seen.rules > COUNT:
            read.add(rig.models[1].scans > before)

    watch(rig, recheck)
    change_rules(rig, numbered(COUNT, "reject"))
    rig.reconciler.sync(SYNC_S)
    wait_at_rest(rig)
    wait_for(lambda: rig.models[1].scans, lambda count: count > before, SYNC_S)

    assert (True in read) == (times > 1)
    assert not writer.drift._found_at

"""Mirrors are added and removed as demanded, altered ones made anew, and never too many."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from controller.databases import MIRROR_NAME
from controller.southbound.ovsdb import (
    BridgeRow,
    InterfaceRow,
    MirrorDemand,
    MirrorRow,
    mirror_name,
    peer_name,
)
from controller.southbound.ovsdb.mirror_rows import MirrorRows
from controller.southbound.ovsdb.rows import DatabaseContent, DatabaseRows
from controller.southbound.ovsdb.wanted_rows import WRITE_RETRY_S, WriteResult
from controller.southbound.ovsdb.write_pace import QUICK_WRITES, WRITE_PAUSE_MAX_S
from flows.model import MIRRORS_MAX, Dpid, MirrorKey

TAP = Dpid(1)
OWNER = BridgeRow(Dpid(2), "br-vm", row="owner")
BRIDGE = BridgeRow(TAP, "ct-br-vm", row="tap", taps="br-vm")
BOTH = frozenset(["owner", "tap"])
ONE = MirrorKey(frozenset(["vm1"]), frozenset(["vm1", "vm2"]))
TWO = MirrorKey(frozenset(["vm1", "vm2"]), frozenset(["vm1"]))


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def made(key: MirrorKey) -> MirrorRow:
    return MirrorRow(mirror_name(TAP, key), *key, tap=TAP)


def showing(*mirrors: MirrorRow, others: int = 0, ends: str = "") -> DatabaseContent:
    """The bridges with such Mirrors, and with ends of the patch of one that is not there."""
    owner = replace(OWNER, mirrors=mirrors, other_mirrors=others)
    mirror_ends = {
        "owner": (InterfaceRow(OWNER.dpid, "br-vm", ends, mirror=ends),) if ends else (),
        "tap": (InterfaceRow(TAP, "ct-br-vm", peer_name(ends), mirror=ends),) if ends else (),
    }
    return DatabaseContent((BRIDGE, owner), mirror_ends=mirror_ends)


def due(
    rows: MirrorRows,
    content: DatabaseContent,
    demand: MirrorDemand,
    believed: frozenset[str] = BOTH,
) -> list[tuple[list[str], list[str]]]:
    """What is added and removed, by name."""
    found = []
    for dpid, request in rows.due(content, {TAP: demand}, believed):
        assert (dpid, request["bridge"], request["tap"]) == (TAP, "owner", "tap")
        found.append(([mirror["name"] for mirror in request["add"]], request["remove"]))
    return found


def new_rows(clock: Clock | None = None) -> MirrorRows:
    return MirrorRows("tcp:192.0.2.1:6640", clock or Clock())


def name(key: MirrorKey) -> str:
    return mirror_name(TAP, key)


def test_a_name_tells_the_tap_bridge_and_what_is_selected_in_each_direction() -> None:
    swapped = MirrorKey(ONE.targets, ONE.sources)
    keys = [ONE, TWO, swapped, MirrorKey(ONE.sources, frozenset()), MirrorKey(*2 * [frozenset()])]
    names = {mirror_name(Dpid(dpid), key) for dpid in (1, 2, 1 << 63) for key in keys}
    assert len(names) == 3 * (len(keys) - 1), "two of the keys are equal"
    assert all(len(n) == 15 and n.startswith(MIRROR_NAME) for n in names)


def test_what_is_wanted_is_added_and_the_request_says_what_it_selects() -> None:
    [(_, request)] = new_rows().due(showing(), {TAP: MirrorDemand(frozenset([ONE]))}, BOTH)
    [mirror] = request["add"]
    assert mirror == {
        "name": name(ONE),
        "peer": peer_name(name(ONE)),
        "sources": ["vm1"],
        "targets": ["vm1", "vm2"],
    }


def test_nothing_is_written_unless_the_database_speaks_for_both_bridges() -> None:
    demand = MirrorDemand(frozenset([ONE]), None)
    for believed in (frozenset[str](), frozenset(["owner"]), frozenset(["tap"])):
        assert due(new_rows(), showing(made(TWO)), demand, believed) == []


def test_a_mirror_is_removed_only_if_it_is_said_to_be_unwanted() -> None:
    content = showing(made(ONE), made(TWO))
    assert due(new_rows(), content, MirrorDemand()) == []
    assert due(new_rows(), content, MirrorDemand(unwanted=frozenset([TWO]))) == [([], [name(TWO)])]
    both = sorted([name(ONE), name(TWO)])
    assert due(new_rows(), content, MirrorDemand(unwanted=None)) == [([], both)]
    wanted = MirrorDemand(frozenset([ONE]), frozenset([ONE, TWO]))
    assert due(new_rows(), content, wanted) == [([], [name(TWO)])]


def test_a_mirror_that_sends_to_another_tap_bridge_is_left_alone() -> None:
    other = MirrorRow(mirror_name(Dpid(9), ONE), *ONE, tap=Dpid(9))
    assert due(new_rows(), showing(other), MirrorDemand(unwanted=None)) == []


def test_an_altered_mirror_is_removed_and_made_again_once_it_is_seen_gone() -> None:
    rows, demand = new_rows(), MirrorDemand(frozenset([ONE]))
    altered = showing(replace(made(ONE), is_altered=True))
    assert due(rows, altered, demand) == [([], [name(ONE)])]
    rows.answered(TAP, WriteResult())
    assert due(rows, altered, demand) == [], "what was written is not seen yet"
    assert due(rows, showing(), demand) == [([name(ONE)], [])]
    assert due(new_rows(), altered, MirrorDemand()) == [([], [name(ONE)])], "also an unwanted one"


def test_remains_of_a_patch_go_before_a_mirror_of_their_name_is_made() -> None:
    rows, demand = new_rows(), MirrorDemand(frozenset([ONE]))
    assert due(rows, showing(ends=name(ONE)), demand) == [([], [name(ONE)])]
    rows.answered(TAP, WriteResult())
    assert due(rows, showing(), demand) == [([name(ONE)], [])]


def test_there_are_never_more_than_open_vswitch_makes_those_of_others_included() -> None:
    rows = new_rows()
    keys = [MirrorKey(frozenset([f"vm{n}"]), frozenset()) for n in range(10)]
    [(added, _)] = due(rows, showing(others=MIRRORS_MAX - 8), MirrorDemand(frozenset(keys)))
    assert len(added) == 8
    left = {key: why for (_, key), why in rows.problems.items()}
    assert {name(key) for key in keys} == set(added) | {name(key) for key in left}
    assert all("bridge br-vm needs 34 Mirrors, 24 of them not ours" in why for why in left.values())
    rows.answered(TAP, WriteResult())
    full = showing(*(made(k) for k in keys if k not in left), others=MIRRORS_MAX - 8)
    assert due(rows, full, MirrorDemand(frozenset(keys))) == []
    assert len(rows.problems) == 2
    freed = showing(*(made(k) for k in keys if k not in left), others=1)
    [(added, _)] = due(rows, freed, MirrorDemand(frozenset(keys)))
    assert len(added) == 2
    rows.answered(TAP, WriteResult())
    assert not rows.problems


def test_more_mirrors_of_others_than_there_may_be_leave_no_room() -> None:
    rows = new_rows()
    assert due(rows, showing(others=1000), MirrorDemand(frozenset([ONE]))) == []
    assert rows.problems


def test_a_name_that_somebody_has_is_said_until_it_is_free() -> None:
    rows, demand = new_rows(), MirrorDemand(frozenset([ONE, TWO]))
    content = showing()
    assert due(rows, content, demand)
    assert rows.answered(TAP, WriteResult(taken=(name(ONE),)))
    [why] = rows.problems.values()
    assert f"bridge br-vm cannot have its Mirror {name(ONE)}" in why and "not ours" in why
    assert due(rows, content, demand) == []
    assert due(rows, showing(made(TWO)), demand) == [([name(ONE)], [])], "something has changed"
    rows.answered(TAP, WriteResult())
    due(rows, showing(made(ONE), made(TWO)), demand)
    assert not rows.problems


def test_a_refusal_is_said_and_tried_again_later() -> None:
    clock = Clock()
    rows, demand = new_rows(clock), MirrorDemand(frozenset([ONE]))
    assert due(rows, showing(), demand)
    rows.answered(TAP, WriteResult(refused="it is read-only"))
    [why] = rows.problems.values()
    assert f"refused the Mirror {name(ONE)} of bridge br-vm: it is read-only" in why
    assert due(rows, showing(), demand) == []
    clock.now += WRITE_RETRY_S
    assert due(rows, showing(), demand)


def test_a_bridge_that_is_attached_to_none_or_to_one_that_is_not_there_is_said() -> None:
    for bridges, words in (
        ((replace(BRIDGE, taps=""), OWNER), "attach it again with `cloudtap bridge attach`"),
        ((BRIDGE,), "bridge br-vm, which bridge ct-br-vm gets copies of, is not in the database"),
        ((replace(BRIDGE, taps="ct-br-vm"), OWNER), "is not in the database"),
    ):
        rows = new_rows()
        assert due(rows, DatabaseContent(bridges), MirrorDemand(frozenset([ONE]))) == []
        [why] = rows.problems.values()
        assert words in why
        due(rows, DatabaseContent(bridges), MirrorDemand())
        assert not rows.problems


def test_what_is_confirmed_and_not_shown_is_asked_for_ever_more_seldom() -> None:
    clock, writes, content = Clock(), 0, showing()
    rows, demand = new_rows(clock), MirrorDemand(frozenset([ONE]))
    for _ in range(3000):
        for _ in due(rows, content, demand):
            writes += 1
            rows.answered(TAP, WriteResult())
        clock.now += 0.1
    assert QUICK_WRITES <= writes <= QUICK_WRITES + 5 + 300 / WRITE_PAUSE_MAX_S
    [why] = rows.problems.values()
    assert f"confirmed the Mirror {name(ONE)} of bridge br-vm, but does not show it" in why


def test_a_mirror_is_what_it_selects_and_sends_to_the_tap_bridge_that_there_is() -> None:
    rows = DatabaseRows("unix:/db.sock")
    mirror = {"name": name(ONE), "sources": ["vm1"], "targets": ["vm1", "vm2"], "tap": "tap"}
    owner = bridge(2, "br-vm", mirrors=[mirror], other_mirrors=3)
    tap = bridge(1, "ct-br-vm", taps="br-vm")
    end = {**INTERFACE, "bridge": "tap", "name": peer_name(name(ONE)), "mirror": name(ONE)}
    content = rows.take_all({"owner": owner, "tap": tap}, {"end": end}, {})
    assert of(content, "owner").mirrors == (made(ONE),)
    assert (of(content, "owner").other_mirrors, of(content, "tap").taps) == (3, "br-vm")
    assert [row.name for row in content.mirror_ends["tap"]] == [peer_name(name(ONE))]
    less = {**owner, "mirrors": [{**mirror, "targets": ["vm1"]}]}
    for changed, goes_to, key in (
        ({"tap": {**tap, "dpid": 7}}, Dpid(7), ONE),
        ({"tap": tap}, TAP, ONE),
        ({"owner": less}, TAP, MirrorKey(ONE.sources, frozenset(["vm1"]))),
        ({"owner": owner}, TAP, ONE),
        ({"owner": {**owner, "mirrors": [{**mirror, "tap": ""}]}}, None, ONE),
        ({"owner": owner}, TAP, ONE),
        ({"tap": None}, None, ONE),
    ):
        row = of(rows.take(changed, {}), "owner").mirrors[0]
        assert (row.tap, row.key, row.is_altered) == (goes_to, key, goes_to is None), changed


def test_a_mirror_that_a_port_has_left_serves_the_ports_that_stay() -> None:
    left = MirrorRow(name(TWO), frozenset(["vm1"]), frozenset(["vm1"]), tap=TAP)
    assert due(new_rows(), showing(left), MirrorDemand(frozenset([left.key]), None)) == []
    found = due(new_rows(), showing(left), MirrorDemand(frozenset([ONE]), None))
    assert found == [([], [name(TWO)])]


def test_of_two_mirrors_of_the_same_ports_one_goes_when_nothing_uses_it() -> None:
    both = showing(made(ONE), replace(made(ONE), name="ctmzzz"))
    assert due(new_rows(), both, MirrorDemand(frozenset([ONE]))) == []
    assert due(new_rows(), both, MirrorDemand(frozenset([ONE]), None)) == [([], ["ctmzzz"])]


INTERFACE: dict[str, Any] = {
    "iface_id": None, "mac": None, "ofport": 5, "is_up": True, "error": "", "device": {},
    "port": {"row": "p", "vlan": 7, "is_trunk": False}, "mirror": "",
}  # fmt: skip


def bridge(dpid: int, name: str, **values: Any) -> dict[str, Any]:
    return {"dpid": dpid, "name": name, "fail_mode": "secure", "datapath_type": ""} | values


def of(content: DatabaseContent, row: str) -> BridgeRow:
    (found,) = [bridge for bridge in content.bridges if bridge.row == row]
    return found

"""Mirrors of ours are told from others, what they select is reported, and every alteration is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from controller.databases.main import split
from controller.databases.mirrors import OURS_MAX, SELECTED_MAX
from controller.databases.program import PROGRAM
from controller.process import Message
from tests.controller.databases.random_databases import (
    EMPTY,
    MIRROR,
    PEER,
    RandomDatabase,
    updates,
    updates2,
    uuid_of,
)
from tests.controller.databases.test_replica import Reported

OWNER, TAP, WATCHED, OTHER = map(uuid_of, (2, 3, 4, 6))
"""Bridge br2, the tap bridge br3, and two ports of br2."""


def attached() -> RandomDatabase:
    """A bridge with two ports and a Mirror of ours, which sends to a tap bridge."""
    database = RandomDatabase(0)
    database.add_bridge()
    database.add_bridge()
    database.add_ports(OWNER, 1)
    database.add_ports(OWNER, 1)
    database.attach(OWNER, TAP, WATCHED)
    return database


def row(database: RandomDatabase, table: str, name: str) -> dict[str, Any]:
    """The row of a name."""
    (found,) = [row for row in database.tables[table].values() if row["name"] == name]
    return found


def uuid(database: RandomDatabase, table: str, name: str) -> str:
    """Its uuid."""
    (found,) = [key for key, row in database.tables[table].items() if row["name"] == name]
    return found


def test_a_mirror_of_ours_is_reported_with_what_it_selects_and_where_it_sends() -> None:
    database, reported = attached(), Reported()
    reported.load(database.copy())
    assert reported.bridges[OWNER]["mirrors"] == [
        {"name": MIRROR, "sources": [WATCHED], "targets": [], "tap": TAP}
    ]
    assert reported.bridges[OWNER]["other_mirrors"] == 0
    assert reported.bridges[TAP]["taps"] == "br2" and reported.bridges[OWNER]["taps"] == ""
    ends = {r["name"]: r["mirror"] for r in reported.interfaces.values() if r["mirror"]}
    assert ends == {MIRROR: MIRROR, PEER: MIRROR}


def setting(table: str, name: str, column: str, value: Any) -> Callable[[RandomDatabase], None]:
    """An alteration: a column of a row gets a value."""

    def alter(database: RandomDatabase) -> None:
        row(database, table, name)[column] = value

    return alter


def move_peer(database: RandomDatabase) -> None:
    """The end on the tap bridge is on the other bridge."""
    peer, bridges = uuid(database, "Port", PEER), database.tables["Bridge"]
    bridges[TAP]["ports"] -= {peer}
    bridges[OWNER]["ports"] |= {peer}


def move_patch(database: RandomDatabase) -> None:
    """The end that the Mirror sends to is on the tap bridge."""
    patch, bridges = uuid(database, "Port", MIRROR), database.tables["Bridge"]
    bridges[OWNER]["ports"] -= {patch}
    bridges[TAP]["ports"] |= {patch}


def delete(name: str) -> Callable[[RandomDatabase], None]:
    """An end of the patch is deleted, with its interface."""

    def alter(database: RandomDatabase) -> None:
        port = uuid(database, "Port", name)
        for bridge in database.tables["Bridge"].values():
            bridge["ports"] -= {port}
        database._delete_port(port)

    return alter


def send_elsewhere(database: RandomDatabase) -> None:
    """The Mirror sends to another port."""
    row(database, "Mirror", MIRROR)["output_port"] = frozenset([OTHER])


def add_second(database: RandomDatabase) -> None:
    """Somebody copies the row of the Mirror."""
    second = database.new()
    database.tables["Mirror"][second] = dict(row(database, "Mirror", MIRROR))
    database.tables["Bridge"][OWNER]["mirrors"] |= {second}


def bond(database: RandomDatabase) -> None:
    """The patch port has another interface as well."""
    (interface,) = database.tables["Port"][OTHER]["interfaces"]
    row(database, "Port", MIRROR)["interfaces"] |= {interface}


def rename_another(database: RandomDatabase) -> None:
    """Another interface has the name of an end, too."""
    (interface,) = database.tables["Port"][OTHER]["interfaces"]
    database.tables["Interface"][interface]["name"] = PEER


ALTERATIONS = {
    "name": setting("Mirror", MIRROR, "name", "mine"),
    "select_all": setting("Mirror", MIRROR, "select_all", True),
    "select_vlan": setting("Mirror", MIRROR, "select_vlan", frozenset([5])),
    "output_vlan": setting("Mirror", MIRROR, "output_vlan", frozenset([5])),
    "snaplen": setting("Mirror", MIRROR, "snaplen", frozenset([64])),
    "output_port": setting("Mirror", MIRROR, "output_port", frozenset()),
    "another output_port": send_elsewhere,
    "twice": add_second,
    "trunks": setting("Port", MIRROR, "trunks", frozenset()),
    "more trunks": setting("Port", MIRROR, "trunks", frozenset([5, 4095])),
    "tag": setting("Port", MIRROR, "tag", frozenset([5])),
    "vlan_mode": setting("Port", MIRROR, "vlan_mode", frozenset(["native-untagged"])),
    "mark of the port": setting("Port", MIRROR, "external_ids", {}),
    "name of the port": setting("Port", MIRROR, "name", "mine"),
    "type": setting("Interface", MIRROR, "type", ""),
    "peer": setting("Interface", MIRROR, "options", {"peer": "mine"}),
    "mark of the interface": setting("Interface", MIRROR, "external_ids", {}),
    "type of the peer": setting("Interface", PEER, "type", ""),
    "peer of the peer": setting("Interface", PEER, "options", {"peer": "mine"}),
    "mark of the peer": setting("Interface", PEER, "external_ids", {}),
    "name of the peer": setting("Interface", PEER, "name", "mine"),
    "mark of the tap bridge": setting("Bridge", "br3", "external_ids", {}),
    "other tap bridge": setting("Bridge", "br3", "external_ids", {"cloudtap-taps": "br9"}),
    "name of the bridge": setting("Bridge", "br2", "name", "br9"),
    "peer elsewhere": move_peer,
    "patch elsewhere": move_patch,
    "patch deleted": delete(MIRROR),
    "peer deleted": delete(PEER),
    "bond": bond,
    "two of a name": rename_another,
}


@pytest.mark.parametrize("way", ["update", "update2"])
@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_every_alteration_is_reported_and_its_end_too(alteration: str, way: str) -> None:
    database, reported = attached(), Reported()
    before = database.copy()
    reported.load(before)
    ALTERATIONS[alteration](database)
    after = database.copy()
    for old, new, is_altered in ((before, after, True), (after, before, False)):
        if way == "update":
            reported.take(updates(old, new), are_differences=False)
        else:
            reported.take(updates2(old, new))
        taps = {mirror["tap"] for mirror in reported.bridges[OWNER]["mirrors"]}
        assert taps == ({""} if is_altered else {TAP})
        fresh = Reported()
        fresh.load(new)
        assert reported.bridges == fresh.bridges


def test_a_port_that_is_deleted_is_selected_no_more() -> None:
    database, reported = attached(), Reported()
    row(database, "Mirror", MIRROR)["select_dst_port"] = frozenset([WATCHED, OTHER])
    before = database.copy()
    reported.load(before)
    database.tables["Bridge"][OWNER]["ports"] -= {WATCHED}
    database._delete_port(WATCHED)
    reported.take(updates2(before, database.copy()))
    (mirror,) = reported.bridges[OWNER]["mirrors"]
    assert (mirror["sources"], mirror["targets"]) == ([], [OTHER])


@pytest.mark.parametrize(
    "mark", [{}, {"cloudtap-mirror": "mine"}, {"cloudtap-mirror": "ctm0123456789aB"}]
)
def test_a_mirror_without_our_mark_is_that_of_somebody_else(mark: dict[str, str]) -> None:
    database, reported = attached(), Reported()
    row(database, "Mirror", MIRROR)["external_ids"] = mark
    reported.load(database.copy())
    assert reported.bridges[OWNER]["mirrors"] == []
    assert reported.bridges[OWNER]["other_mirrors"] == 1


@pytest.mark.parametrize("taps", ["x" * 300, "a\nb", ""])
def test_a_mark_that_no_bridge_can_be_named_attaches_none(taps: str) -> None:
    database, reported = attached(), Reported()
    row(database, "Bridge", "br3")["external_ids"] = {"cloudtap-taps": taps}
    reported.load(database.copy())
    assert reported.bridges[TAP]["taps"] == "" and not reported.problems
    assert not reported.bridges[OWNER]["mirrors"][0]["tap"]


def test_what_is_reported_of_mirrors_is_bounded_and_fits_in_the_messages() -> None:
    database, reported = attached(), Reported()
    many = frozenset(uuid_of(number) for number in range(1000, 1000 + SELECTED_MAX // 4))
    for _ in range(30):
        database.add_bridge()
    bridges = list(database.tables["Bridge"])
    for number, bridge in enumerate(bridges):
        for mirror in range(2 * OURS_MAX if number == 0 else 2):
            name = f"ctm{number:06x}{mirror:06x}"
            database.tables["Mirror"][database.new()] = {
                **EMPTY["Mirror"],
                "name": name,
                "external_ids": {"cloudtap-mirror": name},
                "select_src_port": many,
                "select_dst_port": many,
            }
        made = frozenset(list(database.tables["Mirror"])[-(2 * OURS_MAX if number == 0 else 2) :])
        database.tables["Bridge"][bridge]["mirrors"] |= made

    report = reported.load(database.copy())

    for record in reported.bridges.values():
        mirrors = record["mirrors"]
        assert len(mirrors) <= OURS_MAX
        assert sum(len(m["sources"]) + len(m["targets"]) for m in mirrors) <= SELECTED_MAX
    first = reported.bridges[bridges[0]]
    assert len(first["mirrors"]) + first["other_mirrors"] == 2 * OURS_MAX + 1
    parts = split(report)
    assert len(parts) > 10, "the Mirrors of 30 bridges are too long for one message"
    for head in parts:
        assert len(Message(head).packed(PROGRAM.max_message)) < PROGRAM.max_message // 4


@pytest.mark.parametrize(
    ("tag", "mode", "vlan", "is_trunk"),
    [
        (None, None, None, True),
        (7, None, 7, False),
        (7, "access", 7, False),
        (7, "dot1q-tunnel", 7, False),
        (7, "native-untagged", 7, True),
        (7, "native-tagged", None, True),
        (7, "trunk", None, True),
        (None, "native-untagged", None, True),
        (None, "access", None, True),
    ],
)
def test_the_vlan_of_a_port_is_that_of_its_frames_without_a_tag(
    tag: int | None, mode: str | None, vlan: int | None, is_trunk: bool
) -> None:
    database, reported = attached(), Reported()
    before = database.copy()
    reported.load(before)
    values = {"tag": tag, "vlan_mode": mode}
    database.tables["Port"][WATCHED] |= {
        column: frozenset() if value is None else frozenset([value])
        for column, value in values.items()
    }
    reported.take(updates2(before, database.copy()))
    (interface,) = database.tables["Port"][WATCHED]["interfaces"]
    port = reported.interfaces[interface]["port"]
    assert port == {"row": WATCHED, "vlan": vlan, "is_trunk": is_trunk}


def test_a_mark_that_an_interface_gets_later_is_reported() -> None:
    database, reported = attached(), Reported()
    before = database.copy()
    reported.load(before)
    (interface,) = database.tables["Port"][WATCHED]["interfaces"]
    ids = database.tables["Interface"][interface]["external_ids"]
    database.tables["Interface"][interface]["external_ids"] = ids | {"cloudtap-tunnel": "vxlan"}
    after = database.copy()
    reported.take(updates2(before, after))
    assert reported.interfaces[interface]["tunnel"]["kind"] == "vxlan"
    reported.take(updates2(after, before))
    assert "tunnel" not in reported.interfaces[interface]

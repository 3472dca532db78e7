"""Mirrors are made and removed in real databases, and nothing else of a bridge is changed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from controller.process import ChangeSignal
from controller.southbound.ovsdb import (
    MIRROR_MARK,
    TAPS,
    BridgeRow,
    InterfaceRow,
    MirrorDemand,
    MirrorRow,
    OvsdbSnapshot,
    OvsdbWatcher,
    mirror_name,
    peer_name,
)
from flows.model import MIRRORS_MAX, Dpid, MirrorKey
from tests.ovs.lab import DATAPATH, Lab, vsctl
from tests.ovs.open_vswitch import SOCKET, kill, start_ovsdb_server
from tests.ovs.waiting import wait_for

OWNER, TAP = Dpid(0x51), Dpid(0x52)
EVERYTHING = MirrorDemand(unwanted=None)
COUNTED = {"statistics", "status", "cur_cfg", "next_cfg", "_version", "ofport_request"}
"""Columns that change by themselves, or with every change of any bridge."""


class Nobody:
    """Who does not care."""

    def interfaces_changed(self, snapshot: OvsdbSnapshot) -> None:
        """It is read from the watcher."""


@pytest.fixture
def watcher(lab: Lab) -> Iterator[OvsdbWatcher]:
    """A bridge ``br-vm`` of somebody else with three ports, and a tap bridge beside it."""
    command = ["add-br", "br-vm", "--", "set", "Bridge", "br-vm", f"datapath_type={DATAPATH}"]
    vsctl(*command, f"other_config:datapath-id={OWNER:016x}")
    lab.bridges.append("br-vm")
    for name in ("vm1", "vm2", "vm3"):
        vsctl(*_add("br-vm", name))
    lab.add_bridge("ct-br-vm", dpid=TAP)
    vsctl("set", "Bridge", "ct-br-vm", f"external_ids:{TAPS}=br-vm")
    watching = OvsdbWatcher([f"unix:{SOCKET}"], Nobody(), ChangeSignal())
    watching.start()
    wait_for(lambda: len(watching.snapshot().interfaces), (5).__eq__)
    yield watching
    watching.stop()


def _add(bridge: str, name: str) -> list[str]:
    return ["add-port", bridge, name, "--", "set", "Interface", name, "type=internal"]


def bridge(watcher: OvsdbWatcher, dpid: Dpid) -> BridgeRow:
    (found,) = [row for row in watcher.snapshot().bridges if row.dpid == dpid]
    return found


def mirrors(watcher: OvsdbWatcher) -> tuple[MirrorRow, ...]:
    return bridge(watcher, OWNER).mirrors


def port(watcher: OvsdbWatcher, name: str) -> str:
    """The uuid of a port of the bridge of somebody else."""
    (found,) = [row.port for row in watcher.snapshot().interfaces if row.name == name]
    assert found is not None
    return found.row


def key(watcher: OvsdbWatcher, sources: str = "", targets: str = "") -> MirrorKey:
    """A key by the names of ports."""
    return MirrorKey(
        *(frozenset(port(watcher, n) for n in names.split()) for names in (sources, targets))
    )


def want(watcher: OvsdbWatcher, *keys: MirrorKey) -> None:
    watcher.want_mirrors({TAP: MirrorDemand(frozenset(keys), None)})


def wait_for_mirrors(watcher: OvsdbWatcher, *keys: MirrorKey) -> None:
    """Until there are such Mirrors of ours as we make them, and no others of ours."""
    rows = tuple(sorted(MirrorRow(mirror_name(TAP, k), *k, tap=TAP) for k in keys))
    wait_for(lambda: tuple(sorted(mirrors(watcher))), rows.__eq__)


def ends(watcher: OvsdbWatcher) -> dict[str, InterfaceRow]:
    return {row.name: row for row in watcher.snapshot().interfaces if row.mirror}


def dump() -> dict[str, dict[str, Any]]:
    """All rows of all tables by uuid, without what changes by itself."""
    command = ["ovsdb-client", "dump", f"unix:{SOCKET}", "Open_vSwitch", "--format=json"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        table = json.loads(line)
        for values in table["data"]:
            row = dict(zip(table["headings"], values, strict=True))
            (_, uuid) = row.pop("_uuid")
            found[uuid] = {name: value for name, value in row.items() if name not in COUNTED}
    return found


def without_ours(rows: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same without rows with our mark, and without references to them."""
    ours = {uuid for uuid, row in rows.items() if MIRROR_MARK in json.dumps(row)}
    kept = {uuid: dict(row) for uuid, row in rows.items() if uuid not in ours}
    for row in kept.values():
        for column in ("ports", "mirrors"):
            if column in row:
                refs = row[column][1] if row[column][0] == "set" else [row[column]]
                row[column] = sorted(ref for ref in refs if ref[1] not in ours)
    return kept


def test_a_mirror_is_made_with_its_patch_and_all_goes_again(watcher: OvsdbWatcher) -> None:
    before = dump()
    wanted = key(watcher, "vm1 vm2", "vm2")
    name = mirror_name(TAP, wanted)

    want(watcher, wanted)

    wait_for_mirrors(watcher, wanted)
    seen = wait_for(
        lambda: ends(watcher), lambda e: len(e) == 2 and all(r.ofport for r in e.values())
    )
    assert {(row.dpid, row.name, row.mirror, row.error) for row in seen.values()} == {
        (OWNER, name, name, ""),
        (TAP, peer_name(name), name, ""),
    }
    assert vsctl("get", "Port", name, "trunks", "tag").split() == ["[4095]", "[]"]
    assert without_ours(dump()) == without_ours(before), "nothing else is changed"
    want(watcher)
    wait_for_mirrors(watcher)
    wait_for(lambda: ends(watcher), {}.__eq__)
    assert dump() == before
    assert not watcher.mirror_problems()


def test_all_of_a_mirror_comes_and_goes_in_one_transaction(watcher: OvsdbWatcher) -> None:
    before = len(transactions())
    wanted = key(watcher, "vm1")
    want(watcher, wanted)
    wait_for_mirrors(watcher, wanted)
    want(watcher)
    wait_for_mirrors(watcher)

    made, removed = transactions()[before:]

    rows = {table: len(made[table]) for table in ("Bridge", "Mirror", "Port", "Interface")}
    assert rows == {"Bridge": 2, "Mirror": 1, "Port": 2, "Interface": 2}
    gone = {table: list(removed[table].values()) for table in ("Mirror", "Port", "Interface")}
    assert gone == {"Mirror": [None], "Port": [None] * 2, "Interface": [None] * 2}


def transactions() -> list[dict[str, Any]]:
    """Those of ours in the log of the database: rows by table and uuid, None for deleted ones."""
    lines = Path("/etc/openvswitch/conf.db").read_text().splitlines()
    records = [json.loads(line) for line in lines if not line.startswith("OVSDB ")]
    return [record for record in records if "cloudtap: " in record.get("_comment", "")]


def test_mirrors_and_ports_of_others_are_left_alone_whatever_their_names(
    watcher: OvsdbWatcher,
) -> None:
    one, two = key(watcher, "vm1"), key(watcher, "vm2")
    name = mirror_name(TAP, one)
    vsctl(
        *("--id=@p", "get", "Port", "vm3", "--", "--id=@m", "create", "Mirror", f"name={name}"),
        *("output_port=@p", "select_all=true", "--", "set", "Bridge", "br-vm", "mirrors=@m"),
    )
    vsctl(*_add("br-vm", mirror_name(TAP, two)))
    wait_for(lambda: bridge(watcher, OWNER).other_mirrors, (1).__eq__)
    before = dump()

    want(watcher, one, two)

    wait_for_mirrors(watcher, one)
    problems = wait_for(watcher.mirror_problems, bool)
    assert set(problems) == {(TAP, two)}
    assert f"bridge br-vm cannot have its Mirror {mirror_name(TAP, two)}" in problems[TAP, two]
    want(watcher)
    wait_for_mirrors(watcher)
    assert dump() == before
    assert not wait_for(watcher.mirror_problems, {}.__eq__)
    want(watcher, two)
    vsctl("del-port", "br-vm", mirror_name(TAP, two))
    wait_for_mirrors(watcher, two)
    wait_for(watcher.mirror_problems, {}.__eq__)


@pytest.mark.parametrize(
    "alteration",
    [
        ["set", "Mirror", "{name}", "select_all=true"],
        ["set", "Port", "{name}", "trunks=7"],
        ["set", "Port", "{name}", "tag=7"],
        ["clear", "Mirror", "{name}", "output_port"],
        ["clear", "Mirror", "{name}", "select_src_port"],
        ["set", "Interface", "{peer}", "options:peer=vm3"],
        ["del-port", "br-vm", "{name}"],
        ["del-port", "ct-br-vm", "{peer}"],
        ["clear", "Bridge", "br-vm", "mirrors"],
        ["--", "del-port", "br-vm", "{name}", "--", "clear", "Bridge", "br-vm", "mirrors"],
        ["remove", "Mirror", "{name}", "select_src_port", "{vm1}"],
    ],
    ids=lambda words: " ".join(words),
)
def test_what_somebody_alters_is_removed_and_made_again(
    watcher: OvsdbWatcher, alteration: list[str]
) -> None:
    wanted = key(watcher, "vm1 vm2", "vm1")
    name = mirror_name(TAP, wanted)
    before = dump()
    want(watcher, wanted)
    wait_for_mirrors(watcher, wanted)
    wait_for(lambda: len(ends(watcher)), (2).__eq__)
    made = vsctl("get", "Port", name, "_uuid")
    words = {"name": name, "peer": peer_name(name), "vm1": port(watcher, "vm1")}

    vsctl(*(word.format(**words) for word in alteration))

    wait_for(
        lambda: vsctl("--if-exists", "get", "Port", name, "_uuid"),
        lambda now: now not in ("", "\n", made),
    )
    wait_for_mirrors(watcher, wanted)
    wait_for(lambda: set(ends(watcher)), {name, peer_name(name)}.__eq__)
    assert not watcher.mirror_problems()
    want(watcher)
    wait_for_mirrors(watcher)
    wait_for(lambda: ends(watcher), {}.__eq__)
    assert dump() == before


def test_a_mirror_of_which_a_port_has_gone_serves_those_that_stay(watcher: OvsdbWatcher) -> None:
    wanted, left = key(watcher, "vm1 vm2"), key(watcher, "vm2")
    watcher.want_mirrors({TAP: MirrorDemand(frozenset([wanted]))})
    wait_for_mirrors(watcher, wanted)

    vsctl("del-port", "br-vm", "vm1")

    shown = (MirrorRow(mirror_name(TAP, wanted), *left, tap=TAP),)
    wait_for(lambda: mirrors(watcher), shown.__eq__)
    want(watcher, left)
    wait_for(watcher.mirror_problems, {}.__eq__)
    assert mirrors(watcher) == shown
    want(watcher, key(watcher, "vm3"))
    wait_for_mirrors(watcher, key(watcher, "vm3"))


def test_only_what_is_said_to_be_unwanted_is_removed(watcher: OvsdbWatcher) -> None:
    one, two, three = key(watcher, "vm1"), key(watcher, "vm2"), key(watcher, "", "vm1")
    want(watcher, one, two)
    wait_for_mirrors(watcher, one, two)
    watcher.want_mirrors({TAP: MirrorDemand(frozenset([three]))})
    wait_for_mirrors(watcher, one, two, three)
    watcher.want_mirrors({TAP: MirrorDemand(frozenset([three]), frozenset([two, three]))})
    wait_for_mirrors(watcher, one, three)


def test_ports_that_are_not_on_the_bridge_are_refused(watcher: OvsdbWatcher) -> None:
    gone = MirrorKey(frozenset(["00000000-0000-4000-8000-000000000000"]), frozenset())

    want(watcher, gone)

    (why,) = wait_for(watcher.mirror_problems, bool).values()
    assert "a port that is to be copied is not on bridge 'br-vm' any more" in why
    assert not mirrors(watcher) and not ends(watcher)


def test_a_bridge_that_is_not_attached_any_more_gets_none(watcher: OvsdbWatcher) -> None:
    vsctl("remove", "Bridge", "ct-br-vm", "external_ids", TAPS)
    wait_for(lambda: bridge(watcher, TAP).taps, "".__eq__)

    want(watcher, key(watcher, "vm1"))

    (why,) = wait_for(watcher.mirror_problems, bool).values()
    assert "attach it again with `cloudtap bridge attach`" in why


def test_there_are_never_more_mirrors_than_open_vswitch_makes(watcher: OvsdbWatcher) -> None:
    vsctl(
        *("--", "--id=@p", "get", "Port", "vm3"),
        *("--", "--id=@m", "create", "Mirror", "name=other", "output_port=@p"),
        *("--", "add", "Bridge", "br-vm", "mirrors", "@m"),
    )
    names = [f"more{number}" for number in range(MIRRORS_MAX)]
    vsctl(*(word for name in names for word in ("--", *_add("br-vm", name))))
    wait_for(lambda: len(watcher.snapshot().interfaces), (5 + MIRRORS_MAX).__eq__)
    keys = [key(watcher, name) for name in names]

    want(watcher, *keys)

    wait_for(lambda: len(mirrors(watcher)), (MIRRORS_MAX - 1).__eq__)
    assert not any(mirror.is_altered for mirror in mirrors(watcher))
    left = wait_for(watcher.mirror_problems, lambda problems: len(problems) == 1)
    [why] = left.values()
    assert "bridge br-vm needs 33 Mirrors, 1 of them not ours" in why
    vsctl("clear", "Bridge", "br-vm", "mirrors")
    wait_for_mirrors(watcher, *keys)
    wait_for(watcher.mirror_problems, {}.__eq__)


def test_nothing_is_done_twice_when_the_database_comes_back(watcher: OvsdbWatcher) -> None:
    wanted = key(watcher, "vm1", "vm2")
    want(watcher, wanted)
    wait_for_mirrors(watcher, wanted)
    wait_for(lambda: len(ends(watcher)), (2).__eq__)
    before = without_ephemeral(dump())
    kill("ovsdb-server")
    wait_for(lambda: str(watcher.statuses()), lambda seen: "UNREACHABLE" in seen)
    start_ovsdb_server()
    wait_for(lambda: str(watcher.statuses()), lambda seen: "SYNCED" in seen)
    wait_for(lambda: without_ephemeral(dump()), before.__eq__)
    wait_for_mirrors(watcher, wanted)


def without_ephemeral(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The rows that refer to ports and Mirrors, and these: what survives a restart."""
    kept = ("name", "ports", "mirrors", "interfaces", "select_src_port", "select_dst_port")
    return {u: {c: v for c, v in row.items() if c in kept} for u, row in rows.items()}

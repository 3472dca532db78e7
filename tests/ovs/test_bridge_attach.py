"""`cloudtap bridge attach` and `detach` on a real database, with what an owner may have in it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from controller.cli import main
from tests.controller.cli.test_how_to import type_step
from tests.lab.tutorial import read_steps
from tests.ovs.controller_process import ROOT
from tests.ovs.datapath import DATAPATH
from tests.ovs.lab import vsctl
from tests.ovs.owner_database import Rows, add_mirror, database_rows, difference

OWNER, TAP = "br-int", "ct-br-int"
NAMES = ("a1", "a2", "b1", "t1", "x1", "x2", "ids")
TARGET = "tcp:127.0.0.1:6653"


@pytest.fixture(autouse=True)
def owner() -> Iterator[None]:
    """A bridge with access ports of two VLANs, a trunk, a bond, Mirrors and a controller."""
    batch = "".join(f"link add {name} type veth peer name far-{name}\n" for name in NAMES)
    subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)
    vsctl(
        *("add-br", OWNER, "--", "set", "Bridge", OWNER, f"datapath_type={DATAPATH}"),
        *("external_ids:owner=neutron", "other_config:mac-table-size=50000"),
        *("--", "add-port", OWNER, "a1", "tag=1", "--", "add-port", OWNER, "a2", "tag=1"),
        *("--", "set", "Interface", "a1", "external_ids:iface-id=a1"),
        *("--", "add-port", OWNER, "b1", "tag=2", "--", "add-port", OWNER, "t1", "trunks=3,4"),
        *("--", "add-bond", OWNER, "bond0", "x1", "x2"),
        *("--", "set-controller", OWNER, "tcp:127.0.0.1:6633"),
    )
    for name in ("ctm0123456789ab", "span", "span"):  # one has the name of one of ours
        vsctl(
            *("--", "--id=@s", "get", "Port", "b1", "--", "--id=@m", "create", "Mirror"),
            *(f"name={name}", "select_src_port=@s", "output_vlan=99"),
            *("--", "add", "Bridge", OWNER, "mirrors", "@m"),
        )
    yield
    vsctl("clear", "Open_vSwitch", ".", "bridges")
    vsctl("--all", "destroy", "QoS")
    batch = "".join(f"link del {name}\n" for name in NAMES)
    subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)


def cloudtap(*words: str) -> Result:
    """Run `cloudtap bridge ...`."""
    return CliRunner().invoke(main, ["bridge", *words], env={"COLUMNS": "300"})


def done(*words: str) -> str:
    """Run it; what it says when it has worked."""
    result = cloudtap(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*words: str) -> str:
    """Run it; what it says when it refuses, having changed nothing."""
    before = database_rows()
    result = cloudtap(*words)
    assert result.exit_code == 1, result.output
    assert difference(before, database_rows()) == {}
    return result.output


def occupy() -> None:
    """Have on both bridges what a running cloudtap and an operator put there."""
    vsctl(
        *("add-port", TAP, "ids", "--", "set", "Interface", "ids", "external_ids:iface-id=ids"),
        *("--", "add-port", TAP, "ctv", "--", "set", "Interface", "ctv", "type=vxlan"),
        *("options:remote_ip=flow", "external_ids:cloudtap-tunnel=vxlan"),
        *("--", "set", "Port", "ctv", "external_ids:cloudtap-tunnel=vxlan"),
    )
    add_mirror(OWNER, TAP, "0123456789ab", ["a1", "a2"])
    add_mirror(OWNER, TAP, "ba9876543210", ["bond0", "t1"])


def made_by(rows: Rows, table: str, name: str) -> dict[str, Any]:
    [row] = [row for (kind, _), row in rows.items() if kind == table and row.get("name") == name]
    return row


def is_marked(row: dict[str, Any]) -> bool:
    return "cloudtap-" in json.dumps(row)


@pytest.mark.parametrize("fail_mode", ["standalone", "secure", None])
def test_after_attach_and_detach_the_database_is_as_before(fail_mode: str | None) -> None:
    if fail_mode is not None:
        vsctl("set-fail-mode", OWNER, fail_mode)
    before = database_rows()
    done("attach", OWNER)
    occupy()
    assert len(difference(before, database_rows())) > 10
    said = done("detach", OWNER)
    assert difference(before, database_rows()) == {}
    for words in (TAP, "2 Mirrors", "2 patch ports", "'ids'"):
        assert words in said
    assert "ctv" not in said


def test_what_an_owner_has_is_not_changed_by_attaching() -> None:
    before = database_rows()
    assert f"its tap bridge is {TAP!r}" in done("attach", OWNER)
    changed = difference(before, database_rows())
    old = {key[0]: new for key, (row, new) in changed.items() if row is not None}
    assert {table: set(columns) for table, columns in old.items()} == {"Open_vSwitch": {"bridges"}}


def test_the_comparison_sees_one_column_that_has_changed() -> None:
    before = database_rows()
    vsctl("set", "Port", "a1", "tag=7")
    assert [key[0] for key in difference(before, database_rows())] == ["Port"]
    vsctl("set", "Port", "a1", "tag=1")
    assert difference(before, database_rows()) == {}
    vsctl("del-port", OWNER, "b1")
    assert {"Bridge", "Port", "Interface", "Mirror"} == {
        key[0] for key in difference(before, database_rows())
    }


def test_a_dry_run_prints_the_rows_that_are_made_and_makes_none() -> None:
    before = database_rows()
    arguments = ("attach", OWNER, "--controller", TARGET, "--controller", "ssl:192.0.2.1:6653")
    found = json.loads(done(*arguments, "--dry-run", "--output", "json"))
    shown = done(*arguments, "--dry-run")
    assert difference(before, database_rows()) == {}
    done(*arguments)
    made = {key: new for key, (old, new) in difference(before, database_rows()).items() if not old}
    told = [(change["table"], change["columns"]) for change in found["changes"]]
    assert sorted(key[0] for key in made) == sorted(t for t, _ in told if t != "Open_vSwitch")
    bridge = made_by(made, "Bridge", TAP)
    columns = dict(told)["Bridge"]
    for column in ("name", "datapath_type", "fail_mode"):
        assert bridge[column] == columns[column]
    assert bridge["protocols"] == columns["protocols"][0] == "OpenFlow13"
    for column in ("external_ids", "other_config"):
        assert dict(bridge[column][1]) == columns[column]
    assert bridge["datapath_id"] == columns["other_config"]["datapath-id"]
    targets = {row["target"] for (table, _), row in made.items() if table == "Controller"}
    assert targets == {TARGET, "ssl:192.0.2.1:6653"}
    for words in (*targets, "cloudtap-taps=br-int", "fail_mode=secure"):
        assert words in shown


def test_a_dry_run_of_detach_lists_what_would_go() -> None:
    done("attach", OWNER)
    occupy()
    before = database_rows()
    found = json.loads(done("detach", OWNER, "--dry-run", "--output", "json"))
    assert difference(before, database_rows()) == {}
    names = sorted((each["table"], each["columns"].get("name")) for each in found["changes"])
    digits = ("0123456789ab", "ba9876543210")
    assert names == sorted(
        [
            ("Bridge", TAP),
            ("Open_vSwitch", None),
            ("Port", "ids"),
            *(("Mirror", f"ctm{each}") for each in digits),
            *(("Port", f"{end}{each}") for each in digits for end in ("ctm", "ctp")),
        ]
    )


def test_attaching_twice_changes_nothing_and_other_options_are_refused() -> None:
    done("attach", OWNER)
    before = database_rows()
    assert "attached already" in done("attach", OWNER)
    assert "attached already" in done("attach", OWNER, "--name", TAP, "--controller", TARGET)
    assert difference(before, database_rows()) == {}
    assert "not by 'other'" in refused("attach", OWNER, "--name", "other")
    assert f"with {TARGET}, not tcp:[::1]:6653" in refused(
        "attach", OWNER, "--controller", "tcp:[::1]:6653"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("set", "Bridge", TAP, "fail_mode=standalone"), "fail_mode is standalone, not secure"),
        (("clear", "Bridge", TAP, "fail_mode"), "fail_mode is empty, not secure"),
        (("set", "Bridge", TAP, "datapath_type=dummy"), "datapath_type is dummy"),
        (("set", "Bridge", TAP, "protocols=OpenFlow10,OpenFlow13"), "protocols is"),
        (("remove", "Bridge", TAP, "other_config", "disable-in-band"), "disable-in-band"),
    ],
)
def test_a_tap_bridge_that_somebody_has_altered_is_said(
    change: tuple[str, ...], words: str
) -> None:
    done("attach", OWNER)
    vsctl(*change)
    assert words in refused("attach", OWNER)
    done("detach", OWNER)
    assert "tap bridge is" in done("attach", OWNER)


def test_the_datapath_id_is_the_same_after_detach_and_attach() -> None:
    done("attach", OWNER)
    first = vsctl("get", "Bridge", TAP, "datapath_id")
    done("detach", OWNER)
    done("attach", OWNER, "--name", "another")
    assert vsctl("get", "Bridge", "another", "datapath_id") == first
    assert first != vsctl("get", "Bridge", OWNER, "datapath_id")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("plane",), "no bridge 'plane'; the bridges of this host: br-int"),
        ((OWNER, "--name", "a1"), "'a1' is taken by a port"),
        ((OWNER, "--name", "x1"), "'x1' is taken by an interface"),
        ((OWNER, "--name", OWNER), f"{OWNER!r} is taken by a bridge"),
        ((OWNER, "--name", "ids"), "'ids' is taken by a network device"),
        ((OWNER, "--name", "sixteen-letters-"), "at most 15"),
        ((OWNER, "--name", "a/b"), "cannot be the name"),
        ((OWNER, "--name", "@x"), "cannot be the name"),
        ((OWNER, "--controller", "ptcp:6653"), "no target"),
        ((OWNER, "--controller", "tcp:1.2.3.4:6653 -- del-br br-int"), "no target"),
        ((OWNER, "--controller", "tcp:127.0.0.1:6633"), "so cloudtap owns it"),
    ],
)
def test_what_cannot_be_attached_is_refused(words: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused("attach", *words)


def test_a_tap_bridge_is_not_tapped_itself() -> None:
    done("attach", OWNER)
    occupy()
    for verb in ("attach", "detach"):
        assert f"{TAP!r} is itself the tap bridge of {OWNER!r}" in refused(verb, TAP)


def test_a_bridge_of_a_running_ovn_is_attached_with_what_is_not_copied() -> None:
    vsctl("set", "Open_vSwitch", ".", "external_ids:ovn-remote=tcp:192.0.2.1:6642")
    try:
        assert "container ports" in done("attach", OWNER)
        assert "container ports" in done("attach", OWNER)
        done("detach", OWNER)
        vsctl("set", "Open_vSwitch", ".", "external_ids:ovn-bridge=br-ovn")
        assert "OVN" not in done("attach", OWNER)
    finally:
        for key in ("ovn-remote", "ovn-bridge"):
            vsctl("remove", "Open_vSwitch", ".", "external_ids", key)


@pytest.mark.parametrize(
    "name", ["a-bridge-of-15-b", "br with spaces", 'br"quoted', "@br", "br,{x"]
)
def test_an_owners_bridge_may_have_any_name(name: str) -> None:
    vsctl(
        *("--", "--id=@b", "create", "Bridge", f"name={json.dumps(name)}"),
        *(f"datapath_type={DATAPATH}", "--", "add", "Open_vSwitch", ".", "bridges", "@b"),
    )
    before = database_rows()
    found = json.loads(done("attach", name, "--output", "json"))
    [tap] = [row for row in database_rows().values() if is_marked(row)]
    assert tap["name"] == found["tap_bridge"] and tap["name"].startswith("ct-")
    assert dict(tap["external_ids"][1]) == {"cloudtap-taps": name}
    assert "attached already" in done("attach", name)
    done("detach", name)
    assert difference(before, database_rows()) == {}


@pytest.mark.parametrize(
    "lost",
    [
        ("del-br", TAP),
        ("del-br", OWNER),
        ("remove", "Bridge", TAP, "external_ids", "cloudtap-taps"),
        ("del-port", OWNER, "ctm0123456789ab"),
        ("del-port", TAP, "ctp0123456789ab"),
        ("clear", "Port", "ctm0123456789ab", "external_ids"),
        ("clear", "Interface", "ctmba9876543210", "external_ids"),
    ],
    ids=" ".join,
)
def test_what_is_left_of_an_attachment_is_removed(lost: tuple[str, ...]) -> None:
    before = database_rows()
    done("attach", OWNER)
    occupy()
    vsctl(*lost)
    done("detach", OWNER)
    after = database_rows()
    left = {key: row for key, row in after.items() if "cloudtap-mirror" in json.dumps(row)}
    assert left == {}
    if lost == ("del-br", OWNER):
        assert f"no bridge {OWNER!r}" in refused("detach", OWNER)
        return
    assert "nothing to remove" in done("detach", OWNER)
    if lost[:3] != ("remove", "Bridge", TAP):
        assert difference(before, after) == {}


def test_two_mirrors_of_ours_with_one_name_are_both_removed() -> None:
    before = database_rows()
    done("attach", OWNER)
    occupy()
    vsctl(
        *("--", "--id=@m", "create", "Mirror", "name=ctmba9876543210"),
        *("external_ids:cloudtap-mirror=ctmba9876543210", "select_all=false"),
        *("--", "add", "Bridge", OWNER, "mirrors", "@m"),
    )
    assert "3 Mirrors" in done("detach", OWNER)
    assert difference(before, database_rows()) == {}


def test_mirrors_of_another_owners_bridge_stay() -> None:
    vsctl("add-br", "br-two", "--", "set", "Bridge", "br-two", f"datapath_type={DATAPATH}")
    vsctl("add-port", "br-two", "ids")
    done("attach", "br-two")
    add_mirror("br-two", "ct-br-two", "00000000000a", ["ids"])
    before = database_rows()
    done("attach", OWNER)
    add_mirror(OWNER, TAP, "00000000000b", ["a1"])
    done("detach", OWNER)
    assert difference(before, database_rows()) == {}


def test_the_page_about_attached_bridges_works_word_for_word() -> None:
    vsctl("add-br", "vmbr1", "--", "set", "Bridge", "vmbr1", f"datapath_type={DATAPATH}")
    steps = read_steps((ROOT / "docs" / "how-to" / "attach.md").read_text())
    assert len(steps) == 7
    for step in steps:
        type_step(step, "http://127.0.0.1:1")

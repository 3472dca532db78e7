"""The scenarios succeed on both runtimes, and fail if a flow is damaged."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

from tests.lab.conftest import ROOT
from tests.lab.terminal import READY, Terminal

SCENARIOS = ("two_tenants", "two_switches")
PYTHON = "/usr/bin/python3"
PROMPT, CTRL_C = r"mininet> $", "\x03"


def run_scenario(
    scenario: str, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, f"mininet_topos/{scenario}.py", *options],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
    )


@pytest.mark.parametrize("runtime", ["ryu", "os-ken"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_copy_is_where_it_must_be_and_nothing_is_anywhere_else(
    scenario: str, runtime: str
) -> None:
    done = run_scenario(scenario, "--runtime", runtime)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("missing=0 extra=0")
    for kind in ("ARP", "ICMP", "TCP", "UDP", "VLAN-tagged", "broadcast", "multicast"):
        for tenant in ("red", "blue"):
            assert re.search(rf"^{tenant} +{kind} .* ids +[1-9]", done.stdout, re.MULTILINE)


def test_a_bridge_of_somebody_else_is_tapped_and_left_as_it_was() -> None:
    done = run_scenario("attached")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "everything is as it must be"
    assert len(re.findall(r"40 copies of red's, 40 must be: right", done.stdout)) == 2
    assert re.search(r"^rows and flows of bridge br0: as they were before$", done.stdout, re.M)


@pytest.mark.parametrize(("damage", "seen"), [("missing", 20), ("extra", 60)])
def test_the_story_of_the_attached_bridge_notices_one_wrong_flow(damage: str, seen: int) -> None:
    done = run_scenario("attached", DAMAGE=damage)

    assert done.returncode == 1, done.stdout + done.stderr
    assert f"red's vm1 is tapped: 40 of 40 pings answered, {seen} copies" in done.stdout
    assert done.stdout.splitlines()[-1] == "NOT AS IT MUST BE"


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(
    ("damage", "names"),
    [
        ("missing", r'^missing at red_ids: the copy of .*"story: song of red_web2", sent by red_'),
        ("extra", r'^extra at blue_\w+: .*"story: song of red_web2", sent by red_web2$'),
    ],
)
def test_one_damaged_flow_is_noticed_and_a_frame_is_named(
    scenario: str, damage: str, names: str
) -> None:
    done = run_scenario(scenario, DAMAGE=damage)

    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(names, done.stdout, re.MULTILINE), done.stdout
    assert re.search(rf"^NOT AS IT MUST BE.* {damage}=[1-9]", done.stdout, re.MULTILINE)


def test_the_lab_stays_until_it_is_asked_to_end_and_then_leaves_nothing() -> None:
    with Terminal(ROOT, os.environ) as lab, Terminal(ROOT, os.environ) as operator:
        shown = lab.type(
            f"{PYTHON} mininet_topos/two_tenants.py --stay </dev/null", r"cloudtap status\n"
        )
        (settings,) = re.findall(r"^ +(export CLOUDTAP_API=.*)$", shown, re.MULTILINE)
        operator.type(settings, "<ready>")
        operator.type(".venv/bin/cloudtap status", "web-to-ids.*<ready>")
        ended = lab.press_ctrl_c()
    assert "Traceback" not in ended


def test_ctrl_c_at_the_prompt_of_the_lab_ends_it_as_exit_does() -> None:
    """On a terminal (`script` makes one): Ctrl-C first ends a command of a host, then the lab."""
    with Terminal(ROOT, os.environ) as lab:
        stay = f"{PYTHON} mininet_topos/two_tenants.py --stay"
        lab.type(f"script -qec '{stay}' /dev/null", PROMPT)
        lab.type_inside("red_web1 ping red_db1", "bytes from .*bytes from ")
        lab.type_inside(CTRL_C, PROMPT)
        ended = lab.type_inside(CTRL_C, READY)
    assert "Traceback" not in ended


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_inventory_declares_what_the_topology_builds(scenario: str) -> None:
    print_it = "print(json.dumps(dataclasses.asdict(s.SCENARIO)))"
    dump = f"import json, dataclasses, {scenario} as s; {print_it}"
    built = json.loads(
        subprocess.run(
            [PYTHON, "-c", dump], cwd=ROOT / "mininet_topos", capture_output=True, check=True
        ).stdout
    )
    declared = yaml.safe_load(Path(ROOT, "mininet_topos", f"{scenario}.yaml").read_text())

    ports = {(p["tenant"], p["name"], p["interface"]): p for p in declared["ports"]}
    members = {(m["tenant"], m["name"], m["interface"]): m for m in built["workloads"]}
    taps = {(t["tenant"], t["name"], t["interface"]) for t in built["tap_ports"]}
    links = [(x["from"]["interface"], x["to"]["interface"]) for x in declared.get("links", [])]
    assert set(ports) == set(members) | taps
    assert {key for key, port in ports.items() if port.get("kind") == "tap"} == taps
    assert links == [tuple(cable) for cable in built["cables"]]
    for key, member in members.items():
        known = (None, None) if member["is_learned"] else (member["mac"], [member["ip"]])
        assert (ports[key].get("mac"), ports[key].get("ips")) == known


def test_somebody_who_is_not_root_gets_one_sentence() -> None:
    # the repository may be readable by root only, as under /root
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        shutil.copytree(ROOT / "mininet_topos", Path(folder, "mininet_topos"))
        scenario = [PYTHON, "mininet_topos/two_tenants.py"]
        command = ["setpriv", "--reuid=65534", "--clear-groups", *scenario]

        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "two_tenants: building a network needs root: run it with sudo, or 'sudo make demo'"
    ]


def test_without_open_vswitch_there_is_one_sentence() -> None:
    done = run_scenario("two_tenants", OVS_RUNDIR="/nonexistent")

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "two_tenants: Open vSwitch does not run here: use 'tools/isolate', as 'make demo' does"
    ]


def test_a_controller_that_cannot_start_shows_its_message() -> None:
    with socket.create_server(("127.0.0.1", 6653)):
        done = run_scenario("two_tenants")

    assert done.returncode == 2
    assert "two_tenants: 'ryu-manager controller.app' did not start:" in done.stderr
    assert "6653" in done.stderr
    assert "Traceback" not in done.stderr

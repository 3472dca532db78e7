"""`cloudtap bridge prepare` on a bridge of the kernel's datapath, and what is said around it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from controller.cli import main
from controller.devices import PairEnd, pair_name
from flows.model import Dpid
from tests.ovs.controller_process import TARGET, ControllerProcess
from tests.ovs.lab import Lab, vsctl
from tests.ovs.waiting import wait_for

INVENTORY = """\
tenants: [red]
networks: [{name: lan, tenant: red}]
ports:
  - {id: web, tenant: red, network: lan, mac: "02:00:00:00:00:01", interface: s1-eth1}
  - {id: ids, tenant: red, kind: tap, interface: s1-eth5}
"""
ENDS = {pair_name(Dpid(1), end) for end in PairEnd}


def prepare(*options: str) -> Result:
    return CliRunner().invoke(main, ["bridge", "prepare", "s1", *options])


def ports() -> set[str]:
    return set(vsctl("list-ports", "s1").split())


def findings() -> list[str]:
    """What `cloudtap doctor` says of the kernel's datapath."""
    rows = json.loads(CliRunner().invoke(main, ["doctor", "--output", "json"]).stdout)
    return [row["found"] for row in rows if row["what"] == "kernel datapath"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("ip link set {out} down", "is down: "),
        ("ip link set {out} mtu 1500", "another MTU than it was given: "),
        ("ethtool -K {back} tso on tx on", "has offloads: "),
        ("ip link delete {out}", "cannot be seen here: "),
    ],
)
def test_what_is_wrong_with_a_pair_is_found_without_a_controller(
    lab: Lab, damage: str, said: str
) -> None:
    lab.add_bridge("s1", dpid=1)
    assert prepare().exit_code == 0
    assert not any("segmenting pair" in each for each in findings())
    out, back = (pair_name(Dpid(1), end) for end in (PairEnd.OUT, PairEnd.BACK))

    subprocess.run(damage.format(out=out, back=back).split(), check=True)

    wait_for(findings, lambda found: any(said in each for each in found))
    prepare("--undo")


@pytest.fixture
def running(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    lab.add_bridge("s1", dpid=1, controller=TARGET)
    lab.add_ports("s1", (1, 5))
    with ControllerProcess(tmp_path_factory.mktemp("controller"), INVENTORY) as process:
        process.start("s1")
        yield process
    prepare("--undo")


def test_a_bridge_is_prepared_found_and_undone(running: ControllerProcess) -> None:
    to = {"tenant": "red", "name": "to", "sensors": [{"port": "ids"}]}
    assert running.api.post("/v1/collectors", json=to).status_code == 201
    running.create_session("red", "one", ["web"], "to", packet_length=100)
    said = running.wait_for_session("one", "degraded", "cloudtap bridge prepare s1")
    assert "packets longer than 100 bytes are not copied" in " ".join(said["status"]["reasons"])
    assert any("bridge prepare" in each for each in findings())

    assert "would make" in prepare("--dry-run").stdout and not ENDS & ports()
    done = prepare()
    assert done.exit_code == 0, done.output
    assert ports() >= ENDS
    wait_for(lambda: running.session("one")["status"]["state"], lambda state: state == "active")
    assert "there already" in prepare().stdout
    assert not any("bridge prepare" in each for each in findings())
    status = running.api.get("/v1/status").json()
    assert not ENDS & set(json.dumps(status).split('"')), "ports of ours are not undeclared ones"

    assert "would remove" in prepare("--undo", "--dry-run").stdout and ports() >= ENDS
    assert prepare("--undo").exit_code == 0
    assert not ENDS & ports()
    running.wait_for_session("one", "degraded", "cloudtap bridge prepare s1")

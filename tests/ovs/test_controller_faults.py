"""Every fault is reported in one sentence, and everything else keeps working."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.runtime import launch_command
from tests.ovs import open_vswitch
from tests.ovs.controller_process import ROOT, TARGET, ControllerProcess
from tests.ovs.datapath import DATAPATH
from tests.ovs.lab import Lab, ofctl, vsctl
from tests.ovs.small_cloud import INVENTORY, SmallCloud, make_collectors
from tests.ovs.waiting import wait_for


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        yield process
        assert "Traceback" not in process.log()


def refusal(controller: ControllerProcess) -> str:
    """The last sentence of a controller that has exited."""
    assert controller.wait_for_end() == 1, controller.log()
    output = [line for line in controller.log().splitlines() if line.startswith("cloudtap: ")]
    assert len(output) == 1, controller.log()
    return output[0]


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("runtime", ["ryu", "os-ken"])
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("api__listen", "the API server cannot listen on 127.0.0.1 port"),
        ("openflow__listen", "the OpenFlow server cannot listen on 127.0.0.1 port"),
    ],
)
def test_an_address_in_use_ends_the_start(
    tmp_path: Path, taken: str, runtime: str, setting: str, words: str
) -> None:
    with ControllerProcess(tmp_path, INVENTORY, runtime) as controller:
        controller.launch(**{setting: taken})
        output = refusal(controller)
        assert words in output and "the port is in use by another program" in output
        assert "Traceback" not in controller.log()


def test_a_bad_configuration_ends_the_start(controller: ControllerProcess) -> None:
    controller.launch(api__listen="nowhere", bridges__owned="s1")
    output = refusal(controller) + controller.log()
    assert "CLOUDTAP_BRIDGES__OWNED: [bridges] owned: there is no such key" in output
    assert "CLOUDTAP_API__LISTEN: [api] listen: 'nowhere' is not an address to listen on" in output


def test_a_second_controller_on_the_same_state_ends_and_the_first_goes_on(
    running: ControllerProcess,
) -> None:
    assert running.process is not None
    first = running.process
    settings = {"API__LISTEN": "127.0.0.1:9471", "OPENFLOW__LISTEN": "127.0.0.1:6654"}
    settings["STATE__DIRECTORY"] = str(running.folder / "state")
    environment = {f"CLOUDTAP_{key}": value for key, value in settings.items()}
    second = subprocess.run(
        launch_command("ryu"),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert f"another controller (pid {first.pid}) uses state directory" in second.stderr
    assert "Traceback" not in second.stderr + second.stdout
    assert running.session("one")["status"]["state"] == "active"


def test_the_application_can_be_named_by_its_file(cloud: SmallCloud, tmp_path: Path) -> None:
    """From any folder, as people do it who are used to ryu."""
    with ControllerProcess(tmp_path, INVENTORY) as controller:
        controller.start("s1", application=str(ROOT / "controller" / "app.py"), folder=tmp_path)
        assert controller.end() == 0
        assert "Traceback" not in controller.log()


def test_a_broken_inventory_leaves_the_old_one_in_force(running: ControllerProcess) -> None:
    flows = ofctl("--no-stats", "dump-flows", "s1")
    running.inventory.write_text(INVENTORY + "  - {id: red-x, tenant: red, network: nowhere}\n")
    output = running.wait_for_problem("nowhere")
    assert ("inventory.yaml" in output and "line" in output) or ":" in output
    assert running.session("one")["status"]["state"] == "active"
    assert ofctl("--no-stats", "dump-flows", "s1") == flows
    running.inventory.unlink()
    running.wait_for_problem("does not exist")
    assert ofctl("--no-stats", "dump-flows", "s1") == flows
    running.inventory.write_text(INVENTORY)
    wait_for(lambda: running.status()["problems"], lambda found: not found)
    assert running.bridge("s1")["plans"] == 2, "one for the ports, one for the session"


def test_open_vswitch_that_does_not_run_is_said_and_found_when_it_does(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    open_vswitch.kill("ovs-vswitchd")
    open_vswitch.kill("ovsdb-server")
    controller.start()
    assert "db.sock" in controller.wait_for_problem("see whether ovsdb-server runs")
    make_collectors(controller)
    made = controller.create_session("red", "one", ["web"], "ids")
    assert made["status"]["state"] == "pending"
    open_vswitch.start_ovsdb_server()
    open_vswitch.start_vswitchd()
    controller.wait_until_connected("s1")
    controller.wait_for_session("one")
    wait_for(lambda: controller.status()["problems"], lambda found: not found)


def test_a_switch_that_speaks_only_openflow_10_is_said_and_the_others_go_on(
    lab: Lab, running: ControllerProcess
) -> None:
    vsctl("add-br", "old", "--", "set", "Bridge", "old", f"datapath_type={DATAPATH}",
          "protocols=OpenFlow10", "--", "set-controller", "old", TARGET)  # fmt: skip
    lab.bridges.append("old")
    output = running.wait_for_problem("does not speak OpenFlow 1.3")
    assert "ovs-vsctl add bridge BRIDGE protocols OpenFlow13" in output
    assert running.session("one")["status"]["state"] == "active"
    assert running.delete_session("one") == 204


def test_a_bridge_that_is_left_to_others_gets_no_flow(
    lab: Lab, cloud: SmallCloud, controller: ControllerProcess
) -> None:
    lab.add_bridge("s2", dpid=0x52, controller=TARGET)
    ofctl("add-flow", "s2", "actions=drop")
    controller.start("s1", bridges__own="s1")
    controller.wait_until_connected("s2")
    bridge = controller.wait_for_bridge("s2", "inactive")
    assert bridge["reasons"] == [
        "bridge 's2' is left alone: it is not in `own` of [bridges] in the configuration"
    ]
    make_collectors(controller)
    made = controller.create_session("red", "one", ["web"], "ids")
    assert made["status"]["state"] == "active"
    assert controller.delete_session("one") == 204
    assert len(ofctl("dump-flows", "s2").splitlines()) == 2, "its flow, under a headline"
    assert controller.log().count("is left alone") == 1


def test_an_unknown_port_is_refused_by_name(running: ControllerProcess) -> None:
    body = {"tenant": "red", "name": "two", "collector": "ids"}
    source = {"kind": "port", "ports": ["web", "nobody"]}
    answer = running.api.post("/v1/sessions", json=body | {"source": source})
    assert answer.status_code == 404
    problem = answer.json()
    assert "there is no port 'nobody'" in problem["detail"]
    assert problem["field"] == "source.ports.1"


def test_a_full_disk_refuses_changes_and_stops_nothing_else(
    cloud: SmallCloud, controller: ControllerProcess, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(state)], check=True
    )
    try:
        controller.start("s1")
        make_collectors(controller)
        controller.create_session("red", "one", ["web"], "ids")
        fill(state / "fill")
        source = {"kind": "port", "ports": ["db"]}
        body = {"tenant": "red", "name": "two", "collector": "ids", "source": source}
        answer = wait_for(
            lambda: controller.api.post("/v1/sessions", json=body), lambda a: a.status_code != 201
        )
        assert answer.status_code == 503
        assert "the disk is full; make room and try again" in answer.json()["detail"]
        again = ["--", "add-port", "s1", "s1-eth1", "--", "set", "Interface", "s1-eth1"]
        again += ["ofport_request=31", "external_ids:iface-id=red-web"]
        vsctl("del-port", "s1", "s1-eth1", *again)
        wait_for(lambda: controller.place("red-web"), lambda place: place == ("s1", 31))
        wait_for(lambda: ofctl("dump-flows", "s1", "table=40"), lambda text: "in_port=31" in text)
        controller.wait_for_problem("the places of ports are not remembered")
        (state / "fill").unlink()
        made = controller.create_session("red", "three", ["db"], "ids")
        assert made["status"]["state"] == "active"
        controller.end(signal.SIGTERM)
    finally:
        if controller.process is not None:
            controller.process.kill()
            controller.process.wait()
        subprocess.run(["umount", str(state)], check=True)


def fill(file: Path) -> None:
    """Fill the file system."""
    with file.open("wb", buffering=0) as stream:
        for size in (4096, 512, 1):
            try:
                while True:
                    stream.write(b"x" * size)
            except OSError:
                continue

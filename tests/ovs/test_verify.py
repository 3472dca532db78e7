"""`session verify` on real bridges: the command reports what arrives at the sensor."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.lab.tutorial import read_steps
from tests.ovs.controller_process import TARGET, ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, ofctl, vsctl
from tests.ovs.segmenters import prepare
from tests.ovs.small_cloud import INVENTORY, PORTS, SmallCloud, build_cloud, make_collectors
from tests.ovs.traffic import Traffic
from tests.ovs.waiting import wait_for

CLOUDTAP = str(Path(sys.executable).parent / "cloudtap")
LINK = 9
MORE = """\
  - {id: red-app, name: app, tenant: red, network: dmz, mac: "02:00:00:00:00:01"}
links:
  - {from: {bridge: s1, interface: s1-eth9}, to: {bridge: s2, interface: s2-eth9}}
"""
TWO_BRIDGES = INVENTORY.replace(
    "networks:\n", "networks:\n  - {name: dmz, tenant: red}\n"
) + MORE  # fmt: skip


@pytest.fixture
def runtime() -> str:
    return "ryu"


@pytest.fixture
def controller(tmp_path: Path, cloud: SmallCloud, runtime: str) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY, runtime) as process:
        process.start("s1")
        make_collectors(process)
        yield process


@pytest.fixture
def far(lab: Lab, tmp_path: Path) -> Iterator[tuple[SmallCloud, ControllerProcess]]:
    """The cloud, and a second bridge with a workload of another network of the same tenant."""
    cloud = build_cloud(lab)
    lab.add_bridge("s2", dpid=0x52, controller=TARGET)
    cloud.at["red-app"] = lab.add_port("s2", 1, "red-app")
    lab.link("s1", LINK, "s2", LINK)
    with ControllerProcess(tmp_path, TWO_BRIDGES) as process:
        process.start("s1", "s2")
        make_collectors(process)
        yield cloud, process


def verify(name: str, at: Endpoint, *more: str) -> tuple[int, dict[str, Any]]:
    """Exit status and output of the command, which listens at an endpoint."""
    command = [CLOUDTAP, "session", "verify", name, "-o", "json"]
    done = subprocess.run(
        [*command, "--listen", at.far, *more], capture_output=True, text=True, timeout=60
    )
    assert done.stdout, done.stderr
    return done.returncode, dict(json.loads(done.stdout))


@pytest.mark.parametrize("runtime", ["ryu", "os-ken"])
def test_every_frame_arrives_in_order_and_whole_and_nobody_else_sees_one(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.create_session("red", "one", ["web", "db"], "ids")
    for endpoint in cloud.lab.endpoints:
        endpoint.receive_all()
    status, found = verify("one", cloud.at["red-ids"], "--count", "1000", "--length", "1500")

    assert (status, found["faults"], found["sent"]) == (0, [], 1000)
    [way] = found["ways"]
    assert (way["arrived"], way["lost"], way["out_of_order"]) == (1000, 0, 0)
    assert (way["lengths"], way["tags"], way["delivered"]) == ([1500], ["none"], ["plain"])
    assert way["counted"] == found["witnesses"][0]["sent"] == 1000
    cloud.lab.flush()
    seen = {e.ofport: len(e.receive_all()) for e in cloud.lab.endpoints}
    assert {PORTS[ofport] for ofport, frames in seen.items() if frames} == {"red-ids"}


def test_frames_of_a_check_neither_count_nor_reach_a_limit_also_after_a_restart(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.create_session("red", "few", ["web"], "ids", max_packets=300)
    with Traffic([cloud.at[name] for name in ("red-web", "red-db", "red-ids")]) as traffic:
        streams = cloud.red_streams(traffic)
        traffic.wait_for(streams[0], cloud.at["red-ids"], 20)
        traffic.stop()
        for stream in streams:
            traffic.wait_for(stream, cloud.at["red-ids"], traffic.now(stream))
    status, found = verify("few", cloud.at["red-ids"], "--count", "500")
    assert (status, found["faults"]) == (0, [])
    copies = controller.session("few")["status"]["copies"]["packets"]
    arrived = [traffic.arrived(stream, cloud.at["red-ids"]).total() for stream in streams]
    assert copies == sum(arrived) >= 20
    controller.end()
    controller.start("s1")
    seen = controller.wait_for_session("few")
    assert seen["status"]["copies"]["packets"] == copies


def test_frames_of_a_verification_are_no_copies_after_a_kill(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.create_session("red", "one", ["web"], "ids")
    status, _ = verify("one", cloud.at["red-ids"], "--count", "100")
    assert (status, controller.session("one")["status"]["copies"]["packets"]) == (0, 0)

    def stored() -> list[tuple[int, int]]:
        with closing(sqlite3.connect(controller.folder / "state" / "state.db")) as connection:
            return connection.execute("SELECT before_packets, last_packets FROM counts").fetchall()

    wait_for(stored, [(-100, 100)].__eq__)
    controller.end(signal.SIGKILL)
    controller.start("s1")
    assert controller.wait_for_session("one")["status"]["copies"] == {"packets": 0, "bytes": 0}


def test_frames_are_no_copies_although_the_session_is_switched_off_and_on_meanwhile(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.create_session("red", "one", ["web"], "ids")
    with (
        httpx.Client(base_url=controller.api.base_url, timeout=60) as client,
        ThreadPoolExecutor(1) as pool,
    ):

        def answer() -> httpx.Response:
            checking = pool.submit(client.post, "/v1/sessions/one/verify", json={"count": 1000})
            while not checking.done():
                for is_enabled in (False, True):
                    controller.change_session("one", enabled=is_enabled)
            return checking.result()

        def is_refused(answer: httpx.Response) -> bool:
            return answer.status_code == 409 and "verified now" in answer.json()["detail"]

        wait_for(answer, is_refused)
    seen = controller.wait_for_session("one")
    assert seen["status"]["copies"] == {"packets": 0, "bytes": 0}


def test_copies_are_verified_while_production_runs_and_it_loses_nothing(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.create_session("red", "one", ["web"], "ids")
    with Traffic([cloud.at[name] for name in ("red-web", "red-db")]) as traffic:
        there, _ = cloud.red_streams(traffic)
        traffic.wait_for(there, cloud.at["red-db"], 20)
        status, found = verify("one", cloud.at["red-ids"], "--count", "500")
        last = traffic.now(there)
        traffic.wait_for(there, cloud.at["red-db"], last)
        assert traffic.faults(there, cloud.at["red-db"], 20, last) == []
    assert (status, found["faults"]) == (0, [])
    assert found["ways"][0]["counted"] >= 500


def test_copies_are_cut_where_the_session_cuts_them(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    prepare(cloud.lab, "s1")
    controller.create_session("red", "head", ["web"], "ids", packet_length=128)
    controller.wait_for_session("head")
    status, found = verify("head", cloud.at["red-ids"], "--length", "1000")
    assert (status, found["faults"], found["ways"][0]["lengths"]) == (0, [], [128])
    assert controller.session("head")["status"]["copies"]["packets"] == 0


def test_each_sensor_of_a_pool_is_verified_and_those_elsewhere_are_no_fault(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    body = {"tenant": "red", "name": "pool", "sensors": [{"port": "ids"}, {"port": "soc"}]}
    assert controller.api.post("/v1/collectors", json=body).status_code == 201
    controller.create_session("red", "spread", ["web"], "pool", max_rate={"pps": 1})
    controller.wait_for_session("spread")
    status, found = verify("spread", cloud.at["red-ids"])

    assert (status, found["faults"]) == (0, [])
    seen = {way["sensor"]: (way["arrived"], way["here"]) for way in found["ways"]}
    assert seen == {"ids": (100, True), "soc": (0, False)}
    sent = {tuple(one["sensors"]): one["sent"] for one in found["witnesses"]}
    assert sent == {("ids",): 100, ("soc",): 100}
    assert controller.session("spread")["status"]["copies"]["packets"] == 0

    only = f"cloudtap session verify spread --sensor soc --listen {cloud.at['red-soc'].far}"
    shown = wait_for(partial(run, only), lambda seen: seen is not None)
    assert shown is not None
    assert "100 frames of 256 bytes sent, 100 arrived" in shown


def test_a_far_tap_port_gets_each_network_with_its_tag_over_the_link(
    far: tuple[SmallCloud, ControllerProcess],
) -> None:
    cloud, controller = far
    controller.create_session("red", "all", ["web", "app"], "ids")
    controller.wait_for_session("all")
    status, found = verify("all", cloud.at["red-ids"], "--count", "200")

    assert (status, found["faults"]) == (0, [])
    networks = controller.api.get("/v1/networks?tenant=red").json()["items"]
    tags = {network["name"]: network["tag"] for network in networks}
    seen = {(way["bridge"], way["network"]): way["tags"] for way in found["ways"]}
    assert seen == {
        (bridge, network): [tags[network]] for bridge in ("s1", "s2") for network in tags
    }
    assert found["sent"] == found["witnesses"][0]["sent"] == 800


def test_a_copy_path_that_loses_or_alters_is_found_out(
    far: tuple[SmallCloud, ControllerProcess],
) -> None:
    cloud, controller = far
    controller.create_session("red", "app", ["app"], "ids")
    controller.wait_for_session("app")
    tap = cloud.at["red-ids"]
    foreign = f"priority=60000,in_port={LINK},dl_dst=0e:c7:a0:00:00:02,vlan_vid=0x1000/0x1000"

    def replace_delivery(actions: str) -> None:
        ofctl("add-flow", "s1", f"{foreign},actions={actions}")
        cloud.lab.wait_settled()

    replace_delivery("push_vlan:0x8100,set_field:4100->vlan_vid,output:5")
    status, found = verify("app", tap)
    assert status == 1
    assert "instead of none" in found["faults"][0]

    replace_delivery("pop_vlan,output:5,output:5")
    twice = wait_for(lambda: _try(tap), lambda found: found is not None)
    assert twice == ["bridge s2: 100 twice"]

    replace_delivery("drop")
    seen = wait_for(lambda: _try(tap), lambda found: found is not None)
    assert seen == ["bridge s2: 100 lost"]


def _try(tap: Endpoint) -> list[str] | None:
    """The faults that the command reports; None while it is too early for another run."""
    command = [CLOUDTAP, "session", "verify", "app", "-o", "json"]
    done = subprocess.run([*command, "--listen", tap.far], capture_output=True, text=True)
    return json.loads(done.stdout)["faults"] if done.stdout else None


PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "verify.md"


@contextmanager
def sensor_namespace(tap: Endpoint) -> Iterator[None]:
    """Move the interface of an endpoint into the namespace `sensor`, as `eth0`."""
    for command in (
        "ip netns add sensor",
        f"ip link set {tap.far} netns sensor name eth0",
        "ip -n sensor link set eth0 up",
    ):
        subprocess.run(command.split(), check=True)
    try:
        wait_for(lambda: vsctl("get", "Interface", tap.interface, "link_state"), "up\n".__eq__)
        yield
    finally:
        back = f"ip -n sensor link set eth0 netns 1 name {tap.far}"
        for command in (back, "ip netns del sensor"):
            subprocess.run(command.split(), check=True)


def run(command: str) -> str | None:
    """The output of a command; None while it is too early to verify the session again."""
    program, *arguments = shlex.split(command)
    assert program == "cloudtap"
    environment = {**os.environ, "COLUMNS": "140"}
    done = subprocess.run(
        [CLOUDTAP, *arguments], capture_output=True, text=True, env=environment, timeout=60
    )
    if done.returncode and "is the most" in done.stderr:
        return None
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_works_word_for_word_with_a_sensor_in_a_namespace(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.create_session("red", "web-to-ids", ["web"], "ids")
    steps = read_steps(PAGE.read_text())
    assert steps
    with sensor_namespace(cloud.at["red-ids"]):
        controller.wait_for_session("web-to-ids")  # its link was down on the way there
        for step in steps:
            shown = wait_for(partial(run, step.command), lambda seen: seen is not None)
            assert shown is not None
            assert re.fullmatch(step.pattern, " ".join(shown.split()), re.DOTALL), shown


def test_a_namespace_may_be_named_by_a_process_in_it(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    controller.create_session("red", "one", ["web"], "ids")
    inside = ["ip", "netns", "exec", "sensor", "cat"]
    with (
        sensor_namespace(cloud.at["red-ids"]),
        subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat,
    ):
        assert cat.stdin is not None
        assert cat.stdout is not None
        cat.stdin.write(b"!")
        cat.stdin.flush()
        assert cat.stdout.read(1) == b"!", "it has arrived in the namespace"
        controller.wait_for_session("one")
        shown = run(f"cloudtap session verify one --listen eth0 --netns {cat.pid} -o json")
        cat.stdin.close()
    assert shown is not None
    assert json.loads(shown)["faults"] == []

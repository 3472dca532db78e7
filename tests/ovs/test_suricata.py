"""A real Suricata with the configuration of cloudtap parses the copies that cloudtap delivers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.ovs.controller_process import ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.http_connection import (
    CLIENT,
    CLIENT_MAC,
    PORT,
    SERVER,
    SERVER_MAC,
    HttpConnection,
)
from tests.ovs.lab import Lab
from tests.ovs.small_cloud import INVENTORY, PORTS, SmallCloud
from tests.ovs.suricata import MARK, URI, Suricata, community_id
from tests.ovs.waiting import wait_for

BOTH = ["body", "uri"]
TWO_NETWORKS = INVENTORY.replace(
    "networks:\n", "networks:\n  - {name: dmz, tenant: red}\n"
) + """\
  - {id: red-web-2, name: web-2, tenant: red, network: dmz, mac: "02:00:00:00:00:01"}
  - {id: red-db-2, name: db-2, tenant: red, network: dmz, mac: "02:00:00:00:00:02"}
"""  # fmt: skip
MORE_PORTS = PORTS | {8: "red-web-2", 9: "red-db-2"}


@pytest.fixture
def cloud(lab: Lab) -> SmallCloud:
    lab.add_bridge("s1", dpid=0x51, controller="tcp:127.0.0.1:6653")
    ends = lab.add_ports("s1", MORE_PORTS, MORE_PORTS)
    return SmallCloud(lab, dict(zip(MORE_PORTS.values(), ends, strict=True)))


@pytest.fixture
def controller(tmp_path: Path, cloud: SmallCloud) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, TWO_NETWORKS) as process:
        process.start("s1")
        yield process


def collect(controller: ControllerProcess, tenant: str, **more: Any) -> None:
    """Create a collector `ids` of the tenant with its tap port `ids`."""
    body = {"tenant": tenant, "name": "ids", "sensors": [{"port": "ids"}], **more}
    answer = controller.api.post("/v1/collectors", json=body)
    assert answer.status_code == 201, answer.text


def text_for(controller: ControllerProcess, interface: str, tenant: str = "red") -> str:
    """The configuration that cloudtap generates for the sensor."""
    query = {"for": "suricata", "interface": interface, "tenant": tenant}
    answer = controller.api.get("/v1/collectors/ids/sensor-config", params=query)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["text"])


def talk(cloud: SmallCloud, tenant: str = "red", more: str = "", **how: Any) -> HttpConnection:
    """An HTTP connection between web and db of a tenant."""
    ends = cloud.at[f"{tenant}-web{more}"], cloud.at[f"{tenant}-db{more}"]
    return HttpConnection(*ends, **how)


@pytest.mark.parametrize(
    "bad_checksums", [False, True], ids=["valid checksums", "checksums not filled in"]
)
def test_both_directions_of_an_exchange_raise_alerts(
    cloud: SmallCloud, controller: ControllerProcess, tmp_path: Path, bad_checksums: bool
) -> None:
    collect(controller, "red")
    controller.create_session("red", "web", ["web"], "ids")
    text = text_for(controller, cloud.at["red-ids"].far)
    with Suricata(tmp_path / "ids", text) as ids:
        talk(cloud, bad_checksums=bad_checksums).exchange_all()
        alerts = ids.wait_for_alerts(BOTH.__eq__)
    assert {alert["community_id"] for alert in alerts} == {
        community_id(CLIENT, 40000, SERVER, PORT)
    }


@contextmanager
def machine(end: Endpoint, mac: str, address: str) -> Iterator[str]:
    """Move the interface of an endpoint into a network namespace of its own; yields its name."""
    name = f"m-{end.far}"
    commands = [
        f"ip netns add {name}",
        f"ip link set {end.far} netns {name}",
        f"ip -n {name} link set lo up",
        f"ip -n {name} link set {end.far} address {mac} up",
        f"ip -n {name} address add {address}/24 dev {end.far}",
        f"ip netns exec {name} ethtool -K {end.far} tx off",
    ]
    for command in commands:
        subprocess.run(command.split(), check=True, capture_output=True)
    try:
        yield name
    finally:
        subprocess.run(["ip", "-n", name, "link", "set", end.far, "netns", "1"], check=True)
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_curl_and_a_web_server_on_two_machines_raise_alerts(
    cloud: SmallCloud, controller: ControllerProcess, tmp_path: Path
) -> None:
    collect(controller, "red")
    controller.create_session("red", "web", ["web"], "ids")
    page = tmp_path / "www" / URI.strip("/")
    page.parent.mkdir()
    page.write_text(MARK)
    server = [sys.executable, "-m", "http.server", str(PORT), "--directory", str(page.parent)]
    with (
        machine(cloud.at["red-web"], CLIENT_MAC, CLIENT) as web,
        machine(cloud.at["red-db"], SERVER_MAC, SERVER) as db,
        subprocess.Popen(
            ["ip", "netns", "exec", db, *server], stderr=subprocess.DEVNULL
        ) as serving,
        Suricata(tmp_path / "ids", text_for(controller, cloud.at["red-ids"].far)) as ids,
    ):
        try:
            ask = ["ip", "netns", "exec", web, "curl", "-s", "-m", "5", f"http://{SERVER}{URI}"]
            answers = partial(subprocess.run, ask, capture_output=True, text=True)
            wait_for(answers, lambda done: done.stdout == MARK)
            ids.wait_for_alerts(BOTH.__eq__)
        finally:
            serving.kill()


def test_what_no_session_copies_raises_no_alert(
    cloud: SmallCloud, controller: ControllerProcess, tmp_path: Path
) -> None:
    collect(controller, "red")
    controller.create_session("red", "web", ["web-2"], "ids")
    text = text_for(controller, cloud.at["red-ids"].far)
    with Suricata(tmp_path / "ids", text) as ids:
        talk(cloud).exchange_all()
        talk(cloud, "blue", port=40001).exchange_all()
        talk(cloud, more="-2", port=40002).exchange_all("/seen", "nothing")
        ids.wait_for_http(["/seen"])
        assert ids.alerts() == []


def test_a_session_that_begins_in_mid_conversation_raises_alerts(
    cloud: SmallCloud, controller: ControllerProcess, tmp_path: Path
) -> None:
    collect(controller, "red")
    text = text_for(controller, cloud.at["red-ids"].far)
    with Suricata(tmp_path / "ids", text) as ids:
        conversation = talk(cloud)
        conversation.open()
        conversation.get("/before", "nothing")
        controller.create_session("red", "web", ["web"], "ids")
        conversation.get()
        conversation.close()
        ids.wait_for_alerts(BOTH.__eq__)


def two_networks(
    controller: ControllerProcess, cloud: SmallCloud, folder: Path, **more: Any
) -> Suricata:
    """A Suricata at a tap port that receives copies of two networks with equal addresses."""
    collect(controller, "red", **more)
    controller.create_session("red", "both", ["web", "web-2"], "ids")
    return Suricata(folder / "ids", text_for(controller, cloud.at["red-ids"].far))


def interleaved(cloud: SmallCloud) -> None:
    """The same exchange in both networks concurrently, with equal addresses and ports."""
    one, other = talk(cloud), talk(cloud, more="-2")
    for step in ("open", "get", "close"):
        getattr(one, step)()
        getattr(other, step)()


def test_networks_with_equal_addresses_are_told_apart_by_the_tag(
    cloud: SmallCloud, controller: ControllerProcess, tmp_path: Path
) -> None:
    with two_networks(controller, cloud, tmp_path) as ids:
        interleaved(cloud)
        alerts = ids.wait_for_alerts((BOTH[:1] * 2 + BOTH[1:] * 2).__eq__)
    items = controller.api.get("/v1/networks?tenant=red").json()["items"]
    tags = {network["name"]: network["tag"] for network in items}
    seen = sorted((alert["alert"]["signature"], alert["vlan"]) for alert in alerts)
    assert seen == sorted((name, [tag]) for name in BOTH for tag in tags.values())
    text = text_for(controller, "eth0")
    assert all(f"tag {tag}" in text and f"network {name}" in text for name, tag in tags.items())


def test_without_tags_they_are_not_and_the_configuration_says_so(
    cloud: SmallCloud, controller: ControllerProcess, tmp_path: Path
) -> None:
    with two_networks(controller, cloud, tmp_path, tenant_tag=None) as ids:
        interleaved(cloud)
        talk(cloud, port=41000).exchange_all("/after", "nothing")
        ids.wait_for_http(["/after"])
        assert len(ids.alerts()) < 4
    text = text_for(controller, "eth0")
    assert "WARNING: networks with equal addresses are mixed up" in text


def test_two_tenants_on_two_interfaces_of_one_sensor_are_told_apart(
    cloud: SmallCloud, controller: ControllerProcess, tmp_path: Path
) -> None:
    for tenant in ("red", "blue"):
        collect(controller, tenant)
        controller.create_session(tenant, f"{tenant}-web", ["web"], "ids")
    interfaces = {tenant: cloud.at[f"{tenant}-ids"].far for tenant in ("red", "blue")}
    text = text_for(controller, interfaces["red"])
    second = text_for(controller, interfaces["blue"], "blue").partition("af-packet:\n")[2]
    entry = second.partition("capture:\n")[0].replace("cluster-id: 99", "cluster-id: 98")
    text = text.replace("capture:\n", f"{entry}capture:\n")
    with Suricata(tmp_path / "ids", text) as ids:
        one, other = talk(cloud), talk(cloud, "blue")
        for step in ("open", "get", "close"):
            getattr(one, step)()
            getattr(other, step)()
        alerts = ids.wait_for_alerts((BOTH[:1] * 2 + BOTH[1:] * 2).__eq__)
    seen = sorted((alert["alert"]["signature"], alert["in_iface"]) for alert in alerts)
    assert seen == sorted((name, one) for name in BOTH for one in interfaces.values())

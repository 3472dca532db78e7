"""A tapped bridge whose workloads are known from Neutron alone: openstacksdk asks a real HTTP
server, and the inventory file declares nothing but tap ports."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests import frames
from tests.openstack_api import BLUE, PASSWORD, RED, OpenStackApi, port, reply
from tests.ovs.attached_cloud import (
    HOSTS,
    MACS,
    TAP,
    AttachedCloud,
    Script,
    Watch,
    build_attached_cloud,
    check_copies,
)
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import Lab
from tests.ovs.waiting import wait_for

PROJECTS = {"red": RED, "blue": BLUE}
TAP_PORTS = {"red": "red-t1", "blue": "blue-t1"}
WEB = Watch("red-t1", frozenset(["red-web"]))
ASKED = {"neutron__cloud": "lab", "neutron__poll_seconds": "0.2", "neutron__timeout_seconds": "2"}


def mac_text(host: str) -> str:
    """The MAC address of a workload."""
    return ":".join(f"{byte:02x}" for byte in frames.mac_bytes(MACS[host]))


def tap_ports() -> str:
    """What the inventory file declares."""
    lines = [f"tenants: ['{RED}', '{BLUE}']", "ports:"]
    for tenant, tap in TAP_PORTS.items():
        lines.append(f"  - {{id: {tap}, name: t1, tenant: '{PROJECTS[tenant]}', kind: tap}}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenStackApi]:
    with OpenStackApi(tmp_path) as found:
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(found.clouds))
        found.set_ports(
            *(
                port(f"{tenant}-{host}", project, mac_text(host), name=host)
                for tenant, project in PROJECTS.items()
                for host in HOSTS
            )
        )
        yield found


@pytest.fixture
def cloud(lab: Lab) -> AttachedCloud:
    built = build_attached_cloud(lab)
    built.attach()
    return built


@pytest.fixture
def controller(
    api: OpenStackApi, cloud: AttachedCloud, tmp_path: Path
) -> Iterator[ControllerProcess]:
    """A controller with a session of red that watches `web`."""
    with ControllerProcess(tmp_path, tap_ports()) as process:
        process.start(TAP, **ASKED)
        process.create_collector(RED, "sensor", "red-t1")
        process.create_session(RED, "one", ["web"], "sensor")
        process.wait_for_session("one")
        yield process
        log = process.log()
        assert "Traceback" not in log
        assert PASSWORD not in log and "secret-token" not in log


def fails(handler: BaseHTTPRequestHandler, path: str) -> bool:
    """Answers each request for ports with an error."""
    if path == "/v2.0/ports":
        reply(handler, 503, {})
    return path == "/v2.0/ports"


def check(cloud: AttachedCloud, script: Script, watches: list[Watch]) -> int:
    """Whether these are the copies of frames of all kinds, byte for byte, and no others."""
    sent = script.all_kinds()
    return check_copies(watches, sent, cloud.exchange(sent))


def wait_until_silent(cloud: AttachedCloud, script: Script) -> None:
    """Send frames until none of them is copied: the status changes before the Mirror has gone."""

    def look() -> int:
        cloud.send(script.udp("red", "web", "db"))
        cloud.lab.flush()
        return cloud.copies_at("red-t1")

    wait_for(look, (0).__eq__)


def test_a_port_that_neutron_gives_to_another_tenant_is_watched_no_more(
    api: OpenStackApi, cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    script = Script()
    assert check(cloud, script, [WEB]) > 10
    api.ports["red-web"] = {**api.ports["red-web"], "project_id": BLUE}
    controller.wait_for_session("one", "error", f"belongs to tenant {BLUE!r}")
    wait_until_silent(cloud, script)
    assert check(cloud, script, []) == 0
    api.ports["red-web"] = {**api.ports["red-web"], "project_id": RED}
    controller.wait_for_session("one")
    assert check(cloud, script, [WEB]) > 10
    del api.ports["red-web"]
    wait_for(lambda: controller.session("one")["status"]["state"], lambda now: now != "active")
    wait_until_silent(cloud, script)
    assert check(cloud, script, []) == 0


def test_copies_go_on_while_neutron_does_not_answer_and_the_status_says_so(
    api: OpenStackApi, cloud: AttachedCloud, controller: ControllerProcess, tmp_path: Path
) -> None:
    script = Script()
    assert controller.status()["problems"] == []
    api.damage = fails
    found = controller.wait_for_problem("Neutron of cloud 'lab' has not answered since")
    assert "503" in found and "what it said last counts" in found
    assert check(cloud, script, [WEB]) > 10
    controller.end()
    controller.start(TAP, **ASKED)
    controller.wait_for_session("one")
    controller.wait_for_problem("503")
    assert check(cloud, script, [WEB]) > 10
    api.damage = None
    wait_for(lambda: controller.status()["problems"], [].__eq__)


def test_a_process_that_is_killed_is_started_again_and_no_argument_has_a_secret(
    api: OpenStackApi, cloud: AttachedCloud, controller: ControllerProcess
) -> None:
    def asking() -> list[Path]:
        return [
            folder
            for folder in Path("/proc").glob("[0-9]*")
            if "controller.neutron.main" in _arguments(folder)
        ]

    (process,) = asking()
    assert PASSWORD not in _arguments(process)
    os.kill(int(process.name), signal.SIGKILL)
    controller.wait_for_problem("process that asks Neutron")
    api.ports["red-web"] = {**api.ports["red-web"], "project_id": BLUE}
    wait_for(lambda: controller.session("one")["status"]["state"], lambda now: now != "active")


def _arguments(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_text()
    except OSError:  # it has ended
        return ""

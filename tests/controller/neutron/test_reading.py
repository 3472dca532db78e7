"""The process that asks Neutron, with openstacksdk itself against a real HTTP server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from controller.neutron import Settings
from controller.neutron.main import Reporter, look_once
from controller.process import MessageSocket
from tests.openstack_api import BLUE, PASSWORD, RED, Document, OpenStackApi, port, reply

SETTINGS = Settings("lab", timeout_seconds=5.0)
MAC = "fa:16:3e:00:00:01"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenStackApi]:
    """The server, named in the environment as the cloud `lab`."""
    with OpenStackApi(tmp_path) as found:
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(found.clouds))
        found.set_ports(port("p1", RED, MAC, name="web"))
        yield found


def read(settings: Settings = SETTINGS) -> dict[str, Any]:
    """What one look finds."""
    here, there = socket.socketpair()
    with here, there:
        return Reporter(MessageSocket(here, 1 << 20), settings).ask()[0]


def failed(settings: Settings = SETTINGS) -> str:
    """Why a look finds nothing."""
    return str(look_once(settings)["failed"])


def test_workloads_come_with_their_owner_network_and_addresses(api: OpenStackApi) -> None:
    pairs = [{"ip_address": "10.0.0.9", "mac_address": MAC}, {"ip_address": "10.0.0.8/32"}]
    fixed = [{"subnet_id": "s", "ip_address": "10.0.0.5"}]
    api.set_ports(
        port("p1", RED, MAC.upper(), name="web", fixed_ips=fixed, allowed_address_pairs=pairs),
        port("dhcp", RED, "fa:16:3e:00:00:02", device_owner="network:dhcp"),
    )
    found = read()
    assert found["ports"] == {
        "p1": {
            "name": "web",
            "project": RED,
            "network": f"net-{RED}",
            "mac": MAC,
            "ips": ["10.0.0.5", "10.0.0.8", "10.0.0.9"],
            "is_protected": True,
        }
    }
    assert found["networks"][f"net-{BLUE}"] == {"name": "lan", "project": BLUE}
    assert found["projects"] == {RED: {"name": "red"}, BLUE: {"name": "blue"}}


@pytest.mark.parametrize(
    "fields",
    [
        {"port_security_enabled": False},
        {"allowed_address_pairs": [{"ip_address": "10.0.0.0/24"}]},
        {"allowed_address_pairs": [{"ip_address": "10.0.0.1", "mac_address": "fa:16:3e:0:0:9"}]},
    ],
    ids=["no-port-security", "a-network", "another-mac"],
)
def test_a_port_that_may_send_under_other_addresses_is_not_protected(
    api: OpenStackApi, fields: Document
) -> None:
    api.set_ports(port("p1", RED, MAC, **fields))
    assert read()["ports"]["p1"]["is_protected"] is False


def test_every_page_is_read(api: OpenStackApi) -> None:
    api.page = 7
    api.set_ports(*(port(f"p{n:03}", RED, f"fa:16:3e:00:00:{n:02x}") for n in range(50)))
    assert len(read()["ports"]) == 50
    assert api.asked["/v2.0/ports"] == 8


def test_only_the_wanted_projects_are_reported(api: OpenStackApi) -> None:
    api.set_ports(port("p1", RED, MAC), port("p2", BLUE, MAC))
    found = read(replace(SETTINGS, projects=(BLUE,)))
    assert (list(found["ports"]), list(found["networks"])) == (["p2"], [f"net-{BLUE}"])


def test_a_token_that_is_no_longer_good_is_renewed(api: OpenStackApi) -> None:
    here, there = socket.socketpair()
    with here, there:
        reporter = Reporter(MessageSocket(here, 1 << 20), SETTINGS)
        reporter.ask()
        api.tokens.clear()
        assert reporter.ask()[0]["ports"]
    assert api.asked["/v3/auth/tokens"] == 2


def test_a_login_that_may_not_list_projects_does_without_their_names(api: OpenStackApi) -> None:
    def forbid(handler: BaseHTTPRequestHandler, path: str) -> bool:
        if path == "/v3/projects":
            reply(handler, 403, {"error": {"code": 403}})
        return path == "/v3/projects"

    api.damage = forbid
    assert (read()["projects"], len(read()["ports"])) == ({}, 1)


BAD_BODIES = {
    "garbage": b"\xff<html>",
    "no-object": b"[]",
    "no-list": b'{"ports": {}}',
    "nothing": b"{}",
    "no-objects-in-it": b'{"ports": [1]}',
    "no-id": b'{"ports": [{"device_owner": "compute:x"}]}',
    "twice": b'{"ports": [{"id": "a"}, {"id": "a"}]}',
    "half-a-page": b'{"ports": [], "ports_links": [{"rel": "next", "href": "x"}]}',
    "for-ever": b'{"ports": [{"id": "a"}], "ports_links": [{"rel": "next", "href": "x"}]}',
    "long-text": b'{"ports": [{"id": "' + b"a" * 5000 + b'"}]}',
    "deep": b'{"ports": ' + b"[" * 100_000,
    "security": b'{"ports": [{"id": "a", "device_owner": "compute:x", '
    b'"port_security_enabled": 1}]}',
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_an_answer_that_is_not_what_it_should_be_is_no_empty_cloud(
    api: OpenStackApi, body: bytes
) -> None:
    def answer(handler: BaseHTTPRequestHandler, path: str) -> bool:
        if path == "/v2.0/ports":
            reply(handler, 200, body)
        return path == "/v2.0/ports"

    api.damage = answer
    assert "ports" in failed() or "of an object" in failed() or "of a port" in failed()


def test_more_objects_than_there_may_be_are_no_answer(
    api: OpenStackApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.neutron.reading.OBJECTS_MAX", 10)
    others = [port(f"d{n}", RED, MAC, device_owner="network:dhcp") for n in range(10)]
    api.set_ports(*others, *(port(f"p{n}", RED, MAC) for n in range(10)))
    assert len(read()["ports"]) == 10
    api.set_ports(*(port(f"p{n:02}", RED, MAC) for n in range(11)))
    assert failed() == "there are more than 10 workloads"
    api.page = 5
    api.set_ports(*others, *(port(f"p{n:02}", RED, MAC) for n in range(11)))
    assert failed() == "there are more than 20 ports"


def test_the_reason_of_a_failure_has_no_secret_in_it(api: OpenStackApi) -> None:
    text = api.clouds.read_text()
    api.clouds.write_text(text.replace(PASSWORD, "wrong-password"))
    assert failed() == "the login is refused: see user and password in clouds.yaml"
    api.clouds.write_text(text)

    def echo(handler: BaseHTTPRequestHandler, path: str) -> bool:
        token = handler.headers.get("X-Auth-Token")
        if path == "/v2.0/ports":
            reply(handler, 503, {"NeutronError": {"message": f"{token} {PASSWORD}"}})
        return path == "/v2.0/ports"

    api.damage = echo
    assert failed() == "the request for ports was answered with status 503"


def test_a_server_that_cannot_be_reached_or_says_nothing_is_told(api: OpenStackApi) -> None:
    silent = threading.Event()

    def wait(handler: BaseHTTPRequestHandler, path: str) -> bool:
        silent.wait(30)
        return True

    api.damage = wait
    assert failed(replace(SETTINGS, timeout_seconds=0.2)) == "nothing came within 0.2 s"
    silent.set()
    api.clouds.write_text(api.clouds.read_text().replace(api.url, "http://127.0.0.1:1"))
    assert failed() == "it cannot be reached"


def test_a_server_that_sends_a_byte_now_and_then_does_not_hold_it(api: OpenStackApi) -> None:
    ended = threading.Event()

    def trickle(handler: BaseHTTPRequestHandler, path: str) -> bool:
        if path != "/v2.0/ports":
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        with suppress(OSError):
            while not ended.wait(0.05):
                handler.wfile.write(b" ")
        return True

    api.damage = trickle
    assert failed(replace(SETTINGS, timeout_seconds=0.3)) == "its answers took more than 3 s"
    ended.set()


def test_a_cloud_that_clouds_yaml_does_not_have_is_told(api: OpenStackApi) -> None:
    assert failed(replace(SETTINGS, cloud="other")).startswith("clouds.yaml does not say how to")


def test_unchecked_certificates_are_told(api: OpenStackApi) -> None:
    assert look_once(SETTINGS)["risks"] == []
    api.clouds.write_text(
        api.clouds.read_text().replace('"region_name"', '"verify": false, "region_name"')
    )
    assert look_once(SETTINGS)["risks"] == [
        "certificates are not checked (`verify: false` in clouds.yaml)"
    ]


def test_the_command_of_the_doctor_asks_once(api: OpenStackApi) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "controller.neutron"],
        input=json.dumps(asdict(SETTINGS)),
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"ports": 1' in run.stdout and PASSWORD not in run.stdout + run.stderr

"""Why a packet is, or is not, copied: asked over the API and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap, wrpcapng

from controller.cli.client import Failure
from controller.cli.explain import read_capture
from controller.store import Store
from flows.model import Dpid
from tests.controller.api.test_api import problem
from tests.controller.api.test_future_ports import Lab
from tests.controller.api.test_sessions import IDS
from tests.controller.cli.test_cli import Run, failed, fill_red, good, run, url
from tests.controller.fakes import open_store

__all__ = ["run", "url"]

HTTP = {
    "name": "http",
    "tenant": "red",
    "egress": [
        {"number": 10, "action": "reject", "match": {"destination": "10.0.0.9"}},
        {"number": 20, "action": "accept", "match": {"protocol": "tcp"}},
    ],
}
TCP_TO_ROUTER = (
    "tcp,source_mac=02:00:00:00:00:01,source=10.0.0.1,"
    "destination_mac=02:00:00:00:00:fe,destination=10.0.0.{}"
)


@pytest.fixture
def client(tmp_path: Path, store: Store) -> FlaskClient:
    """The API over the real reconciler, with one session that has a filter. Its bridge is away, and
    has got the session."""
    client = Lab(store).client
    for place, body in (
        ("/v1/collectors", IDS),
        ("/v1/filters", HTTP),
        (
            "/v1/sessions",
            {
                "name": "web",
                "tenant": "red",
                "source": {"kind": "tenant"},
                "collector": "ids",
                "filter": "http",
            },
        ),
    ):
        assert client.post(place, json=body).status_code == 201
    store.installed_sessions.add(Dpid(1), store.numbered().session.values())
    return client


def asked(client: FlaskClient, **body: object) -> dict[str, Any]:
    answer = client.post("/v1/explain", json={"port": "a", "tenant": "red"} | body)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    found: dict[str, Any] = answer.get_json()
    return found


def test_a_copy_is_explained_by_session_rule_direction_and_bridge(client: FlaskClient) -> None:
    found = asked(client, packet=TCP_TO_ROUTER.format(2))

    [web] = found["sessions"]
    assert (web["session"], web["tenant"], web["copied"]) == ("web", "red", True)
    assert (web["bridge"], web["direction"]) == ("s1", "egress")
    assert web["rule"] == {"number": 20, "action": "accept", "match": {"protocol": "tcp"}}
    assert "rule 20" in web["sentence"]
    assert found["steps"] and found["port_id"] == "a"
    assert Ether(bytes.fromhex(found["frame"]))[IP].dst == "10.0.0.2"


def test_a_bridge_that_never_got_a_session_copies_nothing(
    client: FlaskClient, store: Store
) -> None:
    store.installed_sessions.replace(Dpid(1), [])
    [web] = asked(client, packet=TCP_TO_ROUTER.format(2))["sessions"]
    assert (web["copied"], "has not got it" in web["sentence"]) == (False, True), web


def test_a_copy_that_is_not_made_is_explained_too(client: FlaskClient) -> None:
    [web] = asked(client, packet=TCP_TO_ROUTER.format(9))["sessions"]
    assert (web["copied"], web["bridge"], web["rule"]["number"]) == (False, None, 10)

    [web] = asked(client, hex=asked(client, packet=TCP_TO_ROUTER.format(9))["frame"])["sessions"]
    assert "rule 10" in web["sentence"]
    client.patch("/v1/sessions/web", json={"enabled": False})
    [web] = asked(client, packet=TCP_TO_ROUTER.format(2))["sessions"]
    assert "switched off" in web["sentence"]


@pytest.mark.parametrize(
    ("body", "status", "slug", "field"),
    [
        ({}, 422, "invalid-value", "packet"),
        ({"packet": "tcp", "hex": "00"}, 422, "invalid-value", "packet"),
        ({"packet": "tcp"}, 422, "invalid-value", "packet"),
        ({"packet": "http"}, 422, "invalid-value", "packet"),
        ({"hex": "0"}, 422, "invalid-value", "hex"),
        ({"hex": "00:01"}, 422, "invalid-value", "hex"),
        ({"hex": "xy" * 14}, 422, "invalid-value", "hex"),
        ({"port": "nothing", "hex": "00" * 14}, 404, "not-found", "port"),
        ({"port": "x", "hex": "00" * 14}, 404, "not-found", "port"),
        ({"port": "t", "hex": "00" * 14}, 409, "refused", None),
        ({"port": "d", "hex": "00" * 14}, 409, "refused", None),
        ({"hex": "00" * 14, "vlan": 1}, 422, "unknown-field", "vlan"),
    ],
)
def test_an_invalid_packet_is_refused_with_its_field(
    tmp_path: Path, body: dict[str, Any], status: int, slug: str, field: str | None
) -> None:
    store = open_store(tmp_path / "other")
    lab = Lab(store)
    lab.declare(lab.with_port("{id: d, tenant: red, network: lan}"))
    answer = lab.client.post("/v1/explain", json={"port": "a", "tenant": "red"} | body)

    assert problem(answer, status, slug).get("field") == field
    store.close()


# --- captures ------------------------------------------------------------------------------


@pytest.fixture
def frames() -> list[Ether]:
    return [
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        / IP(src="10.0.0.1", dst="10.0.0.2")
        / TCP(dport=port)
        for port in (80, 443)
    ]


@pytest.mark.parametrize("write", [wrpcap, wrpcapng])
def test_one_frame_of_a_capture_is_read(tmp_path: Path, frames: list[Ether], write: Any) -> None:
    file = tmp_path / "capture"
    write(str(file), frames)

    assert [read_capture(file, n) for n in (1, 2)] == [bytes(frame) for frame in frames]
    with pytest.raises(Failure, match="has fewer than 3 frames"):
        read_capture(file, 3)


def test_a_file_that_is_no_ethernet_capture_is_refused(tmp_path: Path, frames: list[Ether]) -> None:
    file = tmp_path / "capture"
    for text in (b"", b"not a capture, but long enough to hold a header of one"):
        file.write_bytes(text)
        with pytest.raises(Failure, match="cannot be read as pcap or pcapng"):
            read_capture(file, 1)
    wrpcap(str(file), [IP(bytes(frames[0][IP]))], linktype=101)
    with pytest.raises(Failure, match="link type 101, not Ethernet"):
        read_capture(file, 1)


def test_the_command_line_asks_the_same(run: Run, tmp_path: Path, frames: list[Ether]) -> None:
    fill_red(run)
    asks = ("explain", "--from", "web-1", "--tenant", "red")
    text = good(run(*asks, "--packet", "arp,destination=10.0.0.2", COLUMNS="120"))
    assert "from web-1, received by web-2" in text and "web-to-ids" in text and "yes" in text

    file = tmp_path / "capture"
    wrpcap(str(file), frames)
    found = json.loads(good(run(*asks, "--pcap", str(file), "--index", "2", "-o", "json")))
    assert bytes.fromhex(found["frame"]) == bytes(frames[1])
    again = good(run(*asks, "--hex", found["frame"], "--steps"))
    assert found["steps"][0] in again
    failed(run(*asks), 2)
    failed(run(*asks, "--hex", "00", "--packet", "arp"), 2)
    assert "say where the packet goes" in failed(run(*asks, "--packet", "tcp"))

"""Fragments of IP packets: the first matches its ports, later ones have none; explain says so."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import frames
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import ofctl
from tests.ovs.small_cloud import DB, INVENTORY, WEB, SmallCloud, make_collectors
from tests.ovs.waiting import wait_for

MORE, LATER = 0x2000, 0x0010
UDP, ICMP, ICMPV6, FRAGMENT_HEADER = 17, 1, 58, 44


def ipv4(proto: int, body: bytes, fragment: int) -> bytes:
    packet = frames.ipv4("10.0.0.1", "10.0.0.2", proto, body, fragment, ident=7)
    return frames.pad(frames.ethernet(DB, WEB, 0x0800, packet))


def ipv6(proto: int, body: bytes, offset_more: int) -> bytes:
    header = struct.pack("!BBHI", proto, 0, offset_more, 7)
    packet = frames.ipv6("fd00::1", "fd00::2", FRAGMENT_HEADER, header + body)
    return frames.pad(frames.ethernet(DB, WEB, 0x86DD, packet))


def udp(port: int) -> bytes:
    return frames.udp(40_000, port, bytes(24))


PING, PONG, DATA = b"\x08\x00" + bytes(30), b"\x00\x00" + bytes(30), b"\x01\xbb" * 20
FRAMES = {
    "whole to 443": ipv4(UDP, udp(443), 0),
    "first to 443": ipv4(UDP, udp(443), MORE),
    "first to 53": ipv4(UDP, udp(53), MORE),
    "first to 0": ipv4(UDP, udp(0), MORE),
    "middle": ipv4(UDP, DATA, MORE | LATER),
    "last": ipv4(UDP, DATA, LATER),
    "first ping": ipv4(ICMP, PING, MORE),
    "first pong": ipv4(ICMP, PONG, MORE),
    "last of a ping": ipv4(ICMP, DATA, LATER),
    "IPv6 first to 443": ipv6(UDP, udp(443), 1),
    "IPv6 first to 53": ipv6(UDP, udp(53), 1),
    "IPv6 last": ipv6(UDP, DATA, LATER << 3),
    "IPv6 first ping": ipv6(ICMPV6, b"\x80\x00" + bytes(30), 1),
}
Match = dict[str, object]
CASES: dict[str, tuple[list[tuple[str, Match]], set[str]]] = {
    "a port": (
        [("accept", {"protocol": "udp", "destination_port": "443"})],
        {"whole to 443", "first to 443", "IPv6 first to 443"},
    ),
    "all but a port": (
        [("reject", {"protocol": "udp", "destination_port": "443"}), ("accept", {})],
        set(FRAMES) - {"whole to 443", "first to 443", "IPv6 first to 443"},
    ),
    "ports from 0": (
        [("accept", {"protocol": "udp", "destination_port": "0-255"})],
        {"first to 53", "first to 0", "IPv6 first to 53"},
    ),
    "port 0": ([("accept", {"protocol": "udp", "destination_port": "0"})], {"first to 0"}),
    "pings": ([("accept", {"protocol": "icmp", "icmp_type": 8})], {"first ping"}),
    "pongs, type 0": ([("accept", {"protocol": "icmp", "icmp_type": 0})], {"first pong"}),
    "a protocol": (
        [("accept", {"protocol": "udp"})],
        {name for name in FRAMES if "p" not in name.split(" ")[-1]} - {"IPv6 last"},
    ),
}


@pytest.fixture(params=["ryu", "os-ken"])
def controller(
    request: pytest.FixtureRequest, tmp_path: Path, cloud: SmallCloud
) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY, request.param) as process:
        process.start("s1", bridges__recheck_seconds="1")
        make_collectors(process)
        yield process


def filtered(controller: ControllerProcess, rules: list[tuple[str, Match]]) -> None:
    """Give the one session these egress rules."""
    egress = [{"number": n, "action": a, "match": m} for n, (a, m) in enumerate(rules, 1)]
    answer = controller.api.patch("/v1/filters/some", json={"egress": egress})
    assert answer.status_code == 200, answer.text


def copied(cloud: SmallCloud) -> set[str]:
    """The names of the frames that are copied when all of them are sent."""
    sent = [(cloud.at["red-web"], frame) for frame in FRAMES.values()]
    got = cloud.lab.exchange(sent)[cloud.at["red-ids"]]
    found = [name for name, frame in FRAMES.items() if frame in got]
    assert len(found) == len(got), "each at most once, and nothing else"
    return set(found)


def explained(controller: ControllerProcess) -> set[str]:
    """The names of the frames of which explain says that they are copied."""
    found = set()
    for name, frame in FRAMES.items():
        body = {"tenant": "red", "port": "red-web", "hex": frame.hex()}
        answer = controller.api.post("/v1/explain", json=body)
        assert answer.status_code == 200, answer.text
        if any(each["copied"] for each in answer.json()["sessions"]):
            found.add(name)
    return found


def test_rules_match_what_a_fragment_has(cloud: SmallCloud, controller: ControllerProcess) -> None:
    body = {"tenant": "red", "name": "some", "egress": [], "ingress": []}
    assert controller.api.post("/v1/filters", json=body).status_code == 201
    controller.create_session("red", "one", ["web"], "ids", direction="egress", filter="some")
    seen, said = {}, {}
    for name, (rules, _) in CASES.items():
        filtered(controller, rules)
        seen[name], said[name] = copied(cloud), explained(controller)
    expected = {name: wanted for name, (_, wanted) in CASES.items()}
    assert seen == expected
    assert said == expected


def test_the_fragment_mode_is_set_and_set_again(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    assert "nx-match" in ofctl("get-frags", "s1")
    ofctl("set-frags", "s1", "normal")
    wait_for(lambda: ofctl("get-frags", "s1"), lambda mode: "nx-match" in mode)
    controller.wait_for_bridge("s1")

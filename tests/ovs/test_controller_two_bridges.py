"""Two linked bridges: while a session or its filter changes, no packet goes without its copy; a
session whose deletion was answered copies nothing, however much others change meanwhile."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import httpx
import pytest

from tests.ovs.controller_process import TARGET, ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab
from tests.ovs.traffic import Stream, Traffic

A, B = 0x020000000001, 0x020000000002
INVENTORY = """\
tenants: [red]
networks: [{name: lan, tenant: red}]
ports:
  - {id: a, tenant: red, network: lan, mac: "02:00:00:00:00:01", interface: s1-eth1}
  - {id: b, tenant: red, network: lan, mac: "02:00:00:00:00:02", interface: s2-eth1}
  - {id: ids, tenant: red, kind: tap, interface: s1-eth5}
  - {id: soc, tenant: red, kind: tap, interface: s2-eth5}
links: [{from: {bridge: s1, interface: s1-eth9}, to: {bridge: s2, interface: s2-eth9}}]
"""
ROUNDS = 10
FRAMES = 10
DELETIONS = 30


@pytest.fixture
def at(lab: Lab) -> dict[str, Endpoint]:
    found = {}
    for name, dpid, ports in (("s1", 1, {1: "a", 5: "ids"}), ("s2", 2, {1: "b", 5: "soc"})):
        lab.add_bridge(name, dpid=dpid, controller=TARGET)
        found |= dict(zip(ports.values(), lab.add_ports(name, ports), strict=True))
    lab.link("s1", 9, "s2", 9)
    return found


@pytest.fixture(params=["ryu", "os-ken"])
def controller(
    request: pytest.FixtureRequest, tmp_path: Path, at: dict[str, Endpoint]
) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY, request.param) as process:
        process.start("s1", "s2")
        for name in ("ids", "soc"):
            process.create_collector("red", name, name)
        yield process


def copies(traffic: Traffic, stream: Stream, at: dict[str, Endpoint]) -> Counter[int]:
    """How often each frame of a stream was copied, to either tap port."""
    return traffic.arrived(stream, at["ids"]) + traffic.arrived(stream, at["soc"])


def pass_by(traffic: Traffic, streams: list[tuple[Stream, Endpoint]]) -> list[range]:
    """Block until some more frames of each stream were delivered and copied; their numbers."""
    first = [traffic.now(stream) + 1 for stream, _ in streams]
    for (stream, end), number in zip(streams, first, strict=True):
        traffic.wait_until_spread(stream, end, number + FRAMES)
    return [range(number, number + FRAMES) for number in first]


def change(controller: ControllerProcess, fields: Mapping[str, object]) -> None:
    """Change the session, or the filter if these are rules."""
    if "egress" not in fields:
        controller.change_session("one", **fields)
        return
    answer = controller.api.patch("/v1/filters/some", json=fields)
    assert answer.status_code == 200, answer.text


def source_of(*ports: str) -> dict[str, object]:
    return {"source": {"kind": "port", "ports": list(ports)}}


EVERYTHING = [{"number": 10, "action": "accept", "match": {}}]
CHANGES: Mapping[str, tuple[dict[str, object], list[dict[str, object]]]] = {
    "collector": ({}, [{"collector": "soc"}, {"collector": "ids"}]),
    "source": ({}, [source_of("b"), source_of("a")]),
    "direction": (
        source_of("a", "b"),
        [
            {"direction": direction}
            for direction in ("egress", "ingress", "both", "ingress", "egress", "both")
        ],
    ),
    "source and collector": (
        {},
        [{**source_of("b"), "collector": "soc"}, {**source_of("a"), "collector": "ids"}],
    ),
    "source of an exclusive session": (
        {"mode": "exclusive", "number": 1},
        [source_of("a", "b"), source_of("b"), source_of("a")],
    ),
    "egress rules": (
        {**source_of("a", "b"), "filter": "some"},
        [{"egress": []}, {"egress": EVERYTHING}],
    ),
}
"""What is changed of the session that is created, and then what changes under traffic."""


@pytest.mark.parametrize("kind", CHANGES)
def test_no_packet_goes_without_its_copy_while_a_session_changes(
    at: dict[str, Endpoint], controller: ControllerProcess, kind: str
) -> None:
    created, changes = CHANGES[kind]
    some = {"tenant": "red", "name": "some", "ingress": EVERYTHING, "egress": EVERYTHING}
    assert controller.api.post("/v1/filters", json=some).status_code == 201
    with Traffic(at.values()) as traffic:
        streams = [
            (traffic.add(at["a"], A, B), at["b"]),
            (traffic.add(at["b"], B, A), at["a"]),
        ]
        pass_by(traffic, streams)
        controller.create_session("red", "one", ["a"], "ids")
        if created:
            controller.change_session("one", **created)
        first = [traffic.now(stream) for stream, _ in streams]
        quiet: list[list[range]] = []
        """Numbers of frames, of each stream, between two changes."""
        for _ in range(ROUNDS):
            for fields in changes:
                quiet.append(pass_by(traffic, streams))
                change(controller, fields)
        last = [traffic.now(stream) for stream, _ in streams]
        quiet.append(pass_by(traffic, streams))
        for (stream, _), begun, over, between in zip(
            streams, first, last, zip(*quiet, strict=True), strict=True
        ):
            seen = copies(traffic, stream, at)
            times = Counter(seen[n] for n in range(begun + 1, over + 1))
            print(f"stream {stream.key}: frames by copies {dict(times)}")
            assert times[0] == 0, [n for n in range(begun + 1, over + 1) if not seen[n]]
            assert times.keys() <= {1, 2}
            twice = {n for numbers in between for n in numbers if seen[n] != 1}
            assert not twice, f"copied twice though nothing was changing: {twice}"


@contextmanager
def changing(controller: ControllerProcess, *sessions: str) -> Iterator[None]:
    """Inside, each of these sessions is changed all the time, by a client of its own."""
    is_over = threading.Event()

    def change_one(name: str) -> None:
        with httpx.Client(base_url=controller.api.base_url, timeout=60) as client:
            for direction in cycle(("egress", "ingress", "both")):
                answer = client.patch(f"/v1/sessions/{name}", json={"direction": direction})
                assert answer.status_code == 200, answer.text
                if is_over.is_set():
                    return

    with ThreadPoolExecutor(len(sessions)) as pool:
        clients = [pool.submit(change_one, name) for name in sessions]
        try:
            yield
        finally:
            is_over.set()
        for client in clients:
            client.result()


def test_a_session_is_gone_when_its_deletion_is_answered_however_much_others_change(
    at: dict[str, Endpoint], controller: ControllerProcess
) -> None:
    others = ("one", "two")
    for name in others:
        controller.create_session("red", name, ["a", "b"], "ids")
    with Traffic(at.values()) as traffic:
        streams = [(traffic.add(at["a"], A, B), at["b"]), (traffic.add(at["b"], B, A), at["a"])]
        pass_by(traffic, streams)
        with changing(controller, *others):
            for number in range(DELETIONS):
                name = f"gone-{number}"
                controller.create_session("red", name, ["a", "b"], "soc")
                answer = controller.api.delete(f"/v1/sessions/{name}")
                assert answer.status_code == 204, answer.text
        for stream, end in streams:
            traffic.wait_until_spread(stream, end, traffic.now(stream) + FRAMES)
        traffic.stop()
        arrived = sum(traffic.arrived(stream, at["soc"]).total() for stream, _ in streams)
    query = {"what": "removed", "limit": str(DELETIONS + 1)}
    removed = controller.api.get("/v1/audit", params=query).raise_for_status().json()["items"]
    assert len(removed) == DELETIONS
    told = sum(entry["detail"]["copies"]["packets"] for entry in removed)
    assert told == arrived > 0, "the last count of each session is that of the last moment"


def test_no_packet_goes_without_its_copy_while_an_exclusive_session_ends(
    at: dict[str, Endpoint], controller: ControllerProcess
) -> None:
    """What it copies where packets are sent, the next one copies where they are received."""
    ports, first = ["a", "b"], {"mode": "exclusive", "number": 1}
    with Traffic(at.values()) as traffic:
        streams = [
            (traffic.add(at["a"], A, B), at["b"]),
            (traffic.add(at["b"], B, A), at["a"]),
        ]
        pass_by(traffic, streams)
        controller.create_session(
            "red", "two", ports, "soc", mode="exclusive", number=2, direction="ingress"
        )
        begun = [traffic.now(stream) for stream, _ in streams]
        quiet: list[tuple[str, list[range]]] = []
        """Whose copies there are, and numbers of frames of each stream, between two changes."""
        for _ in range(ROUNDS):
            controller.create_session("red", "one", ports, "ids", **first)
            quiet.append(("ids", pass_by(traffic, streams)))
            controller.change_session("one", enabled=False)
            quiet.append(("soc", pass_by(traffic, streams)))
            controller.change_session("one", enabled=True)
            quiet.append(("ids", pass_by(traffic, streams)))
            assert controller.delete_session("one") == 204
            quiet.append(("soc", pass_by(traffic, streams)))
        over = [quiet[-1][1][n].stop - 1 for n in range(len(streams))]
        for n, (stream, _) in enumerate(streams):
            seen = copies(traffic, stream, at)
            times = Counter(seen[number] for number in range(begun[n] + 1, over[n] + 1))
            print(f"stream {stream.key}: frames by copies {dict(times)}")
            assert times[0] == 0, [k for k in range(begun[n] + 1, over[n] + 1) if not seen[k]]
            assert times.keys() <= {1, 2}
            for taker, between in quiet:
                arrived = traffic.arrived(stream, at[taker])
                wrong = [k for k in between[n] if (seen[k], arrived[k]) != (1, 1)]
                assert not wrong, f"not copied once and for {taker} though nothing was changing"

"""A change holds in the datapath once it was answered, whatever megaflows it has from before.

Open vSwitch before 2.17.8, 3.0.5, 3.1.3 and 3.2.0 changes the wrong one of two megaflows that
overlap (userspace datapath). Wider rules make such pairs while traffic flows: each test makes
some, then changes something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ovs.controller_process import ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, dump_megaflows, ofctl
from tests.ovs.small_cloud import TARGET
from tests.ovs.traffic import Stream, Traffic
from tests.ovs.waiting import wait_for

A, B, C = 0x020000000001, 0x020000000002, 0x020000000003
INVENTORY = """\
tenants: [red, blue]
networks:
  - {name: lan, tenant: red}
  - {name: lan, tenant: blue}
ports:
  - {id: red-a, name: a, tenant: red, network: lan, mac: "02:00:00:00:00:01"}
  - {id: red-b, name: b, tenant: red, network: lan, mac: "02:00:00:00:00:02"}
  - {id: red-c, name: c, tenant: red, network: lan, mac: "02:00:00:00:00:03"}
  - {id: ids, tenant: red, kind: tap}
  - {id: soc, tenant: red, kind: tap}
"""
PORTS = {1: "red-a", 2: "red-b", 3: "red-c", 4: "ids", 5: "soc"}
DNS = [
    {
        "number": 10,
        "action": "accept",
        "match": {
            "protocol": "udp",
            "destination_port": "53",
            "destination_mac": "02:00:00:00:00:02",
        },
    }
]
ALL = [{"number": 10, "action": "accept", "match": {}}]
ROUNDS = 3
"""Of each kind of change: which of two megaflows is the wrong one depends on hashes and order."""
FRAMES = 20
"""Delivered frames after which no earlier packet is under way."""


@dataclass
class Scene:
    """Three streams of workload ``a``, and a session that watches it."""

    traffic: Traffic
    at: dict[str, Endpoint]
    controller: ControllerProcess
    streams: list[Stream] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    def begin(self, destination: int, port: int, end: str) -> None:
        """Start a stream, and wait until some of it was delivered."""
        stream = self.traffic.add_datagrams(self.at["red-a"], A, destination, port)
        self.streams.append(stream)
        self.ends.append(end)
        self.traffic.wait_until_past(stream, self.at[end], FRAMES)

    def prepare(self) -> None:
        """Make overlapping megaflows: narrow rules, traffic, wide rules, other traffic."""
        self.controller.create_session("red", "one", ["a"], "ids", filter="some")
        self.begin(C, 9999, "red-c")
        self.begin(B, 53, "red-b")
        self.rules(ALL)
        self.begin(B, 9999, "red-b")

    def rules(self, egress: list[dict[str, object]]) -> None:
        """Replace the rules of the filter."""
        body = {"egress": egress, "ingress": []}
        answer = self.controller.api.patch("/v1/filters/some", json=body)
        assert answer.status_code == 200, answer.text

    def times_at(self, port: str, is_delivered: bool = True) -> list[set[int]]:
        """How often frames of each stream, from now on, come to a port."""
        first = [self.traffic.now(stream) for stream in self.streams]
        for stream, end, number in zip(self.streams, self.ends, first, strict=True):
            if is_delivered:
                self.traffic.wait_until_spread(stream, self.at[end], number + FRAMES)
            else:
                wait_for(
                    lambda s=stream, n=number: self.traffic.now(s),  # type: ignore[misc]
                    lambda now, n=number: now > n + FRAMES,  # type: ignore[misc]
                )
        found = []
        for stream, number in zip(self.streams, first, strict=True):
            seen = self.traffic.arrived(stream, self.at[port])
            times = {seen[n] for n in range(number + 1, number + FRAMES + 1)}
            found.append(times)
        return found

    def copied_at(self, port: str) -> list[bool]:
        """Whether each stream is copied to a tap port: of the frames from now on all, or none."""
        found = self.times_at(port)
        assert all(times in ({0}, {1}) for times in found), f"{port}: {found}"
        return [times == {1} for times in found]

    def wait_until(self, port: str, times: int, *, is_delivered: bool = True) -> None:
        """Block until each frame of each stream comes to a port so often."""
        wait_for(
            lambda: self.times_at(port, is_delivered), lambda seen: all(t == {times} for t in seen)
        )

    def close(self) -> None:
        """End the streams and the sessions, and have the first rules again."""
        for stream in self.streams:
            self.traffic.end(stream)
        for session in ("one", "two"):
            if self.controller.session(session):
                self.controller.delete_session(session)
        self.rules(DNS)


def check_megaflows_are_of_this_epoch() -> None:
    """Look into the datapath: each megaflow of the bridge was made for the last plan.

    On a version of Open vSwitch that changes megaflows correctly there are no epochs.
    """
    flows = ofctl("dump-flows", "s1", "table=0")
    asked = [int(mask, 16) for mask in re.findall(r"pkt_mark=0x[0-9a-f]+/(0x[0-9a-f]+)", flows)]
    megaflows = dump_megaflows()
    masks = [int(mask, 16) for mask in re.findall(r"skb_mark\(0/?(0x[0-9a-f]+|0|)\)", megaflows)]
    assert masks, megaflows
    assert all(mask & bits == bits for mask in masks for bits in asked), megaflows


Kind = Callable[[Scene], None]


def deleted(scene: Scene) -> None:
    assert scene.controller.delete_session("one") == 204
    assert scene.copied_at("ids") == [False, False, False]


def disabled(scene: Scene) -> None:
    scene.controller.change_session("one", enabled=False)
    assert scene.copied_at("ids") == [False, False, False]


def enabled_again(scene: Scene) -> None:
    scene.controller.change_session("one", enabled=False)
    scene.controller.change_session("one", enabled=True)
    assert scene.copied_at("ids") == [True, True, True]


def narrower_rules(scene: Scene) -> None:
    scene.rules(DNS)
    assert scene.copied_at("ids") == [False, True, False]


def no_rules(scene: Scene) -> None:
    scene.rules([])
    assert scene.copied_at("ids") == [False, False, False]


def other_direction(scene: Scene) -> None:
    scene.controller.change_session("one", direction="ingress")
    assert scene.copied_at("ids") == [False, False, False]


def other_collector(scene: Scene) -> None:
    scene.controller.change_session("one", collector="soc")
    assert scene.copied_at("ids") == [False, False, False]
    assert scene.copied_at("soc") == [True, True, True]


def other_source(scene: Scene) -> None:
    source = {"kind": "port", "ports": ["c"]}
    scene.controller.change_session("one", source=source)
    assert scene.copied_at("ids") == [False, False, False]


def one_more_session(scene: Scene) -> None:
    scene.controller.create_session("red", "two", ["a"], "soc")
    assert scene.copied_at("soc") == [True, True, True]
    assert scene.copied_at("ids") == [True, True, True]


def other_filter(scene: Scene) -> None:
    scene.controller.change_session("one", filter="none")
    assert scene.copied_at("ids") == [False, False, False]


def tap_port_of_another_tenant(scene: Scene) -> None:
    file = scene.controller.inventory
    file.write_text(INVENTORY.replace("{id: ids, tenant: red", "{id: ids, tenant: blue"))
    try:
        scene.wait_until("ids", 0)
    finally:
        file.write_text(INVENTORY)
    scene.wait_until("ids", 1)


def workload_out_of_the_inventory(scene: Scene) -> None:
    file = scene.controller.inventory
    file.write_text("".join(line for line in INVENTORY.splitlines(True) if "red-a" not in line))
    try:
        for end in ("ids", "red-b", "red-c"):
            scene.wait_until(end, 0, is_delivered=False)
    finally:
        file.write_text(INVENTORY)
    scene.wait_until("ids", 1, is_delivered=False)


KINDS: tuple[Kind, ...] = (
    *(deleted, disabled, enabled_again, narrower_rules, no_rules, other_direction),
    *(other_collector, other_source, one_more_session, other_filter),
    *(tap_port_of_another_tenant, workload_out_of_the_inventory),
)


@pytest.fixture
def at(lab: Lab) -> dict[str, Endpoint]:
    lab.add_bridge("s1", dpid=0x51, controller=TARGET)
    ends = lab.add_ports("s1", PORTS, PORTS)
    return dict(zip(PORTS.values(), ends, strict=True))


@pytest.fixture(params=["ryu", "os-ken"])
def controller(
    request: pytest.FixtureRequest, tmp_path: Path, at: dict[str, Endpoint]
) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY, request.param) as process:
        process.start("s1")
        for name in ("ids", "soc"):
            process.create_collector("red", name, name)
        for name, rules in (("some", DNS), ("none", [])):
            body = {"tenant": "red", "name": name, "egress": rules, "ingress": []}
            assert process.api.post("/v1/filters", json=body).status_code == 201
        yield process


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_a_change_holds_in_the_datapath_when_it_is_answered(
    at: dict[str, Endpoint], controller: ControllerProcess, kind: Kind
) -> None:
    with Traffic(at.values()) as traffic:
        for _ in range(ROUNDS):
            scene = Scene(traffic, at, controller)
            try:
                scene.prepare()
                assert scene.copied_at("ids") == [True, True, True]
                kind(scene)
                check_megaflows_are_of_this_epoch()
            finally:
                scene.close()

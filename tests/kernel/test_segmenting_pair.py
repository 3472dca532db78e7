"""What sessions say of segmenting pairs that others change, or whose queue is too short."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller.cli import main
from controller.devices import PairEnd, pair_name
from flows.model import Dpid
from tests import frames
from tests.kernel.workloads import DB, WEB, Workload, run
from tests.ovs.controller_process import TARGET, ControllerProcess, Document
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, vsctl
from tests.ovs.waiting import wait_for

INVENTORY = """\
tenants: [red]
networks: [{name: lan, tenant: red}]
ports:
  - {id: web, tenant: red, network: lan, mac: "02:00:00:00:00:01", interface: s1-eth1}
  - {id: db, tenant: red, network: lan, mac: "02:00:00:00:00:02", interface: s1-eth2}
  - {id: ids, tenant: red, kind: tap, interface: s1-eth5}
"""
OUT, BACK = (pair_name(Dpid(1), end) for end in PairEnd)
FAR_DATABASE = "tcp:127.0.0.1:6640"
"""The database of this machine as one of another machine is reached."""
RECORD = "cloudtap-offloads"
SEGMENT, SEGMENTS, SUPER_FRAMES = 1000, 40, 60
"""Bytes of data in each frame, frames of each super-frame, super-frames of a burst: more frames
than Linux queues (net.core.netdev_max_backlog is 1000)."""
STREAM_PORT = 5003
UDP_SEGMENT, SOL_UDP = 103, 17
"""linux/udp.h."""
SO_SNDBUFFORCE = 32
SLOT_MS = 3000
"""The workload's device collects what is sent in this time, and hands it on at once (tc-netem)."""
Start = Callable[..., ControllerProcess]


@pytest.fixture
def ends(lab: Lab) -> dict[int, Endpoint]:
    lab.add_bridge("s1", dpid=1, controller=TARGET)
    return {end.ofport: end for end in lab.add_ports("s1", (1, 2, 5))}


@pytest.fixture
def start(ends: dict[int, Endpoint], tmp_path: Path) -> Iterator[Start]:
    """Starts a controller with a session that truncates, on a bridge that is prepared for it."""
    with ExitStack() as ending:
        ending.callback(prepare, "--undo")

        def started(packet_length: int | None = 200, **settings: str) -> ControllerProcess:
            process = ending.enter_context(ControllerProcess(tmp_path, INVENTORY))
            prepare()
            process.start("s1", **settings)
            process.create_collector("red", "ids", "ids")
            process.create_session("red", "one", ["web"], "ids", packet_length=packet_length)
            process.wait_for_session("one")
            return process

        yield started


def prepare(*options: str) -> str:
    done = CliRunner().invoke(main, ["bridge", "prepare", "s1", *options])
    assert done.exit_code == 0, done.output
    return done.output


def reasons(controller: ControllerProcess) -> str:
    return " ".join(controller.session("one")["status"]["reasons"])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (f"ethtool -K {BACK} tx on", "has offloads, so that it hands on super-frames"),
        (f"ip link set {OUT} mtu 9000", "has another MTU than it was given"),
    ],
)
def test_what_may_not_be_set_right_is_said_with_the_command_that_does(
    start: Start, ends: dict[int, Endpoint], command: str, words: str
) -> None:
    controller = start(bridges__tap_offloads="keep")
    run(command)
    said = controller.wait_for_session("one", "degraded", words)["status"]
    assert "run `cloudtap bridge prepare s1` as root" in " ".join(said["reasons"])
    [bridge] = controller.api.get("/v1/bridges").json()["items"]
    assert bridge["state"] == "degraded" and words in " ".join(bridge["reasons"])

    ends[1].send(frames.ethernet(DB, WEB, 0x88B7, bytes(486)))
    wait_for(
        lambda: controller.session("one")["status"]["skipped"], lambda seen: seen == {"mtu": 1}
    )
    assert ends[5].receive_raw() is None
    prepare()
    wait_for(lambda: reasons(controller), lambda said: words not in said)
    ends[1].send(frames.ethernet(DB, WEB, 0x88B7, bytes(486)))
    [copy] = wait_for(lambda: [f for f in [ends[5].receive_raw()] if f], bool)
    assert len(copy) == 200


def test_ends_of_other_devices_are_no_pair(start: Start) -> None:
    controller = start()
    for end in (OUT, BACK):
        vsctl("del-port", "s1", end)
    run(f"ip link delete {OUT}")
    for end, mark in ((OUT, "out"), (BACK, "back")):
        run(f"ip link add {end} mtu 65535 type veth peer name {end}x mtu 65535")
        run(f"ip link set {end} up")
        run(f"ip link set {end}x up")
        vsctl(
            "add-port", "s1", end, "--", "set", "Interface", end,
            f"external_ids:cloudtap-segments={mark}", f"external_ids:{RECORD}=off",
        )  # fmt: skip
    controller.wait_for_session("one", "degraded", "are not the two ends of one veth device")
    refused = CliRunner().invoke(main, ["bridge", "prepare", "s1"])
    assert refused.exit_code == 1 and "not ours" in refused.output
    for end in (OUT, BACK):
        vsctl("del-port", "s1", end)
        run(f"ip link delete {end}")
    prepare()
    controller.wait_for_session("one")


def test_a_pair_on_another_host_is_unknown_unless_it_is_recorded(start: Start) -> None:
    vsctl("set-manager", "ptcp:6640:127.0.0.1")
    controller = start(ovsdb__remotes=FAR_DATABASE)
    assert "segmenting pair" not in reasons(controller)
    vsctl("remove", "Interface", BACK, "external_ids", RECORD)
    controller.wait_for_session("one", "active", "unknown: cannot see whether the segmenting pair")
    assert "run `cloudtap bridge prepare s1` as root there" in reasons(controller)
    assert "are its segmenting pair" in prepare()
    wait_for(lambda: reasons(controller), lambda said: "segmenting pair" not in said)
    assert "there already" in prepare()
    vsctl("set", "Interface", OUT, f"external_ids:{RECORD}=off@1")
    controller.wait_for_session("one", "active", "is of earlier devices")


def test_frames_that_linux_drops_behind_a_pair_are_said_and_no_copies(
    start: Start, ends: dict[int, Endpoint]
) -> None:
    controller = start()
    stream: Document = {"protocol": "udp", "destination_port": str(STREAM_PORT)}
    rules = [{"number": 10, "action": "accept", "match": stream}]
    only: Document = {"tenant": "red", "name": "stream", "egress": rules}
    assert controller.api.post("/v1/filters", json=only).status_code == 201
    controller.change_session("one", filter="stream")
    controller.wait_for_session("one")
    web = Workload("web", "s1-far1")
    try:
        before = copies(controller)
        web.run("ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev s1-far1")
        burst(web, 1)  # makes the megaflows
        wait_for(lambda: copies(controller), lambda seen: seen == before + SEGMENTS)
        assert "segmenting pair" not in reasons(controller)
        web.run(f"tc qdisc add dev s1-far1 root netem slot {SLOT_MS}ms {SLOT_MS}ms limit 10000")
        burst(web, SUPER_FRAMES)
        controller.wait_for_session("one", "degraded", "net.core.netdev_max_backlog")
        sent = before + SEGMENTS * (SUPER_FRAMES + 1)
        wait_for(lambda: copies(controller) + dropped(), lambda seen: seen == sent)
        lost = f"lost {dropped()} frames of copies"
        wait_for(lambda: reasons(controller), lambda said: lost in said)
    finally:
        web.close()


def burst(web: Workload, super_frames: int) -> None:
    """Send so many super-frames of UDP from web to db."""
    with web.network():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 64 << 20)
        sender.setsockopt(SOL_UDP, UDP_SEGMENT, SEGMENT)
        for _ in range(super_frames):
            sender.sendto(bytes(SEGMENT * SEGMENTS), ("10.0.0.2", STREAM_PORT))


def dropped() -> int:
    """The frames that Linux has dropped between the ends of the pair."""
    return int(Path(f"/sys/class/net/{OUT}/statistics/tx_dropped").read_text())


def copies(controller: ControllerProcess) -> int:
    return int(controller.session("one")["status"]["copies"]["packets"])


@pytest.mark.parametrize("packet_length", [None, 90])
@pytest.mark.parametrize("tag", [b"", b"\x81\x00\x00\x07", b"\x88\xa8\x00\x07\x81\x00\x00\x08"])
def test_bytes_of_copies_are_those_of_the_frames_with_their_own_tags(
    start: Start, ends: dict[int, Endpoint], tag: bytes, packet_length: int | None
) -> None:
    controller = start(packet_length)
    frame = frames.ethernet(DB, WEB, 0x88B7, bytes(86 - len(tag)))
    frame = frame[:12] + tag + frame[12:]
    for _ in range(10):
        ends[1].send(frame)
    wait_for(
        lambda: controller.session("one")["status"]["copies"],
        lambda seen: (seen["packets"], seen["bytes"]) == (10, 1000),
    )

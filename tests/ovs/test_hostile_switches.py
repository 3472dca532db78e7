"""Peers on the OpenFlow port that do what no switch does: they are cut off, others go on."""

from __future__ import annotations

import re
import resource
import socket
import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from controller.process.log_limits import LINES_PER_MINUTE
from tests.controller.runtime.test_message_check import MALFORMED
from tests.generators.switch_messages import message
from tests.ovs import hostile_peers
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import Lab, vsctl
from tests.ovs.runtime_process import Authority
from tests.ovs.small_cloud import INVENTORY, SmallCloud, build_cloud, make_collectors
from tests.ovs.traffic import Traffic
from tests.ovs.waiting import wait_for

HELLO = message(0)
PATIENCE_S = 180.0
MEMORY_BYTES = 150 << 20
"""How much more memory hostile peers may make the process take."""
CALLS = 12
"""API calls whose time is compared: in a quiet phase, and under attack."""


@pytest.fixture(params=["ryu", "os-ken"])
def runtime(request: pytest.FixtureRequest) -> str:
    """The name of the runtime."""
    return str(request.param)


@pytest.fixture
def controller(lab: Lab, tmp_path: Path, runtime: str) -> Iterator[ControllerProcess]:
    build_cloud(lab)
    with ControllerProcess(tmp_path, INVENTORY, runtime) as process:
        process.start("s1")
        yield process


def reach(source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", 6653), PATIENCE_S, (source, 0))


def is_ended(peer: socket.socket) -> bool:
    """Whether the controller ends a connection."""
    try:
        while peer.recv(4096):
            pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def count(controller: ControllerProcess, words: str) -> int:
    """How many places of the log match a pattern."""
    return len(re.findall(words, controller.log()))


def descriptors_of(controller: ControllerProcess) -> int:
    """How many file descriptors the controller has open."""
    assert controller.process is not None
    return len(list(Path(f"/proc/{controller.process.pid}/fd").iterdir()))


def memory_of(controller: ControllerProcess) -> int:
    """The memory of the controller, in bytes."""
    assert controller.process is not None
    pages = Path(f"/proc/{controller.process.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def change_session(controller: ControllerProcess, number: int) -> float:
    """Change a session and see that it is active; how long the answer took, in seconds."""
    began = time.monotonic()
    seen = controller.change_session("one", direction=("ingress", "egress")[number % 2])
    took = time.monotonic() - began
    assert seen["status"]["state"] == "active", seen
    return took


def test_a_peer_that_sends_what_no_switch_sends_is_cut_off_and_others_go_on(
    controller: ControllerProcess,
) -> None:
    make_collectors(controller)
    peers: dict[str, socket.socket] = {}
    for name, data in MALFORMED.items():
        for when, before in (("before the handshake", b""), ("after a hello", HELLO)):
            peer = peers[f"{when}: {name}"] = reach()
            peer.sendall(before + data)
    for name, peer in peers.items():
        assert is_ended(peer), name
        peer.close()
    made = controller.create_session("red", "one", ["web"], "ids")
    assert made["status"]["state"] == "active"
    assert controller.bridge("s1")["connected"]
    found = controller.wait_for_problem("was cut off")
    assert "it sent what no switch sends" in found
    log = controller.log()
    assert log.count("it sent what no switch sends") == len(peers), "one line for each"
    assert "Traceback" not in log and len(log) < 100_000


def test_a_hundred_such_peers_at_once_leave_nothing_behind(controller: ControllerProcess) -> None:
    before = descriptors_of(controller)
    peers = [reach() for _ in range(100)]
    for peer in peers:
        peer.sendall(MALFORMED["a hello element of length 0"])
    for peer in peers:
        peer.close()
    wait_for(lambda: descriptors_of(controller), lambda count: count <= before + 2)
    assert controller.bridge("s1")["connected"]


def test_who_was_cut_off_stays_away_but_not_a_bridge_at_its_address(
    controller: ControllerProcess,
) -> None:
    """Only an address at which no bridge of ours is has to stay away."""

    def offends(source: str) -> bool:
        """Whether a peer is let in, and cut off; else it was not even greeted."""
        with reach(source) as peer:
            greeting = peer.recv(1)
            if greeting:
                peer.sendall(MALFORMED["version 0"])
                assert is_ended(peer)
            return bool(greeting)

    wait_for(lambda: offends("127.66.0.1"), lambda is_let_in: not is_let_in, PATIENCE_S)
    assert all(offends("127.0.0.1") for _ in range(5))
    vsctl("del-controller", "s1")
    wait_for(lambda: controller.bridge("s1")["connected"], lambda there: not there)
    controller.wait_until_connected("s1")
    assert "switch has to stay away" in controller.log()


def test_production_and_the_api_go_on_beside_hostile_peers(
    lab: Lab, tmp_path: Path, runtime: str
) -> None:
    cloud = build_cloud(lab)
    with ControllerProcess(tmp_path, INVENTORY, runtime) as controller:
        controller.start("s1")
        go_on(controller, cloud, hostile_peers.OPENFLOW, expected=[
            "it sent what no switch sends",
            "it has not told its features and ports",
            "nobody asked for|it sent more than is read",
            "did not end its answer",
            "has to stay away",
        ])  # fmt: skip


def test_production_and_the_api_go_on_beside_hostile_tls_peers(
    lab: Lab, tmp_path: Path, runtime: str
) -> None:
    cloud, authority = build_cloud(lab), Authority(tmp_path, "ca")
    switch, own = authority.issue("switch"), authority.issue("controller")
    vsctl("set-ssl", switch[1], switch[0], str(authority.certificate))
    try:
        vsctl("set-controller", "s1", "ssl:127.0.0.1:6653")
        with ControllerProcess(tmp_path, INVENTORY, runtime) as controller:
            controller.start(
                openflow__certificate=own[0],
                openflow__private_key=own[1],
                openflow__ca=str(authority.certificate),
            )
            controller.wait_for_bridge("s1")
            target = hostile_peers.Target(certificate=switch[0], private_key=switch[1])
            go_on(controller, cloud, hostile_peers.TLS, target=target, expected=[
                "TLS handshake failed",
                "it has not told its features and ports",
                "has to stay away",
            ])  # fmt: skip
    finally:
        vsctl("del-ssl")


def go_on(
    controller: ControllerProcess,
    cloud: SmallCloud,
    kinds: tuple[hostile_peers.Hostile, ...],
    *,
    expected: list[str],
    target: hostile_peers.Target | None = None,
) -> None:
    """Attack until the log has all that is expected; production, copies and answers go on."""
    make_collectors(controller)
    controller.create_session("red", "one", ["web"], "ids", direction="egress")
    quiet = statistics.median(change_session(controller, n) for n in range(CALLS))
    memory = memory_of(controller)
    with Traffic(cloud.at.values()) as traffic:
        there, back = cloud.red_streams(traffic)
        ends = (there, cloud.at["red-db"]), (back, cloud.at["red-web"])
        for stream, at in ends:
            traffic.wait_until_past(stream, at, 0)
        first = {stream.key: traffic.now(stream) + 1 for stream, _ in ends}
        with hostile_peers.let_loose(*kinds, target=target):
            for words in expected:
                wait_for(partial(count, controller, words), bool, PATIENCE_S)
            attacked = [change_session(controller, n) for n in range(CALLS)]
        last = {stream.key: traffic.now(stream) for stream, _ in ends}
        for stream, at in ends:
            traffic.wait_for(stream, at, last[stream.key])
            assert traffic.faults(stream, at, first[stream.key], last[stream.key]) == []
    assert statistics.median(attacked) < 20 * quiet + 3.0, (quiet, attacked)
    log = controller.log_since_start()
    assert not [x for x in log.splitlines() if "bridge disconnected" in x and "bridge=s1 " in x]
    assert "Traceback" not in controller.log()
    assert len(log) < 20 * LINES_PER_MINUTE * 1000
    assert memory_of(controller) - memory < MEMORY_BYTES


def test_unfinished_connections_never_take_the_last_files(
    lab: Lab, tmp_path: Path, runtime: str
) -> None:
    """More peers than the process may open files: the oldest of them give way."""
    build_cloud(lab)
    with ControllerProcess(tmp_path, INVENTORY, runtime, open_files=400) as controller:
        controller.start("s1")
        peers = [reach(f"127.66.{n % 4}.1") for n in range(400)]
        wait_for(controller.log, lambda log: "switch crowded out" in log, PATIENCE_S)
        make_collectors(controller)
        made = controller.create_session("red", "one", ["web"], "ids")
        assert made["status"]["state"] == "active"
        assert descriptors_of(controller) < 400
        assert controller.bridge("s1")["connected"]
        for peer in peers:
            peer.close()
        assert "Traceback" not in controller.log()


def test_a_process_without_a_free_file_says_so_once_and_goes_on_later(
    controller: ControllerProcess,
) -> None:
    assert controller.process is not None
    number = controller.process.pid
    before = resource.prlimit(number, resource.RLIMIT_NOFILE)
    controller.api.close()
    resource.prlimit(number, resource.RLIMIT_NOFILE, (descriptors_of(controller), before[1]))
    peers = [reach("127.66.0.1") for _ in range(30)]
    wait_for(controller.log, lambda log: "no switch can connect" in log, PATIENCE_S)
    resource.prlimit(number, resource.RLIMIT_NOFILE, before)
    wait_for(controller.log, lambda log: "switches can connect again" in log, PATIENCE_S)
    for peer in peers:
        peer.close()
    log = controller.log()
    assert log.count("no switch can connect") == 1
    assert "Traceback" not in log

"""The share of a failed sensor moves to the others within a second, and back after recovery."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from controller.topology.probe import ADDRESS_PAUSE_S
from tests import frames
from tests.ovs.controller_process import TARGET, ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab
from tests.ovs.small_cloud import DB, WEB
from tests.ovs.waiting import wait_for

INVENTORY = """\
tenants: [red]
networks: [{name: lan, tenant: red}]
ports:
  - {id: red-web, name: web, tenant: red, network: lan, mac: "02:00:00:00:00:01"}
  - {id: red-db, name: db, tenant: red, network: lan, mac: "02:00:00:00:00:02"}
  - {id: ids-1, tenant: red, kind: tap}
  - {id: ids-2, tenant: red, kind: tap}
  - {id: ids-3, tenant: red, kind: tap}
  - {id: ids-4, tenant: red, kind: tap}
"""
IDS = ["ids-1", "ids-2", "ids-3", "ids-4"]
PORTS = dict(enumerate(["red-web", "red-db", *IDS], 1))
FLOWS = 64
SOON_S = 1.0
GENEROUS_S = 4.0
"""A bound for what takes less than a second on an idle machine."""
AS_LONG_AS = 5
"""So many times what a look at the shares takes may be added to that: then the machine is busy."""


class Pool:
    """A bridge with a session whose copies are balanced over four sensors."""

    def __init__(self, lab: Lab, controller: ControllerProcess, probe: str = "") -> None:
        self.lab, self.controller = lab, controller
        lab.add_bridge("s1", dpid=0x51, controller=TARGET)
        ends = lab.add_ports("s1", PORTS, PORTS)
        self.longest_look_s = 0.0
        self.at = dict(zip(PORTS.values(), ends, strict=True))
        controller.start("s1", bridges__sensor_networks="192.0.2.0/24")
        sensors = [{"port": name} for name in IDS]
        if probe:
            sensors[0]["probe"] = probe
        body = {"tenant": "red", "name": "pool", "delivery": "port", "sensors": sensors}
        assert controller.api.post("/v1/collectors", json=body).status_code == 201
        assert controller.create_session("red", "one", ["web"], "pool")["status"]["state"] == (
            "active"
        )

    def shares(self, *, without: str = "") -> dict[int, str]:
        """The sensor of each of many flows; checks that production gets each frame once."""
        sent = {self.frame(n): n for n in range(FLOWS)}
        listening = [end for name, end in self.at.items() if name != without]
        begun = time.monotonic()
        got = exchange(self.lab, listening, [(self.at["red-web"], frame) for frame in sent])
        self.longest_look_s = max(self.longest_look_s, time.monotonic() - begun)
        assert sorted(got[self.at["red-db"]]) == sorted(sent)
        return {
            sent[frame]: name for name in IDS if name != without for frame in got[self.at[name]]
        }

    def within(self, seconds: float) -> float:
        """How long what takes so many seconds at most may take on this machine now."""
        return seconds + AS_LONG_AS * self.longest_look_s

    def frame(self, n: int) -> bytes:
        """A datagram of the n-th flow."""
        packet = frames.ipv4("10.0.0.1", "10.0.0.2", 17, frames.udp(1000 + n, 53, bytes(30)))
        return frames.ethernet(DB, WEB, 0x0800, packet)


def exchange(
    lab: Lab, listening: list[Endpoint], sent: list[tuple[Endpoint, bytes]]
) -> dict[Endpoint, list[bytes]]:
    """As Lab.exchange, while a link is down: markers cannot reach its endpoint."""
    pulled = [end for end in lab.endpoints if end not in listening]
    lab.endpoints = listening
    try:
        return lab.exchange(sent)
    finally:
        lab.endpoints = listening + pulled


def pull(end: Endpoint, state: str) -> float:
    """Set the link of a sensor down or up; returns the time."""
    subprocess.run(["ip", "link", "set", end.far, state], check=True)
    return time.monotonic()


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        yield process


@contextmanager
def listener(port: int = 0) -> Iterator[tuple[socket.socket, str]]:
    """A server that accepts connections, and its address."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("192.0.2.77", port))
        listening.listen(100)
        yield listening, f"tcp://192.0.2.77:{listening.getsockname()[1]}"


def check_moves(before: dict[int, str], after: dict[int, str], gone: str) -> None:
    """Check that every flow has a sensor, and that only flows of the failed sensor have moved."""
    assert before.keys() == after.keys() == set(range(FLOWS))
    assert gone in before.values()
    assert gone not in after.values()
    assert {n for n in before if before[n] != after[n]} == {n for n in before if before[n] == gone}


def test_the_share_of_a_tap_port_without_link_moves_within_a_second_and_comes_back(
    lab: Lab, controller: ControllerProcess
) -> None:
    pool = Pool(lab, controller)
    before = pool.shares()
    sensor = pool.at["ids-2"]

    begun = pull(sensor, "down")
    wait_for(lambda: pool.shares(without="ids-2"), lambda seen: len(seen) == FLOWS)
    took = time.monotonic() - begun

    check_moves(before, pool.shares(without="ids-2"), "ids-2")
    print(f"moved after {took:.2f} s")
    assert took < pool.within(SOON_S)
    controller.wait_for_session("one", "degraded", "sensor 'ids-2' is down")

    begun = pull(sensor, "up")
    lab.install_markers()  # a veth pair drops frames until the kernel sees both ends up
    wait_for(lambda: pool.shares(), before.__eq__)
    print(f"came back after {time.monotonic() - begun:.2f} s")
    controller.wait_for_session("one", "active")


def test_the_share_of_a_sensor_whose_probe_fails_moves_and_comes_back(
    lab: Lab, controller: ControllerProcess
) -> None:
    run("address", "add", "192.0.2.77/32", "dev", "lo")
    with listener() as (listening, target):
        pool = Pool(lab, controller, target)
        before = pool.shares()
        listening.close()

        begun = time.monotonic()
        wait_for(lambda: pool.shares(), lambda seen: "ids-1" not in seen.values())
        print(f"moved after {time.monotonic() - begun:.2f} s")
        check_moves(before, pool.shares(), "ids-1")

    with listener(int(target.rpartition(":")[2])):
        wait_for(lambda: pool.shares(), before.__eq__)
    run("address", "del", "192.0.2.77/32", "dev", "lo")


def test_the_share_of_a_sensor_that_swallows_everything_moves_and_comes_back(
    lab: Lab, controller: ControllerProcess
) -> None:
    """No connection is refused: packets to the sensor are dropped."""
    with hole() as fall_silent, listener() as (_, target):
        pool = Pool(lab, controller, target)
        before = pool.shares()

        fall_silent(True)
        begun = time.monotonic()
        wait_for(lambda: pool.shares(), lambda seen: "ids-1" not in seen.values())
        took = time.monotonic() - begun
        print(f"moved after {took:.2f} s")
        check_moves(before, pool.shares(), "ids-1")
        assert took < pool.within(GENEROUS_S)

        fall_silent(False)
        begun = time.monotonic()
        wait_for(lambda: pool.shares(), before.__eq__)
        took = time.monotonic() - begun
        print(f"came back after {took:.2f} s")
        assert took < pool.within(GENEROUS_S)
    assert controller.log().count("health of sensors changed") == 2, "it did not flap"


@contextmanager
def hole() -> Iterator[Callable[[bool], None]]:
    """The address of the listener, which can be routed to a device that drops everything."""
    run("link", "add", "hole", "type", "veth", "peer", "name", "far-side")
    for end in ("hole", "far-side"):
        run("link", "set", end, "up")
    run("address", "add", "192.0.2.78/32", "dev", "hole")
    run("address", "add", "192.0.2.77/32", "dev", "lo")

    def fall_silent(is_silent: bool) -> None:
        run("address", "del" if is_silent else "add", "192.0.2.77/32", "dev", "lo")
        run("route", "add" if is_silent else "del", "192.0.2.77/32", "dev", "hole")
        if is_silent:
            neighbour = ("192.0.2.77", "lladdr", "02:00:00:00:00:77", "dev", "hole")
            run("neighbour", "replace", *neighbour, "nud", "permanent")

    yield fall_silent
    run("address", "del", "192.0.2.77/32", "dev", "lo")
    run("link", "del", "hole")


def test_one_address_is_probed_at_a_bounded_rate_whatever_a_tenant_asks_for(
    lab: Lab, controller: ControllerProcess
) -> None:
    run("address", "add", "192.0.2.77/32", "dev", "lo")
    pool = Pool(lab, controller)
    with ExitStack() as stack:
        heard = [stack.enter_context(listener()) for _ in range(32)]
        for number in range(8):
            some = heard[4 * number : 4 * number + 4]
            sensors = [{"port": n, "probe": t} for n, (_, t) in zip(IDS, some, strict=True)]
            body = {"tenant": "red", "name": f"pool-{number}", "sensors": sensors}
            answer = controller.api.post("/v1/collectors", json={"delivery": "port", **body})
            assert answer.status_code == 201, answer.text
        assert pool.controller.create_session("red", "two", ["db"], "pool-0")
        taken: list[float] = []

        def listen() -> float:
            for listening, _ in heard:
                listening.setblocking(False)
                with suppress(BlockingIOError):
                    listening.accept()[0].close()
                    taken.append(time.monotonic())
            return taken[-1] - taken[0] if taken else 0.0

        lasted = wait_for(listen, lambda seconds: seconds > 5, 60)
        # those that waited in the sockets until they were accepted come at once
        assert len(taken) <= lasted / ADDRESS_PAUSE_S + 32
    run("address", "del", "192.0.2.77/32", "dev", "lo")


def test_nothing_is_probed_unless_the_operator_names_networks(
    lab: Lab, controller: ControllerProcess
) -> None:
    lab.add_bridge("s1", dpid=0x51, controller=TARGET)
    lab.add_ports("s1", PORTS, PORTS)
    controller.start("s1")
    sensors = [{"port": "ids-1", "probe": "tcp://192.0.2.77:22"}]
    body = {"tenant": "red", "name": "ids", "delivery": "port", "sensors": sensors}
    answer = controller.api.post("/v1/collectors", json=body)
    assert answer.status_code == 422, answer.text
    assert "[bridges] sensor_networks" in answer.json()["detail"]


def run(*arguments: str) -> None:
    """Run ip."""
    subprocess.run(["ip", *arguments], check=True)

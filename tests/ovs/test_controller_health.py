"""A sensor that fails hands its share to the others within a second, and gets it back."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import frames
from tests.ovs.controller_process import TARGET, ControllerProcess
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab
from tests.ovs.scene import DB, WEB
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
"""For what takes less than a second on a machine that does nothing else."""


class Pool:
    """A bridge with a session whose copies four sensors share."""

    def __init__(self, lab: Lab, controller: ControllerProcess, probe: str = "") -> None:
        self.lab, self.controller = lab, controller
        lab.add_bridge("s1", dpid=0x51, controller=TARGET)
        ends = lab.add_ports("s1", PORTS, PORTS)
        self.at = dict(zip(PORTS.values(), ends, strict=True))
        controller.start("s1")
        sensors = [{"port": name} for name in IDS]
        if probe:
            sensors[0]["probe"] = probe
        body = {"tenant": "red", "name": "pool", "delivery": "port", "sensors": sensors}
        assert controller.api.post("/v1/collectors", json=body).status_code == 201
        assert controller.create_session("red", "one", ["web"], "pool")["status"]["state"] == (
            "active"
        )

    def shares(self, *, without: str = "") -> dict[int, str]:
        """Which sensor gets each of many flows; production gets all of them, and once."""
        sent = {self.frame(n): n for n in range(FLOWS)}
        listening = [end for name, end in self.at.items() if name != without]
        got = exchange(self.lab, listening, [(self.at["red-web"], frame) for frame in sent])
        assert sorted(got[self.at["red-db"]]) == sorted(sent)
        return {
            sent[frame]: name for name in IDS if name != without for frame in got[self.at[name]]
        }

    def frame(self, n: int) -> bytes:
        """A datagram of the n-th flow."""
        packet = frames.ipv4("10.0.0.1", "10.0.0.2", 17, frames.udp(1000 + n, 53, bytes(30)))
        return frames.ethernet(DB, WEB, 0x0800, packet)


def exchange(
    lab: Lab, listening: list[Endpoint], sent: list[tuple[Endpoint, bytes]]
) -> dict[Endpoint, list[bytes]]:
    """Like Lab.exchange, when a cable is pulled: its endpoint cannot be waited for."""
    pulled = [end for end in lab.endpoints if end not in listening]
    lab.endpoints = listening
    try:
        return lab.exchange(sent)
    finally:
        lab.endpoints = listening + pulled


def pull(end: Endpoint, state: str) -> float:
    """Set the link at the sensor's side down or up; when that was."""
    subprocess.run(["ip", "link", "set", end.far, state], check=True)
    return time.monotonic()


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        yield process


@contextmanager
def listener(port: int = 0) -> Iterator[tuple[socket.socket, str]]:
    """Somebody who accepts connections, and where."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("192.0.2.77", port))
        listening.listen(100)
        yield listening, f"tcp://192.0.2.77:{listening.getsockname()[1]}"


def check_moves(before: dict[int, str], after: dict[int, str], gone: str) -> None:
    """Every flow is somewhere, and only those of the sensor that failed have moved."""
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
    assert took < SOON_S
    controller.wait_for_session("one", "degraded", "sensor 'ids-2' is down")

    begun = pull(sensor, "up")
    lab.arm()  # a cable swallows frames until the kernel has noticed that it is whole
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
    """Nobody refuses a connection: what is sent to the sensor vanishes."""
    with hole() as fall_silent, listener() as (_, target):
        pool = Pool(lab, controller, target)
        before = pool.shares()

        fall_silent(True)
        begun = time.monotonic()
        wait_for(lambda: pool.shares(), lambda seen: "ids-1" not in seen.values())
        took = time.monotonic() - begun
        print(f"moved after {took:.2f} s")
        check_moves(before, pool.shares(), "ids-1")
        assert took < GENEROUS_S

        fall_silent(False)
        begun = time.monotonic()
        wait_for(lambda: pool.shares(), before.__eq__)
        took = time.monotonic() - begun
        print(f"came back after {took:.2f} s")
        assert took < GENEROUS_S
    assert controller.log().count("health of sensors changed") == 2, "it did not flap"


@contextmanager
def hole() -> Iterator[Callable[[bool], None]]:
    """The listener's address, which may lead into a device that swallows everything."""
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


def run(*arguments: str) -> None:
    """Call ip."""
    subprocess.run(["ip", *arguments], check=True)

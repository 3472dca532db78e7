"""Peers that send nearly right messages at every stage: the controller and its bridges go on.

``FUZZ_SECONDS`` in the environment makes it longer, ``FUZZ_SEED`` gives another seed; both are for
who looks for more. What fails is named by its seed.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from tests.controller.rig import INVENTORY
from tests.fake_switches import FakeSwitch, Fleet
from tests.generators.switch_messages import HostilePeer
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.waiting import wait_for

SEED = int(os.environ.get("FUZZ_SEED", "1"))
SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
PEERS, AT_ONCE = 120, 20
"""Connections of one run, unless it is longer; and how many of them at one time."""
SILENCE_S = 0.02
"""A peer that was sent nothing for so long says something by itself, in seconds."""
PATIENCE_S = 60.0
MEMORY_BYTES = 150 << 20
"""How much more memory the process may have afterwards."""


def free_address() -> str:
    """An address on which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(params=["ryu", "os-ken"])
def controller(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ControllerProcess]:
    addresses = free_address(), free_address()
    with ControllerProcess(tmp_path, INVENTORY, request.param, addresses) as process:
        process.start(ovsdb__remotes="")
        yield process


def memory_of(controller: ControllerProcess) -> int:
    """The memory of the process, in bytes."""
    assert controller.process is not None
    pages = int(Path(f"/proc/{controller.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors_of(controller: ControllerProcess) -> int:
    """How many file descriptors the process has open."""
    assert controller.process is not None
    return len(list(Path(f"/proc/{controller.process.pid}/fd").iterdir()))


def meet(address: tuple[str, int], peer: HostilePeer) -> None:
    """Connect from an address of its own, and follow the peer until one side ends."""
    source = f"127.{peer.random.randrange(1, 255)}.{peer.random.randrange(256)}.9"
    with socket.create_connection(address, PATIENCE_S, (source, 0)) as connection:
        connection.settimeout(SILENCE_S)
        try:
            connection.sendall(peer.begin())
            while not peer.is_done:
                try:
                    data = connection.recv(1 << 16)
                except TimeoutError:
                    data = None
                if data == b"":
                    return
                connection.sendall(peer.reply(data or b""))
        except (ConnectionError, TimeoutError):
            return


def test_nearly_right_messages_harm_nobody_else(controller: ControllerProcess) -> None:
    host, _, port = controller.addresses[1].rpartition(":")
    address, random = (host, int(port)), Random(SEED)
    with Fleet(*address) as fleet:
        healthy = FakeSwitch(1, "s1", {n: f"s1-eth{n}" for n in (1, 2, 7, 9)})
        fleet.add(healthy)
        controller.wait_for_bridge("s1")
        controller.create_collector("red", "ids", "t1")
        memory, descriptors = memory_of(controller), descriptors_of(controller)
        connection, end, number = fleet.connections[1], time.monotonic() + SECONDS, 0
        with ThreadPoolExecutor(AT_ONCE) as threads:
            while number < PEERS or time.monotonic() < end:
                some = range(number, number + AT_ONCE)
                peers = [HostilePeer(Random(random.random()), n) for n in some]
                list(threads.map(lambda peer: meet(address, peer), peers))
                number += AT_ONCE
                made = controller.create_session("red", f"s{number}", ["a"], "ids")
                assert made["status"]["state"] == "active", f"seed {SEED}, peers {some}"
                controller.delete_session(f"s{number}")
        log = controller.log()
        assert "Traceback" not in log, f"seed {SEED}"
        assert not [line for line in log.splitlines() if len(line) > 5000]
        assert fleet.connections[1] is connection, "the bridge was never disconnected"
        assert memory_of(controller) - memory < MEMORY_BYTES
        wait_for(lambda: descriptors_of(controller), lambda n: n <= descriptors + 3, PATIENCE_S)

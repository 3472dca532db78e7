"""Thousands of bridges that come once, each with a datapath id of its own, leave no trace."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.controller.rig import INVENTORY
from tests.fake_switches import FakeSwitch, Fleet
from tests.fake_switches.connection import Connection
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.waiting import pass_time, wait_for

VISITS, AT_ONCE = 400, 20
WARM = 400
"""Visits before the memory is looked at first: the heap grows to what visits need at once."""
BYTES_EACH = 20_000
"""What a visit may leave in memory at most; 46,000 is what it left when all were remembered."""
PATIENCE_S = 120.0


def free_address() -> str:
    """An address on which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(params=["ryu", "os-ken"])
def runtime(request: pytest.FixtureRequest) -> str:
    """The name of the runtime."""
    return str(request.param)


@pytest.fixture
def controller(tmp_path: Path, runtime: str) -> Iterator[ControllerProcess]:
    with ControllerProcess(
        tmp_path, INVENTORY, runtime, (free_address(), free_address())
    ) as process:
        process.start(ovsdb__remotes="")
        yield process


async def visit(host: str, port: int, number: int) -> None:
    """Become a bridge: every second one stays until it has flows, the others leave before."""
    switch = FakeSwitch(0xE000000 + number, f"once{number}", {n: f"o{n}" for n in (1, 2, 3)})
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(switch), host, port)
    deadline = loop.time() + PATIENCE_S
    while not connection.done.done() and loop.time() < deadline:
        has_flows, was_asked = bool(switch.tables.flows), has(switch)
        if has_flows if number % 2 else was_asked:
            break
        await pass_time(0.01)
    connection.drop()
    await connection.done


def has(switch: FakeSwitch) -> bool:
    """Whether it was sent a bundle: it is being adopted."""
    return switch.received > 0


def visit_all(host: str, port: int, numbers: range) -> None:
    async def run() -> None:
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with slots:
                await visit(host, port, number)

        await asyncio.gather(*map(one, numbers))

    asyncio.run(run())


def memory_of(controller: ControllerProcess) -> int:
    """The memory of the process, in bytes."""
    assert controller.process is not None
    pages = int(Path(f"/proc/{controller.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def names(controller: ControllerProcess) -> set[str]:
    answer = controller.api.get("/v1/bridges?limit=1000").raise_for_status().json()
    return {bridge["name"] for bridge in answer["items"]}


def test_bridges_that_come_once_are_forgotten(controller: ControllerProcess, runtime: str) -> None:
    host, _, number = controller.addresses[1].rpartition(":")
    port = int(number)
    with Fleet(host, port) as fleet:
        fleet.add(FakeSwitch(1, "s1", {n: f"s1-eth{n}" for n in (1, 2, 7, 9)}))
        controller.wait_for_bridge("s1")
        visit_all(host, port, range(WARM))
        wait_for(lambda: names(controller), lambda seen: seen == {"s1"}, PATIENCE_S)
        before = memory_of(controller)
        visit_all(host, port, range(WARM, WARM + VISITS))
        wait_for(lambda: names(controller), lambda seen: seen == {"s1"}, PATIENCE_S)
        grown = memory_of(controller) - before
        if runtime == "ryu":  # each native thread of os-ken may have an arena of malloc
            assert grown < VISITS * BYTES_EACH, f"{grown / VISITS:.0f} bytes for each"
        metrics = controller.api.get("/metrics").raise_for_status().text
        assert "once" not in metrics
        assert controller.bridge("s1")["state"] == "active"
        log = controller.log()
        assert log.count("bridge connected  ") < WARM + VISITS and "Traceback" not in log

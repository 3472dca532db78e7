"""Clients of the API over IPv6: the addresses of one /64 count as one client."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.http import BodyLimit, FrontSettings
from controller.http.front.server import client_of
from tests.controller.http.serving import Serving, get, status_of, talk

MOST = 8
SETTINGS = FrontSettings(
    bodies=(BodyLimit("/", 1000),), request_seconds=3600.0, connections_per_client=MOST
)
NEIGHBOURS = [f"2001:db8:0:1::{n:x}" for n in range(1, 13)]
OTHERS = [f"2001:db8:0:{n:x}::1" for n in range(2, 5)]
KEEP = b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def addresses() -> Iterator[None]:
    """Addresses of this machine, in its own network namespace, where a lab may have none."""
    switch = Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6")
    before = switch.read_text()
    switch.write_text("0")
    for address in (*NEIGHBOURS, *OTHERS):
        subprocess.run(
            ["ip", "-6", "address", "add", f"{address}/128", "dev", "lo", "nodad"], check=True
        )
    yield
    for address in (*NEIGHBOURS, *OTHERS):
        subprocess.run(["ip", "-6", "address", "del", f"{address}/128", "dev", "lo"], check=True)
    switch.write_text(before)


def test_many_addresses_of_one_network_have_the_connections_of_one_client(addresses: None) -> None:
    with Serving("native", SETTINGS, "::") as serving:
        kept = [serving.connect(source) for source in OTHERS]
        for connection in kept:
            connection.sendall(KEEP)
            assert status_of(connection.recv(1 << 16)) == 200
        idle = [serving.connect(source) for source in NEIGHBOURS for _ in range(2)]
        for connection in idle:
            connection.sendall(b"GET / HTTP/1.1\r\n")
        assert serving.status(get("/echo"), NEIGHBOURS[0]) == 200, "an idle one makes room"

        ended = 0
        for connection in idle:
            connection.setblocking(False)
            try:
                ended += connection.recv(1) == b""
            except ConnectionResetError:
                ended += 1
            except BlockingIOError:
                pass
        assert ended >= len(idle) - MOST
        for connection in kept:
            connection.sendall(KEEP)
            assert status_of(connection.recv(1 << 16)) == 200, "others have lost nothing"
        for connection in (*idle, *kept):
            connection.close()
        assert "Traceback" not in serving.log()


def test_slow_work_of_one_network_leaves_threads_to_others(addresses: None) -> None:
    settings = FrontSettings(bodies=SETTINGS.bodies, request_seconds=3600.0)
    with Serving("native", settings, "::") as serving:
        busy = [serving.connect(source) for source in NEIGHBOURS]
        for connection in busy:
            connection.sendall(get("/slow"))
        assert serving.status(get("/echo"), OTHERS[0]) == 200
        assert serving.status(get("/release"), OTHERS[1]) == 200
        assert {status_of(talk(connection, b"")) for connection in busy} == {200}


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1::1", "2001:db8:0:1::"),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::"),
        ("2001:db8:0:2::1", "2001:db8:0:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::"),
    ],
)
def test_who_counts_as_one_client(address: str, client: str) -> None:
    assert client_of((address, 4711, 0, 0)) == client

"""Hostile clients of the API beside a real bridge: it stays connected, and others are answered."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from controller.process import LOOP_SILENCE_S
from tests.ovs.controller_process import API, START_S, ControllerProcess
from tests.ovs.processor import Waits, waits_of, without_waits
from tests.ovs.small_cloud import INVENTORY, SmallCloud, make_collectors
from tests.ovs.waiting import wait_for

HOST, PORT = API.split(":")
RANGES = ",".join(str(n) for n in range(1, 128, 2))


@pytest.fixture(params=["ryu", "os-ken"])
def running(
    request: pytest.FixtureRequest, tmp_path: Path, cloud: SmallCloud
) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY, request.param) as process:
        process.start("s1", api__request_seconds="3600")
        make_collectors(process)
        yield process
        assert "Traceback" not in process.log()


def held_up_s(silence: float, looks: list[tuple[float, Waits]]) -> float:
    """How much of a silence before the last look was not spent waiting for a processor."""
    at, now = looks[-1]
    _, before = next((look for look in reversed(looks) if look[0] <= at - silence), looks[0])
    return without_waits(silence, before, now)


def test_a_silence_counts_as_far_as_others_have_not_caused_it() -> None:
    looks: list[tuple[float, Waits]] = [(0.0, {"1": 1.0}), (10.0, {"1": 1.5})]
    assert held_up_s(6.0, [*looks, (16.0, {"1": 5.5, "2": 0.5})]) == 2.0
    assert held_up_s(6.0, [*looks, (16.0, {"1": 1.5, "2": 0.0})]) == 6.0


class Probe:
    """Asks for health all the time: the statuses that it saw, and how long nothing ran."""

    def __init__(self, process: ControllerProcess) -> None:
        self.seen: list[int] = []
        self.longest_s = 0.0
        """Without the time that the controller has waited for a processor."""
        self._pid, self._looks = process.pid, list[tuple[float, Waits]]()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=f"http://{API}", timeout=START_S) as client:
            while not self._is_over.wait(0.05):
                answer = client.get("/healthz")
                self.seen.append(answer.status_code)
                self._looks.append((time.monotonic(), waits_of(self._pid)))
                if answer.status_code == 503:
                    silence = float(answer.json()["reason"].split()[-2])
                    self.longest_s = max(self.longest_s, held_up_s(silence, self._looks))


def connect() -> socket.socket:
    return socket.create_connection((HOST, int(PORT)), START_S)


def check_still_connected(process: ControllerProcess) -> None:
    """The bridge has been connected all the time, and is in order."""
    assert process.bridge("s1")["state"] == "active"
    log = process.log_since_start()
    assert (log.count("bridge connected"), log.count("bridge disconnected")) == (0, 0), log


def front_of(process: ControllerProcess) -> int:
    """The process id of the HTTP front, a child of the controller."""
    assert process.process is not None
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            command = (folder / "cmdline").read_bytes()
            if int(parent) == process.process.pid and b"controller.http.front" in command:
                found.append(int(folder.name))
    assert len(found) == 1, found
    return found[0]


def memory(pid: int) -> int:
    """Bytes of memory of a process."""
    return int((Path("/proc") / str(pid) / "statm").read_text().split()[1]) * os.sysconf(
        "SC_PAGESIZE"
    )


def test_311_idle_and_trickling_connections_harm_nobody(running: ControllerProcess) -> None:
    idle = [connect() for _ in range(311)]
    for index, connection in enumerate(idle):
        with contextlib.suppress(ConnectionError):  # the oldest make room
            connection.sendall((b"", b"G", b"GET / HTTP/1.1\r\nX: ")[index % 3])

    running.create_session("red", "s", ["red-web"], "ids")
    assert running.session("s")["status"]["state"] == "active"
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert running.api.get(path).status_code == 200

    for connection in idle:
        connection.close()
    check_still_connected(running)


def test_headers_of_700_megabytes_are_refused_and_take_no_memory(
    running: ControllerProcess,
) -> None:
    assert running.process is not None
    pids = (running.process.pid, front_of(running))
    memories = [memory(pid) for pid in pids]
    for start in (b"GET /", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "):
        sent = 0
        with connect() as connection, contextlib.suppress(ConnectionError):
            connection.sendall(start)
            while sent < 700 << 20:
                sent += connection.send(b"a" * (1 << 20))
        assert sent < 100 << 20
    assert running.api.get("/healthz").status_code == 200
    grown = [memory(pid) - old for pid, old in zip(pids, memories, strict=True)]
    assert max(grown) < 64 << 20, grown
    check_still_connected(running)


def test_a_killed_front_comes_back_while_the_bridge_stays_connected(
    running: ControllerProcess,
) -> None:
    first = front_of(running)

    os.kill(first, signal.SIGKILL)

    wait_for(running.is_answering, bool, START_S)
    assert front_of(running) != first
    words = "the HTTP front was killed by SIGKILL, and has been started again"
    assert words in running.wait_for_problem("HTTP front")
    assert running.log().count("child process ended") == 1
    check_still_connected(running)
    assert running.end() == 0


def test_the_front_ends_with_a_killed_controller_which_can_start_again(
    running: ControllerProcess,
) -> None:
    assert running.process is not None
    front = front_of(running)
    running.end(signal.SIGKILL)

    running.start("s1")

    assert not Path(f"/proc/{front}").exists()


def test_large_and_absurd_bodies_hold_up_neither_health_nor_the_bridge(
    running: ControllerProcess,
) -> None:
    match = {"protocol": "tcp", "destination_port": RANGES}
    rules = [{"number": n, "action": "accept", "match": match} for n in range(1, 20_001)]
    fitting = [
        {**rule, "match": {"destination": f"10.{n >> 8}.{n & 255}.1"}}
        for n, rule in enumerate(rules)
    ]
    keys = "{" + ",".join(f'"k{n}":1' for n in range(1_000_000)) + "}"
    ports = {"kind": "port", "ports": ["red-web"] * 40_000}
    session = {"name": "many", "tenant": "red", "source": ports, "collector": "ids"}
    packet = {"port": "red-web", "tenant": "red", "packet": f"tcp,vlan={'9' * 5000}"}
    json_type = {"Content-Type": "application/json"}

    def post(path: str, body: object) -> int:
        text = body if isinstance(body, str) else json.dumps(body)
        return running.api.post(path, content=text, headers=json_type, timeout=300).status_code

    with Probe(running) as probe:
        assert post("/v1/filters", {"name": "wide", "tenant": "red", "ingress": rules}) == 422
        assert post("/v1/filters", {"name": "long", "tenant": "red", "ingress": fitting}) == 201
        assert post("/v1/filters", keys) == 400
        assert post("/v1/sessions", keys) == 413
        assert post("/v1/sessions", session) == 422
        assert post("/v1/explain", packet) == 400
        with connect() as connection:
            connection.sendall(
                b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\n"
                b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n"
            )
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")

    assert set(probe.seen) <= {200, 503}
    assert probe.longest_s < LOOP_SILENCE_S, "the bodies have held it up"
    check_still_connected(running)


def test_only_names_of_this_machine_are_served(running: ControllerProcess) -> None:
    for fields, status in (
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:9470"}, 421),
        ({"Host": "localhost"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ):
        assert running.api.get("/v1/status", headers=fields).status_code == status

    def metrics() -> str:
        return running.api.get("/metrics").text

    wait_for(metrics, lambda seen: 'cloudtap_http_refusals_total{status="421"} 2.0' in seen)
    assert 'cloudtap_http_refusals_total{status="403"} 2.0' in metrics()

"""Sessions with limits on a real bridge: they stop within a second, and stay so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import Lab
from tests.ovs.scene import INVENTORY, Scene, build, make_collectors
from tests.ovs.traffic import FRAMES_PER_S, Stream, Traffic
from tests.ovs.waiting import wait_for

SECOND = 1.0
STREAMS = 2


@pytest.fixture
def scene(lab: Lab) -> Scene:
    return build(lab)


@pytest.fixture
def controller(tmp_path: Path, scene: Scene) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        process.start("s1")
        make_collectors(process)
        yield process


@pytest.fixture
def traffic(scene: Scene) -> Iterator[Traffic]:
    ends = [scene.at[name] for name in ("red-web", "red-db", "red-ids")]
    with Traffic(ends) as traffic:
        yield traffic


def copied(traffic: Traffic, streams: tuple[Stream, ...], scene: Scene) -> int:
    """How many copies have arrived."""
    return sum(len(traffic.arrived(stream, scene.at["red-ids"])) for stream in streams)


def wait_until_stopped(controller: ControllerProcess, name: str, reason: str) -> dict[str, Any]:
    """Return the session once the bridge has confirmed that its flows are gone."""

    def is_right(seen: dict[str, Any]) -> bool:
        status = seen["status"]
        return status["state"] == "stopped" and len(status["reasons"]) == 1

    seen = wait_for(lambda: controller.session(name), is_right)
    assert reason in seen["status"]["reasons"][0]
    return seen


def assert_silent(traffic: Traffic, streams: tuple[Stream, ...], scene: Scene) -> None:
    """What is sent from now on is delivered, and not copied."""
    since = [traffic.now(stream) for stream in streams]
    for stream, number, end in zip(streams, since, ("red-db", "red-web"), strict=True):
        traffic.wait_until_past(stream, scene.at[end], number + 50)
        seen = traffic.arrived(stream, scene.at["red-ids"])
        assert max(seen) <= number, f"frame {max(seen)} was copied after frame {number}"


def test_a_session_stops_within_a_second_of_its_limit_of_packets_and_stays_so(
    scene: Scene, controller: ControllerProcess, traffic: Traffic
) -> None:
    streams = scene.red_streams(traffic)
    controller.create_session("red", "few", ["web"], "ids", max_packets=300)
    seen = wait_until_stopped(controller, "few", "limit of 300 packets")
    assert_silent(traffic, streams, scene)

    over = copied(traffic, streams, scene) - 300
    print(f"{over} copies after the limit")
    assert 0 <= over <= STREAMS * FRAMES_PER_S * SECOND
    assert seen["status"]["copies"]["packets"] >= 300
    controller.end()
    controller.start("s1")
    wait_until_stopped(controller, "few", "limit of 300 packets")
    assert_silent(traffic, streams, scene)


def test_a_stopped_session_runs_again_and_counts_anew(
    scene: Scene, controller: ControllerProcess, traffic: Traffic
) -> None:
    streams = scene.red_streams(traffic)
    controller.create_session("red", "few", ["web"], "ids", max_packets=100)
    wait_until_stopped(controller, "few", "limit of 100 packets")
    assert_silent(traffic, streams, scene)
    first = copied(traffic, streams, scene)
    again = controller.change_session("few", max_packets=200)
    assert again["status"]["state"] in ("active", "stopped")
    wait_until_stopped(controller, "few", "limit of 200 packets")
    assert_silent(traffic, streams, scene)

    assert copied(traffic, streams, scene) >= first + 200


def test_a_session_stops_within_a_second_of_its_time(
    scene: Scene, controller: ControllerProcess, traffic: Traffic
) -> None:
    streams = scene.red_streams(traffic)
    ends = datetime.now(UTC) + timedelta(seconds=3)
    controller.create_session(
        "red", "short", ["web"], "ids", expires_at=ends.isoformat().replace("+00:00", "Z")
    )
    late = time.monotonic() + (ends - datetime.now(UTC)).total_seconds() + SECOND
    wait_for(lambda: copied(traffic, streams, scene), bool)
    controller.wait_for_session("short", "stopped", "it expired at")
    assert time.monotonic() < late + 0.5, "and half a second for the question"
    wait_until_stopped(controller, "short", "it expired at")
    assert_silent(traffic, streams, scene)
    last = max(
        traffic.when(stream, scene.at["red-ids"], max(traffic.arrived(stream, scene.at["red-ids"])))
        for stream in streams
    )
    assert last < late

"""Sessions with limits on a real bridge: they stop within a second, and stay so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.ovs.controller_process import ControllerProcess
from tests.ovs.small_cloud import SmallCloud
from tests.ovs.traffic import FRAMES_PER_S, Stream, Traffic
from tests.ovs.waiting import wait_for

SECOND = 1.0
STREAMS = 2
CHANGES = 3
"""Changes of a session whose time is taken, before and after."""
AS_LONG_AS = 5
"""A stop may take a second, and so many times what a change takes: on an idle machine 0.1 s."""


@pytest.fixture
def traffic(cloud: SmallCloud) -> Iterator[Traffic]:
    ends = [cloud.at[name] for name in ("red-web", "red-db", "red-ids")]
    with Traffic(ends) as traffic:
        yield traffic


class Pace:
    """How long a change of a session takes on this machine now; a stop is such a change."""

    def __init__(self, controller: ControllerProcess) -> None:
        self._controller, self._longest = controller, 0.0
        controller.create_session("blue", "other", ["web"], "ids")
        self.look()

    def look(self) -> None:
        """Take the time of some changes."""
        for number in range(CHANGES):
            begun = time.monotonic()
            self._controller.change_session("other", enabled=bool(number % 2))
            self._longest = max(self._longest, time.monotonic() - begun)

    def a_second(self) -> float:
        """How long a stop may take that takes a second at most when nothing else runs."""
        return SECOND + AS_LONG_AS * self._longest


@pytest.fixture
def pace(controller: ControllerProcess) -> Pace:
    return Pace(controller)


def copied(traffic: Traffic, streams: tuple[Stream, ...], cloud: SmallCloud) -> int:
    """How many copies have arrived."""
    return sum(len(traffic.arrived(stream, cloud.at["red-ids"])) for stream in streams)


def wait_until_stopped(controller: ControllerProcess, name: str, reason: str) -> dict[str, Any]:
    """Return the session once the bridge has confirmed the removal of its flows."""

    def is_right(seen: dict[str, Any]) -> bool:
        status = seen["status"]
        return status["state"] == "stopped" and len(status["reasons"]) == 1

    seen = wait_for(lambda: controller.session(name), is_right)
    assert reason in seen["status"]["reasons"][0]
    return seen


def assert_silent(traffic: Traffic, streams: tuple[Stream, ...], cloud: SmallCloud) -> None:
    """Check that frames sent from now on are delivered, and not copied."""
    since = [traffic.now(stream) for stream in streams]
    for stream, number, end in zip(streams, since, ("red-db", "red-web"), strict=True):
        traffic.wait_until_spread(stream, cloud.at[end], number + 50)
        seen = traffic.arrived(stream, cloud.at["red-ids"])
        assert max(seen) <= number, f"frame {max(seen)} was copied after frame {number}"


def test_a_session_stops_within_a_second_of_its_limit_of_packets_and_stays_so(
    cloud: SmallCloud, controller: ControllerProcess, traffic: Traffic, pace: Pace
) -> None:
    streams = cloud.red_streams(traffic)
    controller.create_session("red", "few", ["web"], "ids", max_packets=300)
    seen = wait_until_stopped(controller, "few", "limit of 300 packets")
    assert_silent(traffic, streams, cloud)

    over = copied(traffic, streams, cloud) - 300
    print(f"{over} copies after the limit")
    pace.look()
    assert 0 <= over <= STREAMS * FRAMES_PER_S * pace.a_second()
    assert seen["status"]["copies"]["packets"] >= 300
    controller.end()
    controller.start("s1")
    wait_until_stopped(controller, "few", "limit of 300 packets")
    assert_silent(traffic, streams, cloud)


def test_a_stopped_session_runs_again_and_counts_anew(
    cloud: SmallCloud, controller: ControllerProcess, traffic: Traffic
) -> None:
    streams = cloud.red_streams(traffic)
    controller.create_session("red", "few", ["web"], "ids", max_packets=100)
    wait_until_stopped(controller, "few", "limit of 100 packets")
    assert_silent(traffic, streams, cloud)
    first = copied(traffic, streams, cloud)
    again = controller.change_session("few", max_packets=200)
    assert again["status"]["state"] in ("active", "stopped")
    wait_until_stopped(controller, "few", "limit of 200 packets")
    assert_silent(traffic, streams, cloud)

    assert copied(traffic, streams, cloud) >= first + 200


def test_a_session_stops_within_a_second_of_its_time(
    cloud: SmallCloud, controller: ControllerProcess, traffic: Traffic, pace: Pace
) -> None:
    streams = cloud.red_streams(traffic)
    ends = datetime.now(UTC) + timedelta(seconds=3)
    controller.create_session(
        "red", "short", ["web"], "ids", expires_at=ends.isoformat().replace("+00:00", "Z")
    )
    due = time.monotonic() + (ends - datetime.now(UTC)).total_seconds()
    wait_for(lambda: copied(traffic, streams, cloud), bool)
    controller.wait_for_session("short", "stopped", "it expired at")
    stopped = time.monotonic()
    pace.look()
    assert stopped < due + pace.a_second() + 0.5, "and half a second for the question"
    wait_until_stopped(controller, "short", "it expired at")
    assert_silent(traffic, streams, cloud)
    last = max(
        traffic.when(stream, cloud.at["red-ids"], max(traffic.arrived(stream, cloud.at["red-ids"])))
        for stream in streams
    )
    assert last < due + pace.a_second()

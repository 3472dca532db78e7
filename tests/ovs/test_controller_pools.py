"""Sensors that join and leave a collector under traffic: each packet has one copy at one sensor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ovs.controller_process import ControllerProcess
from tests.ovs.small_cloud import INVENTORY, SmallCloud
from tests.ovs.traffic import Traffic

STEPS = (["ids", "soc"], ["soc"], ["soc", "ids"], ["ids"], ["soc"], ["ids"])
"""The sensors of the collector, before and after each change."""


@pytest.fixture
def controller(tmp_path: Path, cloud: SmallCloud) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY) as process:
        process.start("s1")
        process.create_collector("red", "pool", "red-ids")
        yield process


@pytest.mark.parametrize("max_rate", [None, {"pps": 1_000_000}], ids=["uncapped", "capped"])
def test_each_packet_reaches_the_old_sensors_or_the_new_ones(
    cloud: SmallCloud, controller: ControllerProcess, max_rate: dict[str, int] | None
) -> None:
    ends = [cloud.at[name] for name in ("red-web", "red-db", "red-ids", "red-soc")]
    taps = {"ids": cloud.at["red-ids"], "soc": cloud.at["red-soc"]}
    with Traffic(ends) as traffic:
        streams = cloud.red_streams(traffic)
        made = controller.create_session("red", "one", ["web"], "pool", max_rate=max_rate)
        assert made["status"]["state"] == "active", made["status"]
        first = [traffic.now(stream) + 1 for stream in streams]
        for sensors in STEPS:
            named = [{"port": sensor} for sensor in sensors]
            changed = controller.change_collector("pool", sensors=named)
            assert [sensor["port"] for sensor in changed["sensors"]] == sensors
            since = [traffic.now(stream) for stream in streams]
            for stream, number, end in zip(streams, since, ("red-db", "red-web"), strict=True):
                traffic.wait_until_spread(stream, cloud.at[end], number + 10)
            for stream, number in zip(streams, since, strict=True):
                copies = {name: traffic.arrived(stream, tap) for name, tap in taps.items()}
                after = range(number + 1, number + 11)
                for name in taps.keys() - set(sensors):
                    assert not [n for n in after if copies[name][n]], f"{name} has left"
        traffic.stop()
        for stream, begun, number in zip(streams, first, since, strict=True):
            copies = [traffic.arrived(stream, tap) for tap in taps.values()]
            seen = {n: sum(each[n] for each in copies) for n in range(begun, number + 11)}
            wrong = {n: count for n, count in seen.items() if count != 1}
            assert not wrong, f"copies by number: {wrong}"


def test_a_session_to_a_remote_sensor_without_a_route_says_so_and_what_fits(
    controller: ControllerProcess,
) -> None:
    body = {"name": "far", "tenant": "red", "delivery": "gre", "sensors": [{"address": "10.9.9.9"}]}
    assert controller.api.post("/v1/collectors", json=body).status_code == 201
    controller.create_session("red", "far", ["web"], "far", oversize="skip")

    seen = controller.wait_for_session("far", "degraded", "no route to sensor 10.9.9.9")
    assert seen["sensors"] == [f"gre 10.9.9.9 key {0x80000000}"]
    assert seen["status"]["largest_frame"] == 1500 - 20 - 8
    controller.delete_session("far")

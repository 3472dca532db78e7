"""Sensors at tap ports get frames of at most the MTU with finished checksums, or it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.tcp_cloud import (
    FULL_FRAME,
    INVENTORY,
    TAP,
    Internal,
    Received,
    TapDevice,
    TcpCloud,
    Veth,
    has_right_checksum,
    is_offloaded,
    run,
)
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import vsctl
from tests.ovs.waiting import wait_for

SWITCHED_OFF = "offloads of tap port switched off"
LEFT = "leaves segmentation and checksums to others"
FAR_DATABASE = "tcp:127.0.0.1:6640"
"""The database of this machine as one of another machine is reached."""


@pytest.fixture
def cloud() -> Iterator[TcpCloud]:
    """The bridge and the workloads, without a sensor."""
    made = TcpCloud()
    yield made
    made.close()


@pytest.fixture
def start(tmp_path: Path, cloud: TcpCloud) -> Iterator[Callable[..., ControllerProcess]]:
    """Starts a controller with a session of web to the tap port."""
    with ControllerProcess(tmp_path, INVENTORY) as process:

        def started(state: str = "active", words: str = "", **settings: str) -> ControllerProcess:
            process.start("s1", **settings)
            process.create_collector("red", "ids", "red-ids")
            process.create_session("red", "one", ["web"], "ids")
            process.wait_for_session("one", state, words)
            return process

        yield started
        assert "Traceback" not in process.log()


def check_finished(received: list[Received]) -> None:
    assert max(len(each.frame) for each in received) <= FULL_FRAME
    assert not any(each.is_unfinished for each in received)
    assert all(has_right_checksum(each.frame) for each in received)


def check_left(received: list[Received]) -> None:
    assert max(len(each.frame) for each in received) > 10 * FULL_FRAME
    assert any(each.is_unfinished for each in received)


def reasons(controller: ControllerProcess) -> list[str]:
    return list(controller.session("one")["status"]["reasons"])


def remake(cloud: TcpCloud) -> Veth:
    """Delete the device of the tap port, and make another one of the same name."""
    assert cloud.sensor is not None
    before = ifindex()
    cloud.sensor.close()
    made = Veth()
    cloud.sensor = made
    wait_for(lambda: vsctl("get", "Interface", TAP, "ofport").strip(), lambda seen: seen == "9")
    assert ifindex() != before
    return made


def ifindex() -> int:
    return int(Path(f"/sys/class/net/{TAP}/ifindex").read_text())


def test_offloads_of_a_tap_port_are_switched_off_and_of_nothing_else(
    cloud: TcpCloud, start: Callable[..., ControllerProcess]
) -> None:
    cloud.tap(Veth())
    others = [("web-eth0", None), ("db-eth0", None), ("ids-far", None), ("web-far", "web")]
    controller = start()
    assert reasons(controller) == []
    check_finished(cloud.transfer())
    assert not is_offloaded(TAP)
    assert all(is_offloaded(*other) for other in others)
    assert controller.log().count(SWITCHED_OFF) == 1


def test_offloads_that_are_to_stay_are_said_until_somebody_switches_them_off(
    cloud: TcpCloud, start: Callable[..., ControllerProcess]
) -> None:
    cloud.tap(Veth())
    controller = start("degraded", LEFT, bridges__tap_offloads="keep")
    assert reasons(controller) == [
        f"tap port 'ids' on bridge 's1': its device {TAP} leaves segmentation and checksums to "
        "others: the sensor would get frames of up to 64 kB with unfinished checksums: run "
        f"`ethtool -K {TAP} tx off` on its host"
    ]
    check_left(cloud.transfer())
    assert is_offloaded(TAP)
    run(f"ethtool -K {TAP} tso off gso off")
    received = cloud.transfer()
    assert max(len(each.frame) for each in received) <= FULL_FRAME
    assert any(each.is_unfinished for each in received), "that alone leaves checksums unfinished"
    assert LEFT in " ".join(reasons(controller))
    run(f"ethtool -K {TAP} tx off")
    controller.wait_for_session("one")
    assert reasons(controller) == []
    check_finished(cloud.transfer())


def test_a_device_that_is_made_anew_is_switched_off_again(
    cloud: TcpCloud, start: Callable[..., ControllerProcess]
) -> None:
    cloud.tap(Veth())
    controller = start()
    check_finished(cloud.transfer())
    remake(cloud)
    wait_for(lambda: is_offloaded(TAP), lambda is_on: not is_on)
    controller.wait_for_session("one")
    check_finished(cloud.transfer())
    assert controller.log().count(SWITCHED_OFF) == 2


def test_a_virtual_machine_that_starts_again_gets_no_super_frames(
    cloud: TcpCloud, start: Callable[..., ControllerProcess]
) -> None:
    sensor = TapDevice()
    cloud.tap(sensor)
    start()
    check_finished(cloud.transfer())
    sensor.start_driver()
    assert is_offloaded(TAP)
    wait_for(lambda: is_offloaded(TAP), lambda is_on: not is_on)
    check_finished(cloud.transfer())


def test_an_internal_port_cannot_be_mended_and_is_said(
    cloud: TcpCloud, start: Callable[..., ControllerProcess]
) -> None:
    cloud.tap(Internal())
    controller = start("degraded", LEFT)
    assert "use one end of a veth pair in its place" in " ".join(reasons(controller))
    run(f"ethtool -K {TAP} tx off")
    check_left(cloud.transfer())


def test_a_device_on_another_host_is_unknown_until_it_is_recorded(
    cloud: TcpCloud, start: Callable[..., ControllerProcess]
) -> None:
    vsctl("set-manager", "ptcp:6640:127.0.0.1")
    cloud.tap(Veth())
    controller = start("active", "unknown: cannot see", ovsdb__remotes=FAR_DATABASE)
    assert f"run `cloudtap tap-port prepare {TAP}` there" in " ".join(reasons(controller))
    assert is_offloaded(TAP)
    check_left(cloud.transfer())
    dry = run(f".venv/bin/cloudtap tap-port prepare {TAP} --dry-run")
    assert "would" in dry and is_offloaded(TAP)
    said = run(f".venv/bin/cloudtap tap-port prepare {TAP}")
    assert not is_offloaded(TAP), said
    assert f"off@{ifindex()}" in vsctl("get", "Interface", TAP, "external_ids")
    controller.wait_until_free_of("one", "unknown")
    check_finished(cloud.transfer())
    assert "already" in run(f".venv/bin/cloudtap tap-port prepare {TAP}")

    remake(cloud)
    controller.wait_for_session("one", "active", "made anew")
    assert is_offloaded(TAP)
    vsctl("set", "Interface", TAP, "external_ids:cloudtap-offloads=off")
    controller.wait_until_free_of("one", "unknown")

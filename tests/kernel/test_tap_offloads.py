"""Sensors at tap ports get frames of at most the MTU with finished checksums, or it is said."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from controller.runtime import launch_command
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
from tests.ovs.controller_process import ROOT, RUNTIMES, ControllerProcess
from tests.ovs.lab import vsctl
from tests.ovs.waiting import wait_for

SWITCHED_OFF = "offloads of tap port switched off"
LEFT = "leaves segmentation and checksums to others"
LARGE = 1_000_000
"""Bytes of a transfer of which the super-frames get long."""
WITHOUT_RIGHT = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
"""Runs a command without CAP_NET_ADMIN."""
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
    with ExitStack() as ending:

        def started(
            state: str = "active", words: str = "", library: str = RUNTIMES[0], **settings: str
        ) -> ControllerProcess:
            process = ending.enter_context(ControllerProcess(tmp_path, INVENTORY, library))
            process.start("s1", **settings)
            process.create_collector("red", "ids", "red-ids")
            process.create_session("red", "one", ["web"], "ids")
            process.wait_for_session("one", state, words)
            ending.callback(check_log, process)
            return process

        yield started


def check_log(process: ControllerProcess) -> None:
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


@pytest.mark.parametrize("library", RUNTIMES)
def test_offloads_of_a_tap_port_are_switched_off_and_of_nothing_else(
    cloud: TcpCloud, start: Callable[..., ControllerProcess], library: str
) -> None:
    cloud.tap(Veth())
    others = [("web-eth0", None), ("db-eth0", None), ("ids-far", None), ("web-far", "web")]
    controller = start(library=library)
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


def test_without_the_right_to_change_devices_it_is_said(
    cloud: TcpCloud, start: Callable[..., ControllerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.tap(Veth())
    monkeypatch.setattr(
        "tests.ovs.controller_process.launch_command",
        lambda runtime: [*WITHOUT_RIGHT, *launch_command(runtime)],
    )
    controller = start("degraded", LEFT)
    assert is_offloaded(TAP)
    refused = "offloads of tap port not switched off"
    assert controller.log().count(refused) == 1
    assert "Operation not permitted" in controller.log()


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
    controller.wait_for_session("one", "active", "of an earlier device")
    assert is_offloaded(TAP)
    vsctl("set", "Interface", TAP, "external_ids:cloudtap-offloads=off")
    controller.wait_until_free_of("one", "unknown")


def test_a_session_counts_super_frames_and_says_so_where_it_limits_them(
    cloud: TcpCloud, start: Callable[..., ControllerProcess]
) -> None:
    cloud.tap(Veth())
    controller = start()
    frames = cloud.transfer(LARGE)
    copies = wait_for(
        lambda: controller.session("one")["status"]["copies"], lambda seen: seen["bytes"] >= LARGE
    )
    assert copies["packets"] < len(frames) / 5
    assert copies["bytes"] < sum(len(each.frame) for each in frames), "with a header for each"
    assert reasons(controller) == []
    controller.change_session("one", max_packets=10**9)
    controller.wait_for_session("one", "active", "max_packets may let more frames pass")


def prepare(*arguments: str) -> tuple[int, str]:
    """Exit status and output of `cloudtap tap-port prepare`."""
    command = [".venv/bin/cloudtap", "tap-port", "prepare", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_the_command_says_what_it_does_and_what_it_cannot_do(cloud: TcpCloud) -> None:
    status, said = prepare(TAP)
    assert status == 1 and "no row" in said
    cloud.tap(Internal())
    status, said = prepare(TAP)
    assert status == 1 and "use one end of a veth pair" in said
    vsctl("del-port", "s1", TAP)
    cloud.tap(TapDevice())
    status, said = prepare(TAP, "--dry-run")
    expected = f"would switch its offloads off and record cloudtap-offloads=off@{ifindex()}"
    assert (status, said) == (0, f"tap port device {TAP}: {expected}")
    assert is_offloaded(TAP)
    status, said = prepare(TAP, "--output", "json")
    assert status == 0 and "its offloads are off and recorded" in said
    assert "without guest offloads" in said
    assert not is_offloaded(TAP)
    run(f"ethtool -K {TAP} tx on")
    vsctl("set", "Interface", TAP, "external_ids:cloudtap-offloads=off")
    status, said = prepare(TAP, "--dry-run")
    assert said.endswith("would switch its offloads off"), "the record of the operator stays"

"""A log that cannot be written costs lines, and nothing else: taps, the API and the end go on."""

from __future__ import annotations

import os
import pty
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ovs.controller_process import ControllerProcess, on_both_runtimes
from tests.ovs.small_cloud import INVENTORY, SmallCloud, make_collectors
from tests.ovs.test_controller_faults import fill
from tests.ovs.traffic import Traffic
from tests.ovs.waiting import wait_for

pytestmark = on_both_runtimes


@pytest.fixture
def controller(cloud: SmallCloud, tmp_path: Path, runtime: str) -> Iterator[ControllerProcess]:
    with ControllerProcess(tmp_path, INVENTORY, runtime) as process:
        yield process


def start(controller: ControllerProcess, output: int | None) -> None:
    """Start it with a log to this descriptor, which is closed here; None: to none at all."""
    controller.output = output
    controller.start("s1")
    if output is not None:
        os.close(output)
    make_collectors(controller)


def check_all_works(cloud: SmallCloud, controller: ControllerProcess, words: str) -> None:
    """Switch on and off while lines are not written, under traffic; then end it."""
    with Traffic(list(cloud.at.values())) as traffic:
        there, _ = cloud.red_streams(traffic)
        blue, _ = cloud.blue_streams(traffic)
        first = traffic.now(there) + 1
        for name in ("one", "two"):
            made = controller.create_session("red", name, ["web"], "ids")
            assert made["status"]["state"] == "active"
            assert controller.delete_session(name) == 204
        controller.create_session("blue", "three", ["web"], "ids")
        traffic.wait_until_past(blue, cloud.at["blue-ids"], traffic.now(blue))
        assert words in controller.wait_for_problem("log lines do not reach standard error")
        assert controller.bridge("s1")["state"] == "active"
        assert controller.api.get("/readyz").status_code == 200
        last = traffic.now(there)
        traffic.wait_until_past(there, cloud.at["red-db"], last)
        assert not traffic.faults(there, cloud.at["red-db"], first, last)
    assert controller.end() == 0


def test_the_reader_of_the_log_goes_away(cloud: SmallCloud, controller: ControllerProcess) -> None:
    log, pipe = os.pipe()
    start(controller, pipe)
    os.close(log)
    check_all_works(cloud, controller, "nobody reads it any more")


@pytest.mark.parametrize("is_closed", [False, True], ids=["full", "closed"])
def test_standard_error_takes_nothing_from_the_start(
    cloud: SmallCloud, controller: ControllerProcess, is_closed: bool
) -> None:
    start(controller, None if is_closed else os.open("/dev/full", os.O_WRONLY))
    check_all_works(cloud, controller, "it is closed" if is_closed else "the disk is full")


def test_a_terminal_is_stopped_and_goes_on(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    screen, terminal = pty.openpty()
    keyboard = os.dup(terminal)
    termios.tcflow(keyboard, termios.TCOOFF)
    start(controller, terminal)
    controller.wait_for_problem("nobody has read it for")
    termios.tcflow(keyboard, termios.TCOON)
    seen = b""
    while b"controller started" not in seen:
        seen += os.read(screen, 65536)
    wait_for(lambda: controller.status()["problems"], lambda found: not found)
    termios.tcflow(keyboard, termios.TCOOFF)
    check_all_works(cloud, controller, "nobody has read it for")
    os.close(screen)
    os.close(keyboard)


def test_the_disk_of_the_log_is_full_and_has_room_again(
    cloud: SmallCloud, controller: ControllerProcess, tmp_path: Path
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    try:
        file = folder / "log"
        start(controller, os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        controller.create_session("red", "many", ["web"], "ids")
        fill(folder / "fill")
        directions = iter(["egress", "ingress"] * 200)

        def problems_after_a_change() -> list[str]:
            controller.change_session("many", direction=next(directions))
            return list(controller.status()["problems"])

        wait_for(problems_after_a_change, lambda found: "the disk is full" in "".join(found))
        (folder / "fill").unlink()
        wait_for(lambda: controller.status()["problems"], lambda found: not found)
        assert controller.end() == 0
        lines = file.read_text().splitlines()
        assert "controller stopped" in lines[-1]
        assert sum("plan applied" in line for line in lines) >= 3
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)

"""The page that taps a virtual machine in five minutes, typed word for word, and rolled back."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller.cli import main
from tests import frames
from tests.lab.tutorial import Step, read_steps
from tests.ovs.controller_process import ROOT, ControllerProcess
from tests.ovs.datapath import DATAPATH
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, vsctl
from tests.ovs.owner_database import database_rows, difference
from tests.ovs.waiting import wait_for

PAGE = (ROOT / "docs" / "how-to" / "tap-a-vm.md").read_text()
VMS = {101: 0xBC2411000001, 102: 0xBC2411000002}


@pytest.fixture
def machines(lab: Lab) -> Iterator[dict[int, Endpoint]]:
    """A bridge that only switches, with the devices of two virtual machines."""
    vsctl("add-br", "vmbr1", "--", "set", "Bridge", "vmbr1", f"datapath_type={DATAPATH}")
    lab.bridges.append("vmbr1")
    ends: dict[int, Endpoint] = {}
    for vm in VMS:
        near, far = f"tap{vm}i0", f"vm{vm}"
        type_command(f"ip link add {near} type veth peer name {far}")
        for device in (near, far):
            type_command(f"ip link set {device} up")
        vsctl("add-port", "vmbr1", near)
        ends[vm] = Endpoint("vmbr1", vm, near, far)
    yield ends
    vsctl("--if-exists", "del-br", "ct-vmbr1")
    for vm, end in ends.items():
        end.close()
        type_command(f"ip link del tap{vm}i0")


def type_command(line: str) -> str:
    """Type one command; returns what it shows."""
    program, *words = shlex.split(line)
    if program == "cloudtap":
        environment = {"CLOUDTAP_API": "http://127.0.0.1:9470", "COLUMNS": "140"}
        result = CliRunner().invoke(main, words, env=environment)
        assert result.exit_code == 0, f"{line}: {result.output}"
        return result.output
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{line}: {done.stderr}"
    return done.stdout


def type_step(step: Step) -> None:
    """Type one command of the page, until it shows what the page shows if it only reads."""

    def look() -> str:
        return " ".join(type_command(step.command).split())

    def fits(seen: str) -> bool:
        return re.fullmatch(step.pattern, seen, re.DOTALL) is not None

    if step.may_be_repeated:
        wait_for(look, fits)
        return
    seen = look()
    assert fits(seen), f"{step.command} must show {step.shown}; it showed: {seen}"


def test_the_page_taps_a_virtual_machine_and_takes_all_back(
    machines: dict[int, Endpoint], tmp_path: Path
) -> None:
    steps = read_steps(PAGE)
    back = next(n for n, step in enumerate(steps) if "session delete" in step.command)
    [inventory] = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    before = database_rows()
    with ControllerProcess(tmp_path, inventory) as controller:
        controller.start()
        for step in steps[:back]:
            type_step(step)
        sensor = Endpoint("ct-vmbr1", 0, "ids-eth0", "ids-sensor")
        sent = [
            frames.pad(frames.ethernet(VMS[to], VMS[own], 0x88B6, b"copied" + bytes([own])))
            for own, to in ((101, 102), (102, 101))
        ]
        copies: set[bytes] = set()

        def look() -> set[bytes]:
            for own, frame in zip(VMS, sent, strict=True):
                machines[own].send(frame)
            while (frame := sensor.receive_raw()) is not None:
                copies.add(frame)
            return copies & set(sent)

        wait_for(look, set(sent).__eq__)
        sensor.close()
        for step in steps[back:]:
            type_step(step)
        assert "Traceback" not in controller.log()
    assert difference(before, database_rows()) == {}

"""Offloads of real network devices: read, switched off, and found where ovs-vswitchd has them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.devices import DeviceName, TransmitOffload, read_offloads, switch_off_offloads
from tests.ovs.controller_process import ROOT
from tests.ovs.lab import Lab

NEAR, FAR = "dev-near", "dev-far"
ABSENT = DeviceName("dev-absent", 7)
READ = """
import sys
from controller.devices import DeviceName, read_offloads
print(sorted(read_offloads([DeviceName(sys.argv[1], int(sys.argv[2]))]).values(), key=str))
"""


def device(name: str) -> DeviceName:
    return DeviceName(name, int(Path(f"/sys/class/net/{name}/ifindex").read_text()))


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def veth() -> Iterator[DeviceName]:
    run("ip", "link", "add", NEAR, "type", "veth", "peer", "name", FAR)
    yield device(NEAR)
    run("ip", "link", "del", NEAR)


def test_offloads_of_one_device_are_switched_off_and_no_others(veth: DeviceName) -> None:
    both = [veth, device(FAR)]
    on = TransmitOffload("veth", is_on=True)
    assert read_offloads(both) == dict.fromkeys(both, on)
    assert switch_off_offloads([veth]) == {}
    assert read_offloads(both) == {veth: TransmitOffload("veth", is_on=False), device(FAR): on}
    assert "tx-checksumming: off" in run("ethtool", "-k", NEAR)
    assert switch_off_offloads([veth]) == {}, "again"


def test_a_device_that_is_gone_or_was_made_anew_is_neither_read_nor_changed(
    veth: DeviceName,
) -> None:
    former = veth._replace(ifindex=veth.ifindex + 1000)
    long = DeviceName("a-name-that-no-device-has", 1)
    assert read_offloads([former, ABSENT, long]) == {}
    assert switch_off_offloads([former, ABSENT]) == dict.fromkeys(
        (former, ABSENT), "it cannot be seen"
    )
    assert read_offloads([veth])[veth].is_on


def test_a_device_whose_offloads_are_fixed_says_so() -> None:
    fixed = device("lo")
    assert read_offloads([fixed])[fixed].is_on
    assert switch_off_offloads([fixed]) == {fixed: ""}


def test_a_process_without_the_right_is_told(veth: DeviceName) -> None:
    program = (
        f"from controller.devices import *; print(switch_off_offloads([DeviceName{tuple(veth)}]))"
    )
    drop = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    done = subprocess.run(
        [*drop, sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert "Operation not permitted" in done.stdout
    assert read_offloads([veth])[veth].is_on


def test_a_process_in_another_namespace_finds_devices_where_ovs_vswitchd_is(
    veth: DeviceName,
) -> None:
    name, index = veth.name, str(veth.ifindex)
    read = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", READ, name, index],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "TransmitOffload(driver='veth', is_on=True)" in read.stdout


def test_a_tap_port_of_the_userspace_datapath_needs_no_preparation(
    bridge: Callable[..., str], lab: Lab
) -> None:
    bridge(1)
    [endpoint] = lab.endpoints
    command = [".venv/bin/cloudtap", "tap-port", "prepare", endpoint.interface]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "nothing to do: its bridge has the userspace datapath" in done.stdout

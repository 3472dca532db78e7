"""The service under systemd, and the tap ports of a bridge with the kernel datapath."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installed.machine import Machine
from tests.installed.page import follow
from tests.installed.wheels import Builder
from tests.kernel.tcp_cloud import (
    FULL_FRAME,
    INVENTORY,
    TAP,
    Received,
    TcpCloud,
    Veth,
    has_right_checksum,
    is_offloaded,
    run,
)
from tests.ovs.waiting import wait_for

CONFIGURATION = """\
[state]
directory = "/var/lib/cloudtap"
[inventory]
file = "/etc/cloudtap/inventory.yaml"
[bridges]
own = ["s1"]
"""
OTHERS = [("web-eth0", None), ("db-eth0", None), ("ids-far", None), ("web-far", "web")]
"""Devices that are no tap port, with the network namespace of each."""
DROP_IN = "/etc/systemd/system/cloudtap.service.d/tap-offloads.conf"
STATUS = "cloudtap session show one --tenant red"
MEND = f"`ethtool -K {TAP} tx off`"
PREPARE = f"cloudtap tap-port prepare {TAP}"
START_S = 120.0
"""How long a start of the controller may take on the one processor of the guest, in seconds."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which the service runs; it sees the devices and the Open vSwitch of the tests.

    The guest has no network: the wheel finds its libraries in the environment of the tests.
    """
    folder = tmp_path_factory.mktemp("service")
    builder = Builder(folder)
    wheel = builder.wheel_without_network(builder.sources())
    libraries = Path(sysconfig.get_paths()["purelib"])
    with Machine(folder, libraries) as booted:
        shutil.copy(wheel, booted.root / "root")
        install(booted, wheel.name)
        follow(booted, "The service")
        yield booted


@pytest.fixture(scope="module")
def cloud(machine: Machine) -> Iterator[TcpCloud]:
    """A bridge with the kernel datapath, two workloads, and a sensor at a tap port of a session."""
    made = TcpCloud()
    made.tap(Veth())
    (machine.root / "etc/cloudtap/inventory.yaml").write_text(INVENTORY)
    (machine.root / "etc/cloudtap/cloudtap.toml").write_text(CONFIGURATION)
    machine.must("systemctl restart cloudtap")
    machine.must("cloudtap collector create ids --tenant red --port ids")
    machine.run("cloudtap session create one --tenant red --source web --collector ids")
    yield made
    made.close()


@pytest.fixture
def without_right(machine: Machine, cloud: TcpCloud) -> Iterator[Machine]:
    """The service as the page installs it, and the device of the tap port with all offloads on."""
    run(f"ethtool -K {TAP} tx on")
    yield machine
    machine.must(f"rm -f {DROP_IN}")
    machine.must("systemctl daemon-reload && systemctl restart cloudtap")


def install(machine: Machine, wheel: str) -> None:
    """Install the wheel where the page says, without an index of packages."""
    place = "/opt/cloudtap-0.1.0"
    python = f"{place}/bin/python"
    pip = f"PYTHONPATH=/srv/libraries {python} -m pip install -q --no-index --no-deps"
    for command in (
        f"{os.path.realpath(sys.executable)} -m venv --without-pip {place}",
        f"{pip} --ignore-installed --prefix {place} {wheel}",
        f"echo /srv/libraries >$(echo {place}/lib/python3.*/site-packages)/libraries.pth",
        "ln -sfn cloudtap-0.1.0 /opt/cloudtap",
        "ln -sfn /opt/cloudtap/bin/cloudtap /usr/local/bin/cloudtap",
    ):
        machine.must(command)


def wait_for_session(machine: Machine, *words: str) -> None:
    """Block until the session is shown with these words."""

    def look() -> str:
        return " ".join(machine.run(STATUS).stdout.split())

    wait_for(look, lambda seen: all(word in seen for word in words), START_S)


def check_finished(received: list[Received]) -> None:
    assert max(len(each.frame) for each in received) <= FULL_FRAME
    assert not any(each.is_unfinished for each in received)
    assert all(has_right_checksum(each.frame) for each in received)


def test_the_drop_in_of_the_page_lets_the_service_switch_offloads_of_tap_ports_off(
    cloud: TcpCloud, without_right: Machine
) -> None:
    machine = without_right
    wait_for_session(machine, "degraded", MEND)
    diagnosis = machine.run("runuser -u cloudtap -- cloudtap doctor").stdout
    assert "may not switch off the offloads" in " ".join(diagnosis.split())
    assert is_offloaded(TAP) and max(len(each.frame) for each in cloud.transfer()) > FULL_FRAME

    follow(machine, "The service", "offloads")
    wait_for_session(machine, "state active")
    assert not is_offloaded(TAP)
    check_finished(cloud.transfer())
    run(f"ethtool -K {TAP} tx on")
    wait_for(lambda: is_offloaded(TAP), lambda is_on: not is_on)
    assert all(is_offloaded(*other) for other in OTHERS)
    user = "stat -c %U /proc/$(systemctl show --value -p MainPID cloudtap)"
    assert machine.must(user) == "cloudtap\n"


def test_tap_port_prepare_does_as_root_what_the_service_may_not(
    cloud: TcpCloud, without_right: Machine
) -> None:
    machine = without_right
    wait_for_session(machine, "degraded", MEND)
    refused = machine.run(f"runuser -u cloudtap -- {PREPARE}")
    said = " ".join(refused.stdout.split())
    assert refused.returncode == 1 and "run this as root (CAP_NET_ADMIN)" in said
    assert is_offloaded(TAP)
    assert "its offloads are off and recorded" in machine.must(PREPARE)
    wait_for_session(machine, "state active")
    check_finished(cloud.transfer())
    assert all(is_offloaded(*other) for other in OTHERS)

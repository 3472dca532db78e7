"""The image, built from its recipe and run with podman as the page says: `make image`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.installed.bridge_of_vms import BEHIND, BridgeOfVms
from tests.installed.machine import Machine
from tests.installed.page import FILE, section, type_step, write_files
from tests.installed.wheels import Builder
from tests.lab.tutorial import read_steps
from tests.ovs.waiting import wait_for
from tests.rules.sources import ROOT

PAGE = (ROOT / "docs/how-to/container.md").read_text()
BASE = "docker.io/library/debian:12-slim"
PACKAGES = "podman crun debootstrap acl"
MIRROR = "http://deb.debian.org/debian"
NEEDED = "/usr/local/share/ca-certificates /etc/pip.conf /etc/apt/apt.conf.d"
"""What this machine needs to reach its package sources; the base gets it, too."""
CONTAINERS = '[containers]\ncgroups = "disabled"\npids_limit = 0\n'
"""containers.conf: in control groups devices are limited, which needs CAP_SYS_RESOURCE."""
CLOUDTAP = "podman exec cloudtap cloudtap"
PINGS = 20


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with podman, a base for the recipe, and the sources of the repository."""
    folder = tmp_path_factory.mktemp("image")
    sources = Builder(folder).sources()
    with Machine(folder) as booted:
        for command in (
            "mkdir -p /var/lib/containers && mount -t tmpfs tmpfs /var/lib/containers",
            f"apt-get -q update && apt-get -q -y install --no-install-recommends {PACKAGES}",
            f"debootstrap --variant=minbase bookworm /srv/base {MIRROR}",
            f"cp -a --parents $(ls -d {NEEDED} 2>/dev/null) /srv/base",
            f"tar -C /srv/base -c . | podman import - {BASE} && rm -r /srv/base",
        ):
            done = booted.run(f"export DEBIAN_FRONTEND=noninteractive; {command}", is_online=True)
            assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}"
        (booted.root / "etc/containers/containers.conf").write_text(CONTAINERS)
        shutil.copytree(sources, booted.root / "root", dirs_exist_ok=True)
        yield booted


def follow(machine: Machine, terminal: str) -> None:
    """Type the commands of the page for one terminal."""
    steps = [step for step in read_steps(PAGE) if step.terminal == terminal]
    assert steps
    for step in steps:
        # the machine is a container itself
        type_step(machine, replace(step, command=f"BUILDAH_ISOLATION=chroot {step.command}"))


def is_healthy(machine: Machine) -> bool:
    return machine.run("podman healthcheck run cloudtap").returncode == 0


def test_the_image_serves_a_session_and_ends_when_it_is_told_to(machine: Machine) -> None:
    vms = BridgeOfVms(machine)
    configuration = list(FILE.finditer(section("The inventory")))
    write_files(machine, configuration)
    for command in (
        "ovs-vsctl add-port br-vms host0 -- set Interface host0 type=internal",
        "ip address del 10.0.0.100/24 dev br-vms && ip address add 10.0.0.100/24 dev host0",
        "ip link set host0 up",
    ):
        machine.must(command)
    follow(machine, "build")
    assert "cloudtap, version 0.1.0" in machine.must("podman run --rm cloudtap:0.1.0 --version")
    follow(machine, "host")
    process = "/proc/$(podman inspect --format {{.State.Pid}} cloudtap)/status"
    rights = machine.must(f"grep -h -E '^(Uid|CapEff|CapBnd|NoNewPrivs)' {process}").split()
    assert rights == ["Uid:", *["947"] * 4, "CapEff:", "0" * 16, "CapBnd:", "0" * 16,
                      "NoNewPrivs:", "1"]  # fmt: skip
    wait_for(lambda: is_healthy(machine), bool)
    follow(machine, "status")

    machine.must("ovs-vsctl set-controller br-vms tcp:127.0.0.1:6653")
    wait_for(lambda: machine.run(f"{CLOUDTAP} bridge list").stdout, lambda seen: "active" in seen)
    machine.must(f"{CLOUDTAP} collector create ids --tenant red --port ids")
    made = machine.must(
        f"{CLOUDTAP} session create web --tenant red --source web --collector ids --direction both"
    )
    assert "active" in made
    vms.wait_until_all_reach_each_other()
    echoes = {(BEHIND, "request"), ("10.0.0.1", "reply")}
    expected = {(*echo, number): 1 for echo in echoes for number in range(1, PINGS + 1)}
    assert vms.copies_of(PINGS) == expected

    machine.must("podman restart cloudtap")
    wait_for(lambda: is_healthy(machine), bool)
    assert "web" in machine.must(f"{CLOUDTAP} session list"), "the volume keeps the state"
    machine.must("podman stop cloudtap")
    assert machine.must("podman inspect --format {{.State.ExitCode}} cloudtap") == "0\n"
    assert not is_healthy(machine)
    assert vms.copies_of(PINGS) == expected, "bridges keep their flows"

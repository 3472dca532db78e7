"""The page on installation, typed word for word on a machine with systemd and Open vSwitch."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installed.bridge_of_vms import BEHIND, BridgeOfVms
from tests.installed.machine import Machine
from tests.installed.page import follow
from tests.installed.wheels import Builder
from tests.ovs.waiting import wait_for
from tests.rules.sources import ROOT

PINGS = 20
LATE = 2
"""Pings whose answers are on their way when they are counted."""
SHORT_S = 5.0
"""The page says that the pause is well under a second; a busy machine may need longer."""
ECHOES = {
    *((BEHIND, "request", number) for number in range(1, PINGS + 1)),
    *(("10.0.0.1", "reply", number) for number in range(1, PINGS + 1)),
}


CAP_NET_ADMIN = 12
"""linux/capability.h."""
DIAGNOSIS = "runuser -u cloudtap -- cloudtap doctor"


@pytest.fixture
def machine(tmp_path: Path, builder: Builder, wheel: Path) -> Iterator[Machine]:
    """A machine with the wheels of two versions in the folder of root."""
    newer = builder.wheel(builder.sources("0.2.0"))
    with Machine(tmp_path) as booted:
        for one in (wheel, newer):
            shutil.copy(one, booted.root / "root")
        yield booted


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Iterator[Machine]:
    """A machine on which the service runs, as the page says; nothing is declared yet."""
    with Machine(tmp_path_factory.mktemp("serving")) as booted:
        shutil.copy(wheel, booted.root / "root")
        for title in ("The program", "The service"):
            follow(booted, title)
        yield booted


def test_the_page_leads_from_nothing_to_copies_and_back_to_an_ordinary_switch(
    machine: Machine,
) -> None:
    assert not (machine.root / str(ROOT).lstrip("/") / "controller").exists()
    before = traces(machine)
    vms = BridgeOfVms(machine)
    vms.wait_until_all_reach_each_other()
    assert vms.flooded(), "an ordinary switch without tags floods every port"
    for title in ("The program", "The service", "The inventory"):
        follow(machine, title)
    with vms.pinging() as taken_over:
        follow(machine, "The first bridge")
    vms.wait_until_all_reach_each_other()
    assert vms.copies_of(PINGS) == dict.fromkeys(ECHOES, 1)
    assert not vms.reaches("ids", "10.0.0.1")

    with vms.pinging() as upgraded:
        follow(machine, "Bridges of other hosts, with TLS")
        follow(machine, "Back up and restore")
        follow(machine, "Upgrade and rollback")
    assert vms.copies_of(PINGS) == dict.fromkeys(ECHOES, 1)

    with vms.pinging() as given_back:
        follow(machine, "Uninstall")
    vms.wait_until_all_reach_each_other()
    assert vms.copies_of(PINGS) == {} and vms.flooded() == []
    print(f"pauses: {taken_over.pause_s=} {upgraded=} {given_back.pause_s=}")
    assert upgraded.sent - upgraded.answered <= LATE
    assert taken_over.answered > 0 and given_back.pause_s < SHORT_S
    assert traces(machine) <= before
    assert machine.run("getent passwd cloudtap").stdout == ""


def test_the_service_has_no_capability_and_keeps_its_access_to_open_vswitch(
    serving: Machine,
) -> None:
    main_process = "/proc/$(systemctl show --value -p MainPID cloudtap)/status"
    assert serving.must(f"stat -c %U {main_process}") == "cloudtap\n"
    capabilities = serving.must(f"grep -h ^Cap {main_process}")
    assert set(re.findall(r"\t(\w+)", capabilities)) == {"0" * 16}
    assert severities(serving.must(DIAGNOSIS)) == {"ok": 7, "less": 1}

    serving.must("systemctl stop cloudtap-openvswitch.path")
    restart_vswitchd(serving)
    seen = serving.must(DIAGNOSIS)
    assert severities(seen)["less"] == 2, seen
    assert "changes of sessions take up to a second longer" in seen
    serving.must("systemctl start cloudtap-openvswitch.path")
    restart_vswitchd(serving)
    wait_for(lambda: severities(serving.must(DIAGNOSIS)), lambda found: found["less"] == 1)


def test_a_controller_that_hangs_or_is_killed_is_started_again(serving: Machine) -> None:
    def main_process() -> str:
        return serving.must("systemctl show --value -p MainPID cloudtap").strip()

    def is_another(now: str) -> bool:
        return now not in ("0", first) and serving.run("cloudtap status").returncode == 0

    first = main_process()
    serving.must(f"kill -KILL {first}")
    wait_for(main_process, is_another)
    soon = serving.root / "run/systemd/system/cloudtap.service.d/soon.conf"
    soon.parent.mkdir(parents=True)
    soon.write_text("[Service]\nWatchdogSec=4\nTimeoutAbortSec=1\n")
    serving.must("systemctl daemon-reload && systemctl restart cloudtap")
    first = main_process()
    serving.must(f"kill -STOP {first}")
    wait_for(main_process, is_another)
    assert "watchdog" in serving.must("journalctl -u cloudtap -o cat --no-pager").lower()


def test_the_service_may_be_given_the_right_to_change_devices_and_no_other(
    serving: Machine,
) -> None:
    follow(serving, "The service", "offloads")
    main_process = "/proc/$(systemctl show --value -p MainPID cloudtap)"
    found = serving.must(f"grep -h -E '^Cap(Eff|Bnd)' {main_process}/status")
    assert set(re.findall(r"\t(\w+)", found)) == {f"{1 << CAP_NET_ADMIN:016x}"}
    user_namespaces = serving.must(f"readlink {main_process}/ns/user /proc/1/ns/user").split()
    assert len(set(user_namespaces)) == 1, "it would not count for the network of the host"
    serving.must("rm /etc/systemd/system/cloudtap.service.d/tap-offloads.conf")
    serving.must("systemctl daemon-reload && systemctl restart cloudtap")


def test_without_a_configuration_the_service_does_not_begin_a_state_somewhere_else(
    serving: Machine,
) -> None:
    serving.must("systemctl stop cloudtap && mv /etc/cloudtap/cloudtap.toml /root")
    assert serving.run("systemctl start cloudtap").returncode == 1
    status = serving.run("systemctl status --no-pager cloudtap").stdout
    assert "AssertPathExists=/etc/cloudtap/cloudtap.toml was not met" in status
    assert serving.must("find /var/lib/cloudtap -name .local") == ""
    serving.must("mv /root/cloudtap.toml /etc/cloudtap && systemctl start cloudtap")


def test_a_reload_says_what_is_read_again(serving: Machine) -> None:
    serving.must("systemctl reload cloudtap")
    journal = "journalctl -u cloudtap -o cat --no-pager"
    wait_for(
        lambda: serving.must(journal),
        lambda seen: "inventory, certificates and tokens are read again" in seen,
    )


def test_root_is_told_to_restore_as_the_user_of_the_state(serving: Machine) -> None:
    serving.must("cloudtap backup /root/one.db && systemctl stop cloudtap")
    refused = serving.run("cloudtap restore /root/one.db")
    assert refused.returncode == 1 and "`runuser -u cloudtap -- ...`" in refused.stdout
    serving.must("systemctl start cloudtap")


def test_a_file_of_root_in_the_state_is_named_by_the_service_and_by_doctor(
    serving: Machine,
) -> None:
    mend = "chown cloudtap /var/lib/cloudtap/state.db"
    serving.must("systemctl stop cloudtap && chown root: /var/lib/cloudtap/state.db")
    assert serving.run("systemctl start cloudtap").returncode == 1
    assert mend in serving.must("journalctl -u cloudtap -o cat --no-pager -n 20")
    assert mend in " ".join(serving.run(DIAGNOSIS).stdout.split())
    serving.must(f"{mend} && systemctl start cloudtap")
    assert mend not in " ".join(serving.must(DIAGNOSIS).split())


def test_a_port_that_is_in_use_fails_the_start_of_the_service(serving: Machine) -> None:
    serving.must("systemctl stop cloudtap")
    other = serving.start(
        # a shell starts what runs in the background with SIGINT ignored
        "python3 -uc 'import signal, socket; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        'held = socket.create_server(("127.0.0.1", 6653)); print("listens"); signal.pause()\'',
        ready="listens",
    )
    assert serving.run("systemctl start cloudtap").returncode == 1
    assert "`ss -ltnp sport = :6653`" in serving.must("journalctl -u cloudtap -o cat -n 20")
    assert "6653" in serving.must("ss -ltnp sport = :6653")
    other.stop()
    serving.must("systemctl start cloudtap")


def test_the_units_are_accepted_and_closed(serving: Machine) -> None:
    units = "/etc/systemd/system/cloudtap*.service /etc/systemd/system/cloudtap*.path"
    assert serving.must(f"systemd-analyze verify --man=no {units}") == ""
    closed = serving.must("systemd-analyze security --no-pager cloudtap.service")
    level = re.search(r"exposure level for cloudtap.service: (\d+\.\d)", closed)
    assert level and float(level[1]) <= 1.5, closed


def traces(machine: Machine) -> set[str]:
    """Files that have the name of the project, where an installation may leave some."""
    return set(machine.must("find /etc /opt /usr/local /var/lib -name '*cloudtap*'").split())


def severities(shown: str) -> Counter[str]:
    """How many rows `cloudtap doctor` shows of each kind."""
    return Counter(re.findall(r" (ok|less|problem) ", shown))


def restart_vswitchd(machine: Machine) -> None:
    """End ovs-vswitchd and start it again: its control socket is a new one."""
    machine.beside("ovs-appctl -t ovs-vswitchd exit")
    is_there = "test -e /run/openvswitch/ovs-vswitchd.pid"
    wait_for(lambda: machine.run(is_there).returncode, bool)
    machine.beside(
        "ovs-vswitchd unix:/run/openvswitch/db.sock --no-chdir --pidfile --detach -vconsole:off"
    )

"""The command `mn` builds the networks of the scenarios, with a controller that runs already."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lab.conftest import ROOT
from tests.lab.terminal import READY, Terminal, make_sudo

MININET = r"mininet> $"
ACTIVE = r"(s\d +\d{16} +\S+ +active .*){%d}"


@pytest.mark.parametrize("runtime", ["ryu-manager controller.app", "cloudtap up --runtime os-ken"])
@pytest.mark.parametrize(("scenario", "switches"), [("two_tenants", 1), ("two_switches", 2)])
def test_plain_mn_builds_a_network_that_works(
    scenario: str, switches: int, runtime: str, tmp_path: Path
) -> None:
    settings = {
        "PATH": f"{ROOT}/.venv/bin:{make_sudo(tmp_path)}",
        "CLOUDTAP_INVENTORY__FILE": f"mininet_topos/{scenario}.yaml",
        "CLOUDTAP_STATE__DIRECTORY": str(tmp_path),
    }
    environment = os.environ | settings
    with (
        Terminal(ROOT, environment) as controller,
        Terminal(ROOT, environment) as mininet,
        Terminal(ROOT, environment) as operator,
    ):
        controller.type(runtime, "controller started")
        mn = f"mn --custom mininet_topos/{scenario}.py --topo {scenario} --controller remote"
        mininet.type(f"sudo {mn}", MININET)
        operator.type_until("cloudtap bridge list", ACTIVE % switches)
        assert " 0% packet loss" in mininet.type_inside("red_web1 ping -c 2 red_db1", MININET)
        operator.type("cloudtap collector create ids --tenant red --port ids", READY)
        session = "web --tenant red --source web-1 --collector ids"
        operator.type(f"cloudtap session create {session}", r"state +active")
        mininet.type_inside("red_web1 ping -i 0.2 red_web2 > /dev/null &", MININET)
        captured = mininet.type_inside("red_ids timeout 20 tcpdump -n -c 4 icmp", MININET)
        assert "10.0.0.1 > 10.0.0.2: ICMP echo request" in captured
        assert "10.0.0.2 > 10.0.0.1: ICMP echo reply" in captured
        assert "\n0 packets captured" in mininet.type_inside(
            "blue_ids timeout 1 tcpdump -n", MININET
        )
        mininet.type_inside("exit", READY)
        assert "Traceback" not in controller.press_ctrl_c()

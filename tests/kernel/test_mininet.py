"""The Mininet scenarios run on the kernel datapath where there is one, and every copy is exact."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOG = Path("/var/log/openvswitch/ovs-vswitchd.log")
SCENARIO_S = 300
"""A scenario takes 20 s where system calls are fast."""


@pytest.mark.parametrize("scenario", ["two_tenants", "two_switches"])
def test_every_copy_is_where_it_must_be_and_nothing_is_anywhere_else(scenario: str) -> None:
    logged_before = len(LOG.read_text())
    done = subprocess.run(
        ["/usr/bin/python3", f"mininet_topos/{scenario}.py"],
        cwd=ROOT, env=dict(os.environ), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=SCENARIO_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("missing=0 extra=0")
    logged = LOG.read_text()[logged_before:]
    assert "system@ovs-system: Datapath supports" in logged
    assert "netdev@ovs-netdev" not in logged

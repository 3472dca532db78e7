"""Open vSwitch fulfils the contract of a switch, as the fake does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.frame_contract import *  # noqa: F403  # the tests themselves
from tests.contracts.install_contract import *  # noqa: F403  # the tests themselves
from tests.contracts.meter_contract import *  # noqa: F403  # the tests themselves
from tests.contracts.role_contract import *  # noqa: F403  # the tests themselves
from tests.contracts.switch_contract import *  # noqa: F403
from tests.ovs.lab import Lab


@pytest.fixture
def place(lab: Lab) -> Path:
    lab.add_bridge("s1")
    lab.add_ports("s1", [1, 2])
    return Path("/run/openvswitch")

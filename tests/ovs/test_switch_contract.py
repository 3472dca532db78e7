"""Open vSwitch does what every switch must do, as our fake of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.frame_contract import *  # noqa: F403  # the tests themselves
from tests.install_contract import *  # noqa: F403  # the tests themselves
from tests.meter_contract import *  # noqa: F403  # the tests themselves
from tests.ovs.lab import Lab
from tests.role_contract import *  # noqa: F403  # the tests themselves
from tests.switch_contract import *  # noqa: F403


@pytest.fixture
def place(lab: Lab) -> Path:
    lab.add_bridge("s1")
    lab.add_ports("s1", [1, 2])
    return Path("/run/openvswitch")

"""The fake switch does what every switch must do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake_switches import FakeSwitch, serve_unix
from tests.frame_contract import *  # noqa: F403  # the tests themselves
from tests.meter_contract import *  # noqa: F403  # the tests themselves
from tests.switch_contract import *  # noqa: F403


@pytest.fixture(params=["fake"])
def place(tmp_path: Path) -> Iterator[Path]:
    model = FakeSwitch(1, "s1", {1: "s1-eth1", 2: "s1-eth2"})
    with serve_unix(model, tmp_path):
        yield tmp_path

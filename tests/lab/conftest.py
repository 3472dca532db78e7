"""Fixtures of the tests on whole networks; each test runs alone in a private Open vSwitch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "mininet_topos"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = os.path.dirname(__file__)
    if os.environ.get("CLOUDTAP_ISOLATED") != "yes" and any(
        str(item.path).startswith(here) for item in items
    ):
        pytest.exit(
            "tests/lab need a private Open vSwitch: run `tools/isolate .venv/bin/pytest tests/lab`",
            returncode=4,
        )


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Check after every test that no bridge and no veth pair is left; remove them otherwise."""
    yield
    bridges = subprocess.run(
        ["ovs-vsctl", "list-br"], capture_output=True, text=True
    ).stdout.split()
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True).stdout
    left = [line.split("@")[0] for line in links.splitlines() if "-eth" in line]
    for bridge in bridges:  # or the next test fails, too
        subprocess.run(["ovs-vsctl", "del-br", bridge], check=True)
    for link in left:  # its peer may have been deleted with it
        subprocess.run(["ip", "link", "del", link], capture_output=True)
    assert (bridges, left) == ([], [])

"""Fixtures of the tests on a real Open vSwitch that is private to the run (tools/isolate)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from tests.ovs.lab import Lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = os.path.dirname(__file__)
    if os.environ.get("CLOUDTAP_ISOLATED") != "yes" and any(
        str(item.path).startswith(here) for item in items
    ):
        pytest.exit(
            "tests/ovs need a private Open vSwitch: run `tools/isolate .venv/bin/pytest tests/ovs`",
            returncode=4,
        )


@pytest.fixture
def lab() -> Iterator[Lab]:
    """An empty lab that is removed after the test."""
    with Lab() as empty:
        yield empty


@pytest.fixture
def bridge(lab: Lab) -> Callable[..., str]:
    """Make a bridge with ports: ``bridge(1, 2, 3)`` returns its name; endpoints are in the lab."""
    numbers = count(1)

    def make(*ofports: int) -> str:
        name = lab.add_bridge(f"s{next(numbers)}")
        if ofports:
            lab.add_ports(name, ofports)
        return name

    return make

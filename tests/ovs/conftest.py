"""Fixtures of the tests on a real Open vSwitch that is private to the run (tools/isolate)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.ovs.controller_process import RUNTIME, ControllerProcess
from tests.ovs.lab import Lab
from tests.ovs.small_cloud import INVENTORY, SmallCloud, build_cloud, make_collectors


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


@pytest.fixture
def cloud(lab: Lab) -> SmallCloud:
    """A bridge ``s1`` with the ports of two tenants."""
    return build_cloud(lab)


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> str:
    """The OpenFlow library that the controller runs on; see on_both_runtimes."""
    return str(getattr(request, "param", RUNTIME))


@pytest.fixture
def controller(tmp_path: Path, cloud: SmallCloud, runtime: str) -> Iterator[ControllerProcess]:
    """A running controller with collectors for the tap ports of the cloud."""
    with ControllerProcess(tmp_path, INVENTORY, runtime) as process:
        process.start("s1")
        make_collectors(process)
        yield process
        assert "Traceback" not in process.log()


@pytest.fixture
def running(cloud: SmallCloud, controller: ControllerProcess) -> ControllerProcess:
    """A controller of the module, started, with a session on s1."""
    controller.start("s1")
    make_collectors(controller)
    controller.create_session("red", "one", ["web"], "ids")
    return controller

"""Fixtures of the tests on the kernel datapath, and the check that this is a machine for them."""

from __future__ import annotations

import os

import pytest

from tests.ovs.conftest import bridge, cloud, controller, lab, running, runtime
from tests.ovs.datapath import IS_KERNEL

__all__ = ["bridge", "cloud", "controller", "lab", "running", "runtime"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = os.path.dirname(__file__)
    is_right = IS_KERNEL and os.environ.get("CLOUDTAP_ISOLATED") == "yes"
    if not is_right and any(str(item.path).startswith(here) for item in items):
        pytest.exit(
            "tests/kernel need the kernel datapath: run `make test-kernel`, or `tools/kernel-lab "
            "tools/isolate .venv/bin/pytest -q tests/kernel`",
            returncode=4,
        )

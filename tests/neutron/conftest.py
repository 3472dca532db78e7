"""Fixtures of the tests with a real Neutron, which starts once: that takes one to two minutes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.neutron.cloud import NeutronCloud, build_neutron_cloud
from tests.neutron.neutron import Neutron, why_not_here
from tests.ovs.lab import Lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = os.path.dirname(__file__)
    ours = [item for item in items if str(item.path).startswith(here)]
    if not ours:
        return
    if (reason := why_not_here()) is not None:
        pytest.exit(f"tests/neutron cannot run: {reason}", returncode=4)
    if os.environ.get("CLOUDTAP_ISOLATED") != "yes":
        pytest.exit("tests/neutron need a private network: run `make test-neutron`", returncode=4)


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NeutronCloud]:
    """Neutron with its workloads, and nothing else."""
    with Lab() as lab, Neutron(tmp_path_factory.mktemp("neutron")) as neutron:
        yield build_neutron_cloud(lab, neutron)

"""Fixtures of the tests of what is installed: the wheel, and environments with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.installed.wheels import Builder


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Builds distributions from a copy of the repository."""
    return Builder(tmp_path_factory.mktemp("builder"))


@pytest.fixture(scope="session")
def wheel(builder: Builder) -> Path:
    """The wheel of the repository."""
    return builder.wheel(builder.sources())

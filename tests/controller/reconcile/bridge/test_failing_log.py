"""A writer goes on when its lines of the log cannot be made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from controller.reconcile.bridge import writer as bridge
from tests.controller.rig import Rig
from tests.ovs.waiting import wait_for


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    made.connect(1)
    assert made.reconciler.sync(10)
    yield made
    made.close()


class BrokenLog:
    """A log that raises, whatever it is told."""

    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any, **__: Any) -> NoReturn:
            raise OSError("no space left")

        return fail


def test_a_writer_whose_log_raises_goes_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(rig.models[1].tables.flows)
    with monkeypatch.context() as broken:
        broken.setattr(bridge, "log", BrokenLog())
        rig.add_session("one", "a")
        rig.reconciler.sync(1)
        assert len(rig.models[1].tables.flows) > before
    rig.add_session("two", "d")
    wait_for(lambda: rig.reconciler.sync(10), bool)
    assert rig.copying(1) == {1, 2}

"""Copies of TCP in super-frames: every segment is copied as promised, or the status says no."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.super_frame_rows import Row, problems
from tests.kernel.super_frames import SuperFrames

ROWS = (
    Row("a tap port"),
    Row("a tap port, packet_length 200", session={"packet_length": 200}),
    Row("a tap port, packet_length 1514", session={"packet_length": 1514}),
    Row("a tap port on another bridge", tap="soc"),
    Row("a tap port, merged by the network card", is_merged_on_arrival=True),
    Row("vxlan, all fits", delivery="vxlan"),
    Row("gre, all fits", delivery="gre"),
    Row("erspan2, all fits", delivery="erspan2"),
    Row("geneve, all fits", delivery="geneve"),
    Row("vxlan, jumbo frames fit", delivery="vxlan", mtu=9000),
    Row("vxlan, cut to fit", delivery="vxlan", mtu=1500),
    Row("gre, cut to fit", delivery="gre", mtu=1500),
    Row("vxlan, skipped", delivery="vxlan", mtu=1500, session={"oversize": "skip"}),
    Row("gre, skipped", delivery="gre", mtu=1500, session={"oversize": "skip"}),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuperFrames]:
    with SuperFrames(Path(tmp_path_factory.mktemp("controller"))) as made:
        yield made


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_super_frames_are_copied_as_promised(world: SuperFrames, row: Row) -> None:
    outcome = world.measure(row)
    print(f"{row.name}: {outcome}")
    found = list(problems(row, outcome))
    if row.shortfall is None:
        assert not found, f"{found}: {outcome}"
    else:
        assert found, f"this holds now: remove the shortfall {row.shortfall!r} of the row"
        assert any(row.shortfall in each for each in found), f"another defect: {found}"

"""Copies of TCP in super-frames: every segment is copied as promised, or the status says no."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controller.devices import PairEnd, pair_name
from flows.model import Dpid
from tests.kernel.super_frame_rows import FULL, SIZE, Outcome, Row, problems
from tests.kernel.super_frames import SuperFrames
from tests.kernel.tcp_coverage import Coverage
from tests.kernel.workloads import run

SHORT = {"packet_length": 200}
ALMOST = {"packet_length": FULL}
SKIP = {"oversize": "skip"}
ROWS = (
    Row("a tap port"),
    Row("a tap port, merged by the network card", is_merged_on_arrival=True),
    Row("a tap port on another bridge", tap="soc"),
    Row("a tap port, packet_length of every frame", session=ALMOST),
    Row("a tap port, packet_length 200", session=SHORT, has_pair=True),
    Row("a tap port, packet_length 200, no segmenting pair", session=SHORT),
    Row("a tap port on another bridge, packet_length 200", tap="soc", session=SHORT, has_pair=True),
    Row("vxlan, all fits", delivery="vxlan"),
    Row("gre, all fits", delivery="gre"),
    Row("erspan2, all fits", delivery="erspan2"),
    Row("geneve, all fits", delivery="geneve"),
    Row("vxlan, jumbo frames fit", delivery="vxlan", mtu=9000),
    Row("vxlan, cut to fit", delivery="vxlan", mtu=1500, has_pair=True),
    Row("vxlan, cut to fit, no segmenting pair", delivery="vxlan", mtu=1500),
    Row("gre, cut to fit", delivery="gre", mtu=1500, has_pair=True),
    Row("vxlan, skipped", delivery="vxlan", mtu=1500, session=SKIP),
    Row("gre, skipped", delivery="gre", mtu=1500, session=SKIP),
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
    assert not found, f"{found}: {outcome}"


OUT, BACK = (pair_name(Dpid(1), end) for end in PairEnd)
DAMAGES = {
    "offloads": f"ethtool -K {OUT} tx on tso on gso on",
    "offloads at the other end": f"ethtool -K {BACK} tx on",
    "MTU": f"ip link set {BACK} mtu 200",
    "down": f"ip link set {BACK} down",
}
"""What somebody may do to a segmenting pair."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_pair_that_somebody_changes_is_set_right_and_that_is_said(
    world: SuperFrames, damage: str
) -> None:
    def change() -> None:
        world.controller.wait_for_session("one")
        run(DAMAGES[damage])
        world.controller.wait_for_session("one", "degraded", "and was set right")

    row = Row(f"packet_length 200, {damage}", session=SHORT, has_pair=True)
    outcome = world.measure(row, change)
    assert not list(problems(row, outcome)), outcome
    assert outcome.state == "degraded" and not outcome.skipped
    assert "lost" in " ".join(outcome.reasons)


EXACT = Outcome(
    coverage=Coverage(SIZE, 1382, SIZE, SIZE, longest=FULL, cut=0, wrong_checksums=0),
    longest_delivered=65_226, longest_packet=1550, state="active", reasons=(), skipped={},
)  # fmt: skip
CUT_ROW = Row("vxlan, cut", delivery="vxlan", mtu=1500)
SAID = {"state": "degraded", "reasons": ("mtu: left out",), "skipped": {"mtu": 41}}


def with_coverage(outcome: Outcome, **values: int) -> Outcome:
    return replace(outcome, coverage=replace(outcome.coverage, **values))


def test_what_is_exact_has_no_problem() -> None:
    assert not list(problems(Row("vxlan", delivery="vxlan"), EXACT))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"bytes_there": SIZE - 1}, "nothing says so"),
        ({"bytes_announced": SIZE - 1}, "nothing says so"),
        ({"longest": FULL + 1}, "longer than any frame"),
        ({"wrong_checksums": 1}, "wrong checksums"),
    ],
)
def test_a_copy_that_is_missing_or_wrong_is_a_problem(values: dict[str, int], words: str) -> None:
    (found,) = problems(Row("tap"), with_coverage(EXACT, **values))
    assert words in found


def test_a_tunnel_packet_that_is_too_long_is_a_problem() -> None:
    (found,) = problems(Row("vxlan", delivery="vxlan"), replace(EXACT, longest_packet=1601))
    assert "exceeds the MTU 1600" in found


def test_a_cut_session_promises_the_beginning_of_each_segment() -> None:
    there = int(SIZE * CUT_ROW.promised) + 1
    cut = with_coverage(EXACT, bytes_there=there, longest=1464, cut=1382)
    assert not list(problems(CUT_ROW, replace(cut, longest_packet=1500)))
    less = with_coverage(cut, bytes_there=there - 100)
    assert list(problems(CUT_ROW, replace(less, longest_packet=1500)))


def test_what_is_left_out_must_be_whole_counted_and_said() -> None:
    nothing = with_coverage(
        replace(EXACT, longest_packet=0), frames=0, bytes_there=0, bytes_announced=0, longest=0
    )
    assert not list(problems(CUT_ROW, replace(nothing, **SAID)))
    for silence in ({"reasons": ()}, {"skipped": {}}, {"state": "active"}):
        assert list(problems(CUT_ROW, replace(nothing, **(SAID | silence)))), silence
    parts = with_coverage(nothing, frames=1, cut=1, longest=1464)
    assert list(problems(CUT_ROW, replace(parts, **SAID)))
    skipping = replace(CUT_ROW, session={"oversize": "skip"})
    assert not list(problems(skipping, replace(nothing, **SAID)))
    assert list(problems(skipping, nothing))


def test_a_stream_without_super_frames_says_nothing() -> None:
    with pytest.raises(AssertionError, match="no super-frames"):
        list(problems(Row("tap"), replace(EXACT, longest_delivered=FULL)))

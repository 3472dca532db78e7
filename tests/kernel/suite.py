"""Which tests run on the kernel datapath: ``python -m tests.kernel.suite core|rest|all``.

All of tests/kernel do. A test of tests/ovs is written once and runs on both datapaths: here are
those that depend on what a datapath does with packets.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CORE = (
    "tests/kernel/test_tcp_coverage.py",
    "tests/kernel/test_gso.py",
    "tests/kernel/test_exact_copies.py",
)
"""For `make test`: a few minutes on one processor."""
BOTH_DATAPATHS = tuple(
    f"tests/ovs/{name}"
    for name in (
        "test_lab.py::test_every_frame_arrives_once_over_three_linked_bridges",
        "test_lab.py::test_markers_pass_a_ring_of_bridges",
        "test_lab.py::test_a_copy_that_comes_back_over_the_link_is_seen",
        "test_lab.py::test_a_link_that_is_down_is_reported",
        "test_delivery.py::test_a_copy_that_does_not_fit_its_path_is_cut_and_production_is_whole",
        "test_delivery.py::"
        "test_a_copy_that_does_not_fit_its_path_is_left_out_where_the_session_says_so",
        "test_delivery.py::test_padding_behind_a_packet_does_not_get_past_the_guard",
        "test_delivery.py::test_padding_behind_a_packet_is_cut_with_it",
        "test_delivery.py::test_a_cap_sheds_copies_and_never_production",
        "test_delivery.py::test_the_cap_of_a_bridge_counts_all_sessions_together",
        "test_delivery.py::test_both_directions_of_a_connection_reach_one_sensor_of_a_pool",
        "test_delivery.py::test_a_lost_sensor_moves_its_share_alone_and_gets_it_back",
        "test_delivery.py::test_every_bridge_chooses_the_same_sensor",
        "test_delivery.py::test_fragments_reach_the_sensor_of_their_connection_when_hosts_decide",
        "test_delivery.py::test_remote_sensors_share_a_pool_too",
        "test_link_mtu.py::test_the_longest_copy_that_fits_a_link_goes_whole_and_no_longer_one",
        "test_controller_limits.py",
        "test_controller_losses.py::test_what_is_too_long_for_its_path_is_counted_exactly",
        "test_controller_unusual_packets.py::"
        "test_padding_that_does_not_fit_is_cut_where_sessions_leave_long_frames_out",
        "test_verify.py::test_copies_are_cut_where_the_session_cuts_them",
        "test_suricata.py::test_both_directions_of_an_exchange_raise_alerts",
    )
)
"""For `make test-kernel`, before a release."""


def rest() -> tuple[str, ...]:
    """All that is not in the core."""
    own = sorted(str(path.relative_to(ROOT)) for path in HERE.glob("test_*.py"))
    return (*(name for name in own if name not in CORE), *BOTH_DATAPATHS)


def main() -> None:
    """Print the tests for pytest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=("core", "rest", "all"))
    which = parser.parse_args().which
    print(*(() if which == "rest" else CORE), *(() if which == "core" else rest()))


if __name__ == "__main__":
    main()

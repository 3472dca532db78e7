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
BOTH_DATAPATHS = (
    "tests/ovs/test_lab.py::test_every_frame_arrives_once_over_three_linked_bridges",
    "tests/ovs/test_lab.py::test_markers_pass_a_ring_of_bridges",
    "tests/ovs/test_lab.py::test_a_copy_that_comes_back_over_the_link_is_seen",
    "tests/ovs/test_lab.py::test_a_link_that_is_down_is_reported",
    "tests/ovs/test_controller_limits.py",
    "tests/ovs/test_suricata.py::test_both_directions_of_an_exchange_raise_alerts",
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

"""Many copies of one packet: what the kernel does itself, and what it leaves to ovs-vswitchd."""

from __future__ import annotations

import re

import pytest

from controller.southbound import ask_vswitchd
from flows.resolve import OUTPUTS_MAX
from tests import frames
from tests.ovs.lab import Lab, ofctl_text
from tests.ovs.waiting import wait_for

FRAME = frames.ethernet(0x02, 0x0200000000AA, 0x88B7, bytes(100))
BURST_PAUSE = 1
"""Rounds of markers after each frame: the kernel queues so many packets for one processor at most,
and drops what exceeds that, production included."""


def actions_of_frame() -> str:
    """The datapath actions of the megaflow of FRAME."""
    dump = ask_vswitchd("dpctl/dump-flows", "system@ovs-system", timeout_s=60.0)
    found = [line for line in dump.splitlines() if "eth_type(0x88b7)" in line]
    return found[0].partition("actions:")[2] if found else ""


@pytest.mark.parametrize("more", [0, 1])
def test_one_output_too_many_leaves_every_packet_to_vswitchd(lab: Lab, more: int) -> None:
    """The limit of flows.resolve, from which on bridges and sessions say it."""
    lab.add_bridge("s1")
    web, db, ids = lab.add_ports("s1", (1, 2, 3))
    copies = OUTPUTS_MAX - 1 + more
    actions = ",".join(("output:2", *["output:3"] * copies))
    ofctl_text("s1", [f"add in_port=1,dl_type=0x88b7,actions={actions}"])
    lab.wait_settled()
    for _ in range(3):
        got = lab.exchange([(web, FRAME)], pause=BURST_PAUSE)
        assert (got[db], got[ids]) == ([FRAME], [FRAME] * copies), "production and all copies"
    seen = wait_for(actions_of_frame, bool)
    if more:
        assert "slow_path(action)" in seen
    else:
        assert len(re.findall(r"\d+", seen)) == OUTPUTS_MAX

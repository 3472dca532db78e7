"""What the record of a stream takes for a fault: what a bridge has lost, and nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.ovs import open_vswitch
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, ofctl
from tests.ovs.packet_sockets import dropped_before
from tests.ovs.traffic import Stream, Traffic
from tests.ovs.waiting import wait_for

A, B = 0x020000000001, 0x020000000002
TO_B = "in_port=1,actions=output:2"
SOME = 20


@contextmanager
def stopped_switch() -> Iterator[None]:
    """Inside, ovs-vswitchd does not run."""
    pid = int((open_vswitch.RUN / "ovs-vswitchd.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def go_on(traffic: Traffic, stream: Stream, at: Endpoint) -> int:
    """Block until frames arrive again, and those sent before have; the last one of these."""
    last = traffic.now(stream)
    traffic.wait_until_spread(stream, at, last)
    return last


def test_frames_that_no_bridge_has_read_are_no_faults_and_those_that_one_drops_are(
    lab: Lab,
) -> None:
    lab.add_bridge("s1")
    one, other = lab.add_ports("s1", (1, 2))
    ofctl("add-flow", "s1", TO_B)
    with Traffic([one, other]) as traffic:
        stream = traffic.add(one, A, B)
        go_on(traffic, stream, other)
        with stopped_switch():
            wait_for(lambda: dropped_before(one.interface), lambda dropped: dropped > SOME)
        last = go_on(traffic, stream, other)
        arrived = traffic.arrived(stream, other)
        assert sum(not arrived[n] for n in range(1, last + 1)) > SOME, "the kernel has dropped them"
        assert traffic.faults(stream, other, 1, last) == []

        since = go_on(traffic, stream, other)
        ofctl("mod-flows", "s1", "in_port=1,actions=drop")
        wait_for(lambda: traffic.now(stream), lambda now: now > since + 2 * SOME)
        ofctl("mod-flows", "s1", TO_B)
        last = go_on(traffic, stream, other)
        assert len(traffic.faults(stream, other, since, last)) >= SOME

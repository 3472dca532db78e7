"""Counts the rounds of the revalidators of single datapaths, by a megaflow that each round deletes.

``revalidator/wait`` answers only while ovs-vswitchd has datapaths of one type. With bridges of the
userspace and of the kernel datapath on one host, each datapath gets a megaflow of its own: its
input port is port 0 of the datapath, which is on no bridge, so no packet matches it, and the
revalidators delete what they find for a port without a bridge. A round treats a megaflow once
(ofproto-dpif-upcall.c, ``already_dumped``), so one that is added again lasts until the next round.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping

from controller.southbound.unixctl import RUN_DIRECTORY, CommandFailed, ask_vswitchd

DELETIONS = 3
"""Deletions to wait for. The first may be by a round that began before the change; the last shows
that the round between them, which saw the change, has ended."""
POLL_S = 0.004
"""Time between two looks whether a round has deleted its megaflow, in seconds."""
NO_OUTPUT = "push_vlan(vid=1,pcp=0)"
"""Actions without an output. The kernel takes no megaflow whose list of actions is empty."""
IS_THERE = "File exists"

Nudges = Mapping[str, Callable[[], None]]
"""What makes the revalidators of each datapath start a round at once, by its type."""


def wait_for_rounds(
    nudges: Nudges,
    deadline: float,
    run_dir: str = RUN_DIRECTORY,
    ask: Callable[..., str] = ask_vswitchd,
) -> bool:
    """Wait until a whole round has begun and ended in each of these datapaths.

    ``deadline`` is in seconds of ``time.monotonic``. Each request has a connection of its own: then
    the main loop of ovs-vswitchd has run in between, and notified the revalidators of the change.

    False if that was not long enough.

    Raises:
        NotAnswered: ovs-vswitchd of this machine cannot be asked, or does not answer.
        CommandFailed: it has no such datapath, or takes no megaflows from us.
    """
    probe = _probe(random.getrandbits(40))
    left = dict.fromkeys(nudges, DELETIONS + 1)  # the first time it is only added
    while left:
        for kind in [*left]:
            if (time_s := deadline - time.monotonic()) <= 0:
                return False
            if not _has_added(kind, probe, ask, run_dir=run_dir, timeout_s=time_s):
                continue
            left[kind] -= 1
            if left[kind]:
                nudges[kind]()
            else:
                del left[kind]
        if left:
            time.sleep(POLL_S)
    return True


def _probe(number: int) -> str:
    """The match of a megaflow that nobody else uses: two waits do not count each other's."""
    mac = ":".join(f"{byte:02x}" for byte in number.to_bytes(5, "big"))
    return f"in_port(0),eth(src=02:{mac},dst=02:00:00:00:00:00),eth_type(0x88b5)"


def _has_added(
    kind: str, probe: str, ask: Callable[..., str], *, run_dir: str, timeout_s: float
) -> bool:
    """Add the megaflow to the datapath of a type; False if it is still there.

    Open vSwitch logs a refusal for this reason with level DBG only.
    """
    arguments = (f"{kind}@ovs-{kind}", probe, NO_OUTPUT)
    try:
        ask("dpctl/add-flow", *arguments, run_dir=run_dir, timeout_s=timeout_s)
    except CommandFailed as refused:
        if IS_THERE in str(refused):
            return False
        raise
    return True

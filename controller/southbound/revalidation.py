"""Waits until the datapath of this machine no longer uses megaflows that the flow tables rule out.

After a barrier reply the flow tables are changed, but cached flows of the datapath (megaflows) may
make copies for some more milliseconds, until the revalidators of ovs-vswitchd have dumped and
checked them.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import structlog

from controller.process import UnusableFile
from controller.southbound.ovsdb import OvsdbSnapshot
from controller.southbound.revalidation_rounds import Nudges, wait_for_rounds
from controller.southbound.stale_megaflows import has_stale_megaflows
from controller.southbound.unixctl import RUN_DIRECTORY, CommandFailed, control_socket
from flows.errors import CloudtapError
from flows.model import Datapath, Dpid

REQUEST = {"method": "revalidator/wait", "params": [], "id": 0}
REPLY_BYTES = 65536
REMOTE_SETTLE_S = 1.0
"""How long the datapath of another machine may take to follow, in seconds; its revalidators
run every 500 ms (max-revalidator of Open vSwitch)."""
ROUNDS = 3
"""Ends of revalidation rounds to wait for. The first may come before ovs-vswitchd has notified its
revalidators of the change, and the second may end a round that had begun by then."""
NO_NUDGES: Nudges = {}


log = structlog.get_logger(__name__)


def wait_revalidated(
    run_dir: str = RUN_DIRECTORY, timeout_s: float = 5.0, nudges: Nudges = NO_NUDGES
) -> bool:
    """Wait until every megaflow agrees with the flow tables (ovs-appctl revalidator/wait).

    ``nudges`` make the revalidators start a round at once, by type of datapath (see Switch.nudge):
    then the wait takes 15 ms, and without them 1.5 s, because a round starts every 500 ms (Open
    vSwitch 3.1). An ovs-vswitchd with datapaths of several types refuses to wait: then the rounds
    of the datapaths in ``nudges`` are counted (see wait_for_rounds).

    False if the ovs-vswitchd of ``run_dir`` cannot be asked, or does not answer in time, or has
    datapaths of several types and there are no ``nudges``: then nothing is known.

    Raises:
        CommandFailed, NotAnswered: rounds cannot be counted.
    """
    deadline = time.monotonic() + timeout_s
    try:
        path = control_socket(run_dir)
        return all(_wait_for_round(path, deadline, nudges) for _ in range(ROUNDS))
    except CommandFailed:
        return bool(nudges) and wait_for_rounds(nudges, deadline, run_dir)
    except (OSError, ValueError, UnusableFile):
        return False


def _wait_for_round(path: str, deadline: float, nudges: Nudges) -> bool:
    """Wait for the end of a round; False if that was not long enough.

    Raises:
        CommandFailed: ovs-vswitchd does not wait.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(max(0.1, deadline - time.monotonic()))
        connection.connect(path)
        connection.sendall(json.dumps(REQUEST).encode())
        for nudge in nudges.values():
            nudge()
        return _is_done(connection, deadline)


def _is_done(connection: socket.socket, deadline: float) -> bool:
    """Read one answer, which ends with its JSON object: there is no other delimiter.

    Raises:
        CommandFailed: it is an error.
    """
    answer = b""
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        data = connection.recv(REPLY_BYTES)
        if not data:
            return False
        answer += data
        try:
            error = json.loads(answer).get("error")
        except json.JSONDecodeError:
            continue
        if error is not None:
            raise CommandFailed(str(error).strip())
        return True
    return False


class OvsdbReports(Protocol):
    """The Open vSwitch databases that are watched."""

    def snapshot(self) -> OvsdbSnapshot:
        """The last known rows of all of them."""
        ...


class SettlingBridge(Protocol):
    """A bridge whose datapath may still use megaflows of flows that are gone."""

    @property
    def dpid(self) -> Dpid:
        """Its datapath id."""
        ...

    def nudge(self, most_s: float) -> None:
        """Make the revalidators start a round now, within so many seconds; see Switch.nudge."""
        ...


class VersionedBridge(Protocol):
    """A bridge that has said which version of Open vSwitch it runs."""

    @property
    def dpid(self) -> Dpid:
        """Its datapath id."""
        ...

    @property
    def software(self) -> str:
        """The version; empty if it is not known."""
        ...


class Revalidation:
    """Waits until datapaths follow their flow tables: asks on this machine, else by time.

    ``believed`` returns the rows of databases that speak for their bridges: a bridge whose database
    is on this machine is here, too, whatever other databases there are.
    """

    def __init__(self, databases: OvsdbReports, believed: Callable[[], OvsdbSnapshot]) -> None:
        self._databases, self._believed = databases, believed
        self._stopping = threading.Event()

    def wait_settled(self, bridges: Sequence[SettlingBridge], timeout_s: float) -> bool:
        """Wait until no megaflow of these bridges outlives its flow, for so long at most.

        False if that was not long enough to know it, and after ``stop``.
        """
        deadline = time.monotonic() + timeout_s
        rows = (row for row in self._believed().bridges if row.is_here)
        local = {row.dpid: row.datapath_type or Datapath.KERNEL.value for row in rows}
        here = [bridge for bridge in bridges if bridge.dpid in local]
        one_by_type = {local[bridge.dpid]: bridge for bridge in reversed(here)}
        is_asked = bool(here) and self._ask_here(one_by_type, timeout_s)
        if is_asked and len(here) == len(bridges):
            return True
        left_s = max(0.0, deadline - time.monotonic())
        is_long_enough = left_s >= REMOTE_SETTLE_S
        return not self._stopping.wait(min(left_s, REMOTE_SETTLE_S)) and is_long_enough

    def _ask_here(self, one_by_type: Mapping[str, SettlingBridge], timeout_s: float) -> bool:
        """Wait for the revalidators of this machine; False if they cannot be asked.

        ``one_by_type`` is a bridge of each type of datapath that matters.
        """
        deadline = time.monotonic() + timeout_s

        def nudge(bridge: SettlingBridge) -> None:
            bridge.nudge(max(0.0, deadline - time.monotonic()))

        nudges = {kind: partial(nudge, bridge) for kind, bridge in one_by_type.items()}
        try:
            return wait_revalidated(timeout_s=timeout_s, nudges=nudges)
        except CloudtapError as problem:
            log.debug("revalidators not asked", reason=str(problem))
            return False

    def needs_epoch(self, switch: VersionedBridge) -> bool:
        """Whether each plan of a bridge must have all its megaflows made again."""
        return has_stale_megaflows(switch.dpid, switch.software, self._databases.snapshot())

    def stop(self) -> None:
        """End all waits."""
        self._stopping.set()

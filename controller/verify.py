"""Checks the way of a session's copies: beacons go in where copies are made, and nowhere else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from controller.bridge import BridgeWriter
from controller.counting import CountReader
from controller.desired import Snapshot
from controller.standing import knows
from controller.status import Copies, SensorWitness, Verification, WayChecked
from flows.beacon import Beacon
from flows.compile import CopyWay, Standing, Survey, copy_ways
from flows.errors import Refused
from flows.model import SessionId

BATCH = 16
"""Beacons that are sent at once: what the buffers along any way hold with certainty."""
PAUSE_S = 0.008
"""Between two batches: at most 2,000 beacons a second leave a bridge."""
AGAIN_S = 2.0
"""A session is not checked again sooner."""
BEACONS_MAX = 20_000
"""Beacons of one check, over all ways."""
ARRIVE_S = 1.0
"""How long beacons may take to the bridge of the tap port."""
LOOK_AGAIN_S = 0.02


class Verifier:
    """Sends beacons and asks switches what became of them; one check at a time."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        writers: Callable[[], Iterable[BridgeWriter]],
        counts: CountReader,
    ) -> None:
        self._snapshot, self._writers, self._counts = snapshot, writers, counts
        self._busy = threading.Lock()
        self._checked_at: dict[SessionId, float] = {}

    def verify(self, session: SessionId, run: int, count: int, length: int) -> Verification:
        """Send ``count`` beacons by each way of the session's copies; see Reconciling.

        Raises:
            Refused: nothing was sent; the sentence says why.
            SouthboundError: a switch failed in the middle.
        """
        with self._alone(session):
            snapshot = self._snapshot()
            standing = _served(session, snapshot)
            number = snapshot.numbers.session[session]
            writers = {w.dpid: w for w in self._writers()}
            ready, left_out = _serving(number, standing, writers.values())
            ways = [
                _Way(w, way, snapshot.survey, number)
                for w in ready
                for way in copy_ways(w.dpid, snapshot.survey, standing)
            ]
            _check_amount(len(ways), count, standing)
            tap = standing.tap
            assert tap is not None, "a served session has a tap port"
            place = snapshot.survey.world.placements[tap.id]
            there = writers.get(place.dpid)
            before = _sent_to(there, place.ofport)
            self._checked_at[session] = time.monotonic()
            self._send(ways, run, count, length)
            sensors: tuple[SensorWitness, ...] = ()
            if there is not None:
                sent = _wait_for(there, place.ofport, before + len(ways) * count) - before
                sensors = (SensorWitness(tap.id, there.switch.name, sent),)
            cut = standing.session.packet_length
            whole = length if cut is None else min(length, cut)
            return Verification(run, tuple(w.checked(whole) for w in ways), sensors, left_out)

    @contextmanager
    def _alone(self, session: SessionId) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise Refused("another session is being verified: try again in a second")
        try:
            ago = time.monotonic() - self._checked_at.get(session, -AGAIN_S)
            if ago < AGAIN_S:
                raise Refused(
                    f"this session was verified {ago:.1f} seconds ago: once in {AGAIN_S:g} "
                    "seconds is the most"
                )
            yield
        finally:
            self._busy.release()

    def _send(self, ways: list[_Way], run: int, count: int, length: int) -> None:
        """A few beacons by each way in turn, until all are sent."""
        for first in range(1, count + 1, BATCH):
            if first > 1:
                time.sleep(PAUSE_S)
            for way in ways:
                numbers = range(first, min(first + BATCH, count + 1))
                with self._counts.hold(way.writer.dpid):
                    way.send([way.beacon(run, n, count, length) for n in numbers])


class _Way:
    """One way of copies out of one connected bridge, and what was sent and counted on it."""

    def __init__(self, writer: BridgeWriter, way: CopyWay, survey: Survey, session: int) -> None:
        self.writer, self._way, self._session = writer, way, session
        network = way.network
        self._network = 0 if network is None else survey.world.numbers.network[network]
        self._sent = self._counted = 0

    def beacon(self, run: int, number: int, count: int, length: int) -> bytes:
        """One frame of this way."""
        now = time.time_ns()
        numbers = run, self.writer.dpid, self._network, number, count, length, now
        return Beacon(*numbers).frame()

    def send(self, frames: list[bytes]) -> None:
        """Send these, and see that they do not count as copies."""
        switch, number = self.writer.switch, self._session
        before = self.writer.count_flows(number)
        switch.send(frames, self._way.actions)
        ours = Copies(len(frames), sum(map(len, frames)))
        after = self.writer.count_flows(number, ours)
        nothing = Copies()
        cookie = self._way.cookie
        self._sent += len(frames)
        self._counted += after.get(cookie, nothing).packets - before.get(cookie, nothing).packets

    def checked(self, length: int) -> WayChecked:
        """What is known now."""
        way, writer = self._way, self.writer
        return WayChecked(
            writer.dpid, writer.switch.name, way.network, self._network, way.tag, length,
            self._sent, self._counted,
        )  # fmt: skip


def _served(session: SessionId, snapshot: Snapshot) -> Standing:
    """How a session stands that can be verified."""
    standing = snapshot.survey.standings.get(session)
    if standing is None or session in snapshot.deleting:
        raise Refused("the session is being deleted: there is nothing to verify")
    name = f"session {standing.session.name!r}"
    if session in snapshot.stopped:
        raise Refused(f"{name} is stopped ({snapshot.stopped[session]}): enable it first")
    if not standing.session.enabled:
        raise Refused(f"{name} is switched off: enable it first")
    if standing.refused is not None:
        raise Refused(f"{name} is not served, so nothing was sent: {standing.refused}")
    if not standing.is_served:
        why = "; ".join(standing.missing)
        raise Refused(f"{name} is not served, so nothing was sent: {why}")
    return standing


def _serving(
    number: int, standing: Standing, writers: Iterable[BridgeWriter]
) -> tuple[list[BridgeWriter], tuple[str, ...]]:
    """The bridges that surely make copies now, and why others may not."""
    ready, left_out = [], []
    for writer in sorted(writers, key=lambda w: w.dpid):
        if number not in writer.verified.served:
            continue
        failure = writer.verified.failure
        if failure is not None:
            left_out.append(f"bridge {writer.switch.name}: {failure}")
        elif not knows(writer.settled.survey, standing):
            left_out.append(f"bridge {writer.switch.name} has not confirmed the last change yet")
        else:
            ready.append(writer)
    if not ready:
        why = "; ".join(left_out) or "no bridge that makes its copies is connected"
        name = standing.session.name
        raise Refused(f"session {name!r} is not served now, so nothing was sent: {why}")
    return ready, tuple(left_out)


def _check_amount(ways: int, count: int, standing: Standing) -> None:
    if ways * count > BEACONS_MAX:
        raise Refused(
            f"copies of session {standing.session.name!r} take {ways} ways, so {count} on each "
            f"are more than {BEACONS_MAX}: ask for at most {BEACONS_MAX // ways}"
        )


def _sent_to(writer: BridgeWriter | None, ofport: int) -> int:
    """How many frames a port has sent; 0 where it cannot be told."""
    if writer is None:
        return 0
    return writer.switch.sent_by_port().get(ofport, Copies()).packets


def _wait_for(writer: BridgeWriter, ofport: int, wanted: int) -> int:
    """How many frames a port has sent, once it is as many as are wanted, or nothing more comes."""
    deadline = time.monotonic() + ARRIVE_S
    while (seen := _sent_to(writer, ofport)) < wanted and time.monotonic() < deadline:
        time.sleep(LOOK_AGAIN_S)
    return seen

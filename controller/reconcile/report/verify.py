"""Checks the way of a session's copies: beacons go in where copies are made, and nowhere else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from controller.reconcile.bridge.writer import BridgeWriter
from controller.reconcile.report.counter_poller import CountReader, count_flows
from controller.reconcile.snapshot import Snapshot
from controller.southbound.errors import Displaced
from controller.reconcile.report.describe import knows
from controller.status.values import Check, Copies, PortWitness, Verification, WayChecked
from controller.process.time_slices import TURNS
from controller.reconcile.bridge.confirmed import Depth
from flows.beacon.beacon import Beacon
from flows.compile import CopyWay, Standing, Survey, copy_ways
from flows.errors import Refused
from flows.model.session import Dpid, Sensor, SessionId

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

    def verify(self, session: SessionId, wish: Check) -> Verification:
        """Send beacons by each way of the session's copies; see Reconciling.

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
            with TURNS.taken():
                ways = [
                    _Way(w, way, snapshot.survey, number, wish)
                    for w in ready
                    for way in copy_ways(w.dpid, snapshot.survey, standing)
                    if wish.sensor in (None, way.sensor)
                ]
            _check_amount(len(ways), wish, standing)
            _check_length(ways, wish, standing)
            exits = _Exits(ways, writers, snapshot.survey)
            self._checked_at[session] = time.monotonic()
            self._send(ways, wish.count)
            checked = tuple(way.checked() for way in ways)
            return Verification(wish.run, checked, exits.witnesses(), left_out)

    @contextmanager
    def _alone(self, session: SessionId) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise Refused("another session is being verified: try again in a second")
        try:
            now = time.monotonic()
            self._checked_at = {s: at for s, at in self._checked_at.items() if now - at < AGAIN_S}
            if session in self._checked_at:
                ago = now - self._checked_at[session]
                raise Refused(
                    f"this session was verified {ago:.1f} seconds ago: once in {AGAIN_S:g} "
                    "seconds is the most"
                )
            yield
        finally:
            self._busy.release()

    def _send(self, ways: list[_Way], count: int) -> None:
        """A few beacons by each way in turn, until all are sent."""
        for first in range(1, count + 1, BATCH):
            if first > 1:
                time.sleep(PAUSE_S)
            for way in ways:
                with self._counts.hold(way.writer.dpid):
                    way.send(range(first, min(first + BATCH, count + 1)))


class _Way:
    """One way of copies out of one connected bridge, and what was sent and counted on it."""

    def __init__(
        self, writer: BridgeWriter, way: CopyWay, survey: Survey, session: int, wish: Check
    ) -> None:
        self.writer, self.way, self._session, self._wish = writer, way, session, wish
        network = way.network
        self._network = 0 if network is None else survey.world.numbers.network[network]
        self.sent = self._counted = 0

    @property
    def arriving(self) -> int:
        """How many of those that were sent should arrive."""
        return self.sent if self.way.arriving(self._wish.length) else 0

    def send(self, numbers: Iterable[int]) -> None:
        """Send the beacons of these numbers, and see that they do not count as copies."""
        frames = [self._beacon(number) for number in numbers]
        table, cookie = self.way.counted_by(self._wish.length)
        before = count_flows(self.writer, table, self._session)
        try:
            self.writer.switch.send(frames, self.way.actions)
        except Displaced as problem:
            self.writer.recheck(Depth.COOKIES)
            raise Refused(f"{problem}; it is being set right, so verify again then") from problem
        ours = Copies(len(frames), sum(map(len, frames)))
        after = count_flows(self.writer, table, self._session, ours)
        self.sent += len(frames)
        nothing = Copies()
        self._counted += after.get(cookie, nothing).packets - before.get(cookie, nothing).packets

    def checked(self) -> WayChecked:
        """What is known now."""
        way, writer = self.way, self.writer
        return WayChecked(
            writer.dpid, writer.switch.name, way.sensor, way.position, way.network,
            self._network, way.tag, way.arriving(self._wish.length), self.sent, self._counted,
        )  # fmt: skip

    def _beacon(self, number: int) -> bytes:
        wish = self._wish
        return Beacon(
            run=wish.run,
            bridge=self.writer.dpid,
            sensor=self.way.position,
            network=self._network,
            number=number,
            count=wish.count,
            length=wish.length,
            sent_ns=time.time_ns(),
        ).frame()


class _Exits:
    """The ports by which copies leave for their sensors, and what these have sent."""

    def __init__(
        self, ways: list[_Way], writers: Mapping[Dpid, BridgeWriter], survey: Survey
    ) -> None:
        self._ways_by_exit: dict[tuple[Dpid, int], list[_Way]] = {}
        self._writers = writers
        for way in ways:
            at = (way.writer.dpid, int(way.way.by))
            if isinstance(way.way.sensor, str):
                place = survey.world.placements[way.way.sensor]
                at = (place.dpid, int(place.ofport))
            if at[0] in writers:
                self._ways_by_exit.setdefault(at, []).append(way)
        self._before = self._sent()

    def witnesses(self) -> tuple[PortWitness, ...]:
        """What each has sent since, once it is all that should have been, or nothing more comes."""
        deadline = time.monotonic() + ARRIVE_S
        wanted = {at: sum(w.arriving for w in ways) for at, ways in self._ways_by_exit.items()}
        while True:
            sent = {at: count - self._before[at] for at, count in self._sent().items()}
            is_all = all(sent[at] >= wanted[at] for at in wanted)
            if is_all or time.monotonic() >= deadline:
                break
            time.sleep(LOOK_AGAIN_S)
        return tuple(
            PortWitness(self._writers[at[0]].switch.name, self._sensors(at), wanted[at], sent[at])
            for at in sorted(wanted)
        )

    def _sensors(self, at: tuple[Dpid, int]) -> tuple[Sensor, ...]:
        return tuple(dict.fromkeys(way.way.sensor for way in self._ways_by_exit[at]))

    def _sent(self) -> dict[tuple[Dpid, int], int]:
        by_bridge = {
            dpid: self._writers[dpid].switch.sent_by_port()
            for dpid in {dpid for dpid, _ in self._ways_by_exit}
        }
        return {at: by_bridge[at[0]].get(at[1], Copies()).packets for at in self._ways_by_exit}


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


def _check_amount(ways: int, wish: Check, standing: Standing) -> None:
    name = f"session {standing.session.name!r}"
    if not ways:
        raise Refused(
            f"copies of {name} go to no sensor {str(wish.sensor)!r} now: nothing was sent"
        )
    if ways * wish.count > BEACONS_MAX:
        raise Refused(
            f"copies of {name} take {ways} ways, so {wish.count} on each are more than "
            f"{BEACONS_MAX}: ask for at most {BEACONS_MAX // ways}"
        )


def _check_length(ways: list[_Way], wish: Check, standing: Standing) -> None:
    """Refuse what would be cut by the path, unless that is what is to be seen."""
    own = standing.session.packet_length
    limits = [w.way.longest for w in ways if w.way.longest not in (None, own)]
    longest = min((limit for limit in limits if limit is not None), default=wish.length)
    if wish.length > longest and not wish.may_be_cut:
        raise Refused(
            f"{wish.length} bytes do not fit the path to the sensors of session "
            f"{standing.session.name!r}, at most {longest} do: ask for less, or let them be cut"
        )

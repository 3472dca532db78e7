"""Verifies the copy paths of a session: sends beacons where copies are made, and counts them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from controller.process import TIME_SLICES
from controller.reconcile.bridge import BridgeWriter, Depth, knows
from controller.reconcile.report.counter_poller import CounterPoller, count_one
from controller.reconcile.snapshot import Snapshot
from controller.southbound import Displaced
from controller.status import (
    MEASURES,
    Check,
    Measure,
    PathChecked,
    PortWitness,
    Verification,
)
from flows.beacon import Beacon
from flows.compile import CopyPath, copy_paths
from flows.errors import Refused
from flows.model import Dpid, Sensor, SessionId
from flows.openflow import PacketCount
from flows.resolve import ResolvedSession, ResolvedWorld

BEACONS_AT_ONCE = 16
"""Beacons that are sent at once: so many fit the buffers along any path."""
BATCH_PAUSE_S = 0.008
"""The pause between two batches, in seconds: at most 2,000 beacons a second leave a bridge."""
VERIFY_EVERY_S = 2.0
"""The least time between two checks of a session, in seconds."""
BEACONS_MAX = 20_000
"""Most beacons of one check, over all paths."""
ARRIVE_S = 1.0
"""How long beacons may take to the bridge of the tap port, in seconds."""
PLAN_S = 2.0
"""How long a batch waits for a plan of its bridge, in seconds."""
LOOK_AGAIN_S = 0.02
"""How often port counters are read meanwhile, in seconds."""


class Verifier:
    """Sends beacons and reads from the switches how many passed; one check at a time.

    ``makers`` returns the names of all bridges that make copies of a session, or should.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        writers: Callable[[], Iterable[BridgeWriter]],
        counts: CounterPoller,
        makers: Callable[[SessionId, Snapshot], Mapping[Dpid, str]],
    ) -> None:
        self._snapshot, self._writers, self._counts = snapshot, writers, counts
        self._makers = makers
        self._busy = threading.Lock()
        self._checked_at: dict[SessionId, float] = {}

    def verify(self, session: SessionId, check: Check) -> Verification:
        """Send beacons on each copy path of a session; see Inspecting.

        Raises:
            Refused: nothing was sent; the sentence says why.
            SouthboundError: a switch failed in the middle.
        """
        with self._alone(session):
            snapshot = self._snapshot()
            resolved_session = _served(session, snapshot)
            number = snapshot.numbers.session[session]
            writers = {w.dpid: w for w in self._writers()}
            makers = self._makers(session, snapshot)
            ready, left_out = _serving(number, resolved_session, writers, makers)
            with TIME_SLICES.taken():
                paths = [
                    _PathUnderTest(w, path, snapshot.resolved, resolved_session, check)
                    for w in ready
                    for path in _copy_paths(w, snapshot.resolved, resolved_session)
                    if check.sensor in (None, path.sensor)
                ]
            left_out += tuple(_closed_sensors(paths, ready, resolved_session, check))
            _check_amount(len(paths), check, resolved_session)
            _check_length(paths, check, resolved_session)
            exits = _Exits(paths, writers, snapshot.resolved)
            self._checked_at[session] = time.monotonic()
            self._send(paths, check.count)
            checked = tuple(path.checked() for path in paths)
            return Verification(check.run, checked, exits.witnesses(), left_out)

    @contextmanager
    def _alone(self, session: SessionId) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise Refused("another session is being verified: try again in a second")
        try:
            now = time.monotonic()
            self._checked_at = {
                s: at for s, at in self._checked_at.items() if now - at < VERIFY_EVERY_S
            }
            if session in self._checked_at:
                ago = now - self._checked_at[session]
                raise Refused(
                    f"this session was verified {ago:.1f} seconds ago: once in {VERIFY_EVERY_S:g} "
                    "seconds is the most"
                )
            yield
        finally:
            self._busy.release()

    def _send(self, paths: list[_PathUnderTest], count: int) -> None:
        """Send a batch on each path in turn, until all beacons are sent."""
        for first in range(1, count + 1, BEACONS_AT_ONCE):
            if first > 1:
                time.sleep(BATCH_PAUSE_S)
            for path in paths:
                with self._counts.hold(path.writer.dpid):
                    path.send(range(first, min(first + BEACONS_AT_ONCE, count + 1)))


class _PathUnderTest:
    """A copy path out of a connected bridge, and how many beacons were sent and counted on it."""

    def __init__(
        self,
        writer: BridgeWriter,
        copy_path: CopyPath,
        resolved: ResolvedWorld,
        resolved_session: ResolvedSession,
        check: Check,
    ) -> None:
        self.writer, self.copy_path = writer, copy_path
        self._resolved_session, self._check = resolved_session, check
        self._session = resolved.world.numbers.session[resolved_session.session.id]
        network = copy_path.network
        self._network = 0 if network is None else resolved.world.numbers.network[network]
        self.sent = self._counted = 0

    @property
    def arriving(self) -> int:
        """How many of the beacons that were sent should arrive."""
        return self.sent if self.copy_path.arriving(self._check.length) else 0

    def send(self, numbers: Iterable[int]) -> None:
        """Send the beacons of these numbers; they are not counted as copies.

        No plan comes between, or nobody would know how many of them the switch has counted.

        Raises:
            Refused: the bridge makes no copies of the session now, or perhaps not.
        """
        with self.writer.undisturbed(PLAN_S) as resolved:
            if not knows(resolved, self._resolved_session):
                what = "is being changed" if resolved is None else "has another version of it now"
                raise Refused(
                    f"session {self._resolved_session.session.name!r} cannot be verified now: "
                    f"bridge {self.writer.switch.name!r} {what}; verify it again"
                )
            self._send(numbers)

    def _send(self, numbers: Iterable[int]) -> None:
        frames = [self._beacon(number) for number in numbers]
        table, cookie = self.copy_path.counted_by(self._check.length)
        switch = self.writer.switch
        before = switch.flow_copies(table, self._session)
        try:
            switch.send(frames, self.copy_path.actions_for(self._check.length))
        except Displaced as problem:
            self.writer.recheck(Depth.COOKIES)
            raise Refused(f"{problem}; it is being set right, so verify again then") from problem
        ours = PacketCount(len(frames), sum(map(len, frames)))
        count_one(self.writer, self._session, dict.fromkeys(self._measures(), ours))
        after = switch.flow_copies(table, self._session)
        self.sent += len(frames)
        nothing = PacketCount()
        self._counted += after.get(cookie, nothing).packets - before.get(cookie, nothing).packets

    def _measures(self) -> Iterator[Measure]:
        """What the switch counts the beacons as."""
        path, length = self.copy_path, self._check.length
        if not self.writer.switch.has_meters:
            yield Measure.FLOWS
            return
        if path.arriving(length):
            yield Measure.TAGGED if path.is_tagged else Measure.MADE
        if not path.fits(length) and path.cut_by is not None:
            yield MEASURES[path.cut_by]

    def checked(self) -> PathChecked:
        """The result so far."""
        path, writer = self.copy_path, self.writer
        return PathChecked(
            writer.dpid, writer.switch.name, path.sensor, path.position, path.network,
            self._network, path.tag, path.arriving(self._check.length), self.sent, self._counted,
        )  # fmt: skip

    def _beacon(self, number: int) -> bytes:
        check = self._check
        return Beacon(
            run=check.run,
            bridge=self.writer.dpid,
            sensor=self.copy_path.position,
            network=self._network,
            number=number,
            count=check.count,
            length=check.length,
            sent_ns=time.time_ns(),
        ).frame()


class _Exits:
    """The ports by which copies leave for their sensors, and how many frames these have sent."""

    def __init__(
        self,
        paths: list[_PathUnderTest],
        writers: Mapping[Dpid, BridgeWriter],
        resolved: ResolvedWorld,
    ) -> None:
        self._paths_by_exit: dict[tuple[Dpid, int], list[_PathUnderTest]] = {}
        self._writers = writers
        for path in paths:
            at = (path.writer.dpid, int(path.copy_path.by))
            if isinstance(path.copy_path.sensor, str):
                place = resolved.world.placements[path.copy_path.sensor]
                at = (place.dpid, int(place.ofport))
            if at[0] in writers:
                self._paths_by_exit.setdefault(at, []).append(path)
        self._before = self._sent()

    def witnesses(self) -> tuple[PortWitness, ...]:
        """What each port has sent since the start; waits up to ARRIVE_S until it is all."""
        deadline = time.monotonic() + ARRIVE_S
        wanted = {at: sum(w.arriving for w in paths) for at, paths in self._paths_by_exit.items()}
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
        return tuple(dict.fromkeys(path.copy_path.sensor for path in self._paths_by_exit[at]))

    def _sent(self) -> dict[tuple[Dpid, int], int]:
        by_bridge = {
            dpid: self._writers[dpid].switch.sent_by_port()
            for dpid in {dpid for dpid, _ in self._paths_by_exit}
        }
        return {
            at: by_bridge[at[0]].get(at[1], PacketCount()).packets for at in self._paths_by_exit
        }


def _copy_paths(
    writer: BridgeWriter, resolved: ResolvedWorld, resolved_session: ResolvedSession
) -> Iterator[CopyPath]:
    """The copy paths of a session out of one bridge."""
    has_meters = writer.switch.has_meters
    return copy_paths(writer.dpid, resolved, resolved_session, has_meters=has_meters)


def _served(session: SessionId, snapshot: Snapshot) -> ResolvedSession:
    """The resolved session, if it can be verified."""
    resolved_session = snapshot.resolved.sessions.get(session)
    if resolved_session is None or session in snapshot.deleting:
        raise Refused("the session is being deleted: there is nothing to verify")
    name = f"session {resolved_session.session.name!r}"
    if session in snapshot.stopped:
        raise Refused(f"{name} is stopped ({snapshot.stopped[session]}): enable it first")
    if not resolved_session.session.enabled:
        raise Refused(f"{name} is switched off: enable it first")
    if resolved_session.refused is not None:
        raise Refused(f"{name} is not served, so nothing was sent: {resolved_session.refused}")
    if not resolved_session.is_delivered:
        why = "; ".join(resolved_session.missing)
        raise Refused(f"{name} is not served, so nothing was sent: {why}")
    return resolved_session


def _serving(
    number: int,
    resolved_session: ResolvedSession,
    writers: Mapping[Dpid, BridgeWriter],
    makers: Mapping[Dpid, str],
) -> tuple[list[BridgeWriter], tuple[str, ...]]:
    """The bridges that are confirmed to make copies now, and the reasons of the others."""
    ready, left_out = [], []
    for dpid in sorted({*writers, *makers}):
        writer = writers.get(dpid)
        if writer is None:
            left_out.append(f"bridge {makers[dpid]} is not connected")
            continue
        if number not in writer.confirmed.served:
            if dpid in makers:
                left_out.append(f"bridge {makers[dpid]} has not confirmed yet what it does for it")
            continue
        failure = writer.confirmed.failure
        if failure is not None:
            left_out.append(f"bridge {writer.switch.name}: {failure}")
        elif not knows(writer.settled.resolved, resolved_session):
            left_out.append(f"bridge {writer.switch.name} has not confirmed the last change yet")
        else:
            ready.append(writer)
    if not ready:
        why = "; ".join(left_out) or "no bridge that makes its copies is connected"
        name = resolved_session.session.name
        raise Refused(f"session {name!r} is not served now, so nothing was sent: {why}")
    return ready, tuple(left_out)


def _closed_sensors(
    paths: Iterable[_PathUnderTest],
    ready: Iterable[BridgeWriter],
    resolved_session: ResolvedSession,
    check: Check,
) -> Iterator[str]:
    """The sensors to which nothing is sent from some bridge, because nothing would arrive."""
    taken = {(path.writer.dpid, path.copy_path.sensor) for path in paths}
    collector = resolved_session.collector
    for writer in ready:
        for sensor in collector.sensors if collector is not None else ():
            is_asked = check.sensor in (None, sensor)
            if is_asked and (writer.dpid, sensor) not in taken:
                yield (
                    f"bridge {writer.switch.name} sent nothing to sensor {sensor}, because "
                    "nothing would arrive: see the reasons of the session"
                )


def _check_amount(paths: int, check: Check, resolved_session: ResolvedSession) -> None:
    name = f"session {resolved_session.session.name!r}"
    if not paths and resolved_session.missing and check.sensor is None:
        why = "; ".join(resolved_session.missing)
        raise Refused(f"copies of {name} reach no sensor now, so nothing was sent: {why}")
    if not paths:
        raise Refused(
            f"copies of {name} go to no sensor {str(check.sensor)!r} now: nothing was sent"
        )
    if paths * check.count > BEACONS_MAX:
        raise Refused(
            f"copies of {name} take {paths} paths, so {check.count} on each are more than "
            f"{BEACONS_MAX}: ask for at most {BEACONS_MAX // paths}"
        )


def _check_length(
    paths: list[_PathUnderTest], check: Check, resolved_session: ResolvedSession
) -> None:
    """Refuse what would be cut by the path, unless that is what is to be seen."""
    own = resolved_session.session.packet_length
    limits = [path.copy_path.longest for path in paths if path.copy_path.longest not in (None, own)]
    longest = min((limit for limit in limits if limit is not None), default=check.length)
    if check.length > longest and not check.may_be_cut:
        raise Refused(
            f"{check.length} bytes do not fit the path to the sensors of session "
            f"{resolved_session.session.name!r}, at most {longest} do: ask for less, or let them "
            "be cut"
        )

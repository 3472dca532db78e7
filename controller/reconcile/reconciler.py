"""Desired state to switches: who must write, what is verified, and how everything stands.

Events only say that something changed (``changed``). Each connected bridge has one writer
(controller/bridge.py), so that a busy bridge never delays another. Everything shown to people is
worked out from what the writers have verified.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import structlog

from controller.reconcile.bridge.writer import BridgeWriter
from controller.reconcile.report.counter_poller import CountReader
from controller.reconcile.snapshot import DesiredWorld, Snapshot
from controller.reconcile.bridge.drift import contested
from controller.reconcile.report.explaining import explain_frame
from controller.reconcile.report.flow_list import list_flows
from controller.status.losses import with_counts, with_shed
from controller.reconcile.protocols import BridgeMemory, BridgeNames, Deletions, Holdings
from controller.reconcile.bridge.programs import Programs
from controller.southbound.switch import Switch
from controller.southbound.ovsdb.tunnel_port import TunnelWish
from controller.reconcile.report.describe import WriterView, describe_bridge, describe_session, home
from controller.status.values import (
    BridgeStatus,
    Check,
    Copies,
    Measure,
    SessionStatus,
    Verification,
    Vitals,
)
from controller.status.session_counters import Tallies
from controller.reconcile.tunnel_demand import NoTunnels, Tunnelling, tunnel_wishes, with_tunnels
from controller.process.time_slices import TURNS
from controller.reconcile.bridge.confirmed import Depth
from controller.reconcile.report.verify import Verifier
from flows.compile import Program
from flows.errors import CloudtapError, Refused
from flows.explain.explain import Explanation
from flows.explain.feed import Feed, feed_of
from flows.model.session import CollectorId, Dpid, NetworkId, PortId, SessionId

TUNNELS_S = 2.0
"""An answer waits so long for tunnel ports that are being made, in seconds."""
LIMITS_FRESH_S = 0.2
"""Counters of copies are read at most this often while sessions have limits, in seconds."""

log = structlog.get_logger(__name__)


class Reconciler:
    """Keeps every bridge what the world asks for; see Reconciling for what the API may ask.

    ``greet`` looks at a bridge that has connected, before it is written to; it raises what makes
    the bridge unfit. ``settle`` returns when the data paths of these bridges follow their flow
    tables: True when that is known.
    """

    def __init__(
        self,
        world: DesiredWorld,
        deletions: Deletions,
        holdings: Holdings,
        names: BridgeNames,
        greet: Callable[[Switch], None],
        settle: Callable[[Collection[Switch], float], bool],
        problems: Callable[[], Sequence[str]],
        queues: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        self._world, self._deletions, self._holdings = world, deletions, holdings
        self._names = names
        self._greet, self._settle, self._problems, self._queues = greet, settle, problems, queues
        self.ready = threading.Event()
        """Set when enough is known of the world to write to switches."""
        self._writers: dict[Dpid, BridgeWriter] = {}
        self._last: dict[Dpid, WriterView] = {}
        self._handler_errors = 0
        self._released = 0
        self._attempted = threading.Condition()
        self._tallies = Tallies()
        self.tunnels: Tunnelling = NoTunnels()
        """Has tunnel ports made; not there while nobody gives another."""
        self.memory: BridgeMemory | None = None
        """Remembers bridges; without it none can be forgotten."""
        self._counts = CountReader()
        self._verifier = Verifier(self._world.snapshot, self._writing, self._counts)
        self._programs = Programs()

    # --- events -------------------------------------------------------------------------------

    def connect(self, switch: Switch) -> None:
        """A bridge has connected: write to it from now on."""
        tally = self._tallies.of(switch.dpid)
        writer = BridgeWriter(
            switch, self._world.snapshot, self._greet, self.ready, self._tell, tally,
            self._holdings, self._programs,
        )  # fmt: skip
        with self._attempted:
            old, self._writers[switch.dpid] = self._writers.get(switch.dpid), writer
        if old is not None:
            old.stop()
        writer.start()
        writer.wake()  # the others have nothing to do: the world is as it was
        log.info("bridge connected", bridge=switch.name, dpid=f"{switch.dpid:016x}")

    def disconnect(self, switch: Switch) -> None:
        """A bridge is gone; its flows go on working, and nothing is forgotten."""
        with self._attempted:
            writer = self._writers.get(switch.dpid)
            if writer is None or writer.switch is not switch:
                return
            del self._writers[switch.dpid]
            self._last[switch.dpid] = WriterView.of(writer, is_connected=False)
            self._attempted.notify_all()
        writer.stop()
        log.warning("bridge disconnected", bridge=switch.name, dpid=f"{switch.dpid:016x}")

    def changed(self) -> int:
        """Something in the world changed; returns the version that knows of it."""
        version = self._world.touch()
        self.tunnels.wake()
        for writer in self._writing():
            writer.wake()
        return version

    def recheck(self, depth: Depth, name: str | None = None) -> None:
        """Read again what every bridge has, or the one of a name, and repair what drifted."""
        for writer in self._writing():
            if name in (None, writer.switch.name):
                writer.recheck(depth)

    def handler_failed(self, dpid: int | None, error: Exception) -> None:
        """An event handler failed: the bridge it was about is degraded, and checked again."""
        self._handler_errors += 1
        writer = self._writers.get(Dpid(dpid)) if dpid is not None else None
        if writer is not None:
            writer.fail(f"an event could not be handled: {error}")
            writer.recheck(Depth.COOKIES)

    def stop(self) -> None:
        """Write no more; every flow stays."""
        for writer in self._writing():
            writer.stop()

    # --- copies, as switches count them ---------------------------------------------------------

    def count_copies(self, sessions: Iterable[int]) -> None:
        """Ask the bridges that may have copied for these sessions how much it was."""
        numbers = frozenset(sessions)
        for writer in self._writing():
            if not numbers.isdisjoint(writer.verified.served):
                self._counts.read(writer, fresh_s=LIMITS_FRESH_S)

    def copies_of(self, session: int) -> Copies:
        """All copies of a session, as far as they were counted."""
        return self._tallies.made(session)

    def parts_of(self, session: int) -> Mapping[tuple[Dpid, Measure], tuple[Copies, Copies]]:
        """The same by bridge and measure: what was before the switch began at 0, and its report."""
        return self._tallies.parts_of(session)

    def restore_copies(
        self, dpid: Dpid, measure: Measure, session: int, before: Copies, last: Copies
    ) -> None:
        """Go on with what an earlier controller has counted."""
        self._tallies.of(dpid).restore(session, measure, before, last)

    # --- what the API asks ----------------------------------------------------------------------

    def bring(self, timeout_s: float) -> bool:
        """Bring every bridge to the state now in the store; see Reconciling."""
        deadline = time.monotonic() + timeout_s
        version = self.changed()
        if not self.ready.is_set():
            return False
        if self.tunnels.prepare(min(timeout_s, TUNNELS_S)):
            version = self.changed()
        with self._attempted:
            self._attempted.wait_for(
                lambda: all(w.has_tried(version) for w in self._ours()), timeout_s
            )
        self.settle(max(0.1, deadline - time.monotonic()))
        is_gone = self.finish_deletions()
        return is_gone and all(w.has_verified(version) for w in self._writing())

    def settle(self, timeout_s: float) -> None:
        """Wait until the data path of every bridge follows the plans that were applied."""
        unsettled = [(writer, writer.done) for writer in self._writing() if writer.is_unsettled]
        switches = [writer.switch for writer, _ in unsettled]
        if unsettled and self._settle(switches, timeout_s):
            for writer, done in unsettled:
                writer.settle(done)

    def finish_deletions(self) -> bool:
        """Forget deleted sessions that no bridge makes copies of; True when none is left over."""
        snapshot = self._world.snapshot()
        if not snapshot.deleting:
            return True
        if any(w.may_bring_back(snapshot.version) for w in self._writing()):
            return False
        number = snapshot.numbers.session
        gone = [s for s in snapshot.deleting if not self._holdings.holders(number[s])]
        if gone:
            self._deletions.finish_deletions(gone)
            self.changed()
        return len(gone) == len(snapshot.deleting)

    def release_numbers(self) -> None:
        """Free numbers that nothing has any more, once no bridge can give them their old meaning.

        Every bridge that was ever ours must be here and verified: one that is away may still send
        packets with an old link tag to the others.
        """
        version = self._world.snapshot().version
        if version == self._released:
            return
        clean = {writer.dpid for writer in self._writing() if writer.has_verified(version)}
        if clean.issuperset(self._known()):
            self._world.release_numbers(version)
            self._released = version
            self._tallies.keep(frozenset(self._world.snapshot().numbers.session.values()))

    def forget(self, dpid: Dpid, who: str) -> None:
        """Forget a bridge that will not come back; see Reconciling."""
        name = self._names.bridge_name(dpid)
        with self._attempted:  # it does not connect meanwhile
            if dpid in self._writers:
                raise Refused(
                    f"bridge {name!r} is connected: take this controller off it first, for example "
                    f"with `ovs-vsctl del-controller {name}` on its host, or switch it off"
                )
            if self.memory is not None:
                self.memory.forget(dpid, who)
            self._last.pop(dpid, None)
            self._programs.forget(dpid)
        log.info("bridge forgotten", bridge=name, dpid=f"{dpid:016x}", who=who)

    def tunnel_wishes(self) -> Mapping[Dpid, TunnelWish]:
        """What tunnel ports each bridge of ours needs now."""
        if not self.ready.is_set():
            return {}
        return tunnel_wishes(self._world.snapshot(), self._writing())

    def writes_to(self, dpid: Dpid) -> bool:
        """Whether this bridge is connected, and ours."""
        with self._attempted:
            return dpid in self._writers and self._writers[dpid].is_ours

    def session_status(self, session: SessionId) -> SessionStatus:
        """The standing of one session."""
        try:
            snapshot = self._world.snapshot()
        except CloudtapError as problem:
            return describe_session(session, None, [], str(problem), {})
        number = snapshot.numbers.session.get(session)
        holders = self._holdings.holders(number) if number is not None else frozenset[Dpid]()
        holding = {dpid: self._names.bridge_name(dpid) for dpid in holders}
        views = self._views_of(session, number, snapshot)
        status = describe_session(session, snapshot, views, None, holding)
        if number is not None:
            name_of = self._names.bridge_name
            status = with_counts(status, self._tallies, number, name_of, holders)
        return with_tunnels(status, snapshot, session, self.tunnels, self._names.bridge_name)

    def bridges(self) -> Sequence[BridgeStatus]:
        """Every bridge that is, or was, known; by name."""
        for writer in self._writing():
            if writer.is_capped:
                self._counts.read(writer)
        views = {view.dpid: view for view in self._views()}
        names = {dpid: self._names.bridge_name(dpid) for dpid in self._holdings.bridges()}
        names |= {dpid: view.name for dpid, view in views.items()} | self._names.bridge_names()
        snapshot = self._safe_snapshot()
        found = [describe_bridge(d, n, views.get(d), snapshot) for d, n in names.items()]
        found = [with_shed(status, self._tallies.of(status.dpid)) for status in found]
        return sorted(found, key=lambda status: (status.name, status.dpid))

    def flows(self, dpid: Dpid) -> Sequence[str]:
        """The meters and flows that one bridge should have, with the reason of each flow."""
        survey = self._world.snapshot().survey
        with TURNS.taken():
            return list_flows(Program(dpid), survey, TURNS.pause)

    def place_of(self, port: str) -> tuple[str, int] | None:
        """Where a port is now: bridge name and OpenFlow port number."""
        snapshot = self._safe_snapshot()
        if snapshot is None:
            return None
        place = snapshot.survey.world.placements.get(PortId(port))
        if place is None:
            return None
        return self._names.bridge_name(place.dpid), place.ofport

    def vitals(self) -> Vitals:
        """How the controller itself is."""
        writers = self._writing()
        queues = {
            "answers of switches": sum(writer.switch.waiting for writer in writers),
            "bridges to be written": sum(writer.is_due for writer in writers),
            **self._queues(),
        }
        return Vitals(self.ready.is_set(), self._handler_errors, queues)

    def explain(self, port: PortId, frame: bytes) -> Explanation:
        """What happens to a frame that a port sends; see Reconciling."""
        return explain_frame(self._world.snapshot().survey, port, frame)

    def verify(self, session: SessionId, wish: Check) -> Verification:
        """Send beacons by each way of a session's copies; see Reconciling."""
        return self._verifier.verify(session, wish)

    def feed(self, collector: CollectorId) -> Feed | None:
        """What the sensors of a collector get; None when it is not known (any more)."""
        found = feed_of(self._world.snapshot().survey, collector)
        if found is None:  # a collector that no session uses has changed nothing so far
            self.changed()
            found = feed_of(self._world.snapshot().survey, collector)
        return found

    def tag_of(self, network: NetworkId) -> int | None:
        """The 802.1Q tag that copies of a network wear where one is needed."""
        snapshot = self._safe_snapshot()
        return None if snapshot is None else snapshot.numbers.tag.get(f"network:{network}")

    def problems(self) -> Sequence[str]:
        """What hinders the whole system."""
        found = list(self._problems())
        try:
            untagged = self._world.snapshot().survey.untagged
            found += [str(refusal) for refusal in untagged]
        except CloudtapError as problem:
            found.append(str(problem))
        found += [contested(w.switch.name) for w in self._writing() if w.drifts.go_on]
        if self._handler_errors:
            found.append(f"{self._handler_errors} events could not be handled: see the log")
        return found

    # --- inside -------------------------------------------------------------------------------

    def _tell(self, taken_back: Dpid | None) -> None:
        with self._attempted:
            self._attempted.notify_all()
        if taken_back is not None:
            # tags on links mean what the bridge at the other end takes them for
            for writer in self._writing():
                dpid, survey = writer.dpid, writer.verified.survey
                if dpid != taken_back and survey is not None and survey.is_joined(dpid, taken_back):
                    writer.recheck(Depth.COOKIES)

    def _writing(self) -> list[BridgeWriter]:
        with self._attempted:
            return self._ours()

    def _ours(self) -> list[BridgeWriter]:
        """The bridges that we write to; with ``_attempted`` held."""
        return [writer for writer in self._writers.values() if writer.is_ours]

    def _known(self) -> set[Dpid]:
        """Every bridge that may have a flow of ours."""
        places = self._world.snapshot().survey.world.dpids
        return {*places, *self._names.bridge_names(), *self._holdings.bridges()}

    def _safe_snapshot(self) -> Snapshot | None:
        try:
            return self._world.snapshot()
        except CloudtapError:
            return None

    def _views(self) -> list[WriterView]:
        """What is known of each bridge that is, or was, connected."""
        with self._attempted:
            for dpid, writer in self._writers.items():
                self._last[dpid] = WriterView.of(writer, is_connected=True)
            return list(self._last.values())

    def _views_of(
        self, session: SessionId, number: int | None, snapshot: Snapshot
    ) -> list[WriterView]:
        """The bridges that have to do with a session, or may have; counted anew."""
        standing = snapshot.survey.standings.get(session)
        wanted = set(self._holdings.holders(number)) if number is not None else set()
        wanted |= home(standing, snapshot) if standing is not None else set()
        with self._attempted:
            wanted |= {d for d, w in self._writers.items() if w.verified.concerns(number)}
            wanted |= {d for d, v in self._last.items() if v.verified.concerns(number)}
            writers = [self._writers[dpid] for dpid in sorted(wanted) if dpid in self._writers]
        for writer in writers:
            if number is not None and writer.is_ours:
                self._counts.read(writer, number)
        with self._attempted:
            for writer in writers:
                if self._writers.get(writer.dpid) is writer:
                    self._last[writer.dpid] = WriterView.of(writer, is_connected=True)
            return [self._last[dpid] for dpid in sorted(wanted) if dpid in self._last]

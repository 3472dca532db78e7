"""Answers about sessions, bridges and packets, from what the writers have confirmed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from heapq import nsmallest

from controller.process import TIME_SLICES, ChangeSignal, Yielder
from controller.reconcile.bridge import BridgeWriter, WriterView, contested_reason
from controller.reconcile.protocols import (
    BridgeNotes,
    Doubting,
    InstalledSessions,
    KnownBridges,
    Mirroring,
    NoDoubts,
    NoMirrors,
    NoNotes,
    Tunnelling,
)
from controller.reconcile.report.counter_poller import CounterPoller
from controller.reconcile.report.crowded import with_crowded_bridge, with_crowded_networks
from controller.reconcile.report.describe import (
    describe_bridge,
    describe_session,
    explained,
    home,
    leaving,
    passed,
    stale_sentence,
    with_bridge_doubts,
    with_doubts,
    with_mirrors,
    with_notes,
    with_stale_bridges,
    with_tapped_bridge,
    with_tunnels,
    with_undelivered,
    with_unknown_bridges,
)
from controller.reconcile.report.pairs import Lately, with_bridge_pair, with_pairs
from controller.reconcile.report.session_bridges import BridgesOfSessions, SessionBridges
from controller.reconcile.report.verify import Verifier
from controller.reconcile.snapshot import Snapshot, SnapshotBuilder
from controller.reconcile.writers import Writers
from controller.status import (
    BridgeStatus,
    Check,
    Inspecting,
    LeftOut,
    PortPlace,
    SessionStatus,
    Uncounted,
    UndeclaredInterface,
    UnopenedInterface,
    Verification,
    Vitals,
    caps_on,
    uncounted_sentence,
    with_counts,
    with_shed,
    with_uncounted,
    with_uncounted_bridge,
    words_of_caps,
)
from flows.compile import Program
from flows.errors import CloudtapError, Refused
from flows.explain import Answer, Explanation, Feed, explain, feed_of
from flows.model import (
    NO_OWNER,
    Collector,
    CollectorId,
    Dpid,
    NetworkId,
    Placement,
    PortId,
    PortKind,
    Session,
    SessionId,
)
from flows.openflow import Flow
from flows.resolve import ResolvedWorld, sensor_notes

NO_DOUBTS, NO_NOTES, NO_MIRRORS = NoDoubts(), NoNotes(), NoMirrors()
NOTHING_LATELY: Lately = lambda dpid, name: ()  # noqa: E731
LISTED_TOGETHER = 64
"""So many flows are formatted before other threads may run."""


@dataclass(frozen=True, slots=True)
class _Moment:
    """What is known at one moment: the world, why bridges are known as they were, links down."""

    snapshot: Snapshot
    stale: Mapping[Dpid, str]
    links_down: Set[Placement]


class Inspector(Inspecting):
    """What the API may ask to be shown; see the Protocol. It changes nothing.

    ``problems`` are the parts that may have sentences about what hinders the whole system, and
    ``queues`` those in which something may wait, by what it is. ``certificates`` returns what is
    wrong with the certificate of a bridge's host, or ours, when that bridge connects. ``pairs``
    returns what somebody has done lately to the segmenting pair of a bridge.
    """

    def __init__(
        self,
        *,
        changes: ChangeSignal,
        snapshots: SnapshotBuilder,
        writers: Writers,
        counters: CounterPoller,
        installed_sessions: InstalledSessions,
        bridges: KnownBridges,
        tunnels: Tunnelling,
        is_ready: Callable[[], bool],
        mirrors: Mirroring = NO_MIRRORS,
        doubts: Doubting = NO_DOUBTS,
        problems: Sequence[Callable[[], Iterable[str]]] = (),
        queues: Mapping[str, Callable[[], int]] | None = None,
        notes: BridgeNotes = NO_NOTES,
        certificates: Callable[[Dpid], tuple[str, ...]] = lambda dpid: (),
        pairs: Lately = NOTHING_LATELY,
    ) -> None:
        self._changes, self._snapshots, self._writers = changes, snapshots, writers
        self._counters, self._installed_sessions = counters, installed_sessions
        self._bridges, self._tunnels, self._mirrors = bridges, tunnels, mirrors
        self._is_ready = is_ready
        self._doubts, self._problems, self._queues = doubts, problems, queues or {}
        self._notes, self._certificates, self._pairs = notes, certificates, pairs
        self._session_bridges = BridgesOfSessions(writers, installed_sessions, counters.counters)
        self._verifier = Verifier(snapshots.snapshot, writers.writing, counters, self._makers_of)

    def session_status(self, session: SessionId) -> SessionStatus:
        """The state of one session."""
        return self._session_status(session, self._session_bridges.find, self._now())

    def session_statuses(self, sessions: Iterable[SessionId]) -> Iterator[SessionStatus]:
        """The state of each of many sessions; see Inspecting."""
        yielder = Yielder()
        find, now = self._session_bridges.index(yielder.pause), self._now()
        for session in sessions:
            yield self._session_status(session, find, now)
            yielder.pause()

    def _now(self) -> _Moment | CloudtapError:
        """What is known now, once for all that one answer shows; or why it is not."""
        try:
            snapshot = self._snapshots.snapshot()
        except CloudtapError as problem:
            return problem
        return _Moment(snapshot, self._notes.stale(), self._snapshots.links_down())

    def _session_status(
        self,
        session: SessionId,
        find: Callable[[int], SessionBridges],
        now: _Moment | CloudtapError,
    ) -> SessionStatus:
        if isinstance(now, CloudtapError):
            return describe_session(session, None, [], str(now), {})
        status = self._described(session, find, now)
        return with_pairs(status, now.snapshot, session, self._lost_at_pair)

    def _described(
        self, session: SessionId, find: Callable[[int], SessionBridges], now: _Moment
    ) -> SessionStatus:
        """The same without what is known of segmenting pairs."""
        snapshot = now.snapshot
        number = snapshot.numbers.session.get(session)
        found = find(number) if number is not None else SessionBridges()
        name_of = self._bridges.bridge_name
        holder_names = {dpid: name_of(dpid) for dpid in found.holders}
        resolved_session = snapshot.resolved.sessions.get(session)
        at_home = home(resolved_session, snapshot) if resolved_session is not None else set()
        ahead: set[Dpid] = set()
        if resolved_session is not None:
            ahead = passed(resolved_session, snapshot, at_home | found.concerned)
        if number is not None:
            for writer in found.counting:
                self._counters.read(writer, number)
        views = self._writers.views_of(found.concerned | found.holders | at_home | ahead)
        status = describe_session(session, snapshot, views, None, holder_names)
        if number is not None:
            counted = found.counted | {writer.dpid for writer in found.counting}
            status = with_counts(
                status, self._counters.counters, number, name_of, found.holders, counted
            )
            limits = snapshot.limits.get(session)
            status = with_uncounted(
                status,
                self._uncounted(found.counting, number),
                has_limit=limits is not None and limits.counts_copies,
            )
        status = self._with_missing(status, snapshot, session)
        status = with_undelivered(status, snapshot, session, now.links_down)
        status = with_crowded_networks(status, snapshot, session, name_of)
        status = with_doubts(status, snapshot, session, self._doubts)
        status = with_unknown_bridges(status, self._notes)
        return with_stale_bridges(status, snapshot, session, now.stale, name_of)

    def _lost_at_pair(self, dpid: Dpid, name: str) -> Iterator[str]:
        """What the segmenting pair of a bridge has lost lately."""
        yield from self._counters.pairs.lately(dpid, name)
        yield from self._pairs(dpid, name)

    def _with_missing(
        self, status: SessionStatus, snapshot: Snapshot, session: SessionId
    ) -> SessionStatus:
        """A status, and why there are no ports for its tunnels, or no Mirrors for its sources."""
        name_of = self._bridges.bridge_name
        status = with_tunnels(status, snapshot, session, self._tunnels, name_of)
        return with_mirrors(status, snapshot, session, self._mirrors, name_of)

    def _uncounted(
        self, writers: Iterable[BridgeWriter], number: int | None = None
    ) -> Mapping[str, Uncounted]:
        """The bridges, by name, that do not tell their counters, or those of one session."""
        found = ((w, self._counters.uncounted(w.dpid, number)) for w in writers)
        return {self._bridges.bridge_name(w.dpid): one for w, one in found if one is not None}

    def bridges(self) -> Sequence[BridgeStatus]:
        """Every bridge that is, or was, known; by name."""
        for writer in self._writers.writing():
            if writer.is_capped:
                self._counters.read(writer)
        views = {view.dpid: view for view in self._writers.views()}
        names = {d: self._bridges.bridge_name(d) for d in self._installed_sessions.bridges()}
        names |= {dpid: view.name for dpid, view in views.items()} | self._bridges.bridge_names()
        snapshot, yielder = self._safe_snapshot(), Yielder()
        stale, found = self._notes.stale(), list[BridgeStatus]()
        for dpid, name in names.items():
            status = self._bridge_status(dpid, name, views.get(dpid), snapshot)
            found.append(with_notes(status, self._notes, stale))
            yielder.pause()
        return sorted(found, key=lambda status: (status.name, status.dpid))

    def _bridge_status(
        self, dpid: Dpid, name: str, view: WriterView | None, snapshot: Snapshot | None
    ) -> BridgeStatus:
        status = describe_bridge(dpid, name, view, snapshot)
        status = with_tapped_bridge(status, snapshot, self._bridges.bridge_name)
        status = with_shed(status, self._counters.counters.of(dpid))
        status = with_uncounted_bridge(status, self._counters.uncounted(dpid))
        age_s = self._counters.age_s(dpid) if status.connected else None
        status = replace(status, reasons=(*status.reasons, *self._certificates(dpid)))
        status = replace(status, hosts=self._bridges.hosts_of(dpid), counters_age_s=age_s)
        status = with_crowded_bridge(status, snapshot)
        status = with_bridge_pair(status, snapshot, self._lost_at_pair)
        return with_bridge_doubts(status, self._doubts.of_bridge(dpid))

    def flows(self, dpid: Dpid) -> Sequence[str]:
        """The meters and flows that one bridge should have, with the reason of each flow."""
        resolved = self._snapshots.snapshot().resolved
        with TIME_SLICES.taken():
            return _list_flows(Program(dpid), resolved, TIME_SLICES.pause)

    def places_of(self, ports: Iterable[str]) -> Mapping[str, PortPlace]:
        """Where ports are now; see Inspecting."""
        snapshot, yielder = self._safe_snapshot(), Yielder()
        if snapshot is None:
            return {}
        placements, found = snapshot.resolved.world.placements, dict[str, PortPlace]()
        for port in ports:
            place = placements.get(PortId(port))
            if place is not None:
                dpid = place.dpid if place.owner == NO_OWNER else place.owner
                found[port] = PortPlace(dpid, self._bridges.bridge_name(dpid), place.ofport)
            yielder.pause()
        return found

    def left_out(self, most: int) -> LeftOut:
        """Interfaces that are in no inventory, and those that are not open; see Inspecting."""
        named, left = self._bridges.bridge_names(), self._bridges.undeclared()
        named |= {dpid: self._bridges.bridge_name(dpid) for dpid in left.keys() - named.keys()}
        undeclared = [
            (named.get(dpid, ""), name, dpid) for dpid, names in left.items() for name in names
        ]
        unopened = self._bridges.unopened()
        return LeftOut(
            [self._undeclared(*one, named) for one in nsmallest(most, undeclared)],
            len(undeclared),
            nsmallest(most, (UnopenedInterface(r.bridge, r.name, r.error) for r in unopened)),
            len(unopened),
        )

    def _undeclared(
        self, bridge: str, interface: str, dpid: Dpid, named: Mapping[Dpid, str]
    ) -> UndeclaredInterface:
        row = self._bridges.row_of(dpid, interface)
        is_one = sum(name == bridge for name in named.values()) == 1
        reference = bridge if is_one else f"{dpid:#x}"
        iface_id, mac = (None, None) if row is None else (row.iface_id, row.attached_mac)
        return UndeclaredInterface(bridge, interface, reference, iface_id, mac)

    def looked_for(self, ports: Iterable[PortId]) -> Mapping[PortId, str]:
        """Why each of these ports is on no bridge; see Inspecting."""
        return self._bridges.looked_for(ports)

    def vitals(self) -> Vitals:
        """How the controller itself is."""
        writers = self._writers.writing()
        queues = {
            "answers of switches": sum(writer.switch.waiting for writer in writers),
            "bridges to be written": sum(writer.is_due for writer in writers),
            **{name: waiting() for name, waiting in self._queues.items()},
        }
        return Vitals(self._is_ready(), self._writers.handler_errors, queues)

    def explain(self, port: PortId, frame: bytes) -> Explanation:
        """What happens to a frame that a port sends; see Inspecting."""
        snapshot = self._snapshots.snapshot()
        away = {view.dpid: view.certain for view in self._writers.views_away()}
        told = {
            dpid: there for dpid, there in away.items() if there not in (None, snapshot.resolved)
        }
        found = _explain_frame(snapshot.resolved, port, frame, self._snapshots.links_down(), told)
        for dpid in {each.bridge for each in found.answers if each.bridge is not None}:
            for writer in self._writers.find([dpid]):
                self._counters.read(writer)
        answers = (self._explained(each, snapshot) for each in found.answers)
        said = [self._with_caps(each, snapshot) for each in answers]
        said += (self._leaving(session, snapshot) for session in snapshot.deleting.values())
        return replace(found, answers=tuple(said))

    def _explained(self, answer: Answer, snapshot: Snapshot) -> Answer:
        """An answer, with what is known of the session and of the bridge that makes the copy."""
        holders = self._holders(answer.session.id, snapshot)
        decide = (answer.bridge, answer.outdated)
        concerned = {*holders, *(dpid for dpid in decide if dpid is not None)}
        if answer.bridge is not None:
            resolved_session = snapshot.resolved.sessions[answer.session.id]
            concerned |= passed(resolved_session, snapshot, [answer.bridge])
        views = self._writers.views_of(concerned)
        return explained(answer, snapshot, views, holders)

    def _leaving(self, session: Session, snapshot: Snapshot) -> Answer:
        """What is known of a session that is being deleted: bridges may still make its copies."""
        holders = self._holders(session.id, snapshot)
        return leaving(session, self._writers.views_of(set(holders)), holders)

    def _holders(self, session: SessionId, snapshot: Snapshot) -> Mapping[Dpid, str]:
        """The names of the bridges that may be making copies of a session."""
        number = snapshot.numbers.session.get(session)
        held = self._installed_sessions.holders(number) if number is not None else ()
        return {dpid: self._bridges.bridge_name(dpid) for dpid in held}

    def _with_caps(self, answer: Answer, snapshot: Snapshot) -> Answer:
        """An answer about a copy, and what caps may leave out: the sentence says only the rule."""
        if not answer.is_copied or answer.bridge is None:
            return answer
        name, stale = self._bridges.bridge_name(answer.bridge), self._notes.stale()
        words = list(self._notes.troubles_of(answer.bridge, name))
        if answer.bridge in stale:
            words.append(stale_sentence(name, stale[answer.bridge]))
        number = snapshot.numbers.session[answer.session.id]
        if uncounted := self._counters.uncounted(answer.bridge, number):
            words.append(uncounted_sentence(name, uncounted))
        caps = caps_on(answer.session, snapshot.resolved)
        if caps:
            counters = self._counters.counters.of(answer.bridge)
            words.append(words_of_caps(caps, number, counters))
        return replace(answer, sentence="; ".join((answer.sentence, *words)))

    def verify(self, session: SessionId, check: Check) -> Verification:
        """Send beacons by each copy path of a session; see Inspecting."""
        return self._verifier.verify(session, check)

    def _makers_of(self, session: SessionId, snapshot: Snapshot) -> Mapping[Dpid, str]:
        """The names of the bridges that make copies of a session, or should, or may."""
        makers = self._installed_sessions.holders(snapshot.numbers.session[session])
        makers |= home(snapshot.resolved.sessions[session], snapshot)
        return {dpid: self._bridges.bridge_name(dpid) for dpid in makers}

    def feed(self, collector: CollectorId) -> Feed | None:
        """What the sensors of a collector get; None when it is not known (any more)."""
        found = feed_of(self._snapshots.snapshot().resolved, collector)
        if found is None:  # a collector that no session uses has changed nothing so far
            self._changes.changed()
            found = feed_of(self._snapshots.snapshot().resolved, collector)
        return found

    def sensor_notes(self, collector: Collector) -> Sequence[str]:
        """What is known of the tap ports of a collector; see Inspecting."""
        snapshot = self._safe_snapshot()
        return () if snapshot is None else tuple(sensor_notes(collector, snapshot.resolved.world))

    def tags_of(self, networks: Iterable[NetworkId]) -> Mapping[NetworkId, int]:
        """The 802.1Q tags that copies of networks wear where one is needed."""
        snapshot = self._safe_snapshot()
        tags = {} if snapshot is None else snapshot.numbers.tag
        named = ((network, f"network:{network}") for network in networks)
        return {network: tags[key] for network, key in named if key in tags}

    def problems(self) -> Sequence[str]:
        """What hinders the whole system."""
        found = [sentence for part in self._problems for sentence in part() if sentence]
        try:
            shortages = self._snapshots.snapshot().resolved.link_tag_shortages
            found += [str(refusal) for refusal in shortages]
        except CloudtapError as problem:
            found.append(str(problem))
        writers = self._writers.writing()
        found += [contested_reason(w.switch.name) for w in writers if w.drift.is_contested]
        uncounted = sorted(self._uncounted(writers).items())
        found += [uncounted_sentence(name, one) for name, one in uncounted]
        if self._writers.handler_errors:
            found.append(f"{self._writers.handler_errors} events could not be handled: see the log")
        return found

    def _safe_snapshot(self) -> Snapshot | None:
        try:
            return self._snapshots.snapshot()
        except CloudtapError:
            return None


def _explain_frame(
    resolved: ResolvedWorld,
    port: PortId,
    frame: bytes,
    links_down: Set[Placement],
    told: Mapping[Dpid, ResolvedWorld],
) -> Explanation:
    """What happens to a frame that a port sends.

    Raises:
        Refused: the port is gone, on no bridge, on one of somebody else, or a tap port.
    """
    sender = resolved.world.port_by_id.get(port)
    if sender is None:
        raise Refused(f"port {port!r} is in no inventory any more")
    if sender.kind is not PortKind.VM:
        raise Refused(f"port {sender.name!r} is a tap port: what it sends is dropped")
    if port not in resolved.world.placements:
        raise Refused(f"port {sender.name!r} is on no bridge now, so it sends nothing")
    if resolved.world.placements[port].owner:
        raise Refused(
            f"port {sender.name!r} is on a bridge of somebody else, who decides where its packets "
            "go: `ovs-appctl ofproto/trace` on its host shows that"
        )
    with TIME_SLICES.taken():
        return explain(resolved, sender, frame, TIME_SLICES.pause, links_down, told)


def _list_flows(program: Program, resolved: ResolvedWorld, pause: Callable[[], None]) -> list[str]:
    """The meters and flows of a bridge, with the reason of each flow; by table and priority.

    ``pause`` is called again and again: a bridge may have 100,000 flows.
    """
    by_table: dict[int, list[Flow]] = {}
    for flow in program.update(resolved, pause).put:
        by_table.setdefault(flow.table, []).append(flow)
    lines = [str(meter) for _, meter in sorted(program.meters.items())]
    for _, flows in sorted(by_table.items()):
        lines += (text for _, _, text in sorted(_written(flows, pause)))
        pause()
    return lines


def _written(flows: Iterable[Flow], pause: Callable[[], None]) -> Iterable[tuple[int, str, str]]:
    """Each flow with what it is sorted by."""
    for at, flow in enumerate(flows):
        if at % LISTED_TOGETHER == 0:
            pause()
        yield -flow.priority, str(flow.match), f"{flow}  # {flow.why}"

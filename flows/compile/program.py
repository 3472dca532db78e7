"""The program of one bridge: its compiled flows, updated incrementally when sessions change.

Flows that sessions share (tap points, the rules of a filter, the transport of copies to a tap port,
the identification of a sender) are counted by use, and compiled again only when a session starts or
stops using them. Compiling a bridge completely is adding all sessions to an empty program, so there
is one compiler only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from flows.compile.ahead import NOTHING_HELD, NOTHING_READY, Held, RulesAhead
from flows.compile.attach import compile_tap_bridge
from flows.compile.deliver import (
    bridge_meter,
    count_meters_of,
    deliver,
    fixed_delivery_flows,
    long_meter_of,
    meter_of,
    pool,
    tags_of,
    transport,
)
from flows.compile.exclusive import (
    NO_EXCLUSIVE_FLOWS,
    ExclusiveFlows,
    compile_exclusive,
    compile_meanwhile,
    fixed_exclusive_flows,
)
from flows.compile.filter import filter_key, filter_rules, filter_table_miss
from flows.compile.flow_set import FLOWS_BETWEEN_PAUSES, FlowSet
from flows.compile.overlap import (
    Move,
    is_move,
    late_changes,
    leaving_points,
    may_end_late,
    overlap,
)
from flows.compile.production import compile_production
from flows.compile.select import (
    NOTHING_SELECTED,
    TapPoint,
    fixed_selection_flows,
    identify,
    select,
    tap_point_flow,
)
from flows.compile.sink import FlowSink
from flows.compile.stages import FLOWS_TOGETHER
from flows.compile.turned import asks_both, is_turned, turned_filter
from flows.compile.ways import Ways
from flows.errors import InvalidValue
from flows.model import (
    CollectorId,
    CopyWay,
    Dpid,
    Filter,
    FilterId,
    NetworkId,
    Port,
    PortId,
    SessionId,
    World,
)
from flows.openflow import Flow, FlowKey
from flows.pipeline import check_flows
from flows.plan import Delta, Meter, Overlap, dropped_meter
from flows.resolve import BridgeView, Chain, ResolvedSession, ResolvedWorld

Shared = TypeVar("Shared")


@dataclass(frozen=True, slots=True)
class _SessionFlows:
    """What one session has on the bridge: its own flows and meters, and what it shares."""

    number: int
    resolved_session: ResolvedSession
    flows: tuple[Flow, ...] = ()
    tap_points: tuple[TapPoint, ...] = ()
    senders: tuple[Port, ...] = ()
    filters: tuple[FilterId, ...] = ()
    ways: tuple[CopyWay, ...] = ()
    pools: tuple[CollectorId, ...] = ()
    meters: tuple[Meter, ...] = ()


class _UseCounts(Generic[Shared]):
    """How many sessions use each of some shared things."""

    def __init__(self) -> None:
        self.count: Counter[Shared] = Counter()
        self._before: dict[Shared, int] = {}

    def change(self, keys: Iterable[Shared], by: int) -> None:
        """Add ``by`` users of each; it may be negative."""
        for key in keys:
            count = self.count.get(key, 0)
            self._before.setdefault(key, count)
            self.count[key] = count + by

    @property
    def touched(self) -> list[Shared]:
        """What was changed since the last ``settle``."""
        return list(self._before)

    def settle(self) -> tuple[list[Shared], list[Shared]]:
        """What lost its last user, and what got its first, since the last ``settle``."""
        before, self._before = self._before, {}
        gone = [key for key, count in before.items() if count and not self.count[key]]
        new = [key for key, count in before.items() if not count and self.count[key]]
        for key in before:
            if not self.count[key]:
                del self.count[key]
        return gone, new


class Program:
    """The compiled flows and meters of one bridge, by session.

    ``update`` compiles it for another resolved world. Not safe for use by several threads. On a
    bridge with meters (``has_meters``) these count copies, and frames too long for their path.
    """

    def __init__(self, dpid: Dpid) -> None:
        self.dpid = dpid
        self._has_meters = False
        self.flows = FlowSet()
        self.meters: dict[int, Meter] = {}
        """The meters that flows refer to, by number."""
        self._resolved: ResolvedWorld | None = None
        self._held, self._ready = NOTHING_HELD, dict[FilterId, RulesAhead]()
        self._left: list[Flow] = []
        self._pause: Callable[[], None] = lambda: None
        self._ways = Ways()
        self._clear()

    @property
    def has_meters(self) -> bool:
        """Whether the bridge has meters; a change makes the next update compile all flows again."""
        return self._has_meters

    @has_meters.setter
    def has_meters(self, has_meters: bool) -> None:
        if has_meters != self._has_meters:
            self._has_meters, self._resolved = has_meters, None

    def serves(self, session: SessionId) -> bool:
        """Whether this bridge makes copies for a session."""
        those = self._flows_by_session.get(session)
        return those is not None and bool(those.tap_points)

    @property
    def served(self) -> frozenset[int]:
        """The numbers of the sessions that this bridge makes copies for."""
        return frozenset(self._served)

    @property
    def ways(self) -> frozenset[CopyWay]:
        """The ways by which it lets copies from other bridges pass."""
        return self._ways.open

    @property
    def uncompilable(self) -> Mapping[int, str]:
        """Why sessions have no flows here although they should, by session number: a defect, or a
        value that nothing has refused. All others have theirs.
        """
        return dict(self._uncompilable)

    @property
    def filters(self) -> frozenset[int]:
        """What stands in FILTER_ID for the filters that its flows refer to."""
        return frozenset(self._filter_keys.values())

    @property
    def held_sessions(self) -> frozenset[SessionId]:
        """The sessions whose flows are not as the world of the last update says, but as before."""
        return frozenset(self._held.waiting) | self._users_of(self._held.filters)

    def find_ahead(self, resolved: ResolvedWorld) -> Held:
        """What could be left as it is until rules have come that another world asks for.

        Filters of which flows refer to another edition, and sessions that are new in that world, if
        their filters have many rules that are not here. A session that makes copies already waits
        for nothing, and on a bridge with links none does: other bridges may rely on its flows.
        """
        known = resolved.world.filter_by_id
        held = {
            key: compiled
            for key, (compiled, _) in self._filters.items()
            if key in known and known[key].edition != compiled.edition
        }
        before = self._resolved
        changed = None if before is None else resolved.changed_since(before, self.dpid)
        if before is None or changed is None or resolved.spanning_tree.link_ports(self.dpid):
            return Held(held)
        candidates = {*changed, *self._held.waiting}
        return Held(held, {key: f for key in candidates for f in self._awaited(resolved, key)})

    def _awaited(self, resolved: ResolvedWorld, session: SessionId) -> Iterator[FilterId]:
        """The filter whose rules a session should wait for, if there is one."""
        now = resolved.sessions.get(session)
        if now is None or not now.is_served or now.is_plain or now.is_exclusive:
            return
        before = None if self._resolved is None else self._resolved.sessions.get(session)
        is_new = session in self._held.waiting or before is None or not before.is_served
        wanted = resolved.world.filter_by_id.get(now.session.filter)
        if wanted is None or wanted.id in self._filters or not is_new:
            return
        if len(wanted.ingress) + len(wanted.egress) > FLOWS_TOGETHER:
            view = BridgeView(self.dpid, resolved, has_meters=self._has_meters)
            if self._compile_session(view, now).filters:
                yield wanted.id

    def _users_of(self, filters: Container[FilterId]) -> frozenset[SessionId]:
        """The sessions with flows here that have one of some filters."""
        return frozenset(
            key
            for key, those in self._flows_by_session.items()
            if those.resolved_session.session.filter in filters
        )

    def update(
        self,
        resolved: ResolvedWorld,
        pause: Callable[[], None] = lambda: None,
        sink: FlowSink | None = None,
        held: Held = NOTHING_HELD,
        ready: Mapping[FilterId, RulesAhead] = NOTHING_READY,
    ) -> Delta:
        """Compile what changed in ``resolved`` since the last update; the difference of the flows.

        All flows are compiled again when ``resolved`` does not follow the world of the last update.
        Then ``sink`` receives them as soon as they are compiled. ``pause`` is called every few
        flows, so that other work of the process is not delayed.

        What is ``held`` stays as it is. ``ready`` are rules that have come ahead: the bridge has
        them, so they are no change; those that they replace are ``left`` to be removed.

        Raises:
            InvalidFlow: a flow breaks the contract of its table, which is a defect of the compiler.
        """
        view = BridgeView(
            self.dpid, resolved, has_meters=self._has_meters, held=held.filters
        )  # fmt: skip
        self._pause, self._left = pause, []
        changed = resolved.changed_since(self._resolved, self.dpid)
        if changed is not None:
            changed = changed | self._released(view, held)
        self._held, self._ready = held, dict(ready)
        delta = (
            self._compile_all(view, sink)
            if changed is None
            else self._compile_changed(view, changed)
        )
        for key, ahead in ready.items():
            if self._filter_keys.get(key) != ahead.key:  # meanwhile its last user has gone
                self._left += ahead.flows
        self._resolved, self._ready = resolved, {}
        left, self._left = tuple(self._left), []
        return replace(delta, left=left) if left else delta

    def _released(self, view: BridgeView, held: Held) -> frozenset[SessionId]:
        """The sessions that were left as they were and are not any more, or the other way round."""
        waiting = self._held.waiting.keys() ^ held.waiting.keys()
        turned = {
            key
            for key in self._held.filters.keys() | held.filters.keys()
            if key in self._filters
            and key in view.filter_by_id
            and self._filters[key][0].edition != view.filter_by_id[key].edition
        }
        return frozenset(waiting) | (self._users_of(turned) if turned else frozenset())

    def follows(self, resolved: ResolvedWorld, held: Held = NOTHING_HELD) -> bool:
        """Whether nothing changes for another world; then the last update counts for that world.

        Of a thousand bridges nearly all have nothing to do with a change of one.
        """
        if self._resolved is None or resolved.changed_since(self._resolved, self.dpid) != set():
            return False
        if held != self._held:
            return False
        if self._ways.is_outdated(resolved.world.untold):
            return False
        known = resolved.world.filter_by_id
        if held.filters:
            known = {**known, **held.filters}
        if any(compiled is not known.get(f) for f, (compiled, _) in self._filters.items()):
            return False
        if self._pools and _has_other_reach(self._resolved.world, resolved.world):
            return False
        self._resolved = resolved
        return True

    def _compile_all(self, view: BridgeView, sink: FlowSink | None) -> Delta:
        """Compile all flows from nothing; the difference from those before."""
        old, self.flows = self.flows, FlowSet(sink)
        self.flows.pause = self._pause
        self._clear()
        self._ways = Ways(self._ways)
        attachment = view.world.attachments.get(self.dpid)
        self.flows.put(
            compile_production(view) if attachment is None else compile_tap_bridge(view, attachment)
        )
        self.flows.end_stage()
        self.flows.put(fixed_selection_flows())
        self.flows.put(fixed_exclusive_flows())
        self.flows.put(fixed_delivery_flows(view))
        self.flows.put([filter_table_miss()])
        self.meters = {meter.number: meter for meter in bridge_meter(view)}
        self._replace(view, view.resolved.sessions_at(self.dpid))
        self.flows.end_stage()
        return self.flows.changes_from(old)

    def _compile_changed(self, view: BridgeView, changed: Iterable[SessionId]) -> Delta:
        """Compile the flows that changed sessions have or share."""
        self.flows.pause = self._pause
        self.flows.record_changes()
        self._turning.clear()
        self._ending.clear()
        filters = {key: compiled for key, (compiled, _) in self._filters.items()}
        moves = self._replace(view, changed, self._resolved)
        delta = self.flows.changes()
        asked = list(self._asks_both(view, filters)) if view.link_ports else []
        if not (moves or self._turning or asked):
            return delta
        return replace(delta, overlap=self._overlap(view, moves, asked, delta))

    def _asks_both(self, view: BridgeView, before: Mapping[FilterId, Filter]) -> Iterator[Flow]:
        """What stands in for flows of sessions whose filter has other egress rules: those decide
        which bridge makes a copy.
        """
        now = {key: compiled for key, (compiled, _) in self._filters.items()}
        both = now.keys() & before.keys()
        changed = {key for key in both if now[key].egress != before[key].egress}
        old = self._resolved.sessions if self._resolved is not None else {}
        for session in sorted(self._users_of(changed)) if changed else ():
            those, known = self._flows_by_session[session], old.get(session)
            key = those.resolved_session.session.filter
            if not those.filters or known is None or known.session.filter != key:
                continue
            if known.is_served and is_turned(view, those.resolved_session):
                turned = turned_filter(view.world.numbers.filter[key], before[key], now[key])
                yield from asks_both(view, those.flows, turned)

    def _overlap(
        self, view: BridgeView, moves: list[Move], asked: list[Flow], delta: Delta
    ) -> Overlap:
        """What goes on while copies move between this bridge and others."""
        late = {key for move in moves for key in late_changes(view, move)}
        leaving, chains = leaving_points(moves), dict(self._chains)
        stand_ins = list(asked)
        for new, meanwhile in self._turning:
            if self._has_filters(view, meanwhile):
                stand_ins += meanwhile.flows
                for port in meanwhile.senders:
                    stand_ins += identify(view, port)
                chains |= meanwhile.chains
                kept = {flow.key for flow in meanwhile.flows}
                late |= {flow.key for flow in new.flows} - kept
                late.update(self._flows_of_ending(meanwhile))
        turned = {point for point, chain in chains.items() if chain != self._chains.get(point)}
        stand_ins += [
            tap_point_flow(
                view,
                point,
                {**self._sessions_at.get(point, {}), **leaving.get(point, {})},
                chains.get(point, ()),
            )
            for point in dict.fromkeys((*leaving, *turned))
        ]
        check_flows(stand_ins)
        return overlap(delta, late, stand_ins, self.flows.find, self.filters)

    def _flows_of_ending(self, meanwhile: ExclusiveFlows) -> Iterator[FlowKey]:
        """The own flows of sessions that have ended and are asked for a moment more."""
        asked = {s.session.id for chain in meanwhile.chains.values() for s in chain}
        for session in asked & self._ending.keys():
            yield from (flow.key for flow in self._ending[session].flows)

    def _has_filters(self, view: BridgeView, meanwhile: ExclusiveFlows) -> bool:
        """Whether the bridge has all rules that flows refer to which stand in for others."""
        before = self._resolved.world.filter_by_id if self._resolved is not None else {}
        return all(
            key in self._filters
            or (key in before and before[key].edition == view.filter_by_id[key].edition)
            for key in meanwhile.filters
        )

    def _clear(self) -> None:
        self._flows_by_session: dict[SessionId, _SessionFlows] = {}
        self._served: set[int] = set()
        self._uncompilable: dict[int, str] = {}
        self._sessions_at: dict[TapPoint, dict[int, ResolvedSession]] = {}
        """The copy sessions that are asked at each tap point, by number."""
        self._chains: dict[TapPoint, Chain] = {}
        self._exclusive: dict[NetworkId, ExclusiveFlows] = {}
        self._turning: list[tuple[ExclusiveFlows, ExclusiveFlows]] = []
        """What networks have in the middle of the change at hand, beside what they have then."""
        self._ending: dict[SessionId, _SessionFlows] = {}
        """What exclusive sessions had that end in the change at hand, and may end late."""
        self._senders: _UseCounts[PortId] = _UseCounts()
        self._used_filters: _UseCounts[FilterId] = _UseCounts()
        self._filters: dict[FilterId, tuple[Filter, tuple[Flow, ...]]] = {}
        self._filter_keys: dict[FilterId, int] = {}
        self._used_pools: _UseCounts[CollectorId] = _UseCounts()
        self._pools: dict[CollectorId, tuple[Flow, ...]] = {}

    def _replace(
        self,
        view: BridgeView,
        changed: Iterable[SessionId],
        previous: ResolvedWorld | None = None,
    ) -> list[Move]:
        """Replace the flows of changed sessions, and the flows that they share.

        Returns the sessions whose copies other bridges may make than in the ``previous`` world.
        """
        sessions_before = previous.sessions if previous is not None else {}
        moves: list[Move] = []
        touched: dict[TapPoint, None] = {}
        networks: dict[NetworkId, None] = {}
        for number, session in enumerate(changed):
            if number % FLOWS_BETWEEN_PAUSES == 0:
                self._pause()
            old = self._flows_by_session.pop(session, None)
            if old is not None:
                self._remove(old, touched)
                networks |= _contended(old.resolved_session)
            resolved_session = view.resolved.sessions.get(session)
            before = sessions_before.get(session)
            if old is not None and previous is not None:
                self._note_end(view, old, resolved_session, previous)
            if session in self._held.waiting:
                continue
            if resolved_session is not None and resolved_session.has_flows:
                new = self._compile_session(view, resolved_session)
                self._add(new, touched)
                networks |= _contended(resolved_session)
                is_whole = new.number not in self._uncompilable
                if is_whole and before is not None and is_move(view, before, resolved_session):
                    moves.append(_move(before, old, new))
        self.flows.end_stage()  # no flow resubmits packets to these sessions yet
        for network in networks:
            self._turn_exclusive(view, network, previous, touched)
        self._replace_tap_points(view, touched)
        self._settle_shared(view)
        return moves

    def _note_end(
        self,
        view: BridgeView,
        old: _SessionFlows,
        now: ResolvedSession | None,
        previous: ResolvedWorld,
    ) -> None:
        """An exclusive session that has ended may go on until other bridges have changed."""
        session = old.resolved_session.session.id
        before = previous.sessions.get(session)
        if before is not None and may_end_late(view, before, now, previous.world):
            self._ending[session] = old

    def _compile_session(
        self, view: BridgeView, resolved_session: ResolvedSession
    ) -> _SessionFlows:
        """What a session has here: nothing, if its flows cannot be compiled. Production and the
        other sessions do not wait for it.
        """
        try:
            return _session_flows(view, resolved_session)
        except InvalidValue as problem:
            number = view.world.numbers.session[resolved_session.session.id]
            self._uncompilable[number] = str(problem)
            return _SessionFlows(number, resolved_session)

    def _replace_tap_points(self, view: BridgeView, touched: Iterable[TapPoint]) -> None:
        left = [point for point in touched if not self._sessions_at.get(point)]
        unused = {point for point in left if point not in self._chains}
        self.flows.remove([tap_point_flow(view, point, {}, ()) for point in unused])
        self.flows.put(
            tap_point_flow(
                view, point, self._sessions_at.get(point, {}), self._chains.get(point, ())
            )
            for point in touched
            if point not in unused
        )
        for point in left:
            self._sessions_at.pop(point, None)

    def _turn_exclusive(
        self,
        view: BridgeView,
        network: NetworkId,
        previous: ResolvedWorld | None,
        touched: dict[TapPoint, None],
    ) -> None:
        """Compile the exclusive sessions of a network again, and what stands in meanwhile."""
        failed = self._uncompilable.keys()
        exclusive = compile_exclusive(view, network, failed)
        if previous is not None and view.link_ports:
            before = previous.arbitration(network, self.dpid, failed)
            meanwhile = compile_meanwhile(view, network, before, failed, self._ending.keys())
            if meanwhile is not None:
                self._turning.append((exclusive, meanwhile))
        self._replace_exclusive(network, exclusive, touched)

    def _replace_exclusive(
        self, network: NetworkId, new: ExclusiveFlows, touched: dict[TapPoint, None]
    ) -> None:
        """Replace what the exclusive sessions of a network have on this bridge."""
        old = self._exclusive.pop(network, NO_EXCLUSIVE_FLOWS)
        for by, those in ((-1, old), (1, new)):
            self._senders.change((port.id for port in those.senders), by)
            self._used_filters.change(those.filters, by)
            touched |= dict.fromkeys(those.chains)
        self.flows.remove(old.flows)
        self.flows.put(new.flows)
        for point in old.chains:
            del self._chains[point]
        self._chains |= new.chains
        if new is not NO_EXCLUSIVE_FLOWS:
            self._exclusive[network] = new

    def _remove(self, those: _SessionFlows, touched: dict[TapPoint, None]) -> None:
        self._served.discard(those.number)
        self._uncompilable.pop(those.number, None)
        for meter in those.meters:
            if self.meters[meter.number] is meter:
                del self.meters[meter.number]  # otherwise another session has the number by now
        self.flows.remove(those.flows)
        self._ways.leave(those.number, those.ways)
        for point in _own_tap_points(those):
            del self._sessions_at[point][those.number]
            touched[point] = None
        self._count(those, -1)

    def _add(self, those: _SessionFlows, touched: dict[TapPoint, None]) -> None:
        self._flows_by_session[those.resolved_session.session.id] = those
        for meter in those.meters:
            self.meters[meter.number] = meter
        self.flows.put(those.flows)
        self._ways.join(those.number, those.ways)
        if those.tap_points:
            self._served.add(those.number)
        for point in _own_tap_points(those):
            self._sessions_at.setdefault(point, {})[those.number] = those.resolved_session
            touched[point] = None
        self._count(those, 1)

    def _count(self, those: _SessionFlows, by: int) -> None:
        self._senders.change([port.id for port in those.senders], by)
        self._used_filters.change(those.filters, by)
        self._used_pools.change(those.pools, by)

    def _settle_shared(self, view: BridgeView) -> None:
        """Compile what got its first user, and remove what lost its last one."""
        ports = view.world.port_by_id
        gone_senders, new_senders = self._senders.settle()
        for port in gone_senders:
            self.flows.remove(identify(view, ports[port]))
        for port in new_senders:
            self.flows.put(identify(view, ports[port]))
        self._settle_ways(view)
        self._settle_filters(view)
        self._settle_pools(view)

    def _settle_ways(self, view: BridgeView) -> None:
        ports, before = view.world.port_by_id, self._ways.counting
        gone, new = self._ways.settle(
            view.world.untold,
            frozenset(view.link_ports if view.has_meters else ()),
            lambda way: tuple(transport(view, ports[way.tap], way.tag)),
        )
        self.flows.remove(gone)
        self.flows.put(new)
        now = self._ways.counting
        for number in before - now:
            self.meters.pop(dropped_meter(number).number)
        self.meters |= {meter.number: meter for meter in map(dropped_meter, now - before)}

    def _settle_filters(self, view: BridgeView) -> None:
        numbers, known = view.world.numbers.filter, view.filter_by_id
        gone, new = self._used_filters.settle()
        for old in gone:
            del self._filter_keys[old]
            self.flows.remove(self._filters.pop(old)[1])
        changed = [f for f, (compiled, _) in self._filters.items() if compiled is not known[f]]
        for wanted in (*new, *changed):
            if wanted in self._ready:
                self._adopt(wanted, self._ready[wanted])
                if self._filters[wanted][0] is known[wanted]:
                    continue
            if wanted in self._filters:
                self.flows.remove(self._filters[wanted][1])
            rules = tuple(filter_rules(numbers[wanted], known[wanted]))
            self.flows.put(rules)
            self._filters[wanted] = (known[wanted], rules)
            self._filter_keys[wanted] = filter_key(numbers[wanted], known[wanted])

    def _adopt(self, key: FilterId, ready: RulesAhead) -> None:
        """The rules of a filter have come ahead; those before stay, and nothing refers to them."""
        if key in self._filters:
            before = self._filters[key][1]
            self.flows.leave(before)
            self._left += before
        self.flows.adopt(ready.flows)
        self._filters[key] = ready.wanted, ready.flows
        self._filter_keys[key] = ready.key

    def _settle_pools(self, view: BridgeView) -> None:
        """Compile pools again when their sessions changed: sensors may have come, gone or moved."""
        touched = self._used_pools.touched
        gone, _ = self._used_pools.settle()
        if self._resolved is None or _has_other_reach(self._resolved.world, view.world):
            touched = [*self._used_pools.count, *gone]
        for wanted in touched:
            self.flows.remove(self._pools.pop(wanted, ()))
            if self._used_pools.count[wanted]:
                self._pools[wanted] = tuple(pool(view, view.world.collector_by_id[wanted]))
                self.flows.put(self._pools[wanted])


def _has_other_reach(one: World, other: World) -> bool:
    """Whether other sensors are known not to receive."""
    is_same = one.hops is other.hops and one.routes is other.routes
    return one.down != other.down or not is_same


def _contended(resolved_session: ResolvedSession) -> dict[NetworkId, None]:
    """The networks whose exclusive sessions are affected when a session changes, sorted."""
    return dict.fromkeys(sorted(resolved_session.networks)) if resolved_session.is_exclusive else {}


def _move(before: ResolvedSession, old: _SessionFlows | None, new: _SessionFlows) -> Move:
    """A session of which this bridge had ``old``, or nothing, and now has ``new``."""
    flows, points = (old.flows, old.tap_points) if old is not None else ((), ())
    after = new.resolved_session
    return Move(new.number, before, after, flows, new.flows, points, new.tap_points)


def _own_tap_points(those: _SessionFlows) -> tuple[TapPoint, ...]:
    """Where a copy session is asked; exclusive ones are asked in the chains of their networks."""
    return () if those.resolved_session.is_exclusive else those.tap_points


def _session_flows(view: BridgeView, resolved_session: ResolvedSession) -> _SessionFlows:
    """What a session has on this bridge; perhaps only the transport of its copies."""
    collector = resolved_session.collector
    assert collector is not None, "a session with flows has a collector"
    number = view.world.numbers.session[resolved_session.session.id]
    ways: tuple[CopyWay, ...] = ()
    if view.link_ports and not resolved_session.is_adrift:
        tags = dict.fromkeys(tags_of(view, resolved_session).values())
        taps = resolved_session.taps
        ways = tuple(CopyWay(tap.id, tag, tap.tenant) for tap in taps for tag in tags)
    is_reached = any(
        view.next_hop_of_copies(sensor, collector) is not None for sensor in collector.sensors
    )
    is_counted = is_reached or resolved_session.is_adrift
    makes_copies = is_counted and resolved_session.is_served
    selected = select(view, resolved_session) if makes_copies else NOTHING_SELECTED
    if not selected.tap_points:
        return _SessionFlows(number, resolved_session, ways=ways)
    # compile_exclusive asks for the filters of exclusive sessions
    has_own_filter = not (resolved_session.is_plain or resolved_session.is_exclusive)
    limits = (meter_of(view, resolved_session), long_meter_of(view, resolved_session))
    meters = (*limits, *count_meters_of(view, resolved_session))
    return _SessionFlows(
        number,
        resolved_session,
        flows=(*selected.flows, *deliver(view, resolved_session)),
        tap_points=selected.tap_points,
        senders=selected.senders,
        filters=(resolved_session.session.filter,) if has_own_filter else (),
        ways=ways,
        pools=(collector.id,) if is_reached and len(collector.sensors) > 1 else (),
        meters=tuple(meter for meter in meters if meter is not None),
    )

"""One connected bridge: dumps, plans applied as one bundle, meters, counters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set

from controller.southbound.openflow.partial_apply import Acceptance
from controller.southbound.openflow.alterations import tell_alterations
from controller.southbound.openflow.bundle import Bundling
from controller.southbound.errors import SwitchRefused, SwitchUnfit
from controller.southbound.openflow.features import PROBES
from controller.southbound.switch import FlowCounts, Metering, Rejected
from controller.southbound.wire.flow import (
    ALL_TABLES,
    Aggregate,
    FlowEntry,
    decode_aggregate,
    decode_flow_stats,
    encode_aggregate_request,
    encode_flow_stats_request,
    encode_instructions,
    scan_flow_stats,
)
from controller.southbound.wire.action import encode_actions
from controller.southbound.wire.message import (
    BundleStep,
    SwitchPort,
    decode_ports,
    encode_ports_request,
)
from controller.southbound.wire.meter import (
    ALL_METERS,
    MeterChange,
    decode_meter_counters,
    decode_meter_features,
    decode_meters,
    encode_meter,
    encode_meter_counters_request,
    encode_meter_delete,
    encode_meter_features_request,
    encode_meters_request,
)
from controller.southbound.wire.packet_out import (
    decode_sent,
    encode_packet_out,
    encode_port_stats_request,
)
from controller.status.values import Copies
from flows.plan.plan import Installed, Mark, Plan, Scan
from flows.openflow.flow import (
    OBJECT_MASK,
    OWNER,
    OWNER_MASK,
    OWNER_SHIFT,
    Action,
    Flow,
    make_cookie,
)
from flows.plan.meters import Meter, MeterPlan, is_our_meter, metered_by

OUR_COOKIE = OWNER << OWNER_SHIFT
NUDGE_S = 0.2
"""So long somebody who would nudge a switch waits for its other requests."""
LISTED_MEANWHILE = range(20_000, 150_000)
"""So many flows a switch lists while something else is done; the list of more could not wait."""
PAUSE_AFTER = 256
"""Flows that are looked at before other green threads may run."""

NO_METERS_HERE = (
    "the switch has no meters, so copies cannot be capped on it: do without `max_rate` here"
)


class OpenFlowSwitch(Bundling):
    """A bridge behind a connection (see the Switch protocol for what it promises).

    ``send`` takes whole messages and returns False once the connection is over. A request ends
    with SwitchTimeout when nothing has come for ``timeout_s`` seconds.
    """

    _meters_max: int | None = None  # not asked yet

    def our_flows(self) -> list[Installed]:
        """Every flow with our mark in its cookie, the learned ones included."""
        with self._lock:
            entries = self._flow_stats("list its flows")
            return [entry.installed() for entry in entries]

    def scan(self, wanted: Callable[[], Set[Mark]]) -> Scan:
        """Every flow with our mark in its cookie, the wanted ones by their marks alone.

        No match of a wanted flow is decoded. When a mark is there twice, all are decoded.
        ``wanted`` may take its time: a switch that has many flows lists them meanwhile.
        """
        found: set[Mark] = set()
        others: list[FlowEntry] = []
        with self._lock:
            is_long = self._aggregate(OUR_COOKIE, OWNER_MASK).flows in LISTED_MEANWHILE
        marks = None if is_long else wanted()
        with self._lock:
            for part in self._flow_stats_parts("list its flows", ALL_TABLES):
                marks = wanted() if marks is None else marks
                others += scan_flow_stats(part, marks, found)
        if any((flow.table, flow.priority, flow.cookie) in found for flow in others):
            return Scan(frozenset(), tuple(self.our_flows()))
        return Scan(found, tuple(flow.installed() for flow in others))

    def altered(self, flows: Iterable[Flow]) -> tuple[Flow, ...]:
        """Those of ``flows`` that are there under their own cookie, but do something else.

        Flows that share a table and a cookie are looked at together. The log says what they did.
        """
        there: dict[tuple[int, int], set[bytes]] = {}
        with self._lock:
            for entry in self._flow_stats("list its actions"):
                there.setdefault((entry.table, entry.cookie), set()).add(entry.instructions)
        own: list[tuple[Flow, set[bytes], bytes]] = []
        strange = {mark: set(seen) for mark, seen in there.items()}
        for at, flow in enumerate(flows):
            mark = flow.table, flow.cookie
            if mark in there:
                own.append((flow, strange[mark], encode_instructions(flow)))
                strange[mark].discard(own[-1][2])
            if at % PAUSE_AFTER == 0:
                time.sleep(0)
        found = [
            (flow, others)
            for flow, others, wanted in own
            if others or wanted not in there[flow.table, flow.cookie]
        ]
        tell_alterations(self.name, found)
        return tuple(flow for flow, _ in found)

    def count_flows(self) -> FlowCounts:
        """How many flows are there, in any table: ours, and others."""
        with self._lock:
            every, ours = self._aggregate(0, 0), self._aggregate(OUR_COOKIE, OWNER_MASK)
        return FlowCounts(ours.flows, max(0, every.flows - ours.flows))

    def flow_copies(self, deliver_table: int, session: int | None = None) -> Mapping[int, Copies]:
        """What each of our flows in the deliver table has counted, by cookie; or one session's."""
        ours = (OUR_COOKIE, OWNER_MASK)
        if session is not None:
            ours = (make_cookie(session, 0), OWNER_MASK | OBJECT_MASK)
        with self._lock:
            found = self._flow_stats("list its counters", deliver_table, *ours)
            return {flow.cookie: Copies(flow.packets, flow.bytes) for flow in found}

    def send(self, frames: Sequence[bytes], actions: tuple[Action, ...]) -> None:
        """Do ``actions`` on each of some frames of ours, in their order; done when it returns.

        Raises:
            WireError: a frame is too long for a message.
            SwitchRefused: the switch does not take them; some may have been sent.
        """
        encoded = encode_actions(actions)
        with self._lock:
            self._begin("send frames", len(frames) + 1)
            numbered = enumerate(frames)
            data = b"".join(encode_packet_out(self._xid(at), encoded, f) for at, f in numbered)
            errors = self._until_barrier(len(frames), data)
        if errors:
            raise SwitchRefused(self.name, "send frames", str(errors[0]))

    def sent_by_port(self) -> Mapping[int, Copies]:
        """How much each port has sent since it is there; ports that do not count are left out."""
        with self._lock:
            parts = self._multipart("list what its ports sent", encode_port_stats_request)
            return {port: sent for part in parts for port, sent in decode_sent(part)}

    def ports(self) -> tuple[SwitchPort, ...]:
        """Every port, the bridge's own LOCAL port included."""
        with self._lock:
            parts = self._multipart("list its ports", encode_ports_request)
            return tuple(port for part in parts for port in decode_ports(part))

    def barrier(self) -> None:
        """Return when the switch has done everything that was asked before."""
        with self._lock:
            self._begin("do what it was told", 1)
            self._until_barrier(0, b"")

    @property
    def has_meters(self) -> bool:
        """Whether it can have meters, as far as ``probe`` has seen."""
        return self._meters_max != 0

    def our_meters(self) -> Mapping[int, Meter | None]:
        """Every meter with a number of ours; None for one that does other than ours do."""
        if not self.has_meters:
            return {}
        with self._lock:
            parts = self._multipart("list its meters", encode_meters_request)
            found = (entry for part in parts for entry in decode_meters(part))
            return {number: meter for number, meter in found if is_our_meter(number)}

    def metered(self, numbers: Iterable[int] | None = None) -> Mapping[int, Metering]:
        """What each meter of ours has counted since it is there; or those of ``numbers``.

        One that is not there (any more) is left out.
        """
        found: dict[int, Metering] = {}
        with self._lock:
            for asked in (ALL_METERS,) if numbers is None else numbers:
                found |= self._metered(asked) if self.has_meters else {}
        return {number: counted for number, counted in found.items() if is_our_meter(number)}

    def _metered(self, asked: int) -> dict[int, Metering]:
        def request(xid: int) -> bytes:
            return encode_meter_counters_request(xid, asked)

        try:
            parts = list(self._multipart("list what its meters counted", request))
        except SwitchRefused:
            if asked == ALL_METERS:
                raise
            return {}
        return dict(entry for part in parts for entry in decode_meter_counters(part))

    def apply(self, plan: Plan) -> tuple[Rejected, ...]:
        """Make the plan come true in one atomic bundle; what the switch refuses is left out.

        One that refuses much gets production first, then the sessions that it takes, in several
        bundles (see Acceptance). Meters cannot be in a bundle: what flows need is there before,
        what they needed goes after. A flow whose meter was refused is not sent.

        Raises:
            SwitchUnfit: the switch knows no bundles.
            SwitchRefused: it refuses the plan as a whole.
        """
        with self._lock:
            rejected = self._set_meters(plan.meters) if plan.meters else []
            without = {r.flow.number: r.reason for r in rejected if isinstance(r.flow, Meter)}
            add: Sequence[Flow] = plan.add
            if without:
                for flow in plan.add:
                    if (number := metered_by(flow)) in without:
                        rejected.append(Rejected(flow, without[number]))
                left_out = {id(r.flow) for r in rejected}
                add = [flow for flow in add if id(flow) not in left_out]
            offered = Acceptance(
                lambda changes: self._bundle((changes,), BundleStep.COMMIT),
                lambda: {e.installed().key for e in self._flow_stats("list its flows")},
            )
            offered.offer(add, plan.remove)
            self._remove_meters(plan.meters.remove)
        return (*rejected, *offered.rejected)

    def install(self, parts: Iterable[Sequence[Flow]]) -> bool:
        """Add flows in one atomic bundle, part by part as they are made; no meters are needed.

        False when it does not take them all: then it has none of them.
        """
        with self._lock:
            try:
                return not self._bundle(parts, BundleStep.COMMIT)
            except SwitchRefused:
                return False

    def probe(self) -> tuple[str, ...]:
        """What the switch lacks of the features that we need; all are tried, nothing is kept."""
        with self._lock:
            try:
                refused = self._bundle([[flow for _, flow in PROBES]], BundleStep.DISCARD)
            except SwitchUnfit as unfit:
                return unfit.missing
            self._meters_max = self._ask_for_meters()
        return tuple(feature for at, (feature, _) in enumerate(PROBES) if at in refused)

    def nudge(self) -> None:
        """Have the switch compare its cached paths with its flows at once; changes nothing.

        A harmless flow is added and removed in one bundle: nobody ever sees it. A switch that is
        busy with a long request is left alone: it looks by itself soon, only not at once.
        """
        _, flow = PROBES[0]
        there = Installed(flow.table, flow.priority, flow.match, flow.cookie)
        if self._lock.acquire(timeout=NUDGE_S):
            try:
                self._bundle([[flow, there]], BundleStep.COMMIT)
            finally:
                self._lock.release()

    def _ask_for_meters(self) -> int:
        """How many meters the switch may have; 0 when it does not know what a meter is."""
        try:
            (part,) = self._multipart("say what its meters can", encode_meter_features_request)
        except SwitchRefused:
            return 0
        return decode_meter_features(part)

    def _set_meters(self, plan: MeterPlan) -> list[Rejected]:
        """Add and change meters, and wait until they are there; what the switch refused."""
        wanted = [(MeterChange.ADD, meter) for meter in plan.add]
        wanted += [(MeterChange.MODIFY, meter) for meter in plan.change]
        if self._meters_max == 0:
            return [Rejected(meter, NO_METERS_HERE) for _, meter in wanted]
        self._begin("take meters", len(wanted) + 1)
        data = (encode_meter(how, m, self._xid(at)) for at, (how, m) in enumerate(wanted))
        errors = self._until_barrier(len(wanted), b"".join(data))
        refused: dict[int, str] = {}
        for problem in errors:
            refused.setdefault(self._offset(problem.xid), str(problem))
        return [Rejected(wanted[at][1], why) for at, why in sorted(refused.items())]

    def _remove_meters(self, numbers: Sequence[int]) -> None:
        if numbers:
            self._begin("remove meters", len(numbers) + 1)
            data = (encode_meter_delete(n, self._xid(at)) for at, n in enumerate(numbers))
            errors = self._until_barrier(len(numbers), b"".join(data))
            if errors:
                raise SwitchRefused(self.name, self._doing, str(errors[0]))

    def _flow_stats(
        self, what: str, table: int = ALL_TABLES, cookie: int = OUR_COOKIE, mask: int = OWNER_MASK
    ) -> Iterator[FlowEntry]:
        """Our flows of a table, as they come."""
        for part in self._flow_stats_parts(what, table, cookie, mask):
            yield from decode_flow_stats(part)

    def _flow_stats_parts(
        self, what: str, table: int, cookie: int = OUR_COOKIE, mask: int = OWNER_MASK
    ) -> Iterator[bytes]:
        """The replies that list our flows; other green threads run between messages."""

        def request(xid: int) -> bytes:
            return encode_flow_stats_request(xid, cookie, mask, table)

        for part in self._multipart(what, request):
            yield part
            time.sleep(0)

    def _aggregate(self, cookie: int, mask: int) -> Aggregate:
        def request(xid: int) -> bytes:
            return encode_aggregate_request(xid, cookie, mask)

        (part,) = self._multipart("count its flows", request)
        return decode_aggregate(part)

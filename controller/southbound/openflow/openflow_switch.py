"""One connected bridge over OpenFlow: its flows, meters, ports and counters, and plans applied."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from zlib import crc32

import structlog

from controller.southbound.errors import SwitchGone, SwitchRefused, SwitchUnfit
from controller.southbound.openflow.bundle import BundleWriter
from controller.southbound.openflow.channel import PORTS_BYTES, TIMEOUT_S, Channel
from controller.southbound.openflow.features import PROBES
from controller.southbound.openflow.partial_apply import PartialApply
from controller.southbound.ports import PortCount, SwitchPort
from controller.southbound.switch import (
    FlowCounts,
    ForeignFlow,
    FragmentsMatched,
    LastCounts,
    Rejected,
)
from controller.southbound.wire import (
    ALL_METERS,
    ALL_TABLES,
    GENERATION_MASK,
    GET_CONFIG_REPLY,
    Aggregate,
    BundleControl,
    FlowEntry,
    FragmentMode,
    MeterCommand,
    Role,
    decode_aggregate,
    decode_config,
    decode_flow_stats,
    decode_meter_config,
    decode_meter_features,
    decode_meter_stats,
    decode_port_desc,
    decode_port_stats,
    decode_software,
    encode_actions,
    encode_aggregate_request,
    encode_description_request,
    encode_flow_stats_request,
    encode_get_config,
    encode_instructions,
    encode_meter_config_request,
    encode_meter_delete,
    encode_meter_features_request,
    encode_meter_mod,
    encode_meter_stats_request,
    encode_packet_out,
    encode_port_desc_request,
    encode_port_stats_request,
    encode_set_config,
    scan_flow_stats,
    show_instructions,
)
from flows.model import Dpid
from flows.openflow import (
    IN_PORT,
    OBJECT_MASK,
    OWNER,
    OWNER_MASK,
    OWNER_SHIFT,
    Action,
    Flow,
    Match,
    MeterCount,
    PacketCount,
    is_ours,
    make_cookie,
    object_of,
    show_actions,
)
from flows.plan import (
    InstalledFlow,
    InstalledFlows,
    Mark,
    Meter,
    MeterPlan,
    Plan,
    is_our_meter,
    metered_by,
)

OUR_COOKIE = OWNER << OWNER_SHIFT
NUDGE_S = 0.2
"""How long ``nudge`` waits for another request to the same switch, in seconds."""
LISTED_MEANWHILE = range(20_000, 150_000)
"""Numbers of flows that a switch lists while the caller computes what it wants: fewer are quick to
list, and a longer answer could exceed the limits of a channel meanwhile."""
FLOWS_KEPT_MAX = 250_000
"""Flows of one answer that are kept, some hundred bytes each: who tells more is cut off."""
REPORTS_BETWEEN_PAUSES = 256
"""Flows that are compared before other green threads may run."""
ALTERED_LOGGED_MAX = 10
"""Altered flows that are logged one by one; of the others only the number."""

NO_METERS_HERE = (
    "the switch has no meters, so copies cannot be capped on it: do without `max_rate` here"
)

log = structlog.get_logger(__name__)


class OpenFlowSwitch:
    """A bridge behind an OpenFlow connection (see the Switch protocol for what it promises).

    ``send``, ``timeout_s``, ``disconnect`` and ``is_behind`` are those of the Channel, which sends
    requests and receives the answers; a BundleWriter on the same channel sends changes of flows.
    ``adopted`` is called once the bridge was found to be ours. ``certificate`` is the name in the
    verified certificate of its host.
    """

    def __init__(
        self,
        dpid: Dpid,
        name: str,
        send: Callable[[bytes], bool],
        timeout_s: float = TIMEOUT_S,
        disconnect: Callable[[str], None] = lambda why: None,
        adopted: Callable[[], None] = lambda: None,
        certificate: str | None = None,
        is_behind: Callable[[], bool] = lambda: False,
    ) -> None:
        self._dpid, self._adopted, self._certificate = dpid, adopted, certificate
        self.is_adopted = False
        """Whether it was found to be ours (see ``adopt``)."""
        self._channel = Channel(name, send, timeout_s, disconnect, is_behind)
        self._bundles = BundleWriter(self._channel)
        self._meters_max: int | None = None  # not asked yet
        self._software = ""

    @property
    def dpid(self) -> Dpid:
        """Its datapath id."""
        return self._dpid

    @property
    def certificate(self) -> str | None:
        """The name in the verified certificate of its host; None without TLS."""
        return self._certificate

    @property
    def name(self) -> str:
        """The name of the bridge on its host; its datapath id until ``rename``."""
        return self._channel.name

    def rename(self, name: str) -> None:
        """Set the name of the bridge: a connection knows only its datapath id."""
        self._channel.rename(name)

    @property
    def software(self) -> str:
        """The version of Open vSwitch that it runs; empty until ``probe`` has asked."""
        return self._software

    @property
    def waiting(self) -> int:
        """How many answers were received and not read yet."""
        return self._channel.waiting

    def adopt(self) -> None:
        """The bridge is ours: what it reports counts from now on."""
        self.is_adopted = True
        self._adopted()

    def on_message(self, message: bytes) -> bool:
        """Take an answer, in the thread of the connection; False if nobody waits for it."""
        return self._channel.on_message(message)

    def on_disconnect(self) -> None:
        """The connection is over: requests under way and all later ones raise SwitchGone."""
        self._channel.on_disconnect()

    def lead(self) -> bool:
        """Become the master of the switch, unless this controller is that already.

        True if another controller had become master in the meantime.

        Raises:
            SwitchRefused: another controller becomes master at the same time.
        """
        channel = self._channel
        with channel.lock:
            before, generation = channel.request_role(Role.NOCHANGE)
            if before is not Role.MASTER:
                channel.request_role(Role.MASTER, (generation + 1) & GENERATION_MASK)
        return before is Role.SLAVE

    def our_flows(self) -> list[InstalledFlow]:
        """Every flow with our owner bits in its cookie, learned flows included."""
        with self._channel.lock:
            entries = self._flow_stats("list its flows")
            return [entry.installed() for entry in entries]

    def scan(self, wanted: Callable[[], Set[Mark]]) -> InstalledFlows:
        """Every flow with our owner bits in its cookie; the wanted ones by their marks alone.

        No match of a wanted flow is decoded. If a mark occurs twice, all matches are decoded.
        ``wanted`` may take its time: a switch with many flows lists them meanwhile.
        """
        found: set[Mark] = set()
        others: list[FlowEntry] = []
        with self._channel.lock:
            is_long = self._aggregate(OUR_COOKIE, OWNER_MASK).flows in LISTED_MEANWHILE
        marks = None if is_long else wanted()
        with self._channel.lock:
            for part in self._flow_stats_parts("list its flows", ALL_TABLES):
                marks = wanted() if marks is None else marks
                others += scan_flow_stats(part, marks, found)
                self._check_kept(len(others))
        if any((flow.table, flow.priority, flow.cookie) in found for flow in others):
            return InstalledFlows(frozenset(), tuple(self.our_flows()))
        return InstalledFlows(found, tuple(flow.installed() for flow in others))

    def altered(self, flows: Iterable[Flow]) -> tuple[Flow, ...]:
        """Those of ``flows`` that are installed under their cookie with other instructions.

        Flows that share a table and a cookie are compared together. Alterations are logged.
        """
        installed: dict[tuple[int, int], set[bytes]] = {}
        with self._channel.lock:
            for entry in self._flow_stats("list its actions"):
                installed.setdefault((entry.table, entry.cookie), set()).add(entry.instructions)
        own: list[tuple[Flow, set[bytes], bytes]] = []
        unexpected = {place: set(seen) for place, seen in installed.items()}
        for at, flow in enumerate(flows):
            place = flow.table, flow.cookie
            if place in installed:
                own.append((flow, unexpected[place], encode_instructions(flow)))
                unexpected[place].discard(own[-1][2])
            if at % REPORTS_BETWEEN_PAUSES == 0:
                time.sleep(0)
        found = [
            (flow, others)
            for flow, others, wanted in own
            if others or wanted not in installed[flow.table, flow.cookie]
        ]
        log_alterations(self.name, found)
        return tuple(flow for flow, _ in found)

    def foreign_flows(self) -> tuple[ForeignFlow, ...]:
        """Every flow without our owner bits in its cookie; the switch lists all flows for that."""
        found: list[ForeignFlow] = []
        with self._channel.lock:
            for part in self._flow_stats_parts("list its flows", ALL_TABLES, 0, 0):
                entries = decode_flow_stats(part)
                found += [_foreign(entry) for entry in entries if not is_ours(entry.cookie)]
                self._check_kept(len(found))
        return tuple(found)

    def count_flows(self) -> FlowCounts:
        """The number of flows in all tables: ours, and others."""
        with self._channel.lock:
            every, ours = self._aggregate(0, 0), self._aggregate(OUR_COOKIE, OWNER_MASK)
        return FlowCounts(ours.flows, max(0, every.flows - ours.flows))

    def flow_copies(
        self, deliver_table: int, session: int | None = None
    ) -> Mapping[int, PacketCount]:
        """The counters of our flows in the deliver table by cookie; of all, or of one session."""
        return {flow.cookie: counts for flow, counts in self._copies(deliver_table, session)}

    def copies_by_match(
        self, deliver_table: int, session: int | None = None
    ) -> Mapping[int, PacketCount]:
        """The same by session number and a digest of priority and match."""
        return {_place(flow): counts for flow, counts in self._copies(deliver_table, session)}

    def _copies(
        self, deliver_table: int, session: int | None
    ) -> list[tuple[FlowEntry, PacketCount]]:
        ours = (OUR_COOKIE, OWNER_MASK)
        if session is not None:
            ours = (make_cookie(session, 0), OWNER_MASK | OBJECT_MASK)
        with self._channel.lock:
            found = self._flow_stats("list its counters", deliver_table, *ours)
            return [(flow, PacketCount(flow.packets, flow.bytes)) for flow in found]

    def matched(self, table: int) -> Mapping[Match, int]:
        """How many packets each of our flows in a table has matched."""
        with self._channel.lock:
            entries = list(self._flow_stats("list its counters", table))
        found = (entry.installed() for entry in entries)
        return {flow.match: flow.packets for flow in found if flow.match is not None}

    def send(self, frames: Sequence[bytes], actions: tuple[Action, ...]) -> None:
        """Execute ``actions`` on each frame (packet-out), in order; returns when all are done.

        Raises:
            WireError: a frame is too long for a message.
            SwitchRefused: the switch refuses one; others may have been sent.
        """
        encoded, channel = encode_actions(actions), self._channel
        with channel.lock:
            channel.begin("send frames", len(frames) + 1)
            numbered = enumerate(frames)
            data = b"".join(encode_packet_out(channel.xid(at), encoded, f) for at, f in numbered)
            errors = channel.send_with_barrier(len(frames), data)
        if errors:
            raise SwitchRefused(self.name, "send frames", str(errors[0]))

    def sent_by_port(self) -> Mapping[int, PacketCount]:
        """The transmit counters of each port; ports without counters are left out."""
        with self._channel.lock:
            parts = self._channel.multipart(
                "list the counters of its ports", encode_port_stats_request
            )
            return {port: each.sent for part in parts for port, each in decode_port_stats(part)}

    def counts_of_port(self, port: int) -> PortCount | None:
        """The counters of one port; None if it has none."""

        def encode(xid: int) -> bytes:
            return encode_port_stats_request(xid, port)

        with self._channel.lock:
            parts = self._channel.multipart("list the counters of a port", encode)
            found = dict(each for part in parts for each in decode_port_stats(part))
        return found.get(port)

    def ports(self) -> tuple[SwitchPort, ...]:
        """Every port, the bridge's own LOCAL port included."""
        with self._channel.lock:
            parts = self._channel.multipart("list its ports", encode_port_desc_request, PORTS_BYTES)
            return tuple(port for part in parts for port in decode_port_desc(part))

    def barrier(self) -> None:
        """Wait until the switch has processed every request sent before."""
        with self._channel.lock:
            self._channel.begin("answer a barrier request", 1)
            self._channel.send_with_barrier(0, b"")

    @property
    def has_meters(self) -> bool:
        """Whether it supports meters; True until ``probe`` has asked."""
        return self._meters_max != 0

    def our_meters(self) -> Mapping[int, Meter | None]:
        """Every meter with a number of ours; None for one that is not configured like ours."""
        if not self.has_meters:
            return {}
        with self._channel.lock:
            parts = self._channel.multipart("list its meters", encode_meter_config_request)
            found = (entry for part in parts for entry in decode_meter_config(part))
            return {number: meter for number, meter in found if is_our_meter(number)}

    def metered(self, numbers: Iterable[int] | None = None) -> Mapping[int, MeterCount]:
        """The counters of our meters, or of those of ``numbers``; meters that do not exist are
        left out.
        """
        found: dict[int, MeterCount] = {}
        with self._channel.lock:
            for asked in (ALL_METERS,) if numbers is None else numbers:
                found |= self._metered(asked) if self.has_meters else {}
        return {number: counted for number, counted in found.items() if is_our_meter(number)}

    def _metered(self, asked: int) -> dict[int, MeterCount]:
        def request(xid: int) -> bytes:
            return encode_meter_stats_request(xid, asked)

        try:
            parts = list(self._channel.multipart("list the counters of its meters", request))
        except SwitchRefused:
            if asked == ALL_METERS:
                raise
            return {}
        return dict(entry for part in parts for entry in decode_meter_stats(part))

    def apply(self, plan: Plan, last: LastCounts | None = None) -> tuple[Rejected, ...]:
        """Apply the plan as one bundle; changes that the switch refuses are left out.

        If it refuses many, production comes first and then each session that it accepts, in several
        bundles (see PartialApply). Meters cannot be part of a bundle: those that flows need are
        added before it, and removed ones are deleted after it. A flow whose meter was refused is
        not sent.

        Flows are removed in ascending order of priority: when Open vSwitch 3.1 removes the flow
        with the highest priority of many that match the same fields, it looks at all others for
        the next highest. In descending order 20,000 rules kept its main thread busy for 14 s.

        Raises:
            SwitchUnfit: the switch does not support bundles.
            SwitchRefused: it refuses the plan as a whole.
        """
        with self._channel.lock:
            rejected = self._set_meters(plan.meters, last) if plan.meters else []
            reasons = {r.flow.number: r.reason for r in rejected if isinstance(r.flow, Meter)}
            add: Sequence[Flow] = plan.add
            if reasons:
                for flow in plan.add:
                    if (number := metered_by(flow)) in reasons:
                        rejected.append(Rejected(flow, reasons[number]))
                left_out = {id(r.flow) for r in rejected}
                add = [flow for flow in add if id(flow) not in left_out]
            partial = PartialApply(
                lambda changes: self._bundles.write((changes,), BundleControl.COMMIT),
                lambda: {e.installed().key for e in self._flow_stats("list its flows")},
            )
            partial.apply(add, sorted(plan.remove, key=lambda flow: flow.priority))
            self._remove_meters(plan.meters.remove, last)
        return (*rejected, *partial.rejected)

    def install(self, parts: Iterable[Sequence[Flow]]) -> bool:
        """Add flows that need no meters in one bundle, part by part as ``parts`` yields them.

        False if the switch refuses any: then none is installed.
        """
        with self._channel.lock:
            try:
                return not self._bundles.write(parts, BundleControl.COMMIT)
            except SwitchRefused:
                return False

    def probe(self) -> tuple[str, ...]:
        """The required features that the switch lacks: each is tried, nothing is committed."""
        with self._channel.lock:
            try:
                flows = [flow for _, flow in PROBES]
                refused = self._bundles.write([flows], BundleControl.DISCARD)
            except SwitchUnfit as unfit:
                return unfit.missing
            self._meters_max = self._read_meters_max()
            self._software = self._read_software()
        return tuple(feature for at, (feature, _) in enumerate(PROBES) if at in refused)

    def match_first_fragments(self) -> FragmentsMatched:
        """Have the first fragment of an IP packet match its ports, and see that it does."""
        with self._channel.lock:
            mode, miss_send_bytes = self._read_config()
            if mode == FragmentMode.MATCH:
                return FragmentsMatched.BEFORE
            channel = self._channel
            channel.begin("match fragments", 2)
            wanted = encode_set_config(channel.xid(0), FragmentMode.MATCH, miss_send_bytes)
            channel.send_with_barrier(1, wanted)
            mode, _ = self._read_config()
        return FragmentsMatched.NOW if mode == FragmentMode.MATCH else FragmentsMatched.NOT

    def _read_config(self) -> tuple[int, int]:
        """How it matches fragments, and how much of a packet it sends to a controller."""
        what = "tell its configuration"
        try:
            return decode_config(self._channel.ask(what, encode_get_config, GET_CONFIG_REPLY))
        except SwitchRefused:
            return FragmentMode.NORMAL, 0

    def nudge(self, most_s: float = math.inf) -> None:
        """Have ovs-vswitchd revalidate its megaflows at once; changes nothing.

        A harmless flow is added and removed in one bundle, so it is never active. A switch that is
        busy with a long request is left alone: its revalidators run soon in any case.
        """
        _, flow = PROBES[0]
        added = InstalledFlow(flow.table, flow.priority, flow.match, flow.cookie)
        if self._channel.lock.acquire(timeout=min(NUDGE_S, most_s)):
            try:
                self._bundles.write([[flow, added]], BundleControl.COMMIT, most_s)
            finally:
                self._channel.lock.release()

    def _read_meters_max(self) -> int:
        """How many meters the switch supports; 0 if it does not know meter requests."""
        what = "report its meter features"
        try:
            part = self._channel.multipart_of_one(what, encode_meter_features_request)
        except SwitchRefused:
            return 0
        return decode_meter_features(part)

    def _read_software(self) -> str:
        """The version that the switch says it runs; empty if it does not say."""
        try:
            part = self._channel.multipart_of_one("describe itself", encode_description_request)
        except SwitchRefused:
            return ""
        return decode_software(part)

    def _set_meters(self, plan: MeterPlan, last: LastCounts | None) -> list[Rejected]:
        """Add and change meters, and wait for the barrier; those that the switch refused."""
        wanted = [(MeterCommand.ADD, meter) for meter in plan.add]
        wanted += [(MeterCommand.MODIFY, meter) for meter in plan.change]
        if self._meters_max == 0:
            return [Rejected(meter, NO_METERS_HERE) for _, meter in wanted]
        refused = self._change_meters(
            "take meters",
            [meter.number for _, meter in wanted],
            lambda at, xid: encode_meter_mod(*wanted[at], xid),
            {meter.number for meter in plan.change},
            last,
        )
        return [Rejected(wanted[at][1], why) for at, why in sorted(refused.items())]

    def _remove_meters(self, numbers: Sequence[int], last: LastCounts | None) -> None:
        if not numbers:
            return
        refused = self._change_meters(
            "remove meters",
            numbers,
            lambda at, xid: encode_meter_delete(numbers[at], xid),
            frozenset(numbers),
            last,
        )
        if refused:
            raise SwitchRefused(self.name, self._channel.request, next(iter(refused.values())))

    def _change_meters(
        self,
        request: str,
        numbers: Sequence[int],
        encode: Callable[[int, int], bytes],
        ending: Set[int],
        last: LastCounts | None,
    ) -> Mapping[int, str]:
        """Send what ``encode`` makes for each meter, and wait; by position, why it was refused.

        The counters of those of ``ending`` that are wanted are asked for right before.
        """
        channel, count = self._channel, len(numbers)
        asked = [n in ending and last is not None and n in last.of for n in numbers]
        channel.begin(request, count + 1 + sum(asked))
        data, after = bytearray(), count + 1
        for at, number in enumerate(numbers):
            if asked[at]:
                data += encode_meter_stats_request(channel.xid(after), number)
                after += 1
            data += encode(at, channel.xid(at))
        replies: list[bytes] = []
        refused: dict[int, str] = {}
        for problem in channel.send_with_barrier(count, bytes(data), replies):
            refused.setdefault(channel.offset(problem.xid), str(problem))
        if last is not None and replies:
            last.take(dict(entry for part in replies for entry in decode_meter_stats(part)))
        return {at: why for at, why in refused.items() if at < count}

    def _flow_stats(
        self, what: str, table: int = ALL_TABLES, cookie: int = OUR_COOKIE, mask: int = OWNER_MASK
    ) -> Iterator[FlowEntry]:
        """Our flows of a table, as the replies arrive."""
        kept = 0
        for part in self._flow_stats_parts(what, table, cookie, mask):
            entries = list(decode_flow_stats(part))
            kept += len(entries)
            self._check_kept(kept)
            yield from entries

    def _check_kept(self, flows: int) -> None:
        """End the connection of a switch that tells more flows than are kept.

        Raises:
            SwitchGone: it does.
        """
        if flows > FLOWS_KEPT_MAX:
            self._channel.refuse(f"told more than {FLOWS_KEPT_MAX:,} flows")
            raise SwitchGone(self.name, "list its flows")

    def _flow_stats_parts(
        self, what: str, table: int, cookie: int = OUR_COOKIE, mask: int = OWNER_MASK
    ) -> Iterator[bytes]:
        """The replies that list our flows; other green threads run between messages."""

        def request(xid: int) -> bytes:
            return encode_flow_stats_request(xid, cookie, mask, table)

        for part in self._channel.multipart(what, request):
            yield part
            time.sleep(0)

    def _aggregate(self, cookie: int, mask: int) -> Aggregate:
        def request(xid: int) -> bytes:
            return encode_aggregate_request(xid, cookie, mask)

        return decode_aggregate(self._channel.multipart_of_one("count its flows", request))


def _foreign(entry: FlowEntry) -> ForeignFlow:
    match = entry.installed().match
    terms = match.terms if match is not None else ()
    ports = [term.value for term in terms if term.field is IN_PORT]
    return ForeignFlow(entry.table, entry.priority, ports[0] if ports else None)


def _place(flow: FlowEntry) -> int:
    """The session number of a flow, and a digest of where it is: its priority and its match."""
    return make_cookie(object_of(flow.cookie), crc32(flow.terms, flow.priority))


def log_alterations(bridge: str, altered: Sequence[tuple[Flow, Set[bytes]]]) -> None:
    """Log what altered flows did and what they should do, before they are repaired.

    Each flow comes with the instructions that the switch reported in place of its own.
    """
    for flow, seen in altered[:ALTERED_LOGGED_MAX]:
        log.warning(
            "flow was altered",
            bridge=bridge,
            flow=str(flow).partition(",actions=")[0],
            did=" or ".join(sorted(map(show_instructions, seen))),
            wanted=show_actions(flow.actions),
            why=flow.why,
        )
    if len(altered) > ALTERED_LOGGED_MAX:
        more = len(altered) - ALTERED_LOGGED_MAX
        log.warning("more flows were altered", bridge=bridge, flows=more)

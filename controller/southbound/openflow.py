"""One connected bridge: dumps, plans applied as one bundle, counters; over any carrier of bytes.

Whoever carries the bytes gives ``send`` and calls ``on_message`` for each answer; nothing here
knows a controller framework. Requests are told apart by transaction ids with the top byte OWN_XID.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from queue import Empty, Queue

from controller.southbound.errors import (
    SwitchGone,
    SwitchRefused,
    SwitchTimeout,
    SwitchUnfit,
    WireError,
)
from controller.southbound.probe import PROBES
from controller.southbound.switch import Rejected
from controller.southbound.wire import (
    ALL_TABLES,
    HEADER,
    MULTIPART_REPLY,
    Aggregate,
    FlowEntry,
    decode_aggregate,
    decode_flow_stats,
    encode_aggregate_request,
    encode_delete,
    encode_flow_stats_request,
    encode_instructions,
    is_last_part,
    scan_flow_stats,
)
from controller.southbound.wire_action import encode_actions
from controller.southbound.wire_error import SwitchError, decode_error
from controller.southbound.wire_message import (
    BARRIER_REPLY,
    ERROR,
    BundleStep,
    SwitchPort,
    decode_ports,
    encode_barrier,
    encode_bundle_add,
    encode_bundle_control,
    encode_ports_request,
)
from controller.southbound.wire_packet import (
    decode_sent,
    encode_packet_out,
    encode_port_stats_request,
)
from controller.southbound.wire_template import FlowTemplates
from controller.status import Copies
from flows.diff import Installed, Mark, Plan, Scan
from flows.flow import (
    OBJECT_MASK,
    OWNER,
    OWNER_MASK,
    OWNER_SHIFT,
    Action,
    Flow,
    make_cookie,
)
from flows.model import Dpid

OWN_XID = 0xC7
XID_BITS = 24
XID_MASK = (1 << XID_BITS) - 1
OUR_COOKIE = OWNER << OWNER_SHIFT
TIMEOUT_S = 10.0
BATCH_BYTES = 1 << 16
"""Messages are sent together until they are about this long."""
PAUSE_AFTER = 256
"""Flows that are looked at before other green threads may run."""
ATTEMPTS = 64
"""A switch that refuses flows one by one at commit time is not asked for ever."""

NO_BUNDLES = frozenset({"OFPBRC_BAD_EXPERIMENTER", "OFPBRC_BAD_EXP_TYPE", "OFPBRC_BAD_TYPE"})
OPENING = -1
"""Where the message that opens a bundle is, counted like the changes in it."""

Change = Flow | Installed


class OpenFlowSwitch:
    """A bridge behind a connection (see the Switch protocol for what it promises).

    ``send`` takes whole messages and returns False once the connection is over. A request ends
    with SwitchTimeout when nothing has come for ``timeout_s`` seconds.
    """

    def __init__(
        self,
        dpid: Dpid,
        name: str,
        send: Callable[[bytes], bool],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._dpid, self.name = dpid, name
        self._send_bytes, self._timeout_s = send, timeout_s
        self._lock = threading.Lock()
        self._inbox: Queue[bytes | None] = Queue()
        self._templates = FlowTemplates()
        self._window = (0, 0)
        self._next_xid = self._next_bundle = 1
        self._is_gone = False
        self._doing = "connect"

    @property
    def dpid(self) -> Dpid:
        """Its datapath id."""
        return self._dpid

    @property
    def waiting(self) -> int:
        """Answers that have come and were not looked at yet."""
        return self._inbox.qsize()

    def on_message(self, message: bytes) -> None:
        """Take an answer from the connection's thread; never blocks, drops what is too late."""
        first, count = self._window
        if (HEADER.unpack_from(message)[3] - first) & XID_MASK < count:
            self._inbox.put(message)

    def on_disconnect(self) -> None:
        """The connection is over: whoever waits learns it at once, and nobody waits again."""
        self._is_gone = True
        self._inbox.put(None)

    def our_flows(self) -> list[Installed]:
        """Every flow with our mark in its cookie, the learned ones included."""
        with self._lock:
            entries = self._flow_stats("list its flows")
            return [entry.installed() for entry in entries]

    def scan(self, wanted: Set[Mark]) -> Scan:
        """Every flow with our mark in its cookie, the wanted ones by their marks alone.

        No match of a wanted flow is decoded. When a mark is there twice, all are decoded.
        """
        found: set[Mark] = set()
        others: list[FlowEntry] = []
        with self._lock:
            for part in self._flow_stats_parts("list its flows", ALL_TABLES):
                others += scan_flow_stats(part, wanted, found)
        if any((flow.table, flow.priority, flow.cookie) in found for flow in others):
            return Scan(frozenset(), tuple(self.our_flows()))
        return Scan(found, tuple(flow.installed() for flow in others))

    def altered(self, flows: Iterable[Flow]) -> tuple[Flow, ...]:
        """Those of ``flows`` that are there under their own cookie, but do something else.

        The cookie's digest belongs to one flow of a table; should two share one, both are named.
        """
        there: dict[tuple[int, int], set[bytes]] = {}
        with self._lock:
            for entry in self._flow_stats("list its actions"):
                there.setdefault((entry.table, entry.cookie), set()).add(entry.instructions)
        found = []
        for at, flow in enumerate(flows):
            seen = there.get((flow.table, flow.cookie))
            if seen is not None and seen != {encode_instructions(flow)}:
                found.append(flow)
            if at % PAUSE_AFTER == 0:
                time.sleep(0)
        return tuple(found)

    def count_foreign(self) -> int:
        """How many flows are there, in any table, that are not ours."""
        with self._lock:
            every, ours = self._aggregate(0, 0), self._aggregate(OUR_COOKIE, OWNER_MASK)
        return max(0, every.flows - ours.flows)

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

    def apply(self, plan: Plan) -> tuple[Rejected, ...]:
        """Make the plan come true in one atomic bundle; what the switch refuses is left out.

        Raises:
            SwitchUnfit: the switch knows no bundles.
            SwitchRefused: it refuses flows one after the other, without an end.
        """
        rejected: list[Rejected] = []
        wanted: list[Change] = [*plan.add, *plan.remove]
        with self._lock:
            for _ in range(ATTEMPTS):
                refused = self._bundle(wanted, BundleStep.COMMIT)
                rejected += [Rejected(wanted[at], why) for at, why in sorted(refused.items())]
                wanted = [change for at, change in enumerate(wanted) if at not in refused]
                if not refused:
                    return tuple(rejected)
        raise SwitchRefused(self.name, f"take {len(wanted)} flows", rejected[-1].reason)

    def probe(self) -> tuple[str, ...]:
        """What the switch lacks of the features that we need; all are tried, nothing is kept."""
        with self._lock:
            try:
                refused = self._bundle([flow for _, flow in PROBES], BundleStep.DISCARD)
            except SwitchUnfit as unfit:
                return unfit.missing
        return tuple(feature for at, (feature, _) in enumerate(PROBES) if at in refused)

    def nudge(self) -> None:
        """Have the switch compare its cached paths with its flows at once; changes nothing.

        A harmless flow is added and removed in one bundle: nobody ever sees it.
        """
        _, flow = PROBES[0]
        there = Installed(flow.table, flow.priority, flow.match, flow.cookie)
        with self._lock:
            self._bundle([flow, there], BundleStep.COMMIT)

    def _bundle(self, changes: Sequence[Change], step: BundleStep) -> dict[int, str]:
        """Send one bundle and end it with ``step``; which changes were refused, and why.

        When one is refused, none of them is done.
        """
        bundle, self._next_bundle = self._next_bundle, (self._next_bundle + 1) & 0xFFFFFFFF
        count = len(changes)  # offsets: 0 opens, then the changes, barrier, end, barrier
        self._begin("take a plan", count + 4)
        refused: dict[int, str] = {}
        batch = bytearray(encode_bundle_control(self._xid(0), bundle, BundleStep.OPEN))
        for at, change in enumerate(changes):
            try:
                batch += self._encode(change, self._xid(at + 1), bundle)
            except WireError as problem:
                refused[at] = str(problem)
            if len(batch) > BATCH_BYTES:
                self._send(bytes(batch))
                batch.clear()
        refused |= self._refusals(self._until_barrier(count + 1, bytes(batch)), count)
        if refused:
            step = BundleStep.DISCARD
        ending = encode_bundle_control(self._xid(count + 2), bundle, step)
        return refused | self._refusals(self._until_barrier(count + 3, ending), count)

    def _encode(self, change: Change, xid: int, bundle: int) -> bytes:
        if isinstance(change, Flow):
            return self._templates.encode(change, xid, bundle)
        return encode_bundle_add(bundle, encode_delete(change, xid))

    def _refusals(self, errors: list[SwitchError], count: int) -> dict[int, str]:
        """Sort errors by the change they belong to; one that belongs to none ends the plan."""
        refused: dict[int, str] = {}
        for problem in errors:
            at = self._offset(problem.xid) - 1
            if at == OPENING and problem.name in NO_BUNDLES:
                raise SwitchUnfit(self.name, ("atomic bundles",))
            if 0 <= at < count:
                refused.setdefault(at, str(problem))
        if errors and not refused:
            raise SwitchRefused(self.name, self._doing, str(errors[0]))
        return refused

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

    def _multipart(self, what: str, request: Callable[[int], bytes]) -> Iterator[bytes]:
        self._begin(what, 1)
        self._send(request(self._xid(0)))
        while True:
            message = self._receive()
            if message[1] == ERROR:
                raise SwitchRefused(self.name, what, str(decode_error(message)))
            if message[1] == MULTIPART_REPLY:
                yield message
                if is_last_part(message):
                    return

    def _until_barrier(self, offset: int, data: bytes) -> list[SwitchError]:
        """Send ``data`` and a barrier; the errors that came before the barrier's reply."""
        self._send(data + encode_barrier(self._xid(offset)))
        errors: list[SwitchError] = []
        while True:
            message = self._receive()
            if message[1] == ERROR:
                errors.append(decode_error(message))
            elif message[1] == BARRIER_REPLY and self._offset_of(message) == offset:
                return errors

    def _begin(self, what: str, count: int) -> None:
        """Reserve ``count`` transaction ids, and forget what came too late for earlier ones."""
        self._doing = what
        self._window = (self._next_xid, count)
        self._next_xid = (self._next_xid + count) & XID_MASK
        while not self._inbox.empty():
            self._inbox.get_nowait()
        if self._is_gone:
            raise SwitchGone(self.name, what)

    def _xid(self, offset: int) -> int:
        return OWN_XID << XID_BITS | (self._window[0] + offset) & XID_MASK

    def _offset(self, xid: int) -> int:
        return (xid - self._window[0]) & XID_MASK

    def _offset_of(self, message: bytes) -> int:
        return self._offset(HEADER.unpack_from(message)[3])

    def _send(self, data: bytes) -> None:
        if not self._send_bytes(data):
            raise SwitchGone(self.name, self._doing)

    def _receive(self) -> bytes:
        """The next answer to the request that is under way."""
        while True:
            try:
                message = self._inbox.get(timeout=self._timeout_s)
            except Empty:
                raise SwitchTimeout(self.name, self._doing, self._timeout_s) from None
            if message is None:
                raise SwitchGone(self.name, self._doing)
            if self._offset_of(message) < self._window[1]:
                return message

"""Flows as OpenFlow 1.3 bytes, and the flow statistics of a switch back as values.

Layouts: OpenFlow Switch Specification 1.3.5, sections 7.3.4.1 (flow mod), 7.3.5 (multipart).
Several times ten thousand flows a second go through here, so it is plain struct packing.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from struct import Struct, error

from controller.southbound.errors import WireError
from controller.southbound.wire.action import encode_actions
from controller.southbound.wire.match import NO_MATCH, decode_match, encode_match
from flows.plan.plan import Installed, Mark
from flows.openflow.flow import OWNER, OWNER_MASK, OWNER_SHIFT, Cookie, Flow, Metered

VERSION = 4
HEADER = Struct("!BBHI")
"""Version, type, length in bytes, transaction id."""
LENGTH_MAX = 0xFFFF
FLOW_LENGTH_MAX = LENGTH_MAX - 24
"""A flow travels inside a bundle message, which needs 24 bytes for itself."""

FLOW_MOD, MULTIPART_REQUEST, MULTIPART_REPLY = 14, 18, 19
ADD, DELETE, DELETE_STRICT = 0, 3, 4
FLOW_STATS, AGGREGATE_STATS = 1, 2
MORE_FOLLOW = 1
ALL_TABLES = 0xFF
ANY_COOKIE = 0
EXACT_COOKIE = (1 << 64) - 1
NO_BUFFER = ANY_PORT = ANY_GROUP = 0xFFFFFFFF

FLOW_MOD_BODY = Struct("!QQBBHHHIIIH2x")
APPLY_ACTIONS = Struct("!HH4x")
METER = Struct("!HHI")
FLOW_MOD_SIZE = HEADER.size + FLOW_MOD_BODY.size
"""Bytes of a flow mod beside its match and instructions."""
STATS_REQUEST = Struct("!HH4xB3xII4xQQ")
MULTIPART_HEAD = Struct("!HH4x")
FLOW_ENTRY = Struct("!HBxIIHHHH4xQQQ")
FLOW_MARK = Struct("!HBx8xH10xQ")
"""The front of FLOW_ENTRY: length, table, priority and cookie."""
AGGREGATE = Struct("!QQI4x")
MATCH_LENGTH = Struct("!HH")


@dataclass(frozen=True, slots=True)
class FlowEntry:
    """One flow of a statistics reply, its match and instructions still as bytes.

    ``terms`` are the OXM terms without head and padding.
    """

    table: int
    priority: int
    cookie: Cookie
    terms: bytes
    instructions: bytes
    packets: int
    bytes: int

    def installed(self) -> Installed:
        """The flow as the plan compares it."""
        match = decode_match(self.terms)
        return Installed(self.table, self.priority, match, self.cookie, self.packets, self.bytes)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """How many flows a filter met, and what passed through them."""

    flows: int
    packets: int
    bytes: int


def encode_flow_add(flow: Flow, xid: int) -> bytes:
    """The message that adds ``flow``, or overwrites the flow with its table, priority and match.

    Raises:
        WireError: the flow does not fit into one message.
    """
    try:
        match, does = encode_match(flow.match), encode_instructions(flow)
        length = FLOW_MOD_SIZE + len(match) + len(does)
        if length > FLOW_LENGTH_MAX:
            raise WireError(f"it is {length} bytes long, at most {FLOW_LENGTH_MAX} are possible")
        return _flow_mod(xid, ADD, flow.table, flow.priority, (flow.cookie, 0), match + does)
    except (error, OverflowError, WireError) as problem:
        sentence = f"flow {str(flow)[:160]!r} ({flow.why}) cannot be sent: {problem}"
        raise WireError(sentence) from problem


def encode_instructions(flow: Flow) -> bytes:
    """What ``flow`` does, byte for byte as a switch reports it; no bytes when it drops.

    Raises:
        WireError, struct.error: the actions do not fit into a message.
    """
    steps, metered = flow.actions, b""
    if steps and isinstance(steps[0], Metered):
        metered = METER.pack(6, METER.size, steps[0].meter)
        steps = steps[1:]
    actions = encode_actions(steps)
    if len(actions) > FLOW_LENGTH_MAX:
        limit = f"at most {FLOW_LENGTH_MAX} are possible"
        raise WireError(f"its actions are {len(actions)} bytes long, {limit}")
    if actions:
        actions = APPLY_ACTIONS.pack(4, APPLY_ACTIONS.size + len(actions)) + actions
    return metered + actions


def encode_delete(installed: Installed, xid: int) -> bytes:
    """The message that deletes one flow, provided that its cookie is still the same.

    A flow of ours whose match we do not understand is deleted by its table and cookie alone,
    which holds a digest and so belongs to no other flow.
    """
    cookie = (installed.cookie, EXACT_COOKIE)
    if installed.match is None:
        return _flow_mod(xid, DELETE, installed.table, 0, cookie, NO_MATCH)
    match = encode_match(installed.match)
    return _flow_mod(xid, DELETE_STRICT, installed.table, installed.priority, cookie, match)


def encode_clearing(flow: Flow, xid: int) -> bytes:
    """The message that deletes whatever flow of ours is in the place of ``flow``."""
    ours = (OWNER << OWNER_SHIFT, OWNER_MASK)
    match = encode_match(flow.match)
    return _flow_mod(xid, DELETE_STRICT, flow.table, flow.priority, ours, match)


def encode_flow_stats_request(
    xid: int, cookie: int = 0, cookie_mask: int = ANY_COOKIE, table: int = ALL_TABLES
) -> bytes:
    """Ask for every flow of ``table`` whose cookie is ``cookie`` in the bits of the mask."""
    return _stats_request(FLOW_STATS, xid, cookie, cookie_mask, table)


def encode_aggregate_request(
    xid: int, cookie: int = 0, cookie_mask: int = ANY_COOKIE, table: int = ALL_TABLES
) -> bytes:
    """Ask for the sums over the flows that ``encode_flow_stats_request`` would list."""
    return _stats_request(AGGREGATE_STATS, xid, cookie, cookie_mask, table)


def decode_flow_stats(message: bytes) -> Iterator[FlowEntry]:
    """The flows of one flow-stats reply.

    Raises:
        WireError: the message is cut off or its lengths do not add up.
    """
    at, end = HEADER.size + MULTIPART_HEAD.size, len(message)
    try:
        while at < end:
            yield _entry(message, at, end)
            at += FLOW_MARK.unpack_from(message, at)[0]
    except error as problem:
        raise WireError(f"flow statistics are cut off at byte {at}: {problem}") from problem


def scan_flow_stats(message: bytes, wanted: Set[Mark], found: set[Mark]) -> list[FlowEntry]:
    """Look at the marks of one flow-stats reply: what is ``wanted`` goes into ``found``.

    Returns what is not wanted, and what was found before.

    Raises:
        WireError: the message is cut off or its lengths do not add up.
    """
    at, end = HEADER.size + MULTIPART_HEAD.size, len(message)
    others: list[FlowEntry] = []
    try:
        while at < end:
            length, table, priority, cookie = FLOW_MARK.unpack_from(message, at)
            mark = table, priority, cookie
            if mark in wanted and mark not in found:
                found.add(mark)
                if length < FLOW_ENTRY.size or at + length > end:
                    raise WireError(f"flow statistics with impossible lengths at byte {at}")
            else:
                others.append(_entry(message, at, end))
            at += length
    except error as problem:
        raise WireError(f"flow statistics are cut off at byte {at}: {problem}") from problem
    return others


def decode_aggregate(message: bytes) -> Aggregate:
    """The sums of an aggregate-stats reply.

    Raises:
        WireError: the message is cut off.
    """
    try:
        sums = AGGREGATE.unpack_from(message, HEADER.size + MULTIPART_HEAD.size)
    except error as problem:
        raise WireError(f"aggregate statistics are cut off: {problem}") from problem
    packets, size, flows = sums
    return Aggregate(flows, packets, size)


def is_last_part(message: bytes) -> bool:
    """Whether a multipart reply is the last of its request."""
    return not MULTIPART_HEAD.unpack_from(message, HEADER.size)[1] & MORE_FOLLOW


def encode_message(kind: int, xid: int, body: bytes = b"") -> bytes:
    """Any OpenFlow 1.3 message.

    Raises:
        WireError: it is longer than the 65535 bytes that a message may have.
    """
    length = HEADER.size + len(body)
    if length > LENGTH_MAX:
        raise WireError(f"the message is {length} bytes long, at most {LENGTH_MAX} are possible")
    return HEADER.pack(VERSION, kind, length, xid) + body


def _entry(message: bytes, at: int, end: int) -> FlowEntry:
    """The entry of a flow-stats reply that begins at ``at``."""
    entry = FLOW_ENTRY.unpack_from(message, at)
    length, table, _, _, priority, _, _, _, cookie, packets, size = entry
    _, match_length = MATCH_LENGTH.unpack_from(message, at + FLOW_ENTRY.size)
    start = at + FLOW_ENTRY.size
    after = start + (match_length + 7 & ~7)
    if length < FLOW_ENTRY.size or match_length < 4 or not after <= at + length <= end:
        raise WireError(f"flow statistics with impossible lengths at byte {at}")
    terms = message[start + 4 : start + match_length]
    rest = message[after : at + length]
    return FlowEntry(table, priority, Cookie(cookie), terms, rest, packets, size)


def _flow_mod(
    xid: int, command: int, table: int, priority: int, cookie: tuple[int, int], rest: bytes
) -> bytes:
    body = FLOW_MOD_BODY.pack(
        *(*cookie, table, command, 0, 0, priority, NO_BUFFER, ANY_PORT, ANY_GROUP, 0)
    )
    return encode_message(FLOW_MOD, xid, body + rest)


def _stats_request(kind: int, xid: int, cookie: int, cookie_mask: int, table: int) -> bytes:
    numbers = kind, 0, table, ANY_PORT, ANY_GROUP, cookie, cookie_mask
    return encode_message(MULTIPART_REQUEST, xid, STATS_REQUEST.pack(*numbers) + NO_MATCH)

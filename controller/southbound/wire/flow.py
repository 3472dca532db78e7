"""Flows as OpenFlow 1.3 bytes, and the flow statistics of a switch back as values.

Layouts: OpenFlow Switch Specification 1.3.5, sections 7.3.4.1 (flow mod), 7.3.5 (multipart).
This code handles tens of thousands of flows a second, so it packs plain structs.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from struct import Struct, error

from controller.southbound.errors import WireError
from controller.southbound.wire.action import encode_actions
from controller.southbound.wire.header import (
    ANY_GROUP,
    ANY_PORT,
    FLOW_MOD,
    HEADER,
    LENGTH_MAX,
    MULTIPART_HEAD,
    MULTIPART_REQUEST,
    NO_BUFFER,
    encode_message,
)
from controller.southbound.wire.match import NO_MATCH, decode_match, encode_match
from flows.openflow import OWNER, OWNER_MASK, OWNER_SHIFT, Cookie, Flow, Metered
from flows.plan import InstalledFlow, Mark

FLOW_LENGTH_MAX = LENGTH_MAX - 24
"""A flow-mod travels inside a bundle-add message, whose own headers take 24 bytes."""

ADD, DELETE, DELETE_STRICT = 0, 3, 4
FLOW_STATS, AGGREGATE_STATS = 1, 2
ALL_TABLES = 0xFF
ANY_COOKIE = 0
EXACT_COOKIE = (1 << 64) - 1

FLOW_MOD_BODY = Struct("!QQBBHHHIIIH2x")
APPLY_ACTIONS = Struct("!HH4x")
METER_INSTRUCTION = Struct("!HHI")
FLOW_MOD_SIZE = HEADER.size + FLOW_MOD_BODY.size
"""Bytes of a flow-mod without its match and instructions."""
STATS_REQUEST = Struct("!HH4xB3xII4xQQ")
FLOW_ENTRY = Struct("!HBxIIHHHH4xQQQ")
FLOW_MARK = Struct("!HBx8xH10xQ")
"""What a flow mark needs of FLOW_ENTRY: length, table, priority and cookie."""
AGGREGATE = Struct("!QQI4x")
MATCH_LENGTH = Struct("!HH")


@dataclass(frozen=True, slots=True)
class FlowEntry:
    """One flow of a flow-stats reply; its match and instructions are still encoded.

    ``terms`` are the OXM fields without the head and the padding of the match.
    """

    table: int
    priority: int
    cookie: Cookie
    terms: bytes
    instructions: bytes
    packets: int
    bytes: int

    def installed(self) -> InstalledFlow:
        """The flow with its match decoded, as a plan compares it."""
        match = decode_match(self.terms)
        return InstalledFlow(
            self.table, self.priority, match, self.cookie, self.packets, self.bytes
        )


@dataclass(frozen=True, slots=True)
class Aggregate:
    """How many flows a request selected, and the sums of their counters."""

    flows: int
    packets: int
    bytes: int


def encode_flow_add(flow: Flow, xid: int) -> bytes:
    """The flow-mod that adds ``flow``; it replaces a flow of the same table, priority and match.

    Raises:
        WireError: the flow does not fit into one message.
    """
    try:
        match, instructions = encode_match(flow.match), encode_instructions(flow)
        length = FLOW_MOD_SIZE + len(match) + len(instructions)
        if length > FLOW_LENGTH_MAX:
            raise WireError(f"it is {length} bytes long, at most {FLOW_LENGTH_MAX} are possible")
        cookie = (flow.cookie, 0)
        return _flow_mod(xid, ADD, flow.table, flow.priority, cookie, match + instructions)
    except (error, OverflowError, WireError) as problem:
        why = str(problem) if isinstance(problem, WireError) else "a number does not fit its field"
        sentence = f"flow {str(flow)[:160]!r} ({flow.why}) cannot be sent: {why}"
        raise WireError(sentence) from problem


def encode_instructions(flow: Flow) -> bytes:
    """The instructions of ``flow``, byte for byte as a switch reports them; empty for a drop.

    Raises:
        WireError, struct.error: the actions do not fit into a message.
    """
    to_apply, meter = flow.actions, b""
    if to_apply and isinstance(to_apply[0], Metered):
        meter = METER_INSTRUCTION.pack(6, METER_INSTRUCTION.size, to_apply[0].meter)
        to_apply = to_apply[1:]
    actions = encode_actions(to_apply)
    if len(actions) > FLOW_LENGTH_MAX:
        limit = f"at most {FLOW_LENGTH_MAX} are possible"
        raise WireError(f"its actions are {len(actions)} bytes long, {limit}")
    if actions:
        actions = APPLY_ACTIONS.pack(4, APPLY_ACTIONS.size + len(actions)) + actions
    return meter + actions


def encode_flow_delete(installed: InstalledFlow, xid: int) -> bytes:
    """The flow-mod that deletes one flow if it still has the same cookie.

    A flow of ours whose match cannot be decoded is deleted by table and cookie alone: the cookie
    holds a digest, so no other flow has it.
    """
    cookie = (installed.cookie, EXACT_COOKIE)
    if installed.match is None:
        return _flow_mod(xid, DELETE, installed.table, 0, cookie, NO_MATCH)
    match = encode_match(installed.match)
    return _flow_mod(xid, DELETE_STRICT, installed.table, installed.priority, cookie, match)


def encode_flow_clear(flow: Flow, xid: int) -> bytes:
    """The flow-mod that deletes our flow with the table, priority and match of ``flow``, if any.

    It checks the owner bits of the cookie, not the rest: the flow may do anything.
    """
    ours = (OWNER << OWNER_SHIFT, OWNER_MASK)
    match = encode_match(flow.match)
    return _flow_mod(xid, DELETE_STRICT, flow.table, flow.priority, ours, match)


def encode_flow_stats_request(
    xid: int, cookie: int = 0, cookie_mask: int = ANY_COOKIE, table: int = ALL_TABLES
) -> bytes:
    """The request for every flow of ``table`` whose cookie equals ``cookie`` under the mask."""
    return _stats_request(FLOW_STATS, xid, cookie, cookie_mask, table)


def encode_aggregate_request(
    xid: int, cookie: int = 0, cookie_mask: int = ANY_COOKIE, table: int = ALL_TABLES
) -> bytes:
    """The request for the sums over the flows that a flow-stats request would list."""
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
        raise WireError(f"flow statistics are cut off at byte {at}") from problem


def scan_flow_stats(message: bytes, wanted: Set[Mark], found: set[Mark]) -> list[FlowEntry]:
    """Compare the marks of one flow-stats reply with ``wanted``; add those present to ``found``.

    Returns the flows whose mark is not wanted, or was in ``found`` already.

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
        raise WireError(f"flow statistics are cut off at byte {at}") from problem
    return others


def decode_aggregate(message: bytes) -> Aggregate:
    """The sums in an aggregate-stats reply.

    Raises:
        WireError: the message is cut off.
    """
    try:
        sums = AGGREGATE.unpack_from(message, HEADER.size + MULTIPART_HEAD.size)
    except error as problem:
        raise WireError(f"aggregate statistics of {len(message)} bytes are cut off") from problem
    packets, size, flows = sums
    return Aggregate(flows, packets, size)


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
    instructions = message[after : at + length]
    return FlowEntry(table, priority, Cookie(cookie), terms, instructions, packets, size)


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

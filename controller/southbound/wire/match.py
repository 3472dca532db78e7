"""Matches as OpenFlow 1.3 bytes, and back: flows.flow.Match <-> OXM terms.

Layout: OpenFlow Switch Specification 1.3.5, section 7.2.3. Registers travel in the class 0x0001 of
the Nicira extended match, which Open vSwitch mixes freely with the basic class 0x8000.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct, error

from controller.southbound.errors import WireError
from flows.errors import InvalidFlow
from flows.openflow.field import FIELD_BY_NAME, FIELD_BY_OXM, Field, Term
from flows.openflow.flow import Match

MATCH_TYPE_OXM = 1
MATCH_HEAD = Struct("!HH")
OXM_HEAD = Struct("!HBB")
PADDING = tuple(bytes(-length % 8) for length in range(8))
"""What fills a piece of a length (modulo 8) up to a multiple of eight bytes."""
EXPERIMENTER = 0xFFFF
ONF = b"\x4f\x4e\x46\x00"
ONF_NUMBERS = {"tcp_flags": 42}
"""Fields that OpenFlow 1.3 got as extension 109 of the ONF: Open vSwitch reports them so, however
they were sent."""
ONF_NAMES = {number: name for name, number in ONF_NUMBERS.items()}
NO_MATCH = b"\x00\x01\x00\x04\x00\x00\x00\x00"
"""The match that every packet satisfies."""


def encode_match(match: Match) -> bytes:
    """An ofp_match with its padding."""
    if not match.terms:
        return NO_MATCH
    body = b"".join([encode_term(term) for term in match.terms])
    length = 4 + len(body)
    return MATCH_HEAD.pack(MATCH_TYPE_OXM, length) + body + PADDING[length % 8]


def encode_term(term: Term) -> bytes:
    """One OXM term: header, value, and the mask when not every bit counts.

    Raises:
        WireError: the value does not fit the field.
    """
    field, size = term.field, term.field.size
    if term.value & ~term.mask:
        raise WireError(f"{field.name} has no room for {term.value:#x}")
    body = term.value.to_bytes(size, "big")
    if not term.is_exact:
        body += term.mask.to_bytes(size, "big")
    has_mask = not term.is_exact
    if field.name in ONF_NUMBERS:
        head = OXM_HEAD.pack(EXPERIMENTER, ONF_NUMBERS[field.name] << 1 | has_mask, len(body) + 4)
        return head + ONF + body
    return OXM_HEAD.pack(field.oxm_class, field.oxm_field << 1 | has_mask, len(body)) + body


def oxm_header(field: Field) -> int:
    """The 32-bit number that names a whole field where an action refers to it."""
    return field.oxm_class << 16 | field.oxm_field << 9 | field.size


def decode_match(terms: bytes) -> Match | None:
    """The match of OXM ``terms`` (without ofp_match head and padding).

    None when a term is of a kind that we never send: then the flow is a stranger's.
    """
    found: list[Term] = []
    at, end = 0, len(terms)
    try:
        while at < end:
            after = at + 4 + terms[at + 3]
            found.append(_decode_term(terms[at:after]))
            at = after
        return Match.of(*found)
    except (InvalidFlow, WireError, IndexError, error):
        return None


@lru_cache(maxsize=1 << 16)
def _decode_term(oxm: bytes) -> Term:
    oxm_class, number, length = OXM_HEAD.unpack_from(oxm)
    field, body = FIELD_BY_OXM.get((oxm_class, number >> 1)), oxm[4:]
    if oxm_class == EXPERIMENTER and body[:4] == ONF:
        field, body = FIELD_BY_NAME.get(ONF_NAMES.get(number >> 1, "")), body[4:]
    if field is None:
        raise WireError(f"field {oxm_class:#x}/{number >> 1} is not one of ours")
    size, has_mask = field.size, number & 1
    if len(oxm) != 4 + length or len(body) != size << has_mask:
        raise WireError(f"{field.name} has {len(body)} bytes")
    value = int.from_bytes(body[:size], "big")
    mask = int.from_bytes(body[size:], "big") if has_mask else field.full
    return Term(field, value, mask & field.full)

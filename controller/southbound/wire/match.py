"""Matches as OpenFlow 1.3 bytes, and back: flows.openflow.Match <-> OXM fields.

Layout: OpenFlow Switch Specification 1.3.5, section 7.2.3. Registers have OXM class 0x0001 (Nicira
extended match), which Open vSwitch accepts in one match with the basic class 0x8000.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct, error

from controller.southbound.errors import WireError
from controller.southbound.wire.header import ONF
from flows.errors import InvalidFlow
from flows.openflow import FIELD_BY_NAME, FIELD_BY_OXM, Field, Match, Term

MATCH_TYPE_OXM = 1
MATCH_HEAD = Struct("!HH")
OXM_HEAD = Struct("!HBB")
PADDING = tuple(bytes(-length % 8) for length in range(8))
"""By a length modulo 8: the padding to a multiple of eight bytes."""
EXPERIMENTER_CLASS = 0xFFFF
ONF_BYTES = ONF.to_bytes(4, "big")
ONF_NUMBERS = {"tcp_flags": 42}
"""Experimenter fields of ONF extension 109 to OpenFlow 1.3: Open vSwitch reports them in this form,
whatever form they were sent in."""
ONF_NAMES = {number: name for name, number in ONF_NUMBERS.items()}
NO_MATCH = b"\x00\x01\x00\x04\x00\x00\x00\x00"
"""The empty match, which every packet satisfies."""


def encode_match(match: Match) -> bytes:
    """An ofp_match with its padding."""
    if not match.terms:
        return NO_MATCH
    body = b"".join([encode_term(term) for term in match.terms])
    length = 4 + len(body)
    return MATCH_HEAD.pack(MATCH_TYPE_OXM, length) + body + PADDING[length % 8]


def encode_term(term: Term) -> bytes:
    """One OXM field: header, value, and a mask unless the match is exact.

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
        head = OXM_HEAD.pack(
            EXPERIMENTER_CLASS, ONF_NUMBERS[field.name] << 1 | has_mask, len(body) + 4
        )
        return head + ONF_BYTES + body
    return OXM_HEAD.pack(field.oxm_class, field.oxm_field << 1 | has_mask, len(body)) + body


def oxm_header(field: Field) -> int:
    """The 32-bit OXM header of a field, by which actions refer to it."""
    return field.oxm_class << 16 | field.oxm_field << 9 | field.size


def decode_match(terms: bytes) -> Match | None:
    """The match with these OXM ``terms`` (without the head and padding of ofp_match).

    None if a field is one that we never send: then the flow is not ours.
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
    if oxm_class == EXPERIMENTER_CLASS and body[:4] == ONF_BYTES:
        field, body = FIELD_BY_NAME.get(ONF_NAMES.get(number >> 1, "")), body[4:]
    if field is None:
        raise WireError(f"field {oxm_class:#x}/{number >> 1} is not one of ours")
    size, has_mask = field.size, number & 1
    if len(oxm) != 4 + length or len(body) != size << has_mask:
        raise WireError(f"{field.name} has {len(body)} bytes")
    value = int.from_bytes(body[:size], "big")
    mask = int.from_bytes(body[size:], "big") if has_mask else field.full
    return Term(field, value, mask & field.full)

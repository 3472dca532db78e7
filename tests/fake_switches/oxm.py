"""Matches as a switch reads them: fields, masks, prerequisites (lib/meta-flow of Open vSwitch)."""

from __future__ import annotations

from struct import Struct, error

from tests.fake_switches.refusal import Refusal, Refused

HEAD = Struct("!HBB")
BASIC, NICIRA = 0x8000, 0x0001
Key = tuple[int, int]
Terms = dict[Key, tuple[int, int]]
"""A match: (class, field) -> (value, mask)."""

# field -> bytes, significant bits, whether it takes a mask
FIELDS: dict[Key, tuple[int, int, bool]] = {
    (BASIC, 0): (4, 32, False),
    (BASIC, 2): (8, 64, True),
    (BASIC, 3): (6, 48, True),
    (BASIC, 4): (6, 48, True),
    (BASIC, 5): (2, 16, False),
    (BASIC, 6): (2, 13, True),
    (BASIC, 7): (1, 3, False),
    (BASIC, 10): (1, 8, False),
    **{(BASIC, number): (4, 32, True) for number in (11, 12, 22, 23)},
    **{(BASIC, number): (2, 16, True) for number in (13, 14, 15, 16, 17, 18)},
    **{(BASIC, number): (1, 8, False) for number in (19, 20, 29, 30)},
    (BASIC, 21): (2, 16, False),
    (BASIC, 24): (6, 48, True),
    (BASIC, 25): (6, 48, True),
    **{(BASIC, number): (16, 128, True) for number in (26, 27, 31)},
    **{(NICIRA, number): (4, 32, True) for number in range(16)},
    (NICIRA, 26): (1, 2, True),
    (NICIRA, 33): (4, 32, True),
    (NICIRA, 34): (2, 12, True),
    (BASIC, 38): (8, 64, True),
    (NICIRA, 32): (4, 32, True),
    (NICIRA, 110): (16, 128, True),
}
ETH_TYPE, VLAN_VID, IP_PROTO, ICMPV6_TYPE = (BASIC, 5), (BASIC, 6), (BASIC, 10), (BASIC, 29)
IP, ARP, IPV6 = {0x0800}, {0x0806}, {0x86DD}

# field -> (other field, the values of which one is needed)
_ETHERNET = {
    **dict.fromkeys([(BASIC, 11), (BASIC, 12)], IP),
    **dict.fromkeys([(BASIC, 26), (BASIC, 27)], IPV6),
    **dict.fromkeys([(BASIC, number) for number in range(21, 26)], ARP),
    IP_PROTO: IP | IPV6,
    (NICIRA, 26): IP | IPV6,
}
_PROTOCOL = {
    **dict.fromkeys([(BASIC, 13), (BASIC, 14), (NICIRA, 34)], 6),
    **dict.fromkeys([(BASIC, 15), (BASIC, 16)], 17),
    **dict.fromkeys([(BASIC, 17), (BASIC, 18)], 132),
    **dict.fromkeys([(BASIC, 19), (BASIC, 20)], 1),
    **dict.fromkeys([(BASIC, 29), (BASIC, 30), (BASIC, 31)], 58),
}


def read_match(message: bytes, at: int) -> tuple[Terms, int]:
    """The match that begins at ``at``, and where its padding ends."""
    try:
        kind, length = Struct("!HH").unpack_from(message, at)
    except error:
        raise Refused(Refusal.MATCH_LEN) from None
    end = at + (length + 7 & ~7)
    if length < 4 or end > len(message):
        raise Refused(Refusal.MATCH_LEN)
    if kind != 1:
        raise Refused(Refusal.MATCH_TYPE)
    return read_terms(message[at + 4 : at + length]), end


def read_terms(body: bytes) -> Terms:
    """OXM terms without head and padding, each checked as it comes."""
    terms: Terms = {}
    at = 0
    while at < len(body):
        if at + 4 > len(body) or at + 4 + body[at + 3] > len(body):
            raise Refused(Refusal.MATCH_LEN)
        oxm_class, number, length = HEAD.unpack_from(body, at)
        key = oxm_class, number >> 1
        terms_key, value = _read_term(key, bool(number & 1), body[at + 4 : at + 4 + length])
        _check_prerequisites(terms_key, terms)
        if terms_key in terms:
            raise Refused(Refusal.MATCH_TWICE)
        terms[terms_key] = value
        at += 4 + length
    return {key: term for key, term in terms.items() if term[1]}


def write_terms(terms: Terms) -> bytes:
    """The terms in one canonical order, prerequisites first."""
    parts = []
    for (oxm_class, number), (value, mask) in sorted(terms.items(), key=_order):
        size, bits, _ = FIELDS[oxm_class, number]
        if mask == (1 << bits) - 1:
            parts.append(HEAD.pack(oxm_class, number << 1, size) + value.to_bytes(size, "big"))
        else:
            head = HEAD.pack(oxm_class, number << 1 | 1, size * 2)
            parts.append(head + value.to_bytes(size, "big") + mask.to_bytes(size, "big"))
    return b"".join(parts)


def covers(wide: Terms, narrow: Terms) -> bool:
    """Whether ``wide`` matches every packet of ``narrow`` (non-strict requests)."""
    for key, (value, mask) in wide.items():
        other_value, other_mask = narrow.get(key, (0, 0))
        if mask & ~other_mask or (other_value ^ value) & mask:
            return False
    return True


def has_tag(terms: Terms) -> bool:
    """Whether all packets of a match have an 802.1Q tag."""
    value, mask = terms.get(VLAN_VID, (0, 0))
    return bool(value & mask & 0x1000)


def _read_term(key: Key, is_masked: bool, body: bytes) -> tuple[Key, tuple[int, int]]:
    if key not in FIELDS:
        raise Refused(Refusal.MATCH_FIELD)
    size, bits, may_mask = FIELDS[key]
    if len(body) != size << is_masked:  # the length is a part of the field's name
        raise Refused(Refusal.MATCH_FIELD)
    full = (1 << bits) - 1
    value = int.from_bytes(body[:size], "big")
    mask = int.from_bytes(body[size:], "big") if is_masked else (1 << size * 8) - 1
    if value & ~mask:
        raise Refused(Refusal.MATCH_WILDCARDS)
    mask &= full
    if is_masked and not may_mask and mask not in (0, full):
        raise Refused(Refusal.MATCH_MASK)
    if value & ~full:
        raise Refused(Refusal.MATCH_VALUE)
    return key, (value, mask)


def _check_prerequisites(key: Key, terms: Terms) -> None:
    if key in _ETHERNET and terms.get(ETH_TYPE, (0, 0))[0] not in _ETHERNET[key]:
        raise Refused(Refusal.MATCH_PREREQ)
    if key in _PROTOCOL and terms.get(IP_PROTO, (-1, 0))[0] != _PROTOCOL[key]:
        raise Refused(Refusal.MATCH_PREREQ)
    if key == (BASIC, 31) and terms.get(ICMPV6_TYPE, (0, 0))[0] not in (135, 136):
        raise Refused(Refusal.MATCH_PREREQ)
    if key == (BASIC, 7) and not has_tag(terms):
        raise Refused(Refusal.MATCH_PREREQ)


def _order(item: tuple[Key, tuple[int, int]]) -> tuple[bool, int, int]:
    (oxm_class, number), _ = item
    needs = {31: 91, 24: 90, 25: 90}  # after the fields that they need
    place = {5: 8, 6: 6, 7: 7, 10: 9}.get(number, number + 20)
    if oxm_class == NICIRA:
        return number == 34, 1 if number < 16 else 99, number
    return False, needs.get(number, place), number

"""Instructions and actions as a switch checks them (lib/ofp-actions.c of Open vSwitch)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from tests.fake_switches.oxm import (
    FIELDS,
    HEAD,
    NICIRA,
    VLAN_VID,
    Terms,
    has_tag,
)
from tests.fake_switches.refusal import Refusal, Refused

TYPE_LENGTH = Struct("!HH")
NICIRA_ID = 0x2320
PORTS_MAX = 0xFF00
"""Port numbers from here on are reserved (OFPP_MAX of OpenFlow 1.0); only RESERVED are valid."""
RESERVED = {0xFFFFFFF8, 0xFFFFFFF9, 0xFFFFFFFA, 0xFFFFFFFB, 0xFFFFFFFC, 0xFFFFFFFD, 0xFFFFFFFE}
APPLY, WRITE, CLEAR, METER, GOTO = 4, 3, 5, 6, 1


@dataclass
class _State:
    """What is known of a packet at one point of an action list."""

    is_tagged: bool


def check_instructions(body: bytes, terms: Terms, table: int) -> int | None:
    """Refuse instructions that Open vSwitch refuses; returns the meter that the flow uses."""
    at, meter = 0, None
    while at < len(body):
        if len(body) - at < 4:
            raise Refused(Refusal.INSTRUCTION_LEN)
        kind, length = TYPE_LENGTH.unpack_from(body, at)
        if length < 4 or length % 8 or at + length > len(body):
            raise Refused(Refusal.INSTRUCTION_LEN)
        if kind == METER:
            if length != 8:
                raise Refused(Refusal.INSTRUCTION_LEN)
            (meter,) = Struct("!I").unpack_from(body, at + 4)
            at += length
            continue
        if kind != APPLY:
            raise Refused(Refusal.UNKNOWN_INSTRUCTION)
        check_actions(body[at + 8 : at + length], _State(has_tag(terms)))
        at += length
    return meter


def check_packet_actions(body: bytes, *, is_tagged: bool) -> None:
    """Refuse actions of a packet-out that Open vSwitch refuses."""
    check_actions(body, _State(is_tagged))


def check_actions(body: bytes, state: _State) -> None:
    """Refuse action lists that Open vSwitch refuses."""
    at = 0
    while at < len(body):
        if len(body) - at < 4:
            raise Refused(Refusal.ACTION_LEN)
        kind, length = TYPE_LENGTH.unpack_from(body, at)
        if length < 8 or length % 8 or at + length > len(body):
            raise Refused(Refusal.ACTION_LEN)
        _check(kind, body[at : at + length], state)
        at += length


def _check(kind: int, action: bytes, state: _State) -> None:
    if kind == 0:
        _check_output(action)
    elif kind == 17:
        _check_push(action, state)
    elif kind == 18:
        if len(action) != 8:
            raise Refused(Refusal.ACTION_LEN)
        if not state.is_tagged:
            raise Refused(Refusal.ACTION_MATCH)
        state.is_tagged = False
    elif kind in (19, 20):  # push and pop of an MPLS label, always together
        if len(action) != 8:
            raise Refused(Refusal.ACTION_LEN)
    elif kind == 25:
        _check_set_field(action, state)
    elif kind == 0xFFFF:
        _check_experimenter(action, state)
    else:
        raise Refused(Refusal.ACTION_TYPE)


def _check_output(action: bytes) -> None:
    if len(action) != 16:
        raise Refused(Refusal.ACTION_LEN)
    (port,) = Struct("!I").unpack_from(action, 4)
    if port >= PORTS_MAX and port not in RESERVED:
        raise Refused(Refusal.ACTION_OUT_PORT)


def _check_push(action: bytes, state: _State) -> None:
    (ethertype,) = Struct("!H").unpack_from(action, 4)
    if ethertype not in (0x8100, 0x88A8):
        raise Refused(Refusal.ACTION_ARGUMENT)
    state.is_tagged = True


def _check_set_field(action: bytes, state: _State) -> None:
    oxm_class, number, length = HEAD.unpack_from(action, 4)
    key = oxm_class, number >> 1
    if key not in FIELDS:
        raise Refused(Refusal.SET_TYPE)
    size, bits, _ = FIELDS[key]
    if length != size << (number & 1):
        raise Refused(Refusal.ACTION_LEN)
    value = int.from_bytes(action[8 : 8 + size], "big")
    if value >> bits:
        raise Refused(Refusal.SET_ARGUMENT)
    if key == VLAN_VID and not value & 0x1000:
        raise Refused(Refusal.SET_ARGUMENT)
    if key in (VLAN_VID, (0x8000, 7)) and not state.is_tagged:
        raise Refused(Refusal.ACTION_MATCH)


def _check_experimenter(action: bytes, state: _State) -> None:
    experimenter, subtype = Struct("!IH").unpack_from(action, 4)
    if experimenter != NICIRA_ID:
        raise Refused(Refusal.ACTION_EXPERIMENTER)
    if subtype == 6:
        _check_move(action, state)
    elif subtype == 7:
        _check_load(action)
    elif subtype == 42:
        check_actions(action[16:], _State(state.is_tagged))
    elif subtype not in (10, 14, 39, 45, 49):
        raise Refused(Refusal.ACTION_EXP_TYPE)


def _check_move(action: bytes, state: _State) -> None:
    if len(action) != 24:
        raise Refused(Refusal.ACTION_LEN)
    bits, source_at, _, source, target = Struct("!HHHII").unpack_from(action, 10)
    if source_at + bits > _bits_of(source):
        raise Refused(Refusal.SET_LEN)
    if target == 0x00000802 and not state.is_tagged:
        raise Refused(Refusal.ACTION_MATCH)


def _check_load(action: bytes) -> None:
    if len(action) != 24:
        raise Refused(Refusal.ACTION_LEN)
    place, target, value = Struct("!HIQ").unpack_from(action, 10)
    at, bits = place >> 6, (place & 63) + 1
    if at + bits > _bits_of(target):
        raise Refused(Refusal.SET_LEN)
    if value >> bits:
        raise Refused(Refusal.ACTION_ARGUMENT)


def _bits_of(header: int) -> int:
    """Bits of a field named by a whole OXM header; the old names of OpenFlow 1.0 count too."""
    key = header >> 16, header >> 9 & 0x7F
    if key[0] == 0:
        return (header & 0xFF) * 8
    if key not in FIELDS or key[0] not in (NICIRA, 0x8000):
        raise Refused(Refusal.ACTION_ARGUMENT)
    return FIELDS[key][1]

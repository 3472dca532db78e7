"""Decodes the instructions and actions that a switch reports.

Whatever is decoded is encoded again and must give the same bytes, padding and unused fields
included. So an action that differs in any way from ours is never decoded as one of ours, and each
decoder reads only the numbers that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from struct import Struct, error

from netaddr import IPAddress

from controller.southbound.errors import WireError
from controller.southbound.wire.action import (
    CHECK_LARGER,
    CLONE,
    EXPERIMENTER_ACTION,
    HASH_FIELDS,
    LEARN2,
    MULTIPATH,
    NXM_OF_IN_PORT,
    NXM_TUNNEL_IPV4,
    NXM_TUNNEL_IPV6,
    OUTPUT_ACTION,
    OUTPUT_TRUNC,
    OXM_TUNNEL_ID,
    REG_LOAD,
    REG_MOVE,
    RESUBMIT_TABLE,
    SPEC_HEAD,
    SPEC_TARGET,
    encode_actions,
)
from controller.southbound.wire.flow import APPLY_ACTIONS, METER_INSTRUCTION
from controller.southbound.wire.header import NICIRA
from controller.southbound.wire.match import oxm_header
from flows.errors import InvalidFlow
from flows.openflow import (
    PKT_MARK,
    REGISTERS,
    VLAN_ID_MASK,
    VLAN_PCP,
    VLAN_VID,
    Action,
    CheckLarger,
    Clone,
    Cookie,
    ForgetInPort,
    Learn,
    Load,
    Metered,
    MoveToVlan,
    Multipath,
    Output,
    PopMpls,
    PopVlan,
    PushMpls,
    PushVlan,
    RegField,
    Resubmit,
    SetMark,
    SetTunnelKey,
    SetTunnelRemote,
    SetVlan,
    SetVlanPriority,
    show_actions,
)

TYPE_LENGTH = Struct("!HH")
SUBTYPE = Struct("!IH")
DEPTH_MAX = 50
"""Clones may be nested so deep; the compiler nests two."""
TEXT_MAX = 400
"""Characters of an action list that are shown to people."""

_UNKNOWN_INSTRUCTION = "an instruction is not one of ours"


def decode_instructions(data: bytes) -> tuple[Action, ...]:
    """The actions of a flow with these instructions; none for a drop.

    Raises:
        WireError: they are cut off, or are none that we send.
    """
    metered: tuple[Action, ...] = ()
    size = METER_INSTRUCTION.size
    if data[: TYPE_LENGTH.size] == TYPE_LENGTH.pack(6, size) and len(data) >= size:
        metered = (Metered(METER_INSTRUCTION.unpack_from(data)[2]),)
        data = data[size:]
    if not data:
        return metered
    head, actions = data[: APPLY_ACTIONS.size], data[APPLY_ACTIONS.size :]
    if not actions or len(data) > 0xFFFF or head != APPLY_ACTIONS.pack(4, len(data)):
        raise WireError(_UNKNOWN_INSTRUCTION)
    return metered + decode_actions(actions)


def decode_actions(data: bytes) -> tuple[Action, ...]:
    """The actions of an encoded action list.

    Raises:
        WireError: they are cut off, or are none that we send.
    """
    try:
        found = tuple(_actions(data, 0))
        encoded = encode_actions(found)
    except error as problem:
        raise WireError("an action is cut off") from problem
    except InvalidFlow as problem:
        raise WireError(f"an action is not one of ours: {problem}") from problem
    if encoded != data:
        raise WireError("actions have numbers or padding that ours have not")
    return found


def show_instructions(data: bytes) -> str:
    """Instructions in the syntax of ovs-ofctl; as bytes if they cannot be decoded."""
    try:
        shown = show_actions(decode_instructions(data))
    except WireError as problem:
        shown = f"{problem} ({data.hex()})"
    return shown if len(shown) <= TEXT_MAX else f"{shown[:TEXT_MAX]}..."


def _actions(data: bytes, depth: int) -> Iterator[Action]:
    if depth > DEPTH_MAX:
        raise WireError(f"clones are nested deeper than {DEPTH_MAX}")
    at = 0
    while at < len(data):
        kind, length = TYPE_LENGTH.unpack_from(data, at)
        if length < 8 or at + length > len(data):
            raise WireError(f"an action has an impossible length at byte {at}")
        yield _action(kind, data[at : at + length], depth)
        at += length


def _action(kind: int, action: bytes, depth: int) -> Action:
    if kind in _STANDARD:
        return _STANDARD[kind](action)
    if kind != EXPERIMENTER_ACTION:
        raise WireError(f"there is no action {kind} among ours")
    experimenter, subtype = SUBTYPE.unpack_from(action, TYPE_LENGTH.size)
    if (experimenter, subtype) == (NICIRA, 42):
        return Clone(tuple(_actions(action[CLONE.size :], depth + 1)))
    if experimenter != NICIRA or subtype not in _NICIRA:
        raise WireError(
            f"there is no action {subtype} of experimenter {experimenter:#x} among ours"
        )
    return _NICIRA[subtype](action)


def _output(action: bytes) -> Action:
    return Output(OUTPUT_ACTION.unpack(action)[2])


def _output_truncated(action: bytes) -> Action:
    *_, port, length = OUTPUT_TRUNC.unpack(action)
    return Output(port, length)


def _push_vlan(action: bytes) -> Action:
    return PushVlan()


def _pop_vlan(action: bytes) -> Action:
    return PopVlan()


def _push_mpls(action: bytes) -> Action:
    return PushMpls()


def _pop_mpls(action: bytes) -> Action:
    return PopMpls(int.from_bytes(action[4:6], "big"))


def _set_field(action: bytes) -> Action:
    head, size = int.from_bytes(action[4:8], "big"), action[7]
    value = int.from_bytes(action[8 : 8 + size], "big")
    if head == oxm_header(VLAN_VID):
        return SetVlan(value & VLAN_ID_MASK)
    if head == oxm_header(VLAN_PCP):
        return SetVlanPriority(value)
    if head == oxm_header(PKT_MARK):
        return SetMark(value)
    if head == OXM_TUNNEL_ID:
        return SetTunnelKey(value)
    if head in (NXM_TUNNEL_IPV4, NXM_TUNNEL_IPV6):
        return SetTunnelRemote(IPAddress(value, 4 if head == NXM_TUNNEL_IPV4 else 6))
    raise WireError(f"no action of ours sets the field {head:#010x}")


def _load(action: bytes) -> Action:
    *_, bits, header, value = REG_LOAD.unpack(action)
    return ForgetInPort() if header == NXM_OF_IN_PORT else Load(_target(bits, header), value)


def _move(action: bytes) -> Action:
    *_, bits, low, _, header, _ = REG_MOVE.unpack(action)
    return MoveToVlan(_register(header, low, bits))


def _resubmit(action: bytes) -> Action:
    return Resubmit(RESUBMIT_TABLE.unpack(action)[5])


def _multipath(action: bytes) -> Action:
    *_, fields, _, _, last, _, bits, header = MULTIPATH.unpack(action)
    for hashed, number in HASH_FIELDS.items():
        if number == fields:
            return Multipath(hashed, last + 1, _target(bits, header))
    raise WireError(f"no action of ours hashes by {fields}")


def _check_larger(action: bytes) -> Action:
    *_, length, bit, header = CHECK_LARGER.unpack(action)
    return CheckLarger(length, _register(header, bit, 1))


def _learn(action: bytes) -> Action:
    head = LEARN2.unpack_from(action)
    idle, priority, cookie, table, limit = head[4], head[6], head[7], head[9], head[12]
    bits, header, low = SPEC_HEAD.unpack_from(action, LEARN2.size)
    out = LEARN2.size + 3 * SPEC_HEAD.size + 2 * SPEC_TARGET.size
    out_bits = SPEC_HEAD.unpack_from(action, out - SPEC_HEAD.size)[0] & 0x3FF
    out_header, out_low = SPEC_TARGET.unpack_from(action, out)
    network, port = _register(header, low, bits), _register(out_header, out_low, out_bits)
    return Learn(table, priority, idle, limit, Cookie(cookie), network, port)


def _target(ofs_nbits: int, header: int) -> RegField:
    """The register field with this ``ofs_nbits`` and header."""
    return _register(header, ofs_nbits >> 6, (ofs_nbits & 0x3F) + 1)


def _register(header: int, low: int, bits: int) -> RegField:
    if header not in _REGISTER_BY_HEADER:
        raise WireError(f"no action of ours uses the field {header:#010x} so")
    return RegField("read back", _REGISTER_BY_HEADER[header], low, low + bits - 1)


_STANDARD: Mapping[int, Callable[[bytes], Action]] = {
    0: _output,
    17: _push_vlan,
    18: _pop_vlan,
    19: _push_mpls,
    20: _pop_mpls,
    25: _set_field,
}
_NICIRA: Mapping[int, Callable[[bytes], Action]] = {
    6: _move,
    7: _load,
    10: _multipath,
    14: _resubmit,
    39: _output_truncated,
    45: _learn,
    49: _check_larger,
}
_REGISTER_BY_HEADER = {oxm_header(register): n for n, register in enumerate(REGISTERS)}

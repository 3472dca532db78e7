"""Instructions and actions as a switch reports them, read back as values.

Something is ours when our own encoder makes the very same bytes of what was read, unused numbers
and padding included. So nothing that a switch would do otherwise is ever taken for an action of
ours, and a reader has to look at nothing but the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from struct import Struct, error

from netaddr import IPAddress

from controller.southbound.errors import WireError
from controller.southbound.wire.flow import APPLY_ACTIONS, METER
from controller.southbound.wire.action import (
    CHECK_LARGER,
    CLONE,
    EXPERIMENTER,
    HASHES,
    LEARN2,
    MULTIPATH,
    NICIRA,
    NXM_OF_IN_PORT,
    NXM_TUNNEL_IPV4,
    NXM_TUNNEL_IPV6,
    OUTPUT,
    OUTPUT_TRUNC,
    OXM_TUNNEL_ID,
    REG_LOAD,
    REG_MOVE,
    RESUBMIT_TABLE,
    SPEC_HEAD,
    SPEC_TARGET,
    encode_actions,
)
from controller.southbound.wire.match import oxm_header
from flows.errors import InvalidFlow
from flows.openflow.field import REGISTERS, VLAN_PCP, VLAN_VID, RegField
from flows.openflow.flow import (
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
    PopVlan,
    PushVlan,
    Resubmit,
    SetTunnelKey,
    SetTunnelRemote,
    SetVlan,
    SetVlanPriority,
    show_actions,
)

TYPE_LENGTH = Struct("!HH")
SUBTYPE = Struct("!IH")
DEPTH_MAX = 50
"""Clones within clones are read so deep; the compilers make two."""
SHOWN_MAX = 400
"""Characters of what a flow does that are shown to people."""

_OTHER_STEP = "an instruction is not one of ours"


def decode_instructions(data: bytes) -> tuple[Action, ...]:
    """What a flow with these instructions does; no actions when it drops.

    Raises:
        WireError: they are cut off, or we would never send them.
    """
    steps: tuple[Action, ...] = ()
    if data[: TYPE_LENGTH.size] == TYPE_LENGTH.pack(6, METER.size) and len(data) >= METER.size:
        steps, data = (Metered(METER.unpack_from(data)[2]),), data[METER.size :]
    if not data:
        return steps
    head, actions = data[: APPLY_ACTIONS.size], data[APPLY_ACTIONS.size :]
    if not actions or len(data) > 0xFFFF or head != APPLY_ACTIONS.pack(4, len(data)):
        raise WireError(_OTHER_STEP)
    return steps + decode_actions(actions)


def decode_actions(data: bytes) -> tuple[Action, ...]:
    """The actions that these bytes are.

    Raises:
        WireError: they are cut off, or we would never send them.
    """
    try:
        found = tuple(_actions(data, 0))
        again = encode_actions(found)
    except (error, InvalidFlow) as problem:
        raise WireError(f"an action is not one of ours: {problem}") from problem
    if again != data:
        raise WireError("actions have numbers or padding that ours have not")
    return found


def show_instructions(data: bytes) -> str:
    """What a flow does, in the syntax of ovs-ofctl; as bytes if it is nothing of ours."""
    try:
        shown = show_actions(decode_instructions(data))
    except WireError as problem:
        shown = f"{problem} ({data.hex()})"
    return shown if len(shown) <= SHOWN_MAX else f"{shown[:SHOWN_MAX]}..."


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
    if kind in _PLAIN:
        return _PLAIN[kind](action)
    if kind != EXPERIMENTER:
        raise WireError(f"there is no action {kind} among ours")
    maker, subtype = SUBTYPE.unpack_from(action, TYPE_LENGTH.size)
    if (maker, subtype) == (NICIRA, 42):
        return Clone(tuple(_actions(action[CLONE.size :], depth + 1)))
    if maker != NICIRA or subtype not in _NICIRA:
        raise WireError(f"there is no action {subtype} of experimenter {maker:#x} among ours")
    return _NICIRA[subtype](action)


def _output(action: bytes) -> Action:
    return Output(OUTPUT.unpack(action)[2])


def _output_truncated(action: bytes) -> Action:
    *_, port, length = OUTPUT_TRUNC.unpack(action)
    return Output(port, length)


def _push_vlan(action: bytes) -> Action:
    return PushVlan()


def _pop_vlan(action: bytes) -> Action:
    return PopVlan()


def _set_field(action: bytes) -> Action:
    head, size = int.from_bytes(action[4:8], "big"), action[7]
    value = int.from_bytes(action[8 : 8 + size], "big")
    if head == oxm_header(VLAN_VID):
        return SetVlan(value & 0xFFF)
    if head == oxm_header(VLAN_PCP):
        return SetVlanPriority(value)
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
    for hashed, number in HASHES.items():
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


def _target(bits: int, header: int) -> RegField:
    """A part of a register by the number that says first bit and how many, and the register."""
    return _register(header, bits >> 6, (bits & 0x3F) + 1)


def _register(header: int, low: int, bits: int) -> RegField:
    if header not in _REGISTER_BY_HEADER:
        raise WireError(f"no action of ours uses the field {header:#010x} so")
    return RegField("read back", _REGISTER_BY_HEADER[header], low, low + bits - 1)


_PLAIN: Mapping[int, Callable[[bytes], Action]] = {
    0: _output,
    17: _push_vlan,
    18: _pop_vlan,
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

"""Actions as bytes: OpenFlow 1.3 where it defines the action, Nicira extensions elsewhere.

Layouts: OpenFlow Switch Specification 1.3.5, section 7.2.5; struct nx_action_* of Open vSwitch
(lib/ofp-actions.c), checked byte by byte against what Open vSwitch 3.1 itself sends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from struct import Struct
from typing import Any

from controller.southbound.errors import WireError
from controller.southbound.wire.header import LENGTH_MAX, NICIRA
from controller.southbound.wire.match import PADDING, encode_term, oxm_header
from flows.openflow import (
    ETH_MPLS,
    ETH_VLAN,
    PKT_MARK,
    VLAN_PCP,
    VLAN_PRESENT,
    VLAN_VID,
    Action,
    CheckLarger,
    Clone,
    ForgetInPort,
    HashOf,
    Learn,
    Load,
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
)

EXPERIMENTER_ACTION = 0xFFFF
OUTPUT_ACTION = Struct("!HHIH6x")
OUTPUT_TRUNC = Struct("!HHIHHI")
PUSH_VLAN = Struct("!HHH2x")
MPLS = Struct("!HHH2x")
POP_VLAN = Struct("!HH4x").pack(18, 8)
SET_FIELD = Struct("!HH")
REG_LOAD = Struct("!HHIHHIQ")
REG_MOVE = Struct("!HHIHHHHII")
RESUBMIT_TABLE = Struct("!HHIHHB3x")
CLONE = Struct("!HHIH6x")
LEARN2 = Struct("!HHIHHHHQHBxHHIH2x")
MULTIPATH = Struct("!HHIHHH2xHHI2xHI")
CHECK_LARGER = Struct("!HHIHHHI6x")
SPEC_HEAD = Struct("!HIH")
SPEC_TARGET = Struct("!IH")

OFPP_NONE_16 = 0xFFFF
OFPP_IN_PORT_16 = 0xFFF8
"""The ingress port of the packet, as the 16-bit port number of OpenFlow 1.0 (Nicira actions)."""
NXM_OF_IN_PORT, NXM_OF_ETH_DST, NXM_OF_ETH_SRC = 0x00000002, 0x00000206, 0x00000406
NXM_OF_VLAN_TCI = 0x00000802
OXM_TUNNEL_ID, NXM_TUNNEL_IPV4, NXM_TUNNEL_IPV6 = 0x80004C08, 0x00014004, 0x0001DC10
"""OXM and NXM headers of the tunnel metadata that an output to a tunnel port uses."""
HASH_FIELDS = {HashOf.CONNECTION: 3, HashOf.HOSTS: 6}
"""The symmetric hashes of Open vSwitch (enum nx_hash_fields)."""
MODULO_N = 0
RESUBMITS = tuple(
    RESUBMIT_TABLE.pack(EXPERIMENTER_ACTION, 16, NICIRA, 14, OFPP_IN_PORT_16, table)
    for table in range(256)
)
"""resubmit(,table), encoded once for each table: the most frequent action by far."""
LEARN_DELETES_LEARNED = 1 << 1
SPEC_LOADS = 1 << 11


def encode_actions(actions: tuple[Action, ...]) -> bytes:
    """An action list; the length of every action is a multiple of eight bytes.

    Raises:
        WireError: a number does not fit its field, or an action is longer than 65535 bytes.
    """
    try:
        return b"".join([_ENCODERS[type(action)](action) for action in actions])
    except KeyError as unknown:
        raise WireError(f"no bytes are known for the action {unknown}") from None


def number_offsets(actions: tuple[Action, ...]) -> list[tuple[int, int]] | None:
    """Where the numbers of an action list are encoded: (bits from the end, highest value) each.

    None if it has numbers other than register values and output ports.
    """
    found: list[tuple[int, int]] = []
    end = 0
    for action in reversed(actions):
        match action:
            case Load(target=target):
                found.append((end, (1 << target.bits) - 1))
            case Output(max_len=0):
                found.append((end + 64, 0xFFFFFFFF))
            case _ if action.numbers:
                return None
        end += len(encode_actions((action,))) * 8
    return found[::-1]


def _output(action: Output) -> bytes:
    if action.max_len:
        numbers = action.ofport, action.max_len
        return OUTPUT_TRUNC.pack(EXPERIMENTER_ACTION, 16, NICIRA, 39, *numbers)
    return OUTPUT_ACTION.pack(0, 16, action.ofport, 0)


def _push_vlan(action: PushVlan) -> bytes:
    return PUSH_VLAN.pack(17, 8, ETH_VLAN)


def _pop_vlan(action: PopVlan) -> bytes:
    return POP_VLAN


def _push_mpls(action: PushMpls) -> bytes:
    return MPLS.pack(19, 8, ETH_MPLS)


def _pop_mpls(action: PopMpls) -> bytes:
    return MPLS.pack(20, 8, action.eth_type)


def _set_vlan(action: SetVlan) -> bytes:
    return _set_field(encode_term(VLAN_VID.eq(VLAN_PRESENT | action.vid)))


def _set_vlan_priority(action: SetVlanPriority) -> bytes:
    return _set_field(encode_term(VLAN_PCP.eq(action.pcp)))


def _set_field(oxm: bytes) -> bytes:
    length = 4 + len(oxm)
    padding = PADDING[length % 8]
    return SET_FIELD.pack(25, length + len(padding)) + oxm + padding


@lru_cache(maxsize=1 << 12)
def _target(register: RegField) -> tuple[int, int]:
    """``ofs_nbits`` (first bit and number of bits) and the header of a register field."""
    return register.low << 6 | register.bits - 1, oxm_header(register.field)


def _load(action: Load) -> bytes:
    return REG_LOAD.pack(EXPERIMENTER_ACTION, 24, NICIRA, 7, *_target(action.target), action.value)


def _move_to_vlan(action: MoveToVlan) -> bytes:
    source = action.source
    numbers = source.bits, source.low, 0, oxm_header(source.field), NXM_OF_VLAN_TCI
    return REG_MOVE.pack(EXPERIMENTER_ACTION, 24, NICIRA, 6, *numbers)


def _forget_in_port(action: ForgetInPort) -> bytes:
    return REG_LOAD.pack(EXPERIMENTER_ACTION, 24, NICIRA, 7, 16 - 1, NXM_OF_IN_PORT, OFPP_NONE_16)


def _resubmit(action: Resubmit) -> bytes:
    if 0 <= action.table < len(RESUBMITS):
        return RESUBMITS[action.table]
    raise WireError(f"there is no table {action.table} to resubmit to")


def _set_mark(action: SetMark) -> bytes:
    return _set_field(encode_term(PKT_MARK.eq(action.mark)))


def _set_tunnel_key(action: SetTunnelKey) -> bytes:
    return _set_field(OXM_TUNNEL_ID.to_bytes(4, "big") + action.key.to_bytes(8, "big"))


def _set_tunnel_remote(action: SetTunnelRemote) -> bytes:
    header = NXM_TUNNEL_IPV4 if action.address.version == 4 else NXM_TUNNEL_IPV6
    return _set_field(header.to_bytes(4, "big") + action.address.packed)


def _multipath(action: Multipath) -> bytes:
    numbers = HASH_FIELDS[action.hash], 0, MODULO_N, action.buckets - 1, 0, *_target(action.target)
    return MULTIPATH.pack(EXPERIMENTER_ACTION, 32, NICIRA, 10, *numbers)


def _check_larger(action: CheckLarger) -> bytes:
    target = action.target
    numbers = action.length, target.low, oxm_header(target.field)
    return CHECK_LARGER.pack(EXPERIMENTER_ACTION, 24, NICIRA, 49, *numbers)


def _clone(action: Clone) -> bytes:
    inner = encode_actions(action.actions)
    length = CLONE.size + len(inner)
    if length > LENGTH_MAX:
        raise WireError(f"a clone of {len(action.actions)} actions is {length} bytes long")
    return CLONE.pack(EXPERIMENTER_ACTION, length, NICIRA, 42) + inner


def _learn(action: Learn) -> bytes:
    network, out = action.network, action.out
    register = oxm_header(network.field)
    specs = b"".join(
        (
            SPEC_HEAD.pack(network.bits, register, network.low),
            SPEC_TARGET.pack(register, network.low),
            SPEC_HEAD.pack(48, NXM_OF_ETH_SRC, 0),
            SPEC_TARGET.pack(NXM_OF_ETH_DST, 0),
            SPEC_HEAD.pack(SPEC_LOADS | out.bits, NXM_OF_IN_PORT, 0),
            SPEC_TARGET.pack(oxm_header(out.field), out.low),
        )
    )
    padding = PADDING[(LEARN2.size + len(specs)) % 8]
    length = LEARN2.size + len(specs) + len(padding)
    head = LEARN2.pack(
        *(
            EXPERIMENTER_ACTION,
            length,
            NICIRA,
            45,
            action.idle_s,
            0,
            action.priority,
            action.cookie,
        ),
        *(LEARN_DELETES_LEARNED, action.table, 0, 0, action.limit, 0),
    )
    return head + specs + padding


_ENCODERS: Mapping[type, Callable[[Any], bytes]] = {
    Output: _output,
    PushVlan: _push_vlan,
    PopVlan: _pop_vlan,
    PushMpls: _push_mpls,
    PopMpls: _pop_mpls,
    SetVlan: _set_vlan,
    SetVlanPriority: _set_vlan_priority,
    Load: _load,
    MoveToVlan: _move_to_vlan,
    ForgetInPort: _forget_in_port,
    Resubmit: _resubmit,
    Clone: _clone,
    SetMark: _set_mark,
    SetTunnelKey: _set_tunnel_key,
    SetTunnelRemote: _set_tunnel_remote,
    Multipath: _multipath,
    CheckLarger: _check_larger,
    Learn: _learn,
}

"""Bundle, barrier, role and port messages as bytes.

Layouts: OpenFlow Switch Specification 1.3.5; bundles: ONF extension 230 (experimenter messages of
the Open Networking Foundation), which Open vSwitch supports since 2.4.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct, error

from controller.southbound.errors import WireError
from controller.southbound.ports import PortChange, PortReason, SwitchPort, port_settings
from controller.southbound.wire.header import (
    BARRIER_REQUEST,
    EXPERIMENTER,
    HEADER,
    MULTIPART_HEAD,
    MULTIPART_REQUEST,
    ONF,
    ROLE_REQUEST,
    encode_message,
)
from flows.openflow import MULTIPART_DESCRIPTION, MULTIPART_PORT_DESC

SOFTWARE = slice(512, 768)
"""Where the description of a switch has ``sw_desc``, which ends with zero bytes."""

BUNDLE_CONTROL, BUNDLE_ADD = 2300, 2301
BUNDLE_BODY = Struct("!IIIHH")
ATOMIC_AND_ORDERED = 0b11

ROLE = Struct("!I4xQ")
GENERATION_MASK = (1 << 64) - 1
"""Generation ids have 64 bits and wrap around."""

PORT = Struct("!I4x6s2x16sIIIIIIII")
PORT_STATUS_HEAD = Struct("!B7x")
PORT_CONFIG_DOWN = PORT_STATE_DOWN = 1


GET_CONFIG_REQUEST, GET_CONFIG_REPLY, SET_CONFIG = 7, 8, 9
CONFIG = Struct("!HH")


class FragmentMode(IntEnum):
    """How flows match IP fragments, as a switch is configured (Open vSwitch: `set-frags`)."""

    NORMAL = 0
    """No fragment has ports: all of them are 0."""
    DROP = 1
    REASSEMBLE = 2
    MATCH = 3
    """The first fragment of a packet has its ports, later ones have none (nx-match)."""


class BundleControl(IntEnum):
    """The request types of a bundle control message; the reply to each has the next number."""

    OPEN = 0
    CLOSE = 2
    COMMIT = 4
    DISCARD = 6


class Role(IntEnum):
    """The role of a controller on one connection (specification, section 6.3.6)."""

    NOCHANGE = 0
    """In a request: report the role, do not change it."""
    EQUAL = 1
    """Full access, like every other equal controller; the role of a new connection."""
    MASTER = 2
    """Full access, of one controller only: the master before becomes a slave."""
    SLAVE = 3
    """Read-only access."""


def encode_barrier(xid: int) -> bytes:
    """The request that is answered once everything sent before it has been processed."""
    return encode_message(BARRIER_REQUEST, xid)


def encode_role_request(xid: int, role: Role, generation: int = 0) -> bytes:
    """The request for a role; a switch refuses a generation id older than the last one."""
    return encode_message(ROLE_REQUEST, xid, ROLE.pack(role, generation))


def decode_role_reply(message: bytes) -> tuple[Role, int]:
    """The role of the connection, and the generation id of the last master.

    Raises:
        WireError: the message is cut off, or its role is unknown.
    """
    try:
        role, generation = ROLE.unpack_from(message, HEADER.size)
        return Role(role), generation
    except error as problem:
        raise WireError(f"a role reply of {len(message)} bytes is cut off") from problem
    except ValueError as problem:
        raise WireError(f"a role reply has a role that does not exist ({role})") from problem


def encode_bundle_control(xid: int, bundle: int, control: BundleControl) -> bytes:
    """The message that opens, closes, commits or discards the bundle with this id."""
    body = BUNDLE_BODY.pack(ONF, BUNDLE_CONTROL, bundle, control, ATOMIC_AND_ORDERED)
    return encode_message(EXPERIMENTER, xid, body)


def encode_bundle_add(bundle: int, message: bytes) -> bytes:
    """The message that adds ``message`` to a bundle, with the transaction id of ``message``."""
    xid = HEADER.unpack_from(message)[3]
    body = BUNDLE_BODY.pack(ONF, BUNDLE_ADD, bundle, 0, ATOMIC_AND_ORDERED)
    return encode_message(EXPERIMENTER, xid, body + message)


def decode_bundle_reply(message: bytes) -> tuple[int, BundleControl]:
    """The id of the bundle, and the request that the reply confirms.

    Raises:
        WireError: it is another experimenter's message.
    """
    try:
        numbers = BUNDLE_BODY.unpack_from(message, HEADER.size)
    except error as problem:
        raise WireError(f"a bundle reply of {len(message)} bytes is cut off") from problem
    experimenter, kind, bundle, reply, _ = numbers
    if (experimenter, kind) != (ONF, BUNDLE_CONTROL) or reply not in (1, 3, 5, 7):
        raise WireError(f"message {kind} of experimenter {experimenter:#x} is no bundle reply")
    return bundle, BundleControl(reply - 1)


def encode_description_request(xid: int) -> bytes:
    """The request for the description of a switch: its maker, hardware and software."""
    return encode_message(MULTIPART_REQUEST, xid, MULTIPART_HEAD.pack(MULTIPART_DESCRIPTION, 0))


def decode_software(message: bytes) -> str:
    """The software that a switch describes; for Open vSwitch that is its version."""
    body = message[HEADER.size + MULTIPART_HEAD.size :]
    return body[SOFTWARE].partition(b"\0")[0].decode("ascii", "replace")


def encode_get_config(xid: int) -> bytes:
    """The request for the configuration of a switch."""
    return encode_message(GET_CONFIG_REQUEST, xid)


def encode_set_config(xid: int, mode: FragmentMode, miss_send_bytes: int) -> bytes:
    """Set how fragments are matched, and how much of a packet goes to a controller."""
    return encode_message(SET_CONFIG, xid, CONFIG.pack(mode, miss_send_bytes))


def decode_config(message: bytes) -> tuple[int, int]:
    """The two values of ``encode_set_config`` from a reply.

    Raises:
        WireError: the message is cut off.
    """
    try:
        flags, miss_send_bytes = CONFIG.unpack_from(message, HEADER.size)
    except error as problem:
        raise WireError(f"a configuration of {len(message)} bytes is cut off") from problem
    return flags, miss_send_bytes


def encode_port_desc_request(xid: int) -> bytes:
    """The request for the description of every port."""
    return encode_message(MULTIPART_REQUEST, xid, MULTIPART_HEAD.pack(MULTIPART_PORT_DESC, 0))


def decode_port_desc(message: bytes) -> tuple[SwitchPort, ...]:
    """The ports of one port-description reply.

    Raises:
        WireError: the message is cut off.
    """
    start = HEADER.size + MULTIPART_HEAD.size
    if (len(message) - start) % PORT.size:
        raise WireError(f"a port description of {len(message)} bytes is cut off")
    return tuple(_port(message, at) for at in range(start, len(message), PORT.size))


def decode_port_status(message: bytes) -> PortChange:
    """The change that a port-status message reports.

    Raises:
        WireError: the message is cut off, or its reason is unknown.
    """
    try:
        reason = PortReason(PORT_STATUS_HEAD.unpack_from(message, HEADER.size)[0])
        return PortChange(reason, _port(message, HEADER.size + PORT_STATUS_HEAD.size))
    except error as problem:
        raise WireError(f"a port status of {len(message)} bytes is cut off") from problem
    except ValueError as problem:
        raise WireError("a port status has no reason that exists") from problem


def _port(message: bytes, at: int) -> SwitchPort:
    number, _, name, config, state, *_ = PORT.unpack_from(message, at)
    is_up = not (config & PORT_CONFIG_DOWN or state & PORT_STATE_DOWN)
    text = name.rstrip(b"\0").decode("utf-8", "backslashreplace")
    return SwitchPort(number, text, is_up, port_settings(config, state))

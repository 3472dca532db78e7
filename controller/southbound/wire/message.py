"""The other messages that we exchange: bundles, barriers, ports, and what a switch refuses.

Layouts: OpenFlow Switch Specification 1.3.5; bundles: ONF extension 230 (experimenter messages of
the Open Networking Foundation), which Open vSwitch speaks since 2.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from struct import Struct, error

from controller.southbound.errors import WireError
from controller.southbound.wire.flow import HEADER, MULTIPART_HEAD, MULTIPART_REQUEST, encode_message

HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY, EXPERIMENTER = 0, 1, 2, 3, 4
FEATURES_REQUEST, FEATURES_REPLY, PORT_STATUS = 5, 6, 12
BARRIER_REQUEST, BARRIER_REPLY = 20, 21
ROLE_REQUEST, ROLE_REPLY = 24, 25
PORT_DESC = 13

ONF = 0x4F4E4600
BUNDLE_CONTROL, BUNDLE_ADD = 2300, 2301
BUNDLE_BODY = Struct("!IIIHH")
ATOMIC_AND_ORDERED = 0b11

ROLE = Struct("!I4xQ")
GENERATION_MASK = (1 << 64) - 1
"""The generations of masters are counted in so many bits; they go on from 0."""

PORT = Struct("!I4x6s2x16sIIIIIIII")
PORT_STATUS_HEAD = Struct("!B7x")
PORT_CONFIG_DOWN = PORT_STATE_DOWN = 1
LOCAL_PORT = 0xFFFFFFFE
"""The bridge itself: the port that bears its name."""


class BundleStep(IntEnum):
    """What a bundle control message asks for; a reply has the next number."""

    OPEN = 0
    CLOSE = 2
    COMMIT = 4
    DISCARD = 6


class Role(IntEnum):
    """What a controller may do to a switch."""

    NOCHANGE = 0
    """Only asked."""
    EQUAL = 1
    """Everything, as others may: how every connection begins."""
    MASTER = 2
    """Everything; whoever was master before is a slave from then on."""
    SLAVE = 3
    """Read."""


class PortReason(Enum):
    """Why a switch tells about a port."""

    ADDED = 0
    """It has just come."""
    DELETED = 1
    """It is gone; another port may get its number."""
    MODIFIED = 2
    """Its link or its settings changed."""


@dataclass(frozen=True, slots=True)
class SwitchPort:
    """One port as a switch describes it; the LOCAL port bears the name of the bridge."""

    ofport: int
    name: str
    is_up: bool


@dataclass(frozen=True, slots=True)
class PortChange:
    """One port-status message."""

    reason: PortReason
    port: SwitchPort


def encode_barrier(xid: int) -> bytes:
    """Ask for an answer once everything sent before has been done."""
    return encode_message(BARRIER_REQUEST, xid)


def encode_role_request(xid: int, role: Role, generation: int = 0) -> bytes:
    """Ask for a role; the switch ignores a request of an older generation than the last one."""
    return encode_message(ROLE_REQUEST, xid, ROLE.pack(role, generation))


def decode_role_reply(message: bytes) -> tuple[Role, int]:
    """The role of the connection, and the generation of the last master.

    Raises:
        WireError: the message is cut off, or its role is unknown.
    """
    try:
        role, generation = ROLE.unpack_from(message, HEADER.size)
        return Role(role), generation
    except (error, ValueError) as problem:
        raise WireError(f"a role reply cannot be read: {problem}") from problem


def encode_bundle_control(xid: int, bundle: int, step: BundleStep) -> bytes:
    """Open, commit or discard the bundle with this number."""
    body = BUNDLE_BODY.pack(ONF, BUNDLE_CONTROL, bundle, step, ATOMIC_AND_ORDERED)
    return encode_message(EXPERIMENTER, xid, body)


def encode_bundle_add(bundle: int, message: bytes) -> bytes:
    """Put ``message`` into a bundle; its transaction id counts for both."""
    xid = HEADER.unpack_from(message)[3]
    body = BUNDLE_BODY.pack(ONF, BUNDLE_ADD, bundle, 0, ATOMIC_AND_ORDERED)
    return encode_message(EXPERIMENTER, xid, body + message)


def decode_bundle_reply(message: bytes) -> tuple[int, BundleStep]:
    """Number of the bundle, and the step that was done.

    Raises:
        WireError: it is another experimenter's message.
    """
    try:
        numbers = BUNDLE_BODY.unpack_from(message, HEADER.size)
    except error as problem:
        raise WireError(f"a bundle reply is cut off: {problem}") from problem
    experimenter, kind, bundle, step, _ = numbers
    if (experimenter, kind) != (ONF, BUNDLE_CONTROL) or step not in (1, 3, 5, 7):
        raise WireError(f"message {kind} of experimenter {experimenter:#x} is no bundle reply")
    return bundle, BundleStep(step - 1)


def encode_ports_request(xid: int) -> bytes:
    """Ask for the description of every port."""
    return encode_message(MULTIPART_REQUEST, xid, MULTIPART_HEAD.pack(PORT_DESC, 0))


def decode_ports(message: bytes) -> tuple[SwitchPort, ...]:
    """The ports of one port-description reply.

    Raises:
        WireError: the message is cut off.
    """
    start = HEADER.size + MULTIPART_HEAD.size
    if (len(message) - start) % PORT.size:
        raise WireError(f"a port description of {len(message)} bytes is cut off")
    return tuple(_port(message, at) for at in range(start, len(message), PORT.size))


def decode_port_status(message: bytes) -> PortChange:
    """What a port-status message says.

    Raises:
        WireError: the message is cut off, or its reason is unknown.
    """
    try:
        reason = PortReason(PORT_STATUS_HEAD.unpack_from(message, HEADER.size)[0])
        return PortChange(reason, _port(message, HEADER.size + PORT_STATUS_HEAD.size))
    except (error, ValueError) as problem:
        raise WireError(f"a port status cannot be read: {problem}") from problem


def _port(message: bytes, at: int) -> SwitchPort:
    number, _, name, config, state, *_ = PORT.unpack_from(message, at)
    is_up = not (config & PORT_CONFIG_DOWN or state & PORT_STATE_DOWN)
    return SwitchPort(number, name.rstrip(b"\0").decode("utf-8", "backslashreplace"), is_up)

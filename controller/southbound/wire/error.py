"""Error messages of a switch: their names in the specification, and sentences for the operator.

Names: OpenFlow Switch Specification 1.3.5, section 7.4.4; bundle errors: ONF extension 230;
Nicira errors: nicira-ext.h of Open vSwitch.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct, error

from controller.southbound.errors import WireError
from controller.southbound.wire.flow import FLOW_MOD_BODY
from controller.southbound.wire.header import (
    EXPERIMENTER,
    FLOW_MOD,
    HEADER,
    NICIRA,
    ONF,
)
from controller.southbound.wire.message import BUNDLE_ADD, BUNDLE_BODY
from flows.openflow import Cookie

ERROR_HEAD = Struct("!HH")
ERROR_EXPERIMENTER = Struct("!HHI")
EXPERIMENTER_ERROR = 0xFFFF


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """One error message; ``cookie`` is that of the flow-mod that it quotes, if it quotes one."""

    xid: int
    type: int
    code: int
    name: str
    reason: str
    cookie: Cookie | None = None

    def __str__(self) -> str:
        return f"{self.reason} ({self.name})"


TYPE_NAMES = {
    0: "OFPET_HELLO_FAILED",
    1: "OFPET_BAD_REQUEST",
    2: "OFPET_BAD_ACTION",
    3: "OFPET_BAD_INSTRUCTION",
    4: "OFPET_BAD_MATCH",
    5: "OFPET_FLOW_MOD_FAILED",
    6: "OFPET_GROUP_MOD_FAILED",
    7: "OFPET_PORT_MOD_FAILED",
    8: "OFPET_TABLE_MOD_FAILED",
    9: "OFPET_QUEUE_OP_FAILED",
    10: "OFPET_SWITCH_CONFIG_FAILED",
    11: "OFPET_ROLE_REQUEST_FAILED",
    12: "OFPET_METER_MOD_FAILED",
    13: "OFPET_TABLE_FEATURES_FAILED",
    ONF: "bundle",
    NICIRA: "Nicira",
}

_CODES: dict[int, str] = {
    0: "INCOMPATIBLE EPERM",
    1: "BAD_VERSION BAD_TYPE BAD_MULTIPART BAD_EXPERIMENTER BAD_EXP_TYPE EPERM BAD_LEN "
    "BUFFER_EMPTY BUFFER_UNKNOWN BAD_TABLE_ID IS_SLAVE BAD_PORT BAD_PACKET "
    "MULTIPART_BUFFER_OVERFLOW",
    2: "BAD_TYPE BAD_LEN BAD_EXPERIMENTER BAD_EXP_TYPE BAD_OUT_PORT BAD_ARGUMENT EPERM TOO_MANY "
    "BAD_QUEUE BAD_OUT_GROUP MATCH_INCONSISTENT UNSUPPORTED_ORDER BAD_TAG BAD_SET_TYPE "
    "BAD_SET_LEN BAD_SET_ARGUMENT",
    3: "UNKNOWN_INST UNSUP_INST BAD_TABLE_ID UNSUP_METADATA UNSUP_METADATA_MASK BAD_EXPERIMENTER "
    "BAD_EXP_TYPE BAD_LEN EPERM",
    4: "BAD_TYPE BAD_LEN BAD_TAG BAD_DL_ADDR_MASK BAD_NW_ADDR_MASK BAD_WILDCARDS BAD_FIELD "
    "BAD_VALUE BAD_MASK BAD_PREREQ DUP_FIELD EPERM",
    5: "UNKNOWN TABLE_FULL BAD_TABLE_ID OVERLAP EPERM BAD_TIMEOUT BAD_COMMAND BAD_FLAGS",
    11: "STALE UNSUP BAD_ROLE",
    12: "UNKNOWN METER_EXISTS INVALID_METER UNKNOWN_METER BAD_COMMAND BAD_FLAGS BAD_RATE BAD_BURST "
    "BAD_BAND BAD_BAND_VALUE OUT_OF_METERS OUT_OF_BANDS",
}
_PREFIXES = {
    0: "OFPHFC",
    1: "OFPBRC",
    2: "OFPBAC",
    3: "OFPBIC",
    4: "OFPBMC",
    5: "OFPFMFC",
    11: "OFPRRFC",
    12: "OFPMMFC",
}
CODE_NAMES = {
    (kind, code): f"{_PREFIXES[kind]}_{name}"
    for kind, names in _CODES.items()
    for code, name in enumerate(names.split())
}
_BUNDLE_CODES = (
    "UNKNOWN EPERM BAD_ID BUNDLE_EXIST BUNDLE_CLOSED OUT_OF_BUNDLES BAD_TYPE BAD_FLAGS "
    "MSG_BAD_LEN MSG_BAD_XID MSG_UNSUP MSG_CONFLICT MSG_TOO_MANY MSG_FAILED TIMEOUT "
    "BUNDLE_IN_PROGRESS"
)
CODE_NAMES |= {
    (ONF, 2300 + code): f"OFPBFC_{name}" for code, name in enumerate(_BUNDLE_CODES.split())
}

REASONS = {
    "OFPFMFC_TABLE_FULL": "the flow table of the switch is full",
    "OFPFMFC_BAD_TABLE_ID": "the switch has no such flow table",
    "OFPFMFC_EPERM": "the switch does not let this controller change its flows",
    "OFPFMFC_OVERLAP": "another flow with the same priority covers it",
    "OFPBRC_EPERM": "the switch does not let this controller change anything",
    "OFPBRC_IS_SLAVE": "another controller is the master of the switch",
    "OFPRRFC_STALE": "another controller takes it over at the same time",
    "OFPBRC_BAD_EXPERIMENTER": "the switch does not know this extension",
    "OFPBRC_BAD_EXP_TYPE": "the switch does not know this message of the extension",
    "OFPBRC_BAD_TABLE_ID": "the switch has no such flow table",
    "OFPBRC_BAD_LEN": "the switch found the message truncated",
    "OFPBAC_BAD_OUT_PORT": "the switch has no port with this number to send to",
    "OFPBAC_BAD_OUT_GROUP": "the switch has no such group to send to",
    "OFPBAC_BAD_EXP_TYPE": "the switch does not know one of the actions",
    "OFPBAC_BAD_EXPERIMENTER": "the switch does not know the experimenter of one of the actions",
    "OFPBAC_BAD_TYPE": "the switch does not know one of the actions",
    "OFPBAC_BAD_ARGUMENT": "the switch does not accept a number in one of the actions",
    "OFPBAC_BAD_SET_ARGUMENT": "the switch does not accept the value to be set",
    "OFPBAC_BAD_SET_TYPE": "the switch cannot set this field",
    "OFPBAC_BAD_LEN": "the switch found one of the actions truncated",
    "OFPBAC_TOO_MANY": "the flow has more actions than the switch takes",
    "OFPBAC_MATCH_INCONSISTENT": "an action does not go with what the flow matches",
    "OFPBMC_BAD_FIELD": "the switch cannot match this field",
    "OFPBMC_BAD_VALUE": "the switch does not accept a value to be matched",
    "OFPBMC_BAD_MASK": "the switch cannot match this field with such a mask",
    "OFPBMC_BAD_PREREQ": "the match lacks what one of its fields needs before it",
    "OFPBMC_DUP_FIELD": "the match has a field twice",
    "OFPMMFC_METER_EXISTS": "the switch has a meter with this number already",
    "OFPMMFC_INVALID_METER": "the switch has no meter with the number that the flow names",
    "OFPMMFC_UNKNOWN_METER": "the switch has no meter with this number",
    "OFPMMFC_BAD_RATE": "the switch cannot cap at this rate",
    "OFPMMFC_BAD_BURST": "the switch cannot cap with this burst",
    "OFPMMFC_OUT_OF_METERS": "the switch has no room for another meter",
    "OFPBFC_MSG_FAILED": "the switch refused a message of the bundle",
    "OFPBFC_MSG_BAD_LEN": "the switch found a message of the bundle truncated",
    "OFPBFC_MSG_UNSUP": "the switch does not take this kind of message in a bundle",
    "OFPBFC_OUT_OF_BUNDLES": "the switch has too many open bundles",
    "OFPBFC_TIMEOUT": "the switch has given up the bundle because it took too long",
    "OFPBFC_BAD_ID": "the switch does not know the bundle (any more)",
}


def decode_error(message: bytes) -> ErrorMessage:
    """The error that a message reports.

    Raises:
        WireError: the message is cut off.
    """
    try:
        xid = HEADER.unpack_from(message)[3]
        kind, code = ERROR_HEAD.unpack_from(message, HEADER.size)
        quoted = message[HEADER.size + ERROR_HEAD.size :]
        if kind == EXPERIMENTER_ERROR:
            _, code, kind = ERROR_EXPERIMENTER.unpack_from(message, HEADER.size)
            quoted = message[HEADER.size + ERROR_EXPERIMENTER.size :]
    except error as problem:
        raise WireError(f"an error message of {len(message)} bytes is cut off") from problem
    type_name = TYPE_NAMES.get(kind, f"error type {kind:#x}")
    name = CODE_NAMES.get((kind, code), f"{type_name}, code {code}")
    reason = REASONS.get(name, "the switch refused it")
    return ErrorMessage(xid, kind, code, name, reason, _quoted_cookie(quoted))


def _quoted_cookie(message: bytes) -> Cookie | None:
    """The cookie of the flow-mod that an error quotes, alone or inside a bundle-add message."""
    try:
        kind = HEADER.unpack_from(message)[1]
        if kind == EXPERIMENTER:
            experimenter, subtype, *_ = BUNDLE_BODY.unpack_from(message, HEADER.size)
            if (experimenter, subtype) == (ONF, BUNDLE_ADD):
                return _quoted_cookie(message[HEADER.size + BUNDLE_BODY.size :])
        if kind == FLOW_MOD:
            return Cookie(FLOW_MOD_BODY.unpack_from(message, HEADER.size)[0])
    except error:
        return None
    return None

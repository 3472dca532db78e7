"""Why a switch refuses a message: the error types and codes of OpenFlow 1.3.5, section 7.4.4."""

from __future__ import annotations

from enum import Enum

ONF = 0x4F4E4600
EXPERIMENTER = 0xFFFF


class Refusal(Enum):
    """Type and code of an error message; those of bundles belong to ONF extension 230."""

    BAD_VERSION = (1, 0)
    BAD_TYPE = (1, 1)
    BAD_MULTIPART = (1, 2)
    BAD_EXPERIMENTER = (1, 3)
    BAD_EXP_TYPE = (1, 4)
    BAD_LEN = (1, 6)
    BUFFER_UNKNOWN = (1, 8)
    BAD_TABLE = (1, 9)
    IS_SLAVE = (1, 10)
    BAD_PORT = (1, 11)
    ACTION_TYPE = (2, 0)
    ACTION_LEN = (2, 1)
    ACTION_EXPERIMENTER = (2, 2)
    ACTION_EXP_TYPE = (2, 3)
    ACTION_OUT_PORT = (2, 4)
    ACTION_ARGUMENT = (2, 5)
    ACTION_MATCH = (2, 10)
    SET_TYPE = (2, 13)
    SET_LEN = (2, 14)
    SET_ARGUMENT = (2, 15)
    UNKNOWN_INSTRUCTION = (3, 0)
    INSTRUCTION_LEN = (3, 7)
    MATCH_TYPE = (4, 0)
    MATCH_LEN = (4, 1)
    MATCH_WILDCARDS = (4, 5)
    MATCH_FIELD = (4, 6)
    MATCH_VALUE = (4, 7)
    MATCH_MASK = (4, 8)
    MATCH_PREREQ = (4, 9)
    MATCH_TWICE = (4, 10)
    TABLE_FULL = (5, 1)
    FLOW_TABLE = (5, 2)
    PERMISSION = (5, 4)
    COMMAND = (5, 6)
    ROLE_STALE = (11, 0)
    BAD_ROLE = (11, 2)
    METER_EXISTS = (12, 1)
    METER_INVALID = (12, 2)
    METER_UNKNOWN = (12, 3)
    METER_COMMAND = (12, 4)
    METER_FLAGS = (12, 5)
    METER_RATE = (12, 6)
    METER_BAND = (12, 8)
    METER_NO_ROOM = (12, 10)
    METER_NO_BANDS = (12, 11)
    BUNDLE_ID = (ONF, 2302)
    BUNDLE_CLOSED = (ONF, 2304)
    BUNDLE_TYPE = (ONF, 2306)
    BUNDLE_FLAGS = (ONF, 2307)
    BUNDLE_MSG_LEN = (ONF, 2308)
    BUNDLE_MSG_XID = (ONF, 2309)
    BUNDLE_MSG_UNSUPPORTED = (ONF, 2310)
    BUNDLE_MSG_FAILED = (ONF, 2313)


class Refused(Exception):
    """A message is refused."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.name)
        self.refusal = refusal

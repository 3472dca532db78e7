"""The process that talks to Open vSwitch databases: bounds and checks what they send."""

from controller.databases.bridges import CannotRead, read_bridges
from controller.databases.columns import MARK, MIRROR_MARK, OFFLOADS, PAIR_MARK, TAPS
from controller.databases.mirrors import peer_name
from controller.databases.program import PROGRAM, Record
from controller.databases.records import MIRROR_NAME
from controller.databases.remote import TlsFiles

__all__ = [
    "MARK",
    "MIRROR_MARK",
    "MIRROR_NAME",
    "OFFLOADS",
    "PAIR_MARK",
    "PROGRAM",
    "TAPS",
    "CannotRead",
    "Record",
    "TlsFiles",
    "peer_name",
    "read_bridges",
]

"""Network devices of this machine: whether they segment and finish checksums of what they send."""

from controller.devices.drivers import is_virtual
from controller.devices.ioctl import DeviceName
from controller.devices.names import device_name
from controller.devices.namespaces import enter_namespace
from controller.devices.offloads import (
    TransmitOffload,
    read_offloads,
    switch_off_offloads,
)
from controller.devices.pair_state import (
    PAIR_MTU,
    PairDevices,
    mend_pairs,
    read_pair_states,
)
from controller.devices.record import RECORDED_OFF, record_of
from controller.devices.segmenting_pair import (
    PairEnd,
    PairFailed,
    end_of,
    find_pair,
    is_pair_ready,
    make_pair,
    pair_name,
    remove_pair,
)

__all__ = [
    "PAIR_MTU",
    "RECORDED_OFF",
    "DeviceName",
    "PairDevices",
    "PairEnd",
    "PairFailed",
    "TransmitOffload",
    "device_name",
    "end_of",
    "enter_namespace",
    "find_pair",
    "is_pair_ready",
    "is_virtual",
    "make_pair",
    "mend_pairs",
    "pair_name",
    "read_offloads",
    "read_pair_states",
    "record_of",
    "remove_pair",
    "switch_off_offloads",
]

"""Network devices of this machine: whether they segment and finish checksums of what they send."""

from controller.devices.drivers import is_virtual
from controller.devices.names import device_name
from controller.devices.namespaces import enter_namespace
from controller.devices.offloads import (
    DeviceName,
    TransmitOffload,
    read_offloads,
    switch_off_offloads,
)
from controller.devices.record import RECORDED_OFF, record_of
from controller.devices.segmenting_pair import (
    PairEnd,
    PairFailed,
    end_of,
    is_pair_ready,
    make_pair,
    pair_name,
    remove_pair,
)

__all__ = [
    "RECORDED_OFF",
    "DeviceName",
    "PairEnd",
    "PairFailed",
    "TransmitOffload",
    "device_name",
    "end_of",
    "enter_namespace",
    "is_pair_ready",
    "is_virtual",
    "make_pair",
    "pair_name",
    "read_offloads",
    "record_of",
    "remove_pair",
    "switch_off_offloads",
]

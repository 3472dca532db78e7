"""Network devices of this machine: whether they segment and finish checksums of what they send."""

from controller.devices.drivers import is_virtual
from controller.devices.namespaces import enter_namespace
from controller.devices.offloads import (
    DeviceName,
    TransmitOffload,
    read_offloads,
    switch_off_offloads,
)
from controller.devices.record import RECORDED_OFF, record_of

__all__ = [
    "RECORDED_OFF",
    "DeviceName",
    "TransmitOffload",
    "enter_namespace",
    "is_virtual",
    "read_offloads",
    "record_of",
    "switch_off_offloads",
]

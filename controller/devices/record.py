"""What a database records of a device without offloads: ``external_ids:cloudtap-offloads``."""

from __future__ import annotations

RECORDED_OFF = "off"
"""The value that says so of every device that an interface will ever have."""


def record_of(ifindex: int | None) -> str:
    """The value that says so of the device with this index: a device that is made anew has another
    one, and its offloads are on.
    """
    return f"{RECORDED_OFF}@{ifindex}"

"""Network namespaces that a thread enters (setns(2))."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNET = 0x40000000
"""linux/sched.h."""


def enter_namespace(descriptor: int) -> None:
    """Move the calling thread, and no other, to an open network namespace.

    Raises:
        OSError: it may not be entered.
    """
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

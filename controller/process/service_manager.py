"""Tells the service manager (systemd) how this process is, by the protocol of sd_notify(3)."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress

from controller.process.metrics import LOOP_MONITOR, LOOP_SILENCE_S

TOLD_EACH = 4
"""How often systemd is told within the time after which it takes the process for dead."""


class ServiceManager:
    """Sends states to the socket that systemd has named; sends nothing where it has named none.

    The variables are removed from ``environ``: child processes have nothing to tell.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        is_for_us = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s: float | None = None
        """After so many seconds without a word systemd restarts us; None if it never does."""
        if self._address and is_for_us and microseconds.isascii() and microseconds.isdigit():
            self.watchdog_s = int(microseconds) / 1e6

    def tell_started(self) -> None:
        """The controller serves its API and writes to switches."""
        self._send("READY=1")

    def tell_stopping(self) -> None:
        """The controller is about to end."""
        self._send("STOPPING=1")

    def tell_alive(self) -> float:
        """The event loop runs: says nothing if it does not; returns when that is due again.

        Without a watchdog it says nothing, and is due once an hour.
        """
        if self.watchdog_s is None:
            return 3600.0
        if LOOP_MONITOR.silence() <= LOOP_SILENCE_S:
            self._send("WATCHDOG=1")
        return self.watchdog_s / TOLD_EACH

    def _send(self, state: str) -> None:
        """Send one state; a service manager that cannot be told is no reason to stop."""
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):  # a name of the abstract namespace
            address = f"\0{address[1:]}"
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto(state.encode(), address)

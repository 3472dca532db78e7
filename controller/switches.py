"""The switches that are connected: from the library's datapaths to ours, and what they report."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from controller.southbound.openflow import OpenFlowSwitch
from controller.southbound.switch import Switch
from controller.southbound.wire_message import PortChange, PortReason, SwitchPort
from controller.turns import TURNS
from flows.model import Dpid

log = structlog.get_logger(__name__)


class Writers(Protocol):
    """What is told when a switch comes or goes."""

    def connect(self, switch: Switch) -> None:
        """Write to this switch from now on."""
        ...

    def disconnect(self, switch: Switch) -> None:
        """This switch cannot be written to any more."""
        ...


class Switches:
    """Makes an OpenFlowSwitch of each connection, and passes on what comes from it.

    ``send`` queues bytes for a datapath of the library; ``port_changed_at`` is told of each port.
    """

    def __init__(
        self,
        writers: Writers,
        send: Callable[[Any, bytes], bool],
        port_changed_at: Callable[[Dpid, PortChange], None],
    ) -> None:
        self._writers, self._send, self._port_changed_at = writers, send, port_changed_at
        self._lock = threading.Lock()
        self._by_datapath: dict[int, OpenFlowSwitch] = {}

    def connected(self, datapath: Any) -> None:
        """A switch has shaken hands."""
        dpid = Dpid(datapath.id)
        switch = OpenFlowSwitch(dpid, f"{dpid:016x}", lambda data: self._send(datapath, data))
        with self._lock:
            self._by_datapath[id(datapath)] = switch
        with TURNS.taken():  # a thousand may come, or go, at once
            self._writers.connect(switch)

    def gone(self, datapath: Any) -> None:
        """A connection has ended; perhaps a newer one of the same switch is there already."""
        with self._lock:
            switch = self._by_datapath.pop(id(datapath), None)
        if switch is not None:
            switch.on_disconnect()
            with TURNS.taken():
                self._writers.disconnect(switch)

    def answered(self, datapath: Any, message: bytes) -> None:
        """The answer to a request of ours, as it came."""
        switch = self._by_datapath.get(id(datapath))
        if switch is not None:
            switch.on_message(message)

    def port_changed(self, datapath: Any, reason: PortReason, port: Any) -> None:
        """A port came, went, or changed; ``port`` is the library's description of it."""
        name = bytes(port.name).split(b"\0")[0].decode("ascii", "replace")
        is_up = not (port.config | port.state) & 1
        change = PortChange(reason, SwitchPort(port.port_no, name, is_up))
        self._port_changed_at(Dpid(datapath.id), change)

    def complained(self, datapath: Any, kind: int, code: int) -> None:
        """An error of a switch that belongs to no request of ours."""
        log.warning("switch complained", dpid=f"{datapath.id:016x}", type=kind, code=code)

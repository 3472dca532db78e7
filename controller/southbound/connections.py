"""The switches that are connected: from the library's datapaths to ours, and what they report."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from controller.southbound.openflow.openflow_switch import OpenFlowSwitch
from controller.southbound.switch import Switch
from controller.southbound.wire.message import PortChange, PortReason, SwitchPort
from controller.process.time_slices import TURNS
from flows.model.session import Dpid

log = structlog.get_logger(__name__)


class Writers(Protocol):
    """What is told when a switch comes or goes."""

    def connect(self, switch: Switch) -> None:
        """Write to this switch from now on."""
        ...

    def disconnect(self, switch: Switch) -> None:
        """This switch cannot be written to any more."""
        ...


class Carrier(Protocol):
    """What connections are asked for, by their datapaths of the library."""

    def send(self, datapath: Any, data: bytes) -> bool:
        """Queue whole messages; False when the connection is over."""
        ...

    def hang_up(self, datapath: Any, why: str) -> None:
        """End a connection at once, because of what its switch does; says why in a sentence."""
        ...

    def queued(self, datapath: Any) -> int:
        """How many sends wait until the switch takes what was sent before."""
        ...


class Switches:
    """Makes an OpenFlowSwitch of each connection, and passes on what comes from it.

    ``port_changed_at`` is told of each port.
    """

    def __init__(
        self,
        writers: Writers,
        carrier: Carrier,
        port_changed_at: Callable[[Dpid, PortChange], None],
    ) -> None:
        self._writers, self._carrier = writers, carrier
        self._port_changed_at = port_changed_at
        self._lock = threading.Lock()
        self._by_datapath: dict[int, OpenFlowSwitch] = {}
        self._datapaths: dict[int, Any] = {}

    def connected(self, datapath: Any) -> None:
        """A switch has shaken hands."""
        dpid = Dpid(datapath.id)
        carrier = self._carrier
        switch = OpenFlowSwitch(
            dpid,
            f"{dpid:016x}",
            lambda data: carrier.send(datapath, data),
            hang_up=lambda why: carrier.hang_up(datapath, why),
        )
        with self._lock:
            self._by_datapath[id(datapath)] = switch
            self._datapaths[id(datapath)] = datapath
        with TURNS.taken():  # a thousand may come, or go, at once
            self._writers.connect(switch)

    def gone(self, datapath: Any) -> None:
        """A connection has ended; perhaps a newer one of the same switch is there already."""
        with self._lock:
            switch = self._by_datapath.pop(id(datapath), None)
            self._datapaths.pop(id(datapath), None)
        if switch is not None:
            switch.on_disconnect()
            with TURNS.taken():
                self._writers.disconnect(switch)

    @property
    def queued(self) -> int:
        """How many sends wait, of all connections together."""
        with self._lock:
            datapaths = list(self._datapaths.values())
        return sum(map(self._carrier.queued, datapaths))

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

"""Decides whether a bridge that has connected is ours and fit, before anything is written to it."""

from __future__ import annotations

from collections.abc import Collection, Set
from typing import Protocol

from controller.southbound import LOCAL_PORT, NotOurs, OfAnotherBridge, Switch, SwitchUnfit
from flows.model import Dpid


class Ownership(Protocol):
    """Which bridges the configuration gives to this controller."""

    def may_own(self, dpid: Dpid, name: str, hosts: Collection[str]) -> bool:
        """Whether a bridge is ours; ``hosts`` are the names of its host."""
        ...


class FailModes(Protocol):
    """Who sets the fail mode of bridges in their databases."""

    def secure(self, dpid: Dpid) -> None:
        """Have ``fail_mode=secure`` set soon: the bridge keeps its flows while we are away."""
        ...


class PortReports(Protocol):
    """Who keeps track of ports and hosts."""

    def hosts_of(self, dpid: Dpid) -> tuple[str, ...]:
        """The names of the host of a bridge."""
        ...

    def why_another(self, dpid: Dpid, ports: Set[str]) -> str:
        """Why a connection under a datapath id may be that of another bridge; empty if nothing
        says so. ``ports`` are the names of its ports.
        """
        ...

    def why_not_ours(self, dpid: Dpid) -> str:
        """Why this controller may write nothing to a bridge: it is tapped; empty if it may."""
        ...

    def bridge_connected(self, switch: Switch) -> None:
        """A bridge was adopted: when this returns, its ports are in the next snapshot."""
        ...


class Adoption:
    """Adopts bridges: their name, whether they are ours and fit, their fail mode and their ports.

    A bridge that is not ours is left alone: it is asked for its ports, which tell its name, and
    for nothing else. That is so also for one that a bridge of ours gets copies from: this
    controller must never be one of its controllers.
    """

    def __init__(self, *, ownership: Ownership, fail_modes: FailModes, ports: PortReports) -> None:
        self._ownership, self._fail_modes, self._ports = ownership, fail_modes, ports

    def adopt(self, switch: Switch) -> None:
        """Adopt a bridge: when this returns, its ports are known and it may be written to.

        Raises:
            NotOurs: the configuration leaves it to others, or it is that of others and tapped.
            OfAnotherBridge: databases do not agree who it is; it is tried again.
            SwitchUnfit: it lacks a feature that we need.
            SouthboundError: it does not answer.
        """
        ports = switch.ports()
        local = [port.name for port in ports if port.ofport == LOCAL_PORT]
        if local:  # the LOCAL port is called as its bridge is
            switch.rename(local[0])
        hosts = {*self._ports.hosts_of(switch.dpid), *filter(None, [switch.certificate])}
        if not self._ownership.may_own(switch.dpid, switch.name, hosts):
            raise NotOurs(switch.name)
        self._refuse_tapped(switch)
        names = {port.name for port in ports if port.ofport != LOCAL_PORT}
        if why := self._ports.why_another(switch.dpid, names):
            raise OfAnotherBridge(switch.name, why)
        missing = switch.probe()
        if missing:
            raise SwitchUnfit(switch.name, missing)
        switch.adopt()
        self._ports.bridge_connected(switch)
        self._refuse_tapped(switch)  # its database may have said so just now
        self._fail_modes.secure(switch.dpid)  # afterwards: only what is known is kept

    def _refuse_tapped(self, switch: Switch) -> None:
        if why := self._ports.why_not_ours(switch.dpid):
            raise NotOurs(switch.name, why)

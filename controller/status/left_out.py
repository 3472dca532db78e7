"""Ports and interfaces that are left out: declared and nowhere, there and not declared, or broken.

Of each only the first are described: a host may have thousands of interfaces of others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netaddr import EUI


@dataclass(frozen=True, slots=True, order=True)
class UndeclaredInterface:
    """An interface that no port or link of the inventory means, on a bridge with some that are.

    ``bridge`` is the name of its bridge, and ``reference`` what means that bridge alone in an
    inventory: the name, or the datapath id if several bridges have the name. ``iface_id`` and
    ``mac`` are ``iface-id`` and ``attached-mac`` of its ``external_ids``; None if unknown.
    """

    bridge: str
    interface: str
    reference: str
    iface_id: str | None = None
    mac: EUI | None = None


@dataclass(frozen=True, slots=True, order=True)
class UnopenedInterface:
    """An interface in a database that Open vSwitch could not create or open, with its ``error``."""

    bridge: str
    interface: str
    error: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The first undeclared and unopened interfaces, by bridge and name, and how many there are."""

    undeclared: Sequence[UndeclaredInterface] = ()
    undeclared_count: int = 0
    unopened: Sequence[UnopenedInterface] = ()
    unopened_count: int = 0

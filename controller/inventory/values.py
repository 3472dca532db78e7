"""The inventory as a value: tenants, networks, ports, and hints about their interfaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from flows.errors import CloudtapError
from flows.model import Dpid, Network, Port, PortId, TenantName

_PROBLEMS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Inventory:
    """All declared objects, in the order of the file.

    ``titles`` are names for people of tenants whose own names are ids.
    """

    tenants: tuple[TenantName, ...] = ()
    networks: tuple[Network, ...] = ()
    ports: tuple[Port, ...] = ()
    hints: Mapping[PortId, PortHint] = field(default_factory=lambda: MappingProxyType({}))
    links: tuple[LinkHint, ...] = ()
    bridges: tuple[DeclaredBridge, ...] = ()
    titles: Mapping[TenantName, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class DeclaredBridge:
    """Who speaks for a bridge, as its operator declares it; what is None was not declared.

    ``name`` without a host means this bridge and no other. ``host`` is a name of its host,
    ``certificate`` the name in the certificate of that host, and ``database`` the target of the
    Open vSwitch database that has the bridge.
    """

    dpid: Dpid
    name: str | None = None
    host: str | None = None
    certificate: str | None = None
    database: str | None = None


@dataclass(frozen=True, slots=True, order=True)
class InterfaceName:
    """One interface of one bridge, by name; ``bridge`` is written like a BridgeReference."""

    bridge: str
    interface: str


@dataclass(frozen=True, slots=True)
class PortHint:
    """The declared interface of a port; ``bridge`` is needed if several have one of this name.

    It is written like a BridgeReference.
    """

    bridge: str | None = None
    interface: str | None = None


@dataclass(frozen=True, slots=True)
class LinkHint:
    """A link between two bridges, by the names of its interfaces."""

    a: InterfaceName
    b: InterfaceName


@dataclass(frozen=True, slots=True)
class InventoryChange:
    """The result of one reload; the inventory may be the same while the problems differ."""

    before: Inventory
    after: Inventory
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pending:
    """A file that is not in force because ports that run are missing from it.

    ``missing`` names them, ``sentence`` says how many; ``digest`` is that of the file.
    """

    digest: str
    sentence: str
    missing: tuple[str, ...]


class InventoryError(CloudtapError):
    """The inventory is not valid; ``problems`` holds a sentence with its line for each problem.

    Of many problems only the first are in it: ``count`` is the number of all that were found.
    """

    def __init__(self, problems: Sequence[str], count: int | None = None) -> None:
        shown = list(problems[:_PROBLEMS_SHOWN])
        if len(problems) > _PROBLEMS_SHOWN:
            shown.append(f"... and {len(problems) - _PROBLEMS_SHOWN} more problems")
        super().__init__("\n".join(shown))
        self.problems = tuple(problems)
        self.count = len(problems) if count is None else count

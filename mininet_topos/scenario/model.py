"""A scenario as values: workloads, tap ports, and the sessions whose copies are checked."""

from __future__ import annotations

from dataclasses import dataclass


class ScenarioError(Exception):
    """The scenario cannot run here; the sentence says why and what to do."""


@dataclass(frozen=True)
class Workload:
    """A host with production traffic. ``is_learned``: the inventory does not declare its MAC."""

    tenant: str
    name: str
    interface: str
    mac: str
    ip: str
    is_learned: bool = False

    @property
    def host(self) -> str:
        """Name of its host in Mininet."""
        return host_name(self.tenant, self.name)


@dataclass(frozen=True)
class TapPort:
    """A host that only receives copies, without an IP address."""

    tenant: str
    name: str
    interface: str

    @property
    def host(self) -> str:
        """Name of its host in Mininet."""
        return host_name(self.tenant, self.name)


@dataclass(frozen=True)
class Session:
    """Whose frames are copied, and to which tap port (through a collector of the same name).

    ``direction`` is the workload's view: ``egress`` it sends, ``ingress`` it receives, ``both``.
    """

    tenant: str
    name: str
    sources: tuple[str, ...]
    direction: str
    tap_port: str

    @property
    def senders(self) -> frozenset[str]:
        """Hosts whose sent frames are copied."""
        return self._hosts() if self.direction in ("egress", "both") else frozenset()

    @property
    def receivers(self) -> frozenset[str]:
        """Hosts whose received frames are copied."""
        return self._hosts() if self.direction in ("ingress", "both") else frozenset()

    @property
    def tap_host(self) -> str:
        """The host that receives the copies."""
        return host_name(self.tenant, self.tap_port)

    def _hosts(self) -> frozenset[str]:
        return frozenset(host_name(self.tenant, source) for source in self.sources)


@dataclass(frozen=True)
class Scenario:
    """A network and its sessions; ``cables`` are pairs of interfaces that join two switches."""

    name: str
    workloads: tuple[Workload, ...]
    tap_ports: tuple[TapPort, ...]
    sessions: tuple[Session, ...]
    cables: tuple[tuple[str, str], ...] = ()

    @property
    def members(self) -> tuple[Workload | TapPort, ...]:
        """Every host."""
        return (*self.workloads, *self.tap_ports)

    @property
    def tenants(self) -> tuple[str, ...]:
        """Every tenant, in the order in which they appear."""
        return tuple(dict.fromkeys(member.tenant for member in self.members))

    @property
    def switches(self) -> tuple[str, ...]:
        """Every switch, by name."""
        ends = [member.interface for member in self.members]
        ends += [end for cable in self.cables for end in cable]
        return tuple(sorted({switch_of(end) for end in ends}))

    def tenant_of(self, host: str) -> str:
        """The tenant that owns a host."""
        return next(member.tenant for member in self.members if member.host == host)


def host_name(tenant: str, name: str) -> str:
    """``red_web1`` for ``web-1`` of red: Mininet's command line takes no hyphen in a name."""
    return f"{tenant}_{name.replace('-', '')}"


def switch_of(interface: str) -> str:
    """``s1`` for ``s1-eth4``."""
    return interface.partition("-eth")[0]


def number_of(interface: str) -> int:
    """``4`` for ``s1-eth4``: its OpenFlow port number."""
    return int(interface.partition("-eth")[2])

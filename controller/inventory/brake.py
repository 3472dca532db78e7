"""The brake: how much of what runs a changed inventory takes away, and whether that is too much.

A port that is not declared is cut off. A file that was written half, or by a program that found an
empty list, would so stop the production of everybody whose ports it does not name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass

from controller.inventory.values import Inventory, LinkHint
from flows.model import Port, PortId

NAMED = 3
"""So many of the missing ports are named in a sentence."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What one inventory has and another has not.

    ``ports`` are missing, or are another port now: of another tenant, network, kind or MAC address,
    one that anti-spoofing keeps from sending under an address that it had, or one whose declared
    interface is another or none. Of these, ``running`` have a place on a bridge. ``links`` are
    missing. The other numbers say how many of each there were.
    """

    ports: Sequence[Port] = ()
    running: int = 0
    links: int = 0
    all_ports: int = 0
    all_running: int = 0
    all_links: int = 0

    def __bool__(self) -> bool:
        return bool(self.ports or self.links)

    def exceeds(self, share: float) -> bool:
        """Whether more vanishes than this share (0..1) of the ports, running ports, or links.

        One may always go, the last one never.
        """
        return any(
            _is_too_much(gone, total, share)
            for gone, total in (
                (len(self.ports), self.all_ports),
                (self.running, self.all_running),
                (self.links, self.all_links),
            )
        )

    def __str__(self) -> str:
        parts = []
        if self.ports:
            names = ", ".join(f"{port.tenant}/{port.name}" for port in self.ports[:NAMED])
            more = ", ..." if len(self.ports) > NAMED else ""
            parts.append(
                f"{len(self.ports)} of {self.all_ports} ports ({names}{more}), "
                f"{self.running} of {self.all_running} that run"
            )
        if self.links:
            parts.append(f"{self.links} of {self.all_links} links")
        return "; ".join(parts)


def loss(before: Inventory, after: Inventory, running: Collection[PortId]) -> Loss:
    """What vanishes when ``after`` takes the place of ``before``; ``running`` ports are placed."""
    now: Mapping[PortId, Port] = {port.id: port for port in after.ports}
    gone = [
        port
        for port in before.ports
        if not _is_same(port, now.get(port.id)) or _is_sent_away(port.id, before, after)
    ]
    links: Set[LinkHint] = set(before.links)
    return Loss(
        ports=gone,
        running=sum(port.id in running for port in gone),
        links=len(links - set(after.links)),
        all_ports=len(before.ports),
        all_running=sum(port.id in running for port in before.ports),
        all_links=len(links),
    )


def _is_same(before: Port, after: Port | None) -> bool:
    if after is None or not _may_send_as_before(before, after):
        return False
    return (before.tenant, before.network, before.kind, before.mac) == (
        after.tenant,
        after.network,
        after.kind,
        after.mac,
    )


def _is_sent_away(port: PortId, before: Inventory, after: Inventory) -> bool:
    """Whether a port may lose its place because another interface, or none, is declared for it.

    It loses none that its ``iface-id`` gives it; whether it has one is not known at the start.
    """
    hint = before.hints.get(port)
    return hint is not None and hint.interface is not None and after.hints.get(port) != hint


def _may_send_as_before(before: Port, after: Port) -> bool:
    """Whether a port may send under every address under which it might; its MAC address is equal.

    Without anti-spoofing that is every address, and without declared ones every IP address.
    """
    if not after.is_protected:
        return True
    if not before.is_protected:
        return False
    return not after.ips or (bool(before.ips) and set(before.ips) <= set(after.ips))


def _is_too_much(gone: int, total: int, share: float) -> bool:
    if not gone or share >= 1:
        return False
    return gone == total or gone > max(1, int(total * share))

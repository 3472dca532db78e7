"""Settings of ports and links with which packets, or copies, do not pass: a sentence for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set

from flows.model import STOPS_ARRIVALS, STOPS_COPIES, Hop, Placement, Port, Setting, World
from flows.openflow import ETH_HEADER

WITHOUT_LINK = "because its link is down: start its workload, or bring its device up"
NOT_DELIVERED = "copies of what it should receive are also of packets that it did not get"


def why_stopped(
    what: str, hop: Hop, place: Placement, stopping: frozenset[Setting]
) -> Iterator[str]:
    """A sentence for each setting of a port that is in ``stopping``: what, why, and a remedy."""
    bridge = hop.bridge or f"{place.dpid:016x}"
    for setting, undo in ((Setting.NO_FORWARD, "forward"), (Setting.NO_RECEIVE, "receive")):
        if setting in hop.settings & stopping:
            yield (
                f"{what}, because its OpenFlow port is set to {setting.value}: run "
                f"`ovs-ofctl -O OpenFlow13 mod-port {bridge} {place.ofport} {undo}`"
            )
    if Setting.NOT_FORWARDING in hop.settings & stopping:
        yield (
            f"{what}, because the spanning tree protocol of bridge {bridge!r} has blocked it: run "
            f"`ovs-vsctl set Bridge {bridge} stp_enable=false rstp_enable=false`"
        )


def at_sender(sender: Port, world: World, links_down: Set[Placement]) -> str:
    """Why a switch gets nothing of a placed port, or drops it; empty if it does neither."""
    hop, place = world.hop_of(sender.id) or Hop(), world.placements[sender.id]
    if place in links_down:
        return f"port {sender.name!r} sends nothing, {WITHOUT_LINK}"
    what = f"what port {sender.name!r} sends is dropped"
    return next(why_stopped(what, hop, place, STOPS_ARRIVALS), "")


def at_receiver(sender: Port, receiver: Port, world: World, links_down: Set[Placement]) -> str:
    """Why a placed port does not get what a switch sends to it; empty if it does."""
    hop, place = world.hop_of(receiver.id) or Hop(), world.placements[receiver.id]
    what = f"port {receiver.name!r} receives nothing"
    if place in links_down:
        return f"{what}, {WITHOUT_LINK}"
    stopped = next(why_stopped(what, hop, place, STOPS_COPIES), "")
    return stopped or are_protected(sender, receiver, world)


def without_link(watched: Sequence[Port], world: World, links_down: Set[Placement]) -> str:
    """That some placed ports receive nothing, because their links are down; empty if they do."""
    if off := [port.name for port in watched if world.placements[port.id] in links_down]:
        return f"{_some_ports(off)} receives nothing, {WITHOUT_LINK}: {NOT_DELIVERED}"
    return ""


def undelivered(watched: Sequence[Port], world: World) -> Iterator[str]:
    """Which packets some placed ports do not get although switches send them, a sentence each.

    These are in the nature of their devices and settings, and nothing has to be mended.
    """
    for port in watched:
        hop = world.hop_of(port.id)
        longest = None if port.network is None else world.longest_by_network.get(port.network)
        if hop is not None and hop.mtu is not None and longest is not None and hop.mtu < longest:
            yield (
                f"port {port.name!r} gets no frames longer than {hop.mtu + ETH_HEADER} bytes, "
                f"because of its MTU, and other ports of its network may send them: {NOT_DELIVERED}"
            )
    if shielded := [port.name for port in watched if _is_shielded(port, world)]:
        yield (
            f"{_some_ports(shielded)} gets nothing that other protected ports of its bridge send: "
            f"{NOT_DELIVERED}"
        )


def _is_shielded(port: Port, world: World) -> bool:
    """Whether a placed port and another one of its network and bridge are protected ports."""
    if not world.is_protected(port.id):
        return False
    others = world.ports_by_dpid[world.placements[port.id].dpid]
    return any(
        other.network == port.network and other != port and world.is_protected(other.id)
        for other in others
    )


def _some_ports(names: list[str]) -> str:
    """The first of some ports, and how many others there are."""
    shown = " or ".join(f"port {name!r}" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} or {len(names) - 3} others"


def are_protected(sender: Port, receiver: Port, world: World) -> str:
    """Why a port gets nothing that another one of its bridge sends; empty if it does."""
    here, there = (world.placements[port.id].dpid for port in (sender, receiver))
    if here != there or not all(world.is_protected(port.id) for port in (sender, receiver)):
        return ""
    hop = world.hop_of(receiver.id) or Hop()
    return (
        f"port {receiver.name!r} gets nothing that port {sender.name!r} sends, because protected "
        "ports of a bridge send each other nothing: run `ovs-vsctl set Port "
        f"{hop.interface} protected=false`"
    )


def at_links(world: World) -> dict[Placement, str]:
    """Why nothing arrives that leaves a bridge by the end of a link, by this end."""
    both = [pair for link in world.links for pair in ((link.a, link.b), (link.b, link.a))]
    return {
        out: "; ".join(
            [
                *at_link_end(out, world, STOPS_COPIES, "packets"),
                *at_link_end(into, world, STOPS_ARRIVALS, "packets"),
            ]
        )
        for out, into in both
        if out in world.broken_links
    }


def at_link_end(
    end: Placement, world: World, stopping: frozenset[Setting], what: str
) -> Iterator[str]:
    """Why the end of a link lets nothing pass; ``what`` it does not carry, in the plural."""
    hop = world.hops.get(end, Hop(f"{end.dpid:016x}", f"port {end.ofport}"))
    link = f"the link at {hop.interface!r} of bridge {hop.bridge!r}"
    if end in world.down:
        yield (
            f"{link} is down, so {what} are lost there: bring its device, or that at its other "
            "end, up"
        )
    yield from why_stopped(f"{link} carries no {what}", hop, end, stopping)

"""Settings of ports and links with which packets, or copies, do not pass: a sentence for each."""

from __future__ import annotations

from collections.abc import Iterator, Set

from flows.model import STOPS_ARRIVALS, STOPS_COPIES, Hop, Placement, Port, Setting, World

WITHOUT_LINK = "because its link is down: start its workload, or bring its device up"


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


def are_protected(sender: Port, receiver: Port, world: World) -> str:
    """Why a port gets nothing that another one of its bridge sends; empty if it does."""
    hops = [world.hop_of(port.id) or Hop() for port in (sender, receiver)]
    if world.placements[sender.id].dpid != world.placements[receiver.id].dpid or not all(
        Setting.PROTECTED in hop.settings for hop in hops
    ):
        return ""
    return (
        f"port {receiver.name!r} gets nothing that port {sender.name!r} sends, because protected "
        "ports of a bridge send each other nothing: run `ovs-vsctl set Port "
        f"{hops[1].interface} protected=false`"
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

"""Bridges that have learned an address, or whose entry has timed out: learned flows by hand.

These flows are part of a plan, so a real bridge keeps them whatever it receives.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from flows.compile import compile_bridge
from flows.explain.trace import Trace
from flows.model import Dpid, NetworkId, Port, World
from flows.openflow import ETH_DST, PRODUCTION, Flow, Load, Match
from flows.pipeline import LEARNED, NETWORK, OUT, OUTPUT
from flows.resolve import BridgeView, ResolvedWorld
from flows.semantics import LearnedAddresses
from tests import frames
from tests.generators.random_filters import MACS
from tests.generators.random_worlds import BRIDGES, STRANGER, Sent, random_world


def random_learned(rng: Random, world: World, sender: Port) -> LearnedAddresses:
    """The ports that bridges have learned for STRANGER in the sender's network; many have none.

    The sender's bridge always has one, or it would flood the packet.
    """
    assert sender.network is not None, "workloads send"
    resolved = ResolvedWorld(world)
    learned: dict[tuple[Dpid, NetworkId, int], Port] = {}
    here = world.placements[sender.id].dpid
    for dpid in world.dpids:
        reached = [
            port
            for port in world.members_by_network[sender.network]
            if port != sender and resolved.is_joined(dpid, world.placements[port.id].dpid)
        ]
        if reached and (dpid == here or rng.random() < 0.4):
            learned[dpid, sender.network, STRANGER] = rng.choice(reached)
    return {key: port.id for key, port in learned.items()}


@dataclass(frozen=True)
class Forgetful:
    """A world, a packet for STRANGER that a workload sends, and what bridges have learned."""

    world: World
    sent: Sent
    learned: LearnedAddresses

    def flows(self) -> dict[Dpid, tuple[Flow, ...]]:
        """The flows of each bridge, its learned ones included."""
        resolved = ResolvedWorld(self.world)
        return {
            dpid: (
                *compile_bridge(dpid, resolved),
                *learned_flows(self.world, dpid, self.learned),
            )
            for dpid in self.world.dpids
        }


def random_story(seed: int) -> Forgetful | None:
    """A story on all bridges; None when the world has no placed workload."""
    rng = Random(seed)
    world = random_world(rng, len(BRIDGES))
    senders = [port for port in world.workloads if port.id in world.placements]
    if not senders:
        return None
    sender = rng.choice(senders)
    mac = MACS[0] if sender.mac is None else int(sender.mac)
    frame = frames.pad(frames.ethernet(STRANGER, mac, 0x88B6, b"late %d" % seed))
    return Forgetful(world, Sent(sender, "late", frame), random_learned(rng, world, sender))


def is_late(trace: Trace) -> bool:
    """Whether a bridge flooded a packet although the one before had learned the address."""
    late = (OUTPUT.number, OUTPUT["late"])
    return any((step.flow.table, step.flow.priority) == late for step in trace.steps)


def learned_flows(world: World, dpid: Dpid, learned: LearnedAddresses) -> tuple[Flow, ...]:
    """The flows that a bridge would have learned."""
    view = BridgeView(dpid, ResolvedWorld(world))
    found: list[Flow] = []
    for (where, network, mac), port_id in learned.items():
        if where == dpid and network in view.members:
            match = Match.of(NETWORK.eq(world.numbers.network[network]), ETH_DST.eq(mac))
            load = Load(OUT, view.ofport(world.port_by_id[port_id]))
            priority = LEARNED["learned"]
            found.append(Flow(LEARNED.number, priority, match, (load,), PRODUCTION, "learned"))
    return tuple(found)

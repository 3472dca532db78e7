"""Bridges that know, or have forgotten, behind which port an address is: learned flows by hand.

These stand in a plan, so a real bridge keeps them whatever it hears.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from flows.compile import Survey, compile_bridge
from flows.resolve.bridge_view import Site
from flows.openflow.field import ETH_DST
from flows.openflow.flow import PRODUCTION, Flow, Load, Match
from flows.semantics.meaning import Learned
from flows.model.session import Dpid, NetworkId, Port
from flows.pipeline.tables import LEARNED, NETWORK, OUT, OUTPUT
from flows.explain.trace import Trace
from flows.model.world import World
from tests import frames
from tests.random_filters import MACS
from tests.random_worlds import BRIDGES, STRANGER, Sent, random_world


def random_beliefs(rng: Random, world: World, sender: Port) -> Learned:
    """Where bridges believe STRANGER to be in the network of a sender; many have forgotten it.

    The sender's bridge believes something, or the packet would simply be flooded.
    """
    assert sender.network is not None, "workloads send"
    survey = Survey(world)
    beliefs: dict[tuple[Dpid, NetworkId, int], Port] = {}
    here = world.placements[sender.id].dpid
    for dpid in world.dpids:
        reached = [
            port
            for port in world.members_by_network[sender.network]
            if port != sender and survey.is_joined(dpid, world.placements[port.id].dpid)
        ]
        if reached and (dpid == here or rng.random() < 0.4):
            beliefs[dpid, sender.network, STRANGER] = rng.choice(reached)
    return {key: port.id for key, port in beliefs.items()}


@dataclass(frozen=True)
class Forgetful:
    """A world, a packet for STRANGER that somebody sends in it, and what bridges believe."""

    world: World
    sent: Sent
    learned: Learned

    def flows(self) -> dict[Dpid, tuple[Flow, ...]]:
        """The flows of each bridge, those for what it believes among them."""
        survey = Survey(self.world)
        return {
            dpid: (
                *compile_bridge(dpid, survey),
                *learned_flows(self.world, dpid, self.learned),
            )
            for dpid in self.world.dpids
        }


def random_story(seed: int) -> Forgetful | None:
    """A world on all bridges with somebody who sends; None when nobody can."""
    rng = Random(seed)
    world = random_world(rng, len(BRIDGES))
    senders = [port for port in world.workloads if port.id in world.placements]
    if not senders:
        return None
    sender = rng.choice(senders)
    mac = MACS[0] if sender.mac is None else int(sender.mac)
    frame = frames.pad(frames.ethernet(STRANGER, mac, 0x88B6, b"late %d" % seed))
    return Forgetful(world, Sent(sender, "late", frame), random_beliefs(rng, world, sender))


def is_late(trace: Trace) -> bool:
    """Whether a bridge flooded a packet although the one before knew the way."""
    late = (OUTPUT.number, OUTPUT["late"])
    return any((step.flow.table, step.flow.priority) == late for step in trace.steps)


def learned_flows(world: World, dpid: Dpid, learned: Learned) -> tuple[Flow, ...]:
    """What a bridge would have learned."""
    site = Site(dpid, Survey(world))
    found: list[Flow] = []
    for (where, network, mac), port_id in learned.items():
        if where == dpid and network in site.members:
            match = Match.of(NETWORK.eq(world.numbers.network[network]), ETH_DST.eq(mac))
            load = Load(OUT, site.ofport(world.port_by_id[port_id]))
            priority = LEARNED["learned"]
            found.append(Flow(LEARNED.number, priority, match, (load,), PRODUCTION, "learned"))
    return tuple(found)

"""How many outputs one packet may need on a bridge of the kernel's datapath, copies included.

Open vSwitch gives the kernel no megaflow with more outputs than the kernel queues at one processor
(sysctl net.core.netdev_max_backlog; too_many_output_actions of ofproto-dpif-xlate.c). Every packet
of such a megaflow goes through ovs-vswitchd. Measured on Open vSwitch 3.1 with Linux 6.1: 1000
outputs are in a megaflow, 1001 are not, and a quarter as many packets are forwarded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flows.model import Datapath, Dpid, NetworkId, World
from flows.resolve.session import ResolvedSession

OUTPUTS_MAX = 1000
"""Outputs of one packet that a megaflow of the kernel has: net.core.netdev_max_backlog, unless the
operator of the host has set it. An output in a clone or behind a length check does not count, so
sessions with caps, links and tunnels need fewer."""
OUTPUTS_NOTED = 800
"""Outputs from which on it is said."""


@dataclass(frozen=True, slots=True)
class CrowdedNetwork:
    """A network whose packets may need many outputs on a bridge of the kernel's datapath.

    ``sessions`` may copy one of its packets there, and ``ports`` may receive it: workloads and
    links.
    """

    network: NetworkId
    sessions: int
    ports: int

    @property
    def outputs(self) -> int:
        """The most outputs of one packet."""
        return self.sessions + self.ports

    def sentence(self, network: str, bridge: str) -> str:
        """What happens, or is near, and what to do."""
        return (
            f"a packet of network {network!r} may need {self.outputs} outputs on bridge {bridge} "
            f"({self.sessions} sessions, {self.ports} ports): with more than {OUTPUTS_MAX} its "
            "kernel hands every such packet to ovs-vswitchd, which forwards far fewer; let fewer "
            "sessions watch this network"
        )


def crowded_networks(
    world: World, sessions: Iterable[ResolvedSession], load_of: Callable[[NetworkId], int]
) -> Mapping[Dpid, tuple[CrowdedNetwork, ...]]:
    """The networks whose packets may need OUTPUTS_NOTED outputs or more, by bridge.

    ``load_of`` is a bound of the sessions that watch a network: others are not looked at.
    """
    kernels = {dpid for dpid, each in world.datapaths.items() if each is Datapath.KERNEL}
    members = world.members_by_network if kernels else {}
    candidates = {
        network
        for network, ports in members.items()
        if (load := load_of(network)) > 0 and load + len(ports) >= OUTPUTS_NOTED - len(world.links)
    }
    if not candidates:
        return {}
    watching: Counter[tuple[Dpid, NetworkId]] = Counter()
    for each in sessions:
        if not candidates.isdisjoint(each.networks):
            watching.update(
                {
                    (world.placements[port.id].dpid, port.network)
                    for port in each.watched
                    if port.network is not None
                }
            )
    return _by_bridge(world, kernels, candidates, watching)


def _by_bridge(
    world: World,
    kernels: Iterable[Dpid],
    candidates: Iterable[NetworkId],
    watching: Mapping[tuple[Dpid, NetworkId], int],
) -> Mapping[Dpid, tuple[CrowdedNetwork, ...]]:
    links = Counter(end.dpid for link in world.links for end in (link.a, link.b))
    found: dict[Dpid, tuple[CrowdedNetwork, ...]] = {}
    for network in sorted(candidates):
        places = (world.placements[port.id].dpid for port in world.members_by_network[network])
        ports = Counter(places)
        for dpid in kernels:
            count = watching.get((dpid, network), 0)
            crowd = CrowdedNetwork(network, count, ports[dpid] + links[dpid])
            if count and crowd.outputs >= OUTPUTS_NOTED:
                found[dpid] = (*found.get(dpid, ()), crowd)
    return found

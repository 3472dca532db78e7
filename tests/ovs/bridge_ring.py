"""A ring of bridges of a real Open vSwitch, on which worlds are installed one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace

from controller.southbound.openflow import ManagedSwitch, open_management
from controller.southbound.revalidation import wait_revalidated
from flows.compile import Program
from flows.model import Dpid, Ofport, Placement, World
from flows.openflow import LEARNED_OBJECT, OBJECT_MASK, OWNER_MASK, Flow, make_cookie
from flows.plan import Plan, plan, plan_from_delta, plan_meters
from flows.resolve import ResolvedWorld
from tests.arrivals import Arrivals, Frames, Remote, Where
from tests.generators.random_worlds import BRIDGES, LINK_PORTS, SLOTS, Sent
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, ofctl, purge_cache
from tests.ovs.segmenters import add_segmenters
from tests.ovs.underlay import Underlay

Damage = Callable[[Dpid, Sequence[Flow]], Sequence[Flow]]


class PlanFailed(AssertionError):
    """A plan was refused in part, or a second plan was not empty."""


class BridgeRing:
    """Three bridges linked in a ring, six endpoints each; a world uses those that it needs.

    With more ``slots`` only one endpoint of each bridge sends markers. On the kernel datapath each
    bridge has a segmenting pair, which a world may know of.
    """

    def __init__(self, lab: Lab, slots: Iterable[int] = SLOTS) -> None:
        self.lab, slots = lab, list(slots)
        self.names = {dpid: f"w{dpid:x}" for dpid in BRIDGES}
        self.ends: dict[Placement, Endpoint] = {}
        self.programs: dict[Dpid, Program] = {}
        self.resolved: ResolvedWorld | None = None
        for dpid, name in self.names.items():
            lab.add_bridge(name, dpid)
            added = lab.add_ports(name, slots)
            self.ends |= {Placement(dpid, Ofport(end.ofport)): end for end in added}
            if len(slots) > len(SLOTS):
                lab.marker_senders.append(added[0])
        names = list(self.names.values())
        for here, there in zip(names, names[1:] + names[:1], strict=True):
            lab.link(here, LINK_PORTS[1], there, LINK_PORTS[0])
        self.underlay = Underlay(lab)
        for dpid, name in self.names.items():
            self.underlay.add_tunnels(name, dpid)
        add_segmenters(lab, self.names)
        lab.install_markers()

    def install(self, world: World, damage: Damage | None = None) -> None:
        """Install a world by a plan on every bridge; ``damage`` may change its flows.

        Raises:
            PlanFailed: a switch refused a flow, or a second plan would not be empty.
        """
        # megaflows of the last world must not affect this one: revalidators push statistics by
        # translating a packet again, which executes learn actions
        purge_cache()
        self.resolved = ResolvedWorld(world)
        self.programs = {dpid: Program(dpid) for dpid in self.names}
        for program in self.programs.values():
            program.has_meters = True
        for dpid, name in self.names.items():
            program, flows = self.programs[dpid], tuple[Flow, ...]()
            if dpid in world.dpids:
                flows = program.update(self.resolved).put
            if damage is not None:
                flows = tuple(damage(dpid, flows))
            with open_management(name) as switch:
                switch.match_first_fragments()
                _apply(switch, plan(flows, switch.our_flows()), flows, program)
        purge_cache()

    def change(self, world: World, meanwhile: Callable[[], object]) -> None:
        """Change to another world by its difference.

        ``meanwhile`` is called before and after the change of each bridge. Megaflows are not
        purged; revalidators are waited for, as the product does.

        Raises:
            PlanFailed: see install.
        """
        before, self.resolved = self.resolved, ResolvedWorld(world, self.resolved)
        dpids = sorted({*world.dpids, *(before.world.dpids if before else ())})
        for dpid in dpids:
            meanwhile()
            program = self.programs[dpid]
            delta = program.update(self.resolved)
            with open_management(self.names[dpid]) as switch:
                todo = plan_from_delta(delta, len(program.flows))
                _apply(switch, todo, program.flows, program)
                meanwhile()
                if dpid == dpids[-1] and not wait_revalidated(nudges={"netdev": switch.nudge}):
                    raise PlanFailed("the revalidators did not finish in time")

    def forget_addresses(self) -> None:
        """Delete the learned addresses of every bridge."""
        purge_cache()
        mask = OWNER_MASK | OBJECT_MASK
        for name in self.names.values():
            ofctl("del-flows", name, f"cookie={make_cookie(LEARNED_OBJECT, 0):#x}/{mask:#x}")
        purge_cache()

    def metered(self, meters: Container[int]) -> int:
        """How many packets these meters have dropped, on all bridges."""
        dropped = 0
        for name in self.names.values():
            with open_management(name) as switch:
                found = switch.metered()
            dropped += sum(m.dropped.packets for n, m in found.items() if n in meters)
        return dropped

    def exchange(self, arrivals: Arrivals, sent: Iterable[Sent]) -> Frames:
        """Send packets and collect every frame that came out, by place."""
        places = arrivals.world.placements
        frames = [(self.ends[places[s.sender.id]], s.frame) for s in sent]
        return self._seen(arrivals, self.lab.exchange(frames))

    def send(self, world: World, sent: Iterable[Sent]) -> None:
        """Send packets without waiting."""
        for each in sent:
            self.ends[world.placements[each.sender.id]].send(each.frame)

    def collect(self, arrivals: Arrivals) -> Frames:
        """All frames that have come out since the last call."""
        self.lab.flush()
        return self._seen(arrivals, {end: end.receive_all() for end in self.ends.values()})

    def _seen(self, arrivals: Arrivals, got: Mapping[Endpoint, list[bytes]]) -> Frames:
        seen: list[tuple[Where, bytes]] = []
        for place, end in self.ends.items():
            seen += [(place, frame) for frame in got[end]]
        for carried in self.underlay.arrived():
            seen.append((Remote(carried.delivery, carried.address, carried.key), carried.frame))
        return Counter((arrivals.place(place), frame) for place, frame in seen)


def _apply(switch: ManagedSwitch, todo: Plan, flows: Iterable[Flow], program: Program) -> None:
    meters = plan_meters(program.meters, switch.our_meters())
    rejected = switch.apply(replace(todo, meters=meters))
    meters = plan_meters(program.meters, switch.our_meters())
    left = replace(plan(flows, switch.our_flows()), meters=meters)
    if rejected or left:
        raise PlanFailed(f"{switch.name} refused {rejected}, and still to do:\n{left}")

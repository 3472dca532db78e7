"""Bridges of a real Open vSwitch on which worlds are played, one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace

from controller.southbound.openflow.management import ManagedSwitch, open_management
from controller.southbound.revalidation import wait_revalidated
from flows.compile import Program, Survey
from flows.openflow.cookie import LEARNED_OBJECT, OBJECT_MASK, OWNER_MASK, make_cookie
from flows.plan.plan import Plan, plan, plan_from_delta
from flows.openflow.flow import Flow
from flows.plan.meters import plan_meters
from flows.model.session import Dpid, Ofport
from flows.model.world import Placement, World
from tests.arrivals import Arrivals, Frames, Remote, Where
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab, ofctl, purge_cache
from tests.ovs.underlay import Underlay
from tests.random_worlds import BRIDGES, LINK_PORTS, SLOTS, Sent

Damage = Callable[[Dpid, Sequence[Flow]], Sequence[Flow]]


class PlanFailed(AssertionError):
    """A plan was not taken whole, or the plan after it was not empty."""


class Stage:
    """Three bridges in a ring of cables, six endpoints each; a world uses what it needs of them.

    With many ``slots`` one endpoint of each bridge sends the markers for all.
    """

    def __init__(self, lab: Lab, slots: Iterable[int] = SLOTS) -> None:
        self.lab, slots = lab, list(slots)
        self.names = {dpid: f"w{dpid:x}" for dpid in BRIDGES}
        self.ends: dict[Placement, Endpoint] = {}
        self.programs: dict[Dpid, Program] = {}
        self.survey: Survey | None = None
        for dpid, name in self.names.items():
            lab.add_bridge(name, dpid)
            added = lab.add_ports(name, slots)
            self.ends |= {Placement(dpid, Ofport(end.ofport)): end for end in added}
            if len(slots) > len(SLOTS):
                lab.criers.append(added[0])
        names = list(self.names.values())
        for here, there in zip(names, names[1:] + names[:1], strict=True):
            lab.link(here, LINK_PORTS[1], there, LINK_PORTS[0])
        self.underlay = Underlay(lab)
        for dpid, name in self.names.items():
            self.underlay.add_tunnels(name, dpid)
        lab.arm()

    def install(self, world: World, damage: Damage | None = None) -> None:
        """Bring every bridge from the last world to this one by a plan; ``damage`` may spoil it.

        Raises:
            PlanFailed: a switch refused a flow, or a second plan would not be empty.
        """
        # cached paths of the last world would teach this one: statistics are pushed by translating
        # a packet again, and what is translated is learned
        purge_cache()
        self.survey = Survey(world)
        self.programs = {dpid: Program(dpid) for dpid in self.names}
        for program in self.programs.values():
            program.has_meters = True
        for dpid, name in self.names.items():
            program, flows = self.programs[dpid], tuple[Flow, ...]()
            if dpid in world.dpids:
                flows = program.update(self.survey).put
            if damage is not None:
                flows = tuple(damage(dpid, flows))
            with open_management(name) as switch:
                _apply(switch, plan(flows, switch.our_flows()), flows, program)
        purge_cache()

    def change(self, world: World, meanwhile: Callable[[], object]) -> None:
        """Follow a world by the difference alone.

        ``meanwhile`` is called before and after each bridge changes. Cached paths are not purged,
        but waited for, as the product does.

        Raises:
            PlanFailed: see install.
        """
        before, self.survey = self.survey, Survey(world, self.survey)
        dpids = sorted({*world.dpids, *(before.world.dpids if before else ())})
        for dpid in dpids:
            meanwhile()
            program = self.programs[dpid]
            delta = program.update(self.survey)
            with open_management(self.names[dpid]) as switch:
                todo = plan_from_delta(delta, len(program.flows))
                _apply(switch, todo, program.flows, program)
                meanwhile()
                if dpid == dpids[-1] and not wait_revalidated(nudge=switch.nudge):
                    raise PlanFailed("the data path was not waited for")

    def forget(self) -> None:
        """Let every bridge forget where addresses are."""
        purge_cache()
        mask = OWNER_MASK | OBJECT_MASK
        for name in self.names.values():
            ofctl("del-flows", name, f"cookie={make_cookie(LEARNED_OBJECT, 0):#x}/{mask:#x}")
        purge_cache()

    def metered(self, meters: Container[int]) -> int:
        """How many packets some meters have dropped, on all bridges."""
        dropped = 0
        for name in self.names.values():
            with open_management(name) as switch:
                found = switch.metered()
            dropped += sum(m.dropped.packets for n, m in found.items() if n in meters)
        return dropped

    def exchange(self, arrivals: Arrivals, sent: Iterable[Sent]) -> Frames:
        """Send packets and collect every frame that came out anywhere, with its place."""
        places = arrivals.world.placements
        frames = [(self.ends[places[s.sender.id]], s.frame) for s in sent]
        return self._seen(arrivals, self.lab.exchange(frames))

    def send(self, world: World, sent: Iterable[Sent]) -> None:
        """Send packets and wait for nothing."""
        for each in sent:
            self.ends[world.placements[each.sender.id]].send(each.frame)

    def collect(self, arrivals: Arrivals) -> Frames:
        """All that has come out since it was asked before."""
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

"""The ways of one session's copies out of a bridge, and how a frame of ours gets on each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flows.compile.deliver import deliver, tags_of
from flows.resolve.bridge_view import Site
from flows.resolve.session import Standing
from flows.resolve.world import Survey
from flows.openflow.flow import Action, CheckLarger, Cookie, Flow, Load, Resubmit
from flows.model.session import Collector, Dpid, NetworkId, Ofport, Oversize, Sensor
from flows.pipeline.tables import CUT, DELIVER, LARGER, NETWORK, REGISTERS, SEND, SENSOR
from flows.model.tunnel import cut_length

Counted = tuple[int, Cookie]
"""A flow that counts copies: its table and its cookie."""


@dataclass(frozen=True, slots=True)
class CopyWay:
    """The way to one sensor; ``network`` is None when the copies of all networks take it.

    A frame on which ``actions`` are done goes to the sensor and meets nothing of production; rate
    caps and the choice among sensors are left out. ``whole`` and ``cut`` are the flows that such
    frames meet, ``longest`` the bytes that fit in one piece (None: any). ``by`` is where it leaves
    this bridge, ``position`` that of the sensor in its collector.
    """

    network: NetworkId | None
    sensor: Sensor
    position: int
    tag: int | None
    actions: tuple[Action, ...]
    by: Ofport
    whole: Counted
    cut: Counted | None = None
    longest: int | None = None
    skips: bool = False

    def fits(self, length: int) -> bool:
        """Whether a frame of so many bytes arrives in one piece."""
        return self.longest is None or length <= self.longest

    def arriving(self, length: int) -> int:
        """How many bytes of such a frame arrive; 0 when it is not sent at all."""
        if self.longest is None or length <= self.longest:
            return length
        return 0 if self.skips else self.longest

    def counted_by(self, length: int) -> Counted:
        """The flow that counts such a frame."""
        return self.whole if self.fits(length) or self.cut is None else self.cut


def copy_ways(dpid: Dpid, survey: Survey, standing: Standing) -> Iterator[CopyWay]:
    """Every way of a session's copies out of a bridge that serves it."""
    site, collector = Site(dpid, survey), standing.collector
    assert collector is not None, "a served session has a collector"
    is_sized = survey.is_staged(standing) or site.limit_of(standing.session) is not None
    table = SEND if is_sized else DELIVER
    flows = list(deliver(site, standing))
    for flow in flows:
        if flow.table == table.number:
            yield _way(site, standing, collector, flow, flows)


def _way(
    site: Site, standing: Standing, collector: Collector, flow: Flow, flows: list[Flow]
) -> CopyWay:
    tags, loads = tags_of(site, standing), tuple(_loads(flow))
    value = {load.target: load.value for load in loads}
    position, number = value.get(SENSOR, 0), value.get(NETWORK)
    names = {n: key for key, n in site.world.numbers.network.items()}
    network = None if number is None else names[number]
    sensor = collector.sensors[position]
    by = site.way_to(sensor, collector)
    assert by is not None, "a flow sends copies somewhere"
    longest = cut_length(standing.session, site.limit_of(standing.session))
    steps: tuple[Action, ...] = loads
    if flow.table == SEND.number:
        steps += (Load(LARGER, 0) if longest is None else CheckLarger(longest, LARGER),)
    cut = [(f.table, f.cookie) for f in flows if f.table == CUT.number and _is_met(f, flow)]
    is_path_short = longest is not None and longest != standing.session.packet_length
    return CopyWay(
        network=network,
        sensor=sensor,
        position=position,
        tag=next(iter(tags.values())) if network is None else tags[network],
        actions=(*steps, Resubmit(flow.table)),
        by=by,
        whole=(flow.table, flow.cookie),
        cut=cut[0] if cut else None,
        longest=longest,
        skips=standing.session.oversize is Oversize.SKIP and is_path_short,
    )


def _is_met(cut: Flow, whole: Flow) -> bool:
    """Whether frames that are too long for one flow meet another."""
    return set(cut.match.terms) <= set(whole.match.terms)


def _loads(flow: Flow) -> Iterator[Load]:
    """What the registers must hold for a packet to meet the flow."""
    for term in flow.match.terms:
        for register in REGISTERS:
            if register.field == term.field and term.mask & register.mask == register.mask:
                yield Load(register, (term.value & register.mask) >> register.low)

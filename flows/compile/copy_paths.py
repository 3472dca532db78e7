"""Copy paths: where one session's copies leave a bridge, and how a beacon is sent on each path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from netaddr import IPAddress

from flows.compile.deliver import (
    counts_tag,
    deliver,
    leads_nowhere,
    oversize_of,
    tags_of,
    way_of_copies,
)
from flows.model import Collector, Dpid, NetworkId, Ofport, Oversize, Sensor, cut_length
from flows.openflow import Action, CheckLarger, Cookie, Flow, Load, Resubmit
from flows.pipeline import CUT, DELIVER, LARGER, NETWORK, REGISTER_FIELDS, SEND, SENSOR
from flows.resolve import BridgeView, ResolvedSession, ResolvedWorld

CountingFlow = tuple[int, Cookie]
"""A flow whose counter counts copies, by table and cookie."""


@dataclass(frozen=True, slots=True)
class CopyPath:
    """The path of copies from one bridge to one sensor.

    ``network`` is None when copies of all networks take it; ``position`` is the index of the sensor
    in its collector, ``tag`` the tag that copies wear, ``by`` the OpenFlow port where they leave
    the bridge. ``actions`` send a frame on this path; it passes no production flow, no rate cap and
    no choice among sensors. ``whole`` and ``cut`` are the flows that count such frames, ``longest``
    the bytes that are copied whole (None: any), and ``skips`` whether longer ones are not copied.
    ``is_tagged``: the bridge counts a tag of ours, that of a network or of a link.
    ``cut_by`` is what the bridge counts longer ones as; None if it does not count them.
    """

    network: NetworkId | None
    sensor: Sensor
    position: int
    tag: int | None
    actions: tuple[Action, ...]
    by: Ofport
    whole: CountingFlow
    cut: CountingFlow | None = None
    longest: int | None = None
    skips: bool = False
    is_tagged: bool = False
    cut_by: Oversize | None = None

    def fits(self, length: int) -> bool:
        """Whether a frame of ``length`` bytes arrives whole."""
        return self.longest is None or length <= self.longest

    def arriving(self, length: int) -> int:
        """How many bytes of a frame of ``length`` bytes arrive; 0 when it is not copied."""
        if self.longest is None or length <= self.longest:
            return length
        return 0 if self.skips else self.longest

    def actions_for(self, length: int) -> tuple[Action, ...]:
        """The actions that send a frame of ``length`` bytes.

        For a tunnel they state the result of the length check instead of checking: Open vSwitch
        adds a checked frame to the counters of a tunnel port once for each result.
        """
        if not isinstance(self.sensor, IPAddress):
            return self.actions
        return tuple(
            Load(LARGER, int(length > step.length)) if isinstance(step, CheckLarger) else step
            for step in self.actions
        )

    def counted_by(self, length: int) -> CountingFlow:
        """The flow that counts a frame of ``length`` bytes."""
        return self.whole if self.fits(length) or self.cut is None else self.cut


def copy_paths(
    dpid: Dpid,
    resolved: ResolvedWorld,
    resolved_session: ResolvedSession,
    *,
    has_meters: bool = False,
) -> Iterator[CopyPath]:
    """Every path of a session's copies out of a bridge that serves it, to sensors that get them.

    ``has_meters``: the bridge has meters, which its flows use.
    """
    view, collector = BridgeView(dpid, resolved, has_meters=has_meters), resolved_session.collector
    assert collector is not None, "a served session has a collector"
    if leads_nowhere(view, resolved_session):
        return
    is_sized = (
        resolved.is_staged(resolved_session) or view.limit_of(resolved_session.session) is not None
    )
    table = SEND if is_sized else DELIVER
    flows = list(deliver(view, resolved_session))
    for flow in flows:
        if flow.table == table.number and flow.priority in (table["network"], table["session"]):
            path = _copy_path(view, resolved_session, collector, flow, flows)
            if view.is_open(path.sensor, collector):
                yield path


def _copy_path(
    view: BridgeView,
    resolved_session: ResolvedSession,
    collector: Collector,
    flow: Flow,
    flows: list[Flow],
) -> CopyPath:
    tags, loads = tags_of(view, resolved_session), tuple(_loads(flow))
    value = {load.target: load.value for load in loads}
    position, number = value.get(SENSOR, 0), value.get(NETWORK)
    names = {n: key for key, n in view.world.numbers.network.items()}
    network = None if number is None else names[number]
    sensor = collector.sensors[position]
    by = view.next_hop_of_copies(sensor, collector)
    assert by is not None, "a flow outputs copies to a port"
    longest = cut_length(resolved_session.session, view.limit_of(resolved_session.session))
    steps: tuple[Action, ...] = loads
    if flow.table == SEND.number:
        steps += (Load(LARGER, 0) if longest is None else CheckLarger(longest, LARGER),)
    cut = [(f.table, f.cookie) for f in flows if f.table == CUT.number and _covers(f, flow)]
    oversize = oversize_of(view, resolved_session)
    tag = next(iter(tags.values())) if network is None else tags[network]
    return CopyPath(
        network=network,
        sensor=sensor,
        position=position,
        tag=tag,
        actions=(*steps, Resubmit(flow.table)),
        by=by,
        whole=(flow.table, flow.cookie),
        cut=cut[0] if cut else None,
        longest=longest,
        skips=oversize is Oversize.SKIP,
        is_tagged=counts_tag(view, way_of_copies(view, resolved_session, sensor, tag) or ()),
        cut_by=oversize if view.has_meters else None,
    )


def _covers(cut: Flow, whole: Flow) -> bool:
    """Whether frames that are too long for the flow ``whole`` match the flow ``cut``."""
    return set(cut.match.terms) <= set(whole.match.terms)


def _loads(flow: Flow) -> Iterator[Load]:
    """The register values with which a packet matches the flow."""
    for term in flow.match.terms:
        for register in REGISTER_FIELDS:
            if register.field == term.field and term.mask & register.mask == register.mask:
                yield Load(register, (term.value & register.mask) >> register.low)

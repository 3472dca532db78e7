"""The ways of one session's copies out of a bridge, and how a frame of ours gets on each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flows.compile.deliver import deliver, tags_of
from flows.compile.site import Site
from flows.compile.survey import Standing, Survey
from flows.flow import Action, Cookie, Flow, Load, Resubmit
from flows.model import Dpid, NetworkId
from flows.pipeline import DELIVER, NETWORK, REGISTERS


@dataclass(frozen=True, slots=True)
class CopyWay:
    """One flow that makes copies of a session; ``network`` is None when it is for all of them.

    A frame on which ``actions`` are done meets this flow and no other part of the pipeline.
    """

    network: NetworkId | None
    tag: int | None
    cookie: Cookie
    actions: tuple[Action, ...]


def copy_ways(dpid: Dpid, survey: Survey, standing: Standing) -> Iterator[CopyWay]:
    """Every way of a session's copies out of a bridge that serves it."""
    site = Site(dpid, survey)
    tags = tags_of(site, standing)
    network_by_number = {number: key for key, number in site.world.numbers.network.items()}
    for flow in deliver(site, standing):
        if flow.table == DELIVER.number:
            loads = tuple(_loads(flow))
            [number] = [load.value for load in loads if load.target == NETWORK] or [0]
            network = network_by_number.get(number)
            tag = next(iter(tags.values())) if network is None else tags[network]
            yield CopyWay(network, tag, flow.cookie, (*loads, Resubmit(DELIVER.number)))


def _loads(flow: Flow) -> Iterator[Load]:
    """What the registers must hold for a packet to meet the flow."""
    for term in flow.match.terms:
        for register in REGISTERS:
            if register.field == term.field and term.mask & register.mask == register.mask:
                yield Load(register, (term.value & register.mask) >> register.low)

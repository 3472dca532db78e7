"""From a world to the exact flows of each bridge."""

from __future__ import annotations

from flows.compile.deliver import deliver, transport
from flows.compile.filter import filter_rules
from flows.compile.production import compile_production
from flows.compile.select import Selection
from flows.compile.survey import Site, Standing, Survey
from flows.flow import Flow
from flows.model import Dpid
from flows.pipeline import check_flow

__all__ = ["Standing", "Survey", "compile_bridge"]


def compile_bridge(dpid: Dpid, survey: Survey) -> tuple[Flow, ...]:
    """Every flow that one bridge should have; each obeys the contract of its table.

    Raises:
        InvalidFlow: the compiler broke a contract, or made two flows of one key: a defect of ours.
    """
    site = Site(dpid, survey)
    selection = Selection(site)
    flows = (
        *compile_production(site),
        *transport(site),
        *selection.flows,
        *filter_rules(selection.filters()),
        *deliver(site, selection.served),
    )
    for flow in flows:
        check_flow(flow)
    return flows

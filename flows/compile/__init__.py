"""From a world to the exact flows of each bridge."""

from __future__ import annotations

from flows.compile.impact import Needs
from flows.compile.sink import Outlet
from flows.compile.program import Program
from flows.resolve.session import Standing
from flows.resolve.world import Survey
from flows.compile.copy_paths import CopyWay, copy_ways
from flows.openflow.flow import Flow
from flows.model.session import Dpid

__all__ = [
    "CopyWay",
    "Needs",
    "Outlet",
    "Program",
    "Standing",
    "Survey",
    "compile_bridge",
    "copy_ways",
]


def compile_bridge(dpid: Dpid, survey: Survey) -> tuple[Flow, ...]:
    """Every flow that one bridge should have; each obeys the contract of its table.

    Raises:
        InvalidFlow: the compiler broke a contract: a defect of ours.
    """
    return Program(dpid).update(survey).put

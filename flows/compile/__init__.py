"""From a world to the exact flows of each bridge."""

from __future__ import annotations

from flows.compile.needs import Needs
from flows.compile.outlet import Outlet
from flows.compile.program import Program
from flows.compile.standing import Standing
from flows.compile.survey import Survey
from flows.compile.ways import CopyWay, copy_ways
from flows.flow import Flow
from flows.model import Dpid

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

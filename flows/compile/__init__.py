"""Compiles a resolved world to the exact flows of each bridge."""

from __future__ import annotations

from flows.compile.ahead import NOTHING_HELD, NOTHING_READY, Held, RulesAhead, RulesComing
from flows.compile.copy_paths import CopyPath, copy_paths
from flows.compile.deliver import is_segmented, leads_nowhere
from flows.compile.epoch import Epoch, is_of_epoch, without_epoch
from flows.compile.filter import filter_key_of
from flows.compile.impact import Impact
from flows.compile.production import counted_by
from flows.compile.program import Program
from flows.compile.sink import FlowSink
from flows.compile.stages import FLOWS_TOGETHER, Stages, in_stages
from flows.model import Dpid
from flows.openflow import Flow
from flows.resolve import ResolvedWorld

__all__ = [
    "FLOWS_TOGETHER",
    "NOTHING_HELD",
    "NOTHING_READY",
    "CopyPath",
    "Epoch",
    "FlowSink",
    "Held",
    "Impact",
    "Program",
    "RulesAhead",
    "RulesComing",
    "Stages",
    "compile_bridge",
    "copy_paths",
    "counted_by",
    "filter_key_of",
    "in_stages",
    "is_of_epoch",
    "is_segmented",
    "leads_nowhere",
    "without_epoch",
]


def compile_bridge(dpid: Dpid, resolved: ResolvedWorld) -> tuple[Flow, ...]:
    """Every flow that one bridge should have.

    Raises:
        InvalidFlow: a flow breaks the contract of its table, which is a defect of the compiler.
    """
    return Program(dpid).update(resolved).put

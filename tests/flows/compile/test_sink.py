"""What a sink receives while a bridge is compiled: production first, then the rest in stages."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from flows.compile import Program, program
from flows.compile.production import compile_production
from flows.errors import InvalidFlow
from flows.openflow import Flow, FlowKey, Resubmit
from flows.pipeline import EGRESS, INGRESS, START
from flows.resolve import BridgeView, ResolvedWorld
from tests.generators.random_worlds import BRIDGES, random_world

LISTS = (EGRESS.number, INGRESS.number)


class Stages:
    """A sink that records what it receives, by stage."""

    def __init__(self) -> None:
        self.ended: list[list[Flow]] = []
        self.open: list[Flow] = []

    def take(self, flows: Sequence[Flow]) -> None:
        self.open += flows

    def end_stage(self) -> None:
        self.ended.append(self.open)
        self.open = []


def of(flows: Sequence[Flow]) -> dict[FlowKey, Flow]:
    """What a switch has after these: of two flows with the same key the later one."""
    return {flow.key: flow for flow in flows}


@pytest.mark.parametrize("seed", range(60))
def test_the_sink_receives_production_and_then_the_rest_of_the_flows(seed: int) -> None:
    resolved = ResolvedWorld(random_world(Random(seed)))
    for dpid in BRIDGES:
        compiling, stages = Program(dpid), Stages()
        compiling.has_meters = bool(seed % 2)

        put = compiling.update(resolved, sink=stages).put

        first, second, third = stages.ended
        assert of(first) == of(list(compile_production(BridgeView(dpid, resolved))))
        assert of([*first, *second, *third]) == of(put)
        assert stages.open == []


@pytest.mark.parametrize("seed", range(60))
def test_no_flow_resubmits_to_sessions_before_the_last_stage(seed: int) -> None:
    resolved = ResolvedWorld(random_world(Random(seed)))
    for dpid in BRIDGES:
        stages = Stages()
        Program(dpid).update(resolved, sink=stages)

        leading = [f for f in stages.ended[1] if f.table in (START.number, *LISTS) and f.actions]

        assert leading == []


def test_an_incremental_update_gives_the_sink_nothing() -> None:
    compiling, stages = Program(BRIDGES[0]), Stages()
    resolved = ResolvedWorld(random_world(Random(3), bridges=1))
    compiling.update(resolved)

    compiling.update(resolved, sink=stages)

    assert (stages.ended, stages.open) == ([], [])


def test_the_sink_receives_no_flow_that_breaks_the_contract(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolved, stages = ResolvedWorld(random_world(Random(3), bridges=1)), Stages()
    production = list(compile_production(BridgeView(BRIDGES[0], resolved)))
    bad = production[-1].replace(actions=(Resubmit(production[0].table),))
    monkeypatch.setattr(program, "compile_production", lambda _: [*production, bad])

    with pytest.raises(InvalidFlow, match="may not go to"):
        Program(BRIDGES[0]).update(resolved, sink=stages)

    assert (stages.ended, bad in stages.open) == ([], False)

"""What an outlet gets while a bridge is compiled: production first, then all that is left."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from flows.compile import Program, Survey, program
from flows.compile.production import compile_production
from flows.resolve.bridge_view import Site
from flows.errors import InvalidFlow
from flows.openflow.flow import Flow, FlowKey, Resubmit
from flows.pipeline.tables import EGRESS, INGRESS, START
from tests.random_worlds import BRIDGES, random_world

LISTS = (EGRESS.number, INGRESS.number)


class Stages:
    """An outlet that remembers."""

    def __init__(self) -> None:
        self.ended: list[list[Flow]] = []
        self.open: list[Flow] = []

    def take(self, flows: Sequence[Flow]) -> None:
        self.open += flows

    def end_stage(self) -> None:
        self.ended.append(self.open)
        self.open = []


def of(flows: Sequence[Flow]) -> dict[FlowKey, Flow]:
    """What a switch has after these: the later one of two that ask for the same."""
    return {flow.key: flow for flow in flows}


@pytest.mark.parametrize("seed", range(60))
def test_the_outlet_gets_production_and_then_the_rest_of_what_is_compiled(seed: int) -> None:
    survey = Survey(random_world(Random(seed)))
    for dpid in BRIDGES:
        compiling, stages = Program(dpid), Stages()
        compiling.has_meters = bool(seed % 2)

        put = compiling.update(survey, outlet=stages).put

        first, second, third = stages.ended
        assert of(first) == of(list(compile_production(Site(dpid, survey))))
        assert of([*first, *second, *third]) == of(put)
        assert stages.open == []


@pytest.mark.parametrize("seed", range(60))
def test_no_packet_gets_to_what_sessions_have_before_all_is_there(seed: int) -> None:
    survey = Survey(random_world(Random(seed)))
    for dpid in BRIDGES:
        stages = Stages()
        Program(dpid).update(survey, outlet=stages)

        leading = [f for f in stages.ended[1] if f.table in (START.number, *LISTS) and f.actions]

        assert leading == []


def test_who_follows_changes_tells_the_outlet_nothing() -> None:
    compiling, stages = Program(BRIDGES[0]), Stages()
    survey = Survey(random_world(Random(3), bridges=1))
    compiling.update(survey)

    compiling.update(survey, outlet=stages)

    assert (stages.ended, stages.open) == ([], [])


def test_the_outlet_gets_no_flow_that_breaks_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    survey, stages = Survey(random_world(Random(3), bridges=1)), Stages()
    production = list(compile_production(Site(BRIDGES[0], survey)))
    bad = production[-1].replace(actions=(Resubmit(production[0].table),))
    monkeypatch.setattr(program, "compile_production", lambda _: [*production, bad])

    with pytest.raises(InvalidFlow, match="may not go to"):
        Program(BRIDGES[0]).update(survey, outlet=stages)

    assert (stages.ended, bad in stages.open) == ([], False)

"""Bits for cohorts, when a session goes that kept others from meeting."""

from __future__ import annotations

from flows.compile import Survey
from flows.errors import TooManyOverlaps
from flows.model.filter import Filter, Rule, RuleMatch, Verdict
from flows.model.session import FilterId, SessionId, TenantName
from tests.flows.hand_made import INGRESS, S1, at, tap, vm, watch, world

LLDP = Filter(
    FilterId("lldp"), "lldp", TenantName("red"),
    ingress=(Rule(1, Verdict.ACCEPT, RuleMatch(eth_type=0x88CC)),),
)  # fmt: skip


def test_who_took_everything_goes_and_those_behind_it_meet() -> None:
    here = world(
        vm("web", at(S1, 1), 0x020000000001), vm("db", at(S1, 2), 0x020000000002),
        tap("a", at(S1, 7)), LLDP,
        watch("everything", "web", "db", to="a", direction=INGRESS, exclusive=1),
        watch("both", "web", "db", to="a", direction=INGRESS, wanted=LLDP, exclusive=2),
        watch("one", "web", to="a", direction=INGRESS, wanted=LLDP, exclusive=3),
    )  # fmt: skip
    before = Survey(here, cohorts_per_network=0)
    assert len(before.served) == 3

    left = {s.id: s for s in here.sessions if s.id != "everything"}
    after = here.with_wishes(here.collectors, left, here.filters, here.numbers)
    for survey in (
        Survey(after, before, cohorts_per_network=0),
        Survey(after, cohorts_per_network=0),
    ):
        assert isinstance(survey.standings[SessionId("one")].refused, TooManyOverlaps)
        assert [s.session.id for s in survey.served] == ["both"]

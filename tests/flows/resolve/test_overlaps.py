"""Register bits for cohorts, when a session is removed that kept others from competing."""

from __future__ import annotations

from flows.errors import TooManyOverlaps
from flows.model import Filter, FilterId, Rule, RuleMatch, SessionId, TenantName, Verdict
from flows.resolve import ResolvedWorld
from tests.flows.hand_made import INGRESS, S1, at, tap, vm, watch, world

LLDP = Filter(
    FilterId("lldp"), "lldp", TenantName("red"),
    ingress=(Rule(1, Verdict.ACCEPT, RuleMatch(eth_type=0x88CC)),),
)  # fmt: skip


def test_sessions_compete_when_the_one_that_took_everything_before_them_is_removed() -> None:
    here = world(
        vm("web", at(S1, 1), 0x020000000001), vm("db", at(S1, 2), 0x020000000002),
        tap("a", at(S1, 7)), LLDP,
        watch("everything", "web", "db", to="a", direction=INGRESS, exclusive=1),
        watch("both", "web", "db", to="a", direction=INGRESS, wanted=LLDP, exclusive=2),
        watch("one", "web", to="a", direction=INGRESS, wanted=LLDP, exclusive=3),
    )  # fmt: skip
    before = ResolvedWorld(here, cohorts_per_network=0)
    assert len(before.served) == 3

    left = {s.id: s for s in here.sessions if s.id != "everything"}
    after = here.with_desired_state(here.collectors, left, here.filters, here.numbers)
    for resolved in (
        ResolvedWorld(after, before, cohorts_per_network=0),
        ResolvedWorld(after, cohorts_per_network=0),
    ):
        assert isinstance(resolved.sessions[SessionId("one")].refused, TooManyOverlaps)
        assert [s.session.id for s in resolved.served] == ["both"]

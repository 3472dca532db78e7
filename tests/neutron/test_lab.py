"""The lab is what other tests here take it for: a cloud that the agent of its owner runs."""

from __future__ import annotations

from tests.neutron.cloud import NeutronCloud
from tests.neutron.neutron import agents_flows
from tests.ovs.attached_cloud import OWNER, Script
from tests.ovs.lab import MARKER_COOKIE, vsctl


def test_the_agent_owns_the_bridge(bare: NeutronCloud) -> None:
    flows = agents_flows(OWNER, MARKER_COOKIE)
    tables = {int(f.partition("table=")[2].partition(",")[0] or 0) for f in flows}
    assert {0, 60, 71, 72, 81, 82, 94} <= tables
    assert vsctl("get-controller", OWNER).strip() == "tcp:127.0.0.1:6633"
    assert vsctl("get-fail-mode", OWNER).strip() == "secure"


def test_workloads_of_a_tenant_reach_each_other_and_nobody_else(bare: NeutronCloud) -> None:
    script = Script()
    for tenant, other in (("red", "blue"), ("blue", "red")):
        frame = script.udp(tenant, "web", "db")
        assert bare.receive(frame)[f"{tenant}-db"] == [frame.frame]
        far = script.udp(tenant, "far", "db")
        seen = bare.receive(far)
        assert seen[f"{tenant}-db"] == [far.frame] and not seen[f"{other}-db"]

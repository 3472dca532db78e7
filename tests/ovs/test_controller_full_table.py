"""A flow table too small for all sessions: some are served, and everything else works."""

from __future__ import annotations

from flows.pipeline import DELIVER
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.lab import vsctl
from tests.ovs.small_cloud import SmallCloud
from tests.ovs.traffic import Traffic

SERVED = 3
MANY = 75
"""More than the number of refusals at which a plan used to fail."""


def test_sessions_that_have_no_room_keep_no_other_change_from_a_bridge(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    limit = ["--id=@t", "create", "Flow_Table", f"flow_limit={1 + SERVED}"]  # one: no session
    limit += ["overflow_policy=refuse"]
    vsctl("--", *limit, "--", "set", "Bridge", "s1", f"flow_tables:{DELIVER.number}=@t")
    with Traffic(cloud.at.values()) as traffic:
        red, blue = cloud.red_streams(traffic), cloud.blue_streams(traffic)
        states = [
            controller.create_session("red", f"s{n}", ["web"], "ids")["status"]["state"]
            for n in range(SERVED + MANY)
        ]
        assert states == ["active"] * SERVED + ["pending"] * MANY
        reasons = controller.session(f"s{SERVED}")["status"]["reasons"]
        assert "OFPFMFC_TABLE_FULL" in " ".join(reasons)

        # many compete for its place: all but one are refused again
        assert controller.delete_session("s0") == 204
        controller.wait_for_session(f"s{SERVED}")
        since = traffic.now(red[0])
        traffic.wait_until_spread(red[0], cloud.at["red-ids"], since + 20)
        copies = traffic.arrived(red[0], cloud.at["red-ids"])
        assert {copies[n] for n in range(since + 1, since + 20)} == {SERVED}

        vsctl("clear", "Bridge", "s1", "flow_tables")
        controller.change_session("s1", direction="both")
        for n in range(1, SERVED + MANY):
            controller.wait_for_session(f"s{n}")
        traffic.stop()
        for stream, end in zip((*red, *blue), ("red-db", "red-web", "blue-db", "blue-web"),
                               strict=True):  # fmt: skip
            traffic.wait_for(stream, cloud.at[end], stream.last)
            assert not traffic.faults(stream, cloud.at[end], 1, stream.last), "production was hurt"
        assert not traffic.strangers(cloud.at["red-ids"], red)

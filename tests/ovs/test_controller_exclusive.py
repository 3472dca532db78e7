"""Exclusive sessions over the API on a real bridge: which one gets the packets at each change."""

from __future__ import annotations

from tests.ovs.controller_process import ControllerProcess
from tests.ovs.small_cloud import SmallCloud
from tests.ovs.traffic import Traffic


def test_who_takes_the_packets_changes_with_the_answer_of_the_api(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    nothing = {"tenant": "red", "name": "nothing", "egress": [], "ingress": []}
    assert controller.api.post("/v1/filters", json=nothing).status_code == 201
    taps = {name: cloud.at[f"red-{name}"] for name in ("ids", "soc")}
    with Traffic([cloud.at["red-web"], cloud.at["red-db"], *taps.values()]) as traffic:
        stream, _ = cloud.red_streams(traffic)

        def takers() -> set[str]:
            """Which sessions get the next packets; each packet exactly once."""
            first = traffic.now(stream) + 1
            last = first + 50
            traffic.wait_until_spread(stream, cloud.at["red-db"], last)
            found = set()
            for name, tap in taps.items():
                seen = traffic.arrived(stream, tap)
                copies = {seen[number] for number in range(first, last)}
                assert copies in ({0}, {1}), (name, traffic.faults(stream, tap, first, last))
                found |= {name} if copies == {1} else set()
            return found

        def beaten() -> set[str]:
            """Which sessions report starvation."""
            found = set()
            for name, other in (("late", "early"), ("early", "late")):
                status = controller.session(name)["status"]
                if status["state"] == "degraded":
                    (reason,) = status["reasons"]
                    assert reason.startswith(f"session '{other}' (number "), reason
                    assert "takes every packet of ports 'web' and 'db' before it" in reason
                    found.add(name)
                else:
                    assert status["reasons"] in ([], ["switched off by its owner"]), status
            return found

        for name, tap, number in (("late", "soc", 20), ("early", "ids", 10)):
            made = controller.create_session(
                "red", name, ["web", "db"], tap, mode="exclusive", number=number
            )
            assert made["status"]["state"] == "active", made
            assert takers() == {tap}
        assert beaten() == {"late"}
        for changes, expected, left_out in (
            ({"enabled": False}, {"soc"}, set()),
            ({"enabled": True}, {"ids"}, {"late"}),
            ({"filter": "nothing"}, {"soc"}, set()),
            ({"filter": "all", "number": 30}, {"soc"}, {"early"}),
            ({"mode": "copy"}, {"ids", "soc"}, set()),
            ({"mode": "exclusive", "number": 5}, {"ids"}, {"late"}),
        ):
            controller.change_session("early", **changes)
            assert (takers(), beaten()) == (expected, left_out), changes
        assert controller.delete_session("early") == 204
        assert takers() == {"soc"}

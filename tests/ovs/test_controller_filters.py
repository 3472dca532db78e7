"""Filters over the API on a real bridge: copies follow the current rules."""

from __future__ import annotations

import re
from typing import Any

import pytest

from controller.store.filters import FLOWS_IN_PLACE
from tests.ovs.controller_process import ControllerProcess
from tests.ovs.small_cloud import DB, WEB, SmallCloud
from tests.ovs.traffic import NUMBERED, Stream, Traffic

CAP = {"pps": 1_000_000}


def rules(action: str) -> list[dict[str, Any]]:
    """Rules that accept or reject numbered frames; all other frames are rejected."""
    return [{"number": 10, "action": action, "match": {"eth_type": f"{NUMBERED:#x}"}}]


def test_rules_changed_in_place_hold_for_every_later_packet(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    body = {"tenant": "red", "name": "some", "egress": rules("accept"), "ingress": []}
    assert controller.api.post("/v1/filters", json=body).status_code == 201
    ends = [cloud.at[name] for name in ("red-web", "red-db", "red-ids")]
    with Traffic(ends) as traffic:
        from_web, from_db = streams = cloud.red_streams(traffic)
        tap = cloud.at["red-ids"]
        controller.create_session("red", "one", ["web"], "ids", filter="some")

        def change(**lists: list[dict[str, Any]]) -> list[int]:
            answer = controller.api.patch("/v1/filters/some", json=lists)
            assert answer.status_code == 200, answer.text
            return [traffic.now(stream) for stream in streams]

        def until_delivered(since: list[int]) -> list[int]:
            for stream, number, end in zip(streams, since, ("red-db", "red-web"), strict=True):
                traffic.wait_until_spread(stream, cloud.at[end], number + 50)
            return [number + 50 for number in since]

        def is_copied(stream: Stream, first: int, last: int) -> bool:
            seen = traffic.arrived(stream, tap)
            copies = {seen[n] for n in range(first + 1, last + 1)}
            assert copies in ({0}, {1}), traffic.faults(stream, tap, first + 1, last)
            return copies == {1}

        seen = []
        begun = [traffic.now(stream) for stream in streams]
        for lists in (
            {},
            {"ingress": rules("accept")},
            {"egress": rules("reject")},
            {"ingress": []},
            {"egress": rules("accept")},
        ):
            begun = change(**lists) if lists else begun
            over = until_delivered(begun)
            seen.append(
                (is_copied(from_web, begun[0], over[0]), is_copied(from_db, begun[1], over[1]))
            )

    assert seen == [(True, False), (True, True), (False, True), (False, False), (True, False)]


def no_packets(count: int, version: int) -> list[dict[str, Any]]:
    """So many rules that match none of the packets here, others for each version."""
    return [
        {
            "number": 1000 + n,
            "action": "reject",
            "match": {"source": f"192.{version}.{n >> 8}.{n & 255}"},
        }
        for n in range(count)
    ]


@pytest.mark.parametrize("others", [0, FLOWS_IN_PLACE])
def test_packets_that_the_old_rules_and_the_new_ones_accept_are_copied_once(
    cloud: SmallCloud, controller: ControllerProcess, others: int
) -> None:
    """Each set of rules differs, and all of them accept the streams.

    When many others change too, the rules come as another edition of the filter.
    """
    numbered, one, other = f"{NUMBERED:#x}", f"{WEB:012x}", f"{DB:012x}"
    macs = [":".join(re.findall("..", mac)) for mac in (one, other)]
    from_each = [{"number": n, "action": "accept", "match": {"source_mac": m}}
                 for n, m in enumerate(macs, 1)]  # fmt: skip
    arp = {"number": 1, "action": "reject", "match": {"eth_type": "0x0806"}}
    versions = [
        rules("accept"),
        from_each,
        [arp, *({**rule, "number": rule["number"] + 5} for rule in from_each)],
        [arp, {"number": 2, "action": "accept", "match": {}}],
        [{"number": 7, "action": "accept", "match": {"eth_type": numbered}}, {**arp, "number": 8}],
    ]
    versions = [[*rules, *no_packets(others, n)] for n, rules in enumerate(versions)]
    body = {"tenant": "red", "name": "some", "egress": versions[0], "ingress": versions[0]}
    assert controller.api.post("/v1/filters", json=body).status_code == 201
    ends = [cloud.at[name] for name in ("red-web", "red-db", "red-ids", "red-soc")]
    with Traffic(ends) as traffic:
        streams = cloud.red_streams(traffic)
        for name, tap, extra in (("one", "ids", {}), ("capped", "soc", {"max_rate": CAP})):
            made = controller.create_session("red", name, ["web"], tap, filter="some", **extra)
            assert made["status"]["state"] == "active", made["status"]
        first = [traffic.now(stream) + 1 for stream in streams]
        for version in [*versions[1:], *versions, *versions[::-1]]:
            lists = {"egress": version, "ingress": version}
            answer = controller.api.patch("/v1/filters/some", json=lists)
            assert answer.status_code == 200, answer.text
            traffic.wait_until_past(streams[0], cloud.at["red-ids"], traffic.now(streams[0]) + 5)
        traffic.stop()
        for stream, begun in zip(streams, first, strict=True):
            for name in ("red-ids", "red-soc"):
                traffic.wait_for(stream, cloud.at[name], stream.last)
                assert not traffic.faults(stream, cloud.at[name], begun, stream.last)
    print(f"{sum(stream.last for stream in streams)} packets, two copies of each")


def test_a_source_of_the_tenant_watches_all_its_ports_once(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    ends = [cloud.at[name] for name in ("red-web", "red-db", "blue-web", "blue-db", "red-ids")]
    with Traffic(ends) as traffic:
        streams = cloud.red_streams(traffic)
        cloud.blue_streams(traffic)
        body = {"tenant": "red", "name": "all", "source": {"kind": "tenant"}, "collector": "ids"}
        made = controller.api.post("/v1/sessions", json=body).raise_for_status().json()
        assert made["status"]["state"] == "active", made
        begun = [traffic.now(stream) for stream in streams]
        tap = cloud.at["red-ids"]
        for stream, number in zip(streams, begun, strict=True):
            traffic.wait_until_past(stream, tap, number + 50)
            assert traffic.faults(stream, tap, number + 1, number + 50) == []
        assert traffic.strangers(tap, streams) == []

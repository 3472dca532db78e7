"""Limits in packets on bridges with the kernel datapath are explained, and nothing is degraded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.reconcile.report.super_frames import packet_limit_notes
from controller.store import Limits
from flows.model import Datapath, Hop, Rate, RateUnit, SessionId
from flows.resolve import ResolvedWorld
from tests.flows.hand_made import S1, S2, at, tap, vm, watch, world

WEB = vm("web", at(S1, 1), 0x020000000001)
DB = vm("db", at(S2, 2), 0x020000000002)
IDS = tap("ids", at(S1, 9))
PACKETS = Limits(max_packets=100)
PPS, KBPS = Rate(RateUnit.PPS, 20), Rate(RateUnit.KBPS, 20)


def notes(limits: Limits | None, rate: Rate | None = None, *, is_kernel: bool = True) -> list[str]:
    session = replace(watch("s", "web", "db", to="ids"), max_rate=rate)
    hops = {at(S1, 1): Hop("s1", "web0"), at(S2, 2): Hop("s2", "db0")}
    kind = Datapath.KERNEL if is_kernel else Datapath.USERSPACE
    datapaths = {S1: kind, S2: Datapath.USERSPACE}
    of = replace(world(WEB, DB, IDS, session), hops=hops, datapaths=datapaths)
    resolved = ResolvedWorld(of).sessions[SessionId("s")]
    assert "super-frame" not in " ".join(resolved.missing + resolved.unknown)
    return list(packet_limit_notes(resolved, limits, of))


@pytest.mark.parametrize(
    ("limits", "rate", "begins"),
    [
        (PACKETS, None, "max_packets may let more frames pass: the kernel datapath (of bridge"),
        (None, PPS, "max_rate in pps may let"),
        (PACKETS, PPS, "max_packets and max_rate in pps may let"),
    ],
)
def test_a_limit_in_packets_is_explained(
    limits: Limits | None, rate: Rate | None, begins: str
) -> None:
    [sentence] = notes(limits, rate)
    assert sentence.startswith(begins)
    assert "(of bridge 's1')" in sentence, "s2 has the userspace datapath"
    assert notes(limits, rate, is_kernel=False) == []


@pytest.mark.parametrize(
    ("limits", "rate"), [(None, None), (Limits(max_bytes=100), None), (None, KBPS)]
)
def test_limits_in_bytes_need_no_explanation(limits: Limits | None, rate: Rate | None) -> None:
    assert notes(limits, rate) == []

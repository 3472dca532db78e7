"""Copies on the kernel's datapath: whole where they fit, truncated over a segmenting pair."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flows.compile import Program, copy_paths
from flows.explain import Interpreter
from flows.explain.trace import Trace
from flows.model import (
    Collector,
    CollectorId,
    Datapath,
    Dpid,
    Ofport,
    Oversize,
    PairState,
    Segmenter,
    SessionId,
    TagMode,
    TenantName,
    World,
)
from flows.openflow import (
    CheckLarger,
    Clone,
    Flow,
    Metered,
    Output,
    SetMark,
)
from flows.pipeline import COUNT, CUT, SEND
from flows.plan import count_meters, own_tag_meter
from flows.resolve import (
    ResolvedWorld,
    unprepared_bridges,
    unseen_segmenter,
    why_not_segmented,
)
from flows.semantics import copied_frame, meaning
from tests import frames
from tests.flows.hand_made import S1, S2, at, cable, compile_all, tap, vm, watch, world

WEB, DB, OTHER = 0x020000000001, 0x020000000002, 0x020000000003
PAIR = Segmenter(Ofport(41), Ofport(42))
KERNEL = {S1: Datapath.KERNEL, S2: Datapath.KERNEL}
TAG = b"\x81\x00\x00\x07"
PORTS = (
    vm("web", at(S1, 1), WEB), vm("db", at(S1, 2), DB),
    vm("web2", at(S1, 3), OTHER, network="red-dmz"), vm("db2", at(S1, 4), DB, network="red-dmz"),
    tap("ids", at(S1, 9)),
)  # fmt: skip


def of_two(*pairs: Dpid, length: int | None = 100, **more: object) -> World:
    """Two workloads watched in each of two networks, on a bridge of the kernel's datapath."""
    session = replace(watch("s", "web", "web2", to="ids"), packet_length=length)
    made = world(*PORTS, session)
    return replace(
        made, datapaths=KERNEL, segmenters=dict.fromkeys(pairs, PAIR), **more  # type: ignore[arg-type]
    )  # fmt: skip


def frame(length: int, *, source: int = WEB, tag: bytes = b"") -> bytes:
    head = DB.to_bytes(6, "big") + source.to_bytes(6, "big") + tag + b"\x88\xb6"
    return head + bytes(n % 251 for n in range(length - len(head)))


def sent(of: World, data: bytes, by: str = "web") -> Trace:
    sender = next(port for port in of.ports if port.name == by)
    bridges = Interpreter(compile_all(of), of.links, of.datapaths, of.segmenters)
    return bridges.send(of.placements[sender.id], data)


def copies(of: World, data: bytes, by: str = "web") -> list[bytes]:
    """The frames that leave by the tap port; the contract says the same of each."""
    sender = next(port for port in of.ports if port.name == by)
    taps = {of.placements[tap_port.id] for tap_port in of.tap_ports}
    arrived = [e.frame for e in sent(of, data, by).emissions if e.place in taps]
    [session] = of.sessions
    meant = session.id in meaning(data, sender, of).copies
    assert arrived == ([copied_frame(data, session, sender, S1, of)] if meant else [])
    return arrived


def flows_of(of: World) -> list[Flow]:
    return list(compile_all(of)[S1])


def test_what_fits_is_sent_whole_and_nothing_is_truncated_without_a_segmenting_pair() -> None:
    of = of_two()
    assert copies(of, frame(100)) == [frame(100)]
    assert copies(of, frame(101)) == []
    outputs = [a for f in flows_of(of) for a in f.actions if isinstance(a, Output)]
    assert outputs and not any(action.max_len for action in outputs)


def test_over_a_segmenting_pair_frames_are_truncated_and_production_is_as_before() -> None:
    of = of_two(S1)
    assert copies(of, frame(100)) == [frame(100)]
    assert copies(of, frame(101)) == [frame(101)[:100]]
    trace = sent(of, frame(1514))
    assert [e.frame for e in trace.emissions if e.session is None] == [frame(1514)]
    assert {e.mark for e in trace.emissions} == {0}


@pytest.mark.parametrize("pairs", [(), (S1,)])
def test_the_tag_of_a_frame_counts_in_the_check_and_in_the_cut(pairs: tuple[Dpid, ...]) -> None:
    of = of_two(*pairs)
    assert copies(of, frame(100, tag=TAG)) == [frame(100, tag=TAG)]
    cut = frame(104, tag=TAG)[:100]
    assert copies(of, frame(104, tag=TAG)) == ([cut] if pairs else [])


@pytest.mark.parametrize("wears_ours", [False, True])
@pytest.mark.parametrize("length", [None, 100])
@pytest.mark.parametrize("datapath", list(Datapath))
def test_meters_and_what_is_added_to_them_give_the_bytes_of_the_original_frame(
    datapath: Datapath, length: int | None, wears_ours: bool
) -> None:
    of = of_two(S1, length=length)
    mode = TagMode.AUTO if wears_ours else TagMode.NONE
    to = replace(of.collectors[0], tenant_tag=mode)
    of = replace(of, collectors=(to,), datapaths={S1: datapath})
    program = Program(S1)
    program.has_meters = True
    program.update(ResolvedWorld(of))
    bridges = Interpreter({S1: program.flows}, (), of.datapaths, of.segmenters)
    number = of.numbers.session[of.sessions[0].id]
    for tag in (b"", TAG):
        [meter] = [
            action.meter
            for step in bridges.send(at(S1, 1), frame(90, tag=tag)).steps
            for action in step.flow.actions
            if isinstance(action, Metered) and step.flow.table == COUNT.number
        ]
        assert meter in program.meters
        sees = 90 + 4 * wears_ours
        if datapath is Datapath.KERNEL:  # the outermost tag is beside the packet
            sees -= 4 * (wears_ours or tag != b"")
        added = {own_tag_meter(number).number: 4, count_meters(number)[1]: -4}.get(meter, 0)
        assert sees + added == 90, (tag, meter)


def test_padding_counts_in_the_check_of_the_kernel() -> None:
    body = frames.ipv4("10.0.0.1", "10.0.0.2", 17, frames.udp(1, 2, b"x" * 20))
    packet = frames.ethernet(DB, WEB, 0x0800, body)
    padded = packet + bytes(200 - len(packet))
    assert copies(of_two(), padded) == []
    assert copies(of_two(S1), padded) == [padded[:100]]
    userspace = replace(of_two(), datapaths={S1: Datapath.USERSPACE})
    assert copies(userspace, padded) == [padded[:100]]


def test_copies_of_two_networks_come_back_with_the_tag_of_their_own() -> None:
    of = of_two(S1)
    tagged = Collector(
        CollectorId("ids"), "ids", TenantName("red"), of.collectors[0].sensors,
        tenant_tag=TagMode.AUTO,
    )  # fmt: skip
    of = replace(of, collectors=(tagged,))
    tags = {}
    for by, source in (("web", WEB), ("web2", OTHER)):
        [copy] = copies(of, frame(200, source=source), by)
        assert len(copy) == 104
        tags[by] = copy[12:16]
    assert tags["web"] != tags["web2"]
    assert tags["web"][:2] == tags["web2"][:2] == b"\x81\x00"


def test_copies_for_a_tap_port_of_another_bridge_are_truncated_where_they_are_made() -> None:
    session = replace(watch("s", "web", to="far"), packet_length=100)
    line = cable(at(S1, 21), at(S2, 22))
    of = world(*PORTS[:2], tap("far", at(S2, 9)), line, session)
    of = replace(of, datapaths=KERNEL, segmenters={S1: PAIR})
    assert copies(of, frame(300)) == [frame(300)[:100]]
    assert copies(replace(of, segmenters={S2: PAIR}), frame(300)) == []


@pytest.mark.parametrize("state", PairState)
def test_what_must_be_truncated_goes_over_a_pair_unless_it_is_known_that_it_would_be_lost(
    state: PairState,
) -> None:
    before = of_two(S1)
    of = replace(before, segmenters={S1: replace(PAIR, state=state)})
    lost = state in (PairState.OFFLOADED, PairState.SHORT, PairState.DOWN, PairState.APART)
    assert copies(of, frame(101)) == ([] if lost else [frame(101)[:100]])
    assert copies(of, frame(100)) == [frame(100)]
    said = ResolvedWorld(of).sessions[SessionId("s")].missing
    assert len(said) == lost and all("`cloudtap bridge prepare" in each for each in said)
    assert ResolvedWorld(of, ResolvedWorld(before)).sessions == ResolvedWorld(of).sessions
    watched = [port for port in of.ports if port.name == "web"]
    assert len(list(unprepared_bridges(of.sessions[0], watched, of))) == lost


def test_why_nothing_is_truncated_differs_by_what_is_wrong() -> None:
    of = of_two()
    pairs = [{}, *({S1: replace(PAIR, state=state)} for state in PairState if state.is_known)]
    said = {why_not_segmented(S1, "s1", replace(of, segmenters=pair)) for pair in pairs}
    assert len(said) == len(pairs) - 1, "without a pair, and with a sound one, it is the same"
    unknown = [list(unseen_segmenter("s1", replace(PAIR, state=state))) for state in PairState]
    assert [bool(each) for each in unknown] == [not state.is_known for state in PairState]


def test_a_session_that_skips_what_does_not_fit_needs_no_segmenting_pair() -> None:
    of = of_two(S1, length=None, link_mtu=600)
    far = replace(of.sessions[0], oversize=Oversize.SKIP)
    marks = [f for f in flows_of(replace(of, sessions=(far,))) if "pkt_mark" in str(f)]
    assert not marks


def test_frames_at_the_segmenting_pair_without_a_known_mark_go_nowhere() -> None:
    of = of_two(S1)
    bridges = Interpreter(compile_all(of), of.links, of.datapaths, of.segmenters)
    assert bridges.send(at(S1, PAIR.back), frame(200)).emissions == ()
    assert bridges.send(at(S1, PAIR.out), frame(200)).emissions == ()


def test_a_mark_names_one_session_and_network() -> None:
    of = of_two(S1)
    sessions = (of.sessions[0], replace(of.sessions[0], id=SessionId("t"), name="t"))
    numbers = replace(of.numbers, session={SessionId("s"): 1, SessionId("t"): (1 << 20) - 3})
    marks = [
        action.mark
        for flow in flows_of(replace(of, sessions=sessions, numbers=numbers))
        for clone in flow.actions
        if isinstance(clone, Clone) and flow.table == SEND.number
        for action in clone.actions
        if isinstance(action, SetMark)
    ]
    assert len(marks) == len(set(marks)) == 2


def test_a_beacon_is_truncated_on_its_path_and_counted_where_copies_are() -> None:
    of = of_two(S1)
    resolved = ResolvedWorld(of)
    [path] = copy_paths(S1, resolved, resolved.sessions[SessionId("s")], has_meters=True)
    assert (path.longest, path.skips, path.arriving(1514)) == (100, False, 100)
    assert path.cut is not None and path.cut[0] == CUT.number
    without = ResolvedWorld(of_two())
    [path] = copy_paths(S1, without, without.sessions[SessionId("s")], has_meters=True)
    assert (path.skips, path.arriving(1514)) == (True, 0)


def test_another_datapath_or_pair_changes_the_flows_of_sessions_on_that_bridge_alone() -> None:
    of = replace(of_two(), datapaths={S1: Datapath.USERSPACE})
    resolved, program = ResolvedWorld(of), Program(S1)
    program.update(resolved)
    for changed in (
        {"datapaths": KERNEL, "segmenters": {}},
        {"datapaths": KERNEL, "segmenters": {S1: PAIR}},
        {"datapaths": {}, "segmenters": {S1: PAIR}},
    ):
        reach = (of.tunnels, of.down, of.hops, of.routes)
        new = ResolvedWorld(of.with_reachability(*reach, **changed), resolved)  # type: ignore[arg-type]
        assert new.changed_since(resolved, S1) == {SessionId("s")}
        delta = program.update(new)
        assert delta.put or delta.gone
        fresh = Program(S1)
        fresh.update(ResolvedWorld(new.world))
        assert set(program.flows) == set(fresh.flows)
        resolved, of = new, new.world


def test_the_checks_of_a_tagged_and_of_an_untagged_frame_differ_by_the_tag() -> None:
    checks = {
        (flow.priority, action.length)
        for flow in flows_of(of_two())
        for action in flow.actions
        if isinstance(action, CheckLarger)
    }
    assert {length for _, length in checks} == {100, 96}


def test_what_cannot_be_truncated_is_said_with_what_to_do() -> None:
    [why] = ResolvedWorld(of_two()).sessions[SessionId("s")].missing
    assert why.startswith("packets longer than 100 bytes are not copied")
    assert "cloudtap bridge prepare" in why
    assert ResolvedWorld(of_two(S1)).sessions[SessionId("s")].missing == ()
    for pairs, names in (((), [f"{S1:016x}"]), ((S1,), [])):
        of = of_two(*pairs)
        watched = [port for port in of.ports if port.name == "web"]
        assert list(unprepared_bridges(of.sessions[0], watched, of)) == names
        skipping = replace(of.sessions[0], oversize=Oversize.SKIP)
        assert not list(unprepared_bridges(skipping, watched, of))

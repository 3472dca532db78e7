"""Segmenting pairs on this host: which are looked at, set right, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import pytest

from controller.devices import DeviceName, PairDevices, PairEnd, pair_name
from controller.southbound.ovsdb import BridgeRow, InterfaceRow, OvsdbSnapshot
from controller.southbound.ovsdb.device import read_device
from controller.topology.hops import Hops
from controller.topology.offloads import TapOffloads
from controller.topology.pairs import PAIR_TOLD_S, PairHost, PairWatch
from flows.model import Dpid, Ofport, PairState, Segmenter
from tests.ovs.waiting import wait_for

HERE, FAR = "unix:/run/openvswitch/db.sock", "ssl:192.0.2.7:6640"
S1 = Dpid(1)
NAMES = {end: pair_name(S1, end) for end in PairEnd}
PAIR = PairDevices(DeviceName(NAMES[PairEnd.OUT], 51), DeviceName(NAMES[PairEnd.BACK], 52))
DAMAGED = (PairState.OFFLOADED, PairState.SHORT, PairState.DOWN)


def row(end: PairEnd, number: int, **record: object) -> InterfaceRow:
    """One end of the pair of s1; by default as `cloudtap bridge prepare` leaves it."""
    index = number + 10
    said = {"driver": "veth", "ifindex": index, "mtu": 65535, "offloads": f"off@{index}", **record}
    return InterfaceRow(
        S1, "s1", NAMES[end], ofport=Ofport(number), is_up=True, database=HERE, bridge_row="u1",
        device=read_device({key: value for key, value in said.items() if value is not None}),
        pair_end=end,
    )  # fmt: skip


def snapshot(database: str = HERE, datapath: str = "system", **record: object) -> OvsdbSnapshot:
    rows = row(PairEnd.OUT, 41), row(PairEnd.BACK, 42, **record)
    bridge = BridgeRow(S1, "s1", "secure", datapath, database, "u1")
    return OvsdbSnapshot((bridge,), tuple(replace(each, database=database) for each in rows))


class Host(PairHost):
    """One pair; ``refusal`` is why it is not set right."""

    def __init__(self) -> None:
        self.states = {PAIR: PairState.SOUND}
        self.refusal: str | None = None
        self.asked: list[PairDevices] = []
        self.mended: list[PairState] = []

    def read(self, pairs: Iterable[PairDevices]) -> Mapping[PairDevices, PairState]:
        wanted = list(pairs)
        self.asked += wanted
        return {pair: self.states.get(pair, PairState.UNSEEN) for pair in wanted}

    def mend(self, pairs: Iterable[PairDevices]) -> Mapping[PairDevices, str]:
        if self.refusal is not None:
            return dict.fromkeys(pairs, self.refusal)
        for pair in pairs:
            self.mended.append(self.states[pair])
            self.states[pair] = PairState.SOUND
        return {}


class Scene:
    """A watch of a host, with everything that may change."""

    def __init__(self, taps: TapOffloads = TapOffloads.OFF) -> None:
        self.host, self.snapshot, self.changes, self.now = Host(), snapshot(), 0, 1000.0
        self.watch = PairWatch(
            databases=lambda: self.snapshot,
            changed=self.changed,
            host=self.host,
            taps=taps,
            every_s=0.01,
            now=lambda: self.now,
        )

    def changed(self) -> None:
        self.changes += 1

    def lately(self) -> str:
        return " ".join(self.watch.lately(S1, "s1"))


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.watch.stop()


@pytest.fixture
def keeping() -> Iterator[Scene]:
    made = Scene(TapOffloads.KEEP)
    yield made
    made.watch.stop()


def test_a_sound_pair_is_looked_at_and_nothing_is_done(scene: Scene) -> None:
    assert scene.watch.known() == {S1: PairState.SOUND}
    assert scene.watch.known() is scene.watch.known()
    assert scene.host.mended == [] and scene.lately() == ""


@pytest.mark.parametrize("state", DAMAGED)
def test_a_pair_that_somebody_changes_is_set_right_and_that_is_told_for_a_while(
    scene: Scene, state: PairState
) -> None:
    assert scene.watch.known() == {S1: PairState.SOUND}
    scene.watch.start()
    scene.host.states[PAIR] = state
    wait_for(lambda: scene.host.mended, lambda seen: seen == [state])
    said = wait_for(scene.lately, bool)
    assert "bridge 's1'" in said and "set right" in said
    assert scene.watch.known() == {S1: PairState.SOUND}
    scene.now += PAIR_TOLD_S
    assert scene.lately() == ""


def test_a_pair_that_was_wrong_when_it_was_seen_first_lost_nothing_that_anybody_saw(
    scene: Scene,
) -> None:
    scene.host.states[PAIR] = PairState.OFFLOADED
    assert scene.watch.known() == {S1: PairState.SOUND}
    assert scene.host.mended == [PairState.OFFLOADED] and scene.lately() == ""


@pytest.mark.parametrize("state", DAMAGED)
def test_what_may_not_be_set_right_is_known_and_signalled(keeping: Scene, state: PairState) -> None:
    assert keeping.watch.known() == {S1: PairState.SOUND}
    keeping.watch.start()
    keeping.host.states[PAIR] = state
    wait_for(lambda: keeping.changes, bool)
    assert keeping.watch.known() == {S1: state}
    assert keeping.host.mended == [] and keeping.lately() == ""


def test_what_cannot_be_set_right_is_known(scene: Scene) -> None:
    scene.host.refusal = "Operation not permitted"
    scene.host.states[PAIR] = PairState.OFFLOADED
    assert scene.watch.known() == {S1: PairState.OFFLOADED}


@pytest.mark.parametrize("state", [PairState.APART, PairState.UNSEEN])
def test_devices_that_are_not_a_pair_are_left_alone(scene: Scene, state: PairState) -> None:
    scene.host.states[PAIR] = state
    assert scene.watch.known() == {S1: state}
    assert scene.host.mended == []


@pytest.mark.parametrize(
    "content",
    [snapshot(FAR), snapshot(datapath="netdev"), snapshot(ifindex=None)],
    ids=["far", "userspace", "without a device"],
)
def test_other_pairs_are_not_looked_at(scene: Scene, content: OvsdbSnapshot) -> None:
    scene.snapshot = content
    assert scene.watch.known() == {}
    assert scene.host.asked == []


def test_a_pair_that_is_made_anew_is_looked_at_as_such(scene: Scene) -> None:
    assert scene.watch.known() == {S1: PairState.SOUND}
    scene.snapshot = snapshot(ifindex=99)
    assert scene.watch.known() == {S1: PairState.UNSEEN}
    assert scene.host.asked[-1].back.ifindex == 99


def segmenter(content: OvsdbSnapshot, seen: PairState | None = None) -> Segmenter | None:
    """What is known of the pair of s1, from its database and from what was seen."""
    hops = Hops()
    hops.report_interfaces(content)
    if seen is not None:
        hops.report_pairs({S1: seen})
    return hops.segmenters({S1: set()}).get(S1)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({}, PairState.SOUND),
        ({"offloads": "off"}, PairState.SOUND),
        ({"offloads": None}, PairState.FAR),
        ({"offloads": "off@7"}, PairState.OUTDATED),
        ({"mtu": 9000}, PairState.SHORT),
        ({"mtu": None}, PairState.SOUND),
        ({"driver": "mlx5_core"}, PairState.APART),
        ({"type": "internal"}, PairState.APART),
    ],
)
def test_what_a_database_alone_tells(record: dict[str, object], expected: PairState) -> None:
    found = segmenter(snapshot(FAR, **record))
    assert found == Segmenter(Ofport(41), Ofport(42), expected)


def test_what_was_seen_counts_more_than_what_is_recorded() -> None:
    for seen in PairState:
        found = segmenter(snapshot(), seen)
        assert found is not None
        assert found.state is (seen if seen.is_known else PairState.SOUND), seen
    unrecorded = segmenter(snapshot(offloads=None))
    assert unrecorded is not None and unrecorded.state is PairState.UNSEEN


def test_another_state_is_something_else_known() -> None:
    hops = Hops()
    hops.report_interfaces(snapshot())
    sound = {S1: PairState.SOUND}
    assert not hops.report_pairs(sound), "that is what the database says"
    assert hops.report_pairs({S1: PairState.DOWN}) and not hops.report_pairs({S1: PairState.DOWN})
    assert hops.report_pairs({})

"""The matrix agrees with the contract and with compiled flows, and its cells are complete."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest

from flows.compile import compile_bridge
from flows.explain import Interpreter
from flows.model import Delivery, Direction
from flows.openflow import Flow
from flows.resolve import ResolvedWorld
from tests.arrivals import Arrivals, Frames
from tests.damage import DAMAGES
from tests.generators.random_worlds import Sent
from tests.matrix import page, seen
from tests.matrix.cells import PATHS, REQUESTS, TAP, Cast, Request, Size, Wanted, Watched, copies_of
from tests.matrix.cells import copies_of_rivals as rivals
from tests.matrix.plays import COPY_SCENES, RIVALRIES, copy_scene, rival_scene, scenes
from tests.matrix.scenes import Scene

Scenes = tuple[Scene, ...]
MAKERS = [
    *(lambda groups=groups: copy_scene(groups) for groups in COPY_SCENES),
    *(
        lambda rivalry=rivalry: rival_scene(rivalry)
        for rivalry in RIVALRIES
        if rivalry.path is TAP or not rivalry.is_first
    ),
]
"""Makes each scene; scenes where a rival session comes first run with tap ports only (on Open
vSwitch all of them run).
"""


@pytest.fixture(scope="module")
def everything() -> tuple[Scene, ...]:
    """Every scene."""
    return tuple(scenes())


def by_flows(
    scene: Scene,
    arrivals: Arrivals,
    spoil: Callable[[Sequence[Flow]], Sequence[Flow]] | None = None,
) -> Frames:
    """The frames that the compiled flows output; ``spoil`` may damage the flows first."""
    world, resolved = scene.world, ResolvedWorld(scene.world)
    flows = {dpid: compile_bridge(dpid, resolved) for dpid in world.dpids}
    if spoil is not None:
        flows = {dpid: tuple(spoil(of)) for dpid, of in flows.items()}
    bridges = Interpreter(flows, world.links)
    found: Frames = Counter()
    for packet in scene.packets:
        trace = bridges.send(world.placements[packet.sender.id], packet.frame)
        for (where, frame), count in arrivals.seen(trace).items():
            found[scene.place(where), frame] += count
    return found


@pytest.mark.parametrize("make", MAKERS)
def test_the_contract_and_the_flows_agree_with_the_matrix(make: Callable[[], Scene]) -> None:
    scene = make()
    arrivals = Arrivals(scene.world)
    meant: Frames = Counter()
    for packet in scene.packets:
        frames, _, _ = arrivals.expected(Sent(packet.sender, "matrix", packet.frame), {})
        for (where, frame), count in frames.items():
            meant[scene.place(where), frame] += count

    assert meant == scene.expected
    assert by_flows(scene, arrivals) == scene.expected


@pytest.mark.parametrize(
    "kind", ["copy-lost", "copy-twice", "rule-forgotten", "sender-not-watched"]
)
def test_the_matrix_detects_one_damaged_flow(kind: str) -> None:
    scene, damage = copy_scene(COPY_SCENES[0]), DAMAGES[kind]

    def spoil(flows: Sequence[Flow]) -> Sequence[Flow]:
        victim = next((flow for flow in flows if damage.hurts(flow)), None)
        return flows if victim is None else damage.one(flows, victim)

    assert by_flows(scene, Arrivals(scene.world), spoil) != scene.expected


def test_each_copy_of_a_scene_is_identified_by_its_place_and_bytes(everything: Scenes) -> None:
    for scene in everything:
        assert max(scene.copies.values()) == 1, scene.name
        assert not scene.copies.keys() & scene.production.keys(), scene.name


def test_every_session_of_the_matrix_is_served(everything: Scenes) -> None:
    for scene in everything:
        resolved_sessions = ResolvedWorld(scene.world).sessions.values()
        assert [s for s in resolved_sessions if not s.is_served or s.missing] == [], scene.name


def test_the_scenes_cover_every_combination(everything: Scenes) -> None:
    played = {group for groups in COPY_SCENES for group in groups}
    limits = {
        True: {Size.SHORTENED, Size.FITTED, Size.SKIPPED},
        False: {Size.WHOLE, Size.SHORTENED},
    }
    assert played == {(path, size) for path in PATHS for size in limits[path.is_tunnel]}
    assert {path.delivery for path in PATHS} == set(Delivery)
    assert {rivalry.path.delivery for rivalry in RIVALRIES} == set(Delivery)
    assert len(REQUESTS) == len(Direction) * len(Watched) * len(Wanted)
    cells = sum(scene.cells for scene in everything)
    both_lengths, placements, of_rivals = 2, 3, 3
    of_copies = len(played) * len(REQUESTS) * len(Cast) * placements * both_lengths
    pairs = len(RIVALRIES) * len(REQUESTS) * 3 // 4
    assert cells == of_copies + pairs * len(Cast) * 2 * of_rivals


@pytest.mark.parametrize("cast", Cast)
def test_a_few_cells_counted_by_hand(cast: Cast) -> None:
    is_received = cast is not Cast.HAIRPIN
    widest = Request(Direction.BOTH, Watched.BOTH, Wanted.ALL)
    assert copies_of(widest, cast) == 1
    assert copies_of(Request(Direction.INGRESS, Watched.SENDER, Wanted.ALL), cast) == 0
    assert copies_of(Request(Direction.INGRESS, Watched.RECEIVER, Wanted.ALL), cast) == is_received
    assert copies_of(Request(Direction.BOTH, Watched.BOTH, Wanted.INGRESS), cast) == is_received
    assert copies_of(Request(Direction.BOTH, Watched.BOTH, Wanted.REJECT), cast) == 0
    sender, receiver = (
        Request(Direction.BOTH, watched, Wanted.ALL)
        for watched in (Watched.SENDER, Watched.RECEIVER)
    )
    assert rivals(widest, widest, cast) == (1, 0)
    assert rivals(sender, widest, cast) == (1, is_received)
    assert rivals(receiver, widest, cast) == (is_received, 1)


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Iterator[seen.Seen]:
    """The record of the last run; the page is given one of other cells instead."""
    kept = seen.kept()
    assert kept is not None
    monkeypatch.setattr(page, "kept", lambda: dataclasses.replace(kept, digest="of other cells"))
    yield kept


def test_the_page_is_not_written_for_a_matrix_that_was_not_played(record: seen.Seen) -> None:
    with pytest.raises(SystemExit, match="has changed since it was played"):
        page.render()


def test_the_record_of_the_last_run_has_no_missing_or_extra_copies(everything: Scenes) -> None:
    kept = seen.kept()
    assert kept is not None
    assert (kept.missing, kept.extra) == (0, 0)
    assert kept.cells == sum(scene.cells for scene in everything)


def test_another_number_or_frame_changes_the_digest() -> None:
    scene = copy_scene(COPY_SCENES[0])
    fewer = dataclasses.replace(scene, copies=Counter(dict(list(scene.copies.items())[1:])))
    assert seen.digest_of([scene]) != seen.digest_of([fewer])

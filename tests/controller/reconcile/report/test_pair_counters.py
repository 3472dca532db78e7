"""What the counters of the two ports of a segmenting pair say of frames that are lost there."""

from __future__ import annotations

from controller.reconcile.report.pair_counters import PairCounters
from controller.southbound import PortCount
from controller.status import RECENT_S
from flows.model import Dpid, Ofport, Segmenter
from flows.openflow import PacketCount

S1, PAIR = Dpid(1), Segmenter(Ofport(41), Ofport(42))
NONE = PacketCount()


class Scene:
    """A pair whose ports count; ``look`` has them read."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.counters = PairCounters(lambda: self.now)
        self.sent, self.octets, self.arrived, self.lost = 0, 0, 0, 0

    def pass_on(self, frames: int, *, lost: int = 0, astray: int = 0, length: int = 1500) -> None:
        self.sent += frames - lost
        self.octets += (frames - lost) * length
        self.arrived += frames - lost - astray
        self.lost += lost

    def look(self, meanwhile: int = 0, pair: Segmenter = PAIR) -> str:
        """Read ``out``, pass ``meanwhile`` frames, read ``back``; what is said then."""
        out = PortCount(PacketCount(self.sent, self.octets), NONE, self.lost)
        self.pass_on(meanwhile)
        back = PortCount(NONE, PacketCount(self.arrived, 0), 0)
        self.counters.take(S1, pair, out, back)
        self.now += 1.0
        return " ".join(self.counters.lately(S1, "s1"))


def test_frames_that_all_arrive_are_no_loss_whatever_passes_while_counters_are_read() -> None:
    scene = Scene()
    scene.pass_on(5, lost=5)
    for passing in (0, 7, 0, 300, 0, 0, 1):
        scene.pass_on(passing)
        assert scene.look(meanwhile=passing) == ""
    assert scene.look() == scene.look() == "", "what was lost before is nobody's loss"


def test_frames_that_linux_drops_are_told_exactly_and_for_a_while() -> None:
    scene = Scene()
    scene.look()
    scene.pass_on(2000, lost=700)
    assert "lost 700 frames" in scene.look()
    scene.pass_on(10, lost=3)
    assert "lost 703 frames" in scene.look()
    scene.now += RECENT_S
    scene.pass_on(10)
    assert scene.look() == ""
    scene.pass_on(10, lost=1)
    assert "lost 704 frames" in scene.look()


def test_counters_that_begin_anew_add_nothing() -> None:
    scene = Scene()
    scene.look()
    scene.pass_on(100, lost=9)
    assert "lost 9 frames" in scene.look()
    scene.now += RECENT_S
    scene.sent = scene.octets = scene.arrived = scene.lost = 0
    scene.pass_on(20, lost=2)
    assert scene.look() == ""
    scene.pass_on(20, lost=1)
    assert "lost 10 frames" in scene.look()


def test_frames_that_do_not_come_back_are_told_as_long_as_they_get_more() -> None:
    scene = Scene()
    scene.pass_on(10)
    for _ in range(3):
        assert scene.look() == ""
    scene.pass_on(50, astray=50)
    scene.look()
    said = scene.look()
    assert "at least 50 frames" in said and "`cloudtap bridge prepare s1`" in said
    scene.now += RECENT_S
    scene.pass_on(10)
    scene.look()
    assert scene.look() == ""


def test_super_frames_that_pass_are_told() -> None:
    scene = Scene()
    scene.look()
    scene.pass_on(10, length=9018)
    assert scene.look() == "", "a jumbo frame is a frame"
    scene.pass_on(3, length=60_000)
    assert "packets of 60000 bytes on average" in scene.look()


def test_another_pair_is_counted_from_its_beginning() -> None:
    scene = Scene()
    scene.look()
    scene.pass_on(10, lost=2)
    other = Segmenter(Ofport(51), Ofport(52))
    assert scene.look(pair=other) == ""
    assert list(scene.counters.lately(Dpid(2), "s2")) == []
    scene.pass_on(10, lost=2)
    assert scene.look(pair=other) != ""
    scene.counters.forget(S1)
    assert list(scene.counters.lately(S1, "s1")) == []

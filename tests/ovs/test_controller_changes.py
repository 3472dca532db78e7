"""A change of a session holds for every packet that is sent after the answer of the API."""

from __future__ import annotations

import statistics
import time

from tests.ovs.controller_process import ControllerProcess, on_both_runtimes
from tests.ovs.small_cloud import SmallCloud
from tests.ovs.traffic import Stream, Traffic

pytestmark = on_both_runtimes

ROUNDS = 12


class Watch:
    """The copies at one tap port while sessions change; ``took`` holds the seconds of each call."""

    def __init__(self, traffic: Traffic, streams: tuple[Stream, ...], cloud: SmallCloud) -> None:
        self.traffic, self.streams = traffic, streams
        self.tap, self.cloud = cloud.at["red-ids"], cloud
        self.took: dict[str, list[float]] = {}
        self.lag: list[int] = []

    def now(self) -> list[int]:
        """The last number of each stream."""
        return [self.traffic.now(stream) for stream in self.streams]

    def timed(self, what: str, begun: float) -> None:
        """Record the duration of a call."""
        self.took.setdefault(what, []).append(time.monotonic() - begun)

    def until_delivered(self, since: list[int]) -> list[int]:
        """Wait until ten more frames of each stream were delivered and copied; their numbers."""
        ends = {1: "red-db", 2: "red-web"}
        for stream, number in zip(self.streams, since, strict=True):
            at = self.cloud.at[ends[stream.key]]
            self.traffic.wait_until_spread(stream, at, number + 10)
        return [number + 10 for number in since]

    def copied(self, index: int, first: int, last: int) -> list[int]:
        """The numbers of the copied frames of a stream."""
        seen = self.traffic.arrived(self.streams[index], self.tap)
        return [n for n in range(first, last + 1) if seen[n]]

    def report(self) -> None:
        """Show the medians."""
        for what, seconds in self.took.items():
            median, worst = statistics.median(seconds) * 1000, max(seconds) * 1000
            print(f"{what}: {median:.1f} ms, at most {worst:.1f} ms ({len(seconds)} times)")


def test_copies_begin_and_end_with_the_answer(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    ends = [cloud.at[name] for name in ("red-web", "red-db", "red-ids")]
    with Traffic(ends) as traffic:
        watch = Watch(traffic, cloud.red_streams(traffic), cloud)
        watch.until_delivered(watch.now())
        for end in ["delete", "disable"] * ROUNDS:
            begun = time.monotonic()
            made = controller.create_session("red", "one", ["web"], "ids")
            watch.timed("create", begun)
            assert made["status"]["state"] == "active", made["status"]
            first = watch.now()
            last = watch.until_delivered(first)  # what is on its way may come after the end
            begun = time.monotonic()
            if end == "delete":
                assert controller.delete_session("one") == 204
            else:
                changed = controller.change_session("one", enabled=False)
                assert changed["status"]["state"] == "inactive"
            watch.timed(end, begun)
            over = watch.now()
            watch.until_delivered(over)
            for index, (a, b, c) in enumerate(zip(first, last, over, strict=True)):
                assert watch.copied(index, a + 1, b) == list(range(a + 1, b + 1)), "each from 201"
                assert not watch.copied(index, c + 1, c + 10), f"copied after {end}"
            if end == "disable":
                controller.delete_session("one")
        for stream in watch.streams:
            twice = {n: k for n, k in traffic.arrived(stream, watch.tap).items() if k > 1}
            assert not twice
        watch.report()


def test_a_changed_source_is_left_and_found_with_the_answer(
    cloud: SmallCloud, controller: ControllerProcess
) -> None:
    ends = [cloud.at[name] for name in ("red-web", "red-db", "red-ids")]
    with Traffic(ends) as traffic:
        watch = Watch(traffic, cloud.red_streams(traffic), cloud)
        watch.until_delivered(watch.now())
        controller.create_session("red", "one", ["web"], "ids", direction="egress")
        for turn in range(2 * ROUNDS):
            source = "db" if turn % 2 == 0 else "web"
            begun = time.monotonic()
            changed = controller.change_session("one", source={"kind": "port", "ports": [source]})
            watch.timed("change of source", begun)
            assert changed["status"]["state"] == "active", changed["status"]
            first = watch.now()
            watch.until_delivered(first)
            watched, left = (1, 0) if source == "db" else (0, 1)
            a, b = first[watched] + 1, first[watched] + 10
            assert watch.copied(watched, a, b) == list(range(a, b + 1))
            assert not watch.copied(left, first[left] + 1, first[left] + 10)
        watch.report()

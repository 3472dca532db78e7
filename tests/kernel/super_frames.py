"""Two bridges with the controller, two workloads that send super-frames, tap ports, an underlay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

from tests.kernel.super_frame_rows import ADDED, SIZE, Outcome, Row
from tests.kernel.tcp_coverage import cover
from tests.kernel.workloads import (
    WEB,
    Workload,
    has_segments_merged,
    run,
    set_offloads,
    transfer,
    wait_until_copied,
)
from tests.ovs.controller_process import ROOT, TARGET, ControllerProcess, Document
from tests.ovs.endpoint import Endpoint
from tests.ovs.lab import Lab
from tests.ovs.underlay import BRIDGE, SENSORS, Underlay
from tests.ovs.waiting import wait_for

INVENTORY = """\
tenants: [red]
networks: [{name: lan, tenant: red}]
ports:
  - {id: web, tenant: red, network: lan, mac: "02:00:00:00:00:01", interface: s1-eth1}
  - {id: db, tenant: red, network: lan, mac: "02:00:00:00:00:02", interface: s1-eth2}
  - {id: ids, tenant: red, kind: tap, interface: s1-eth5}
  - {id: soc, tenant: red, kind: tap, interface: s2-eth5}
links: [{from: {bridge: s1, interface: s1-eth9}, to: {bridge: s2, interface: s2-eth9}}]
"""
LONGEST_MTU = 9000
KEYS = {"vxlan": "vni", "geneve": "vni", "gre": "key", "erspan2": "session_id"}
LATE_S = 60.0
"""Within so many seconds a busy machine has handed over what waited for ovs-vswitchd."""
COUNTED_S = 5.0
"""Within so many seconds the status has counted what was skipped."""


class SuperFrames:
    """The bridges and the controller; ``measure`` plays one row."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        try:
            self._build(folder)
        except BaseException:
            self._stack.close()
            raise

    def _build(self, folder: Path) -> None:
        lab = self._stack.enter_context(Lab())
        for name, dpid, ports in (("s1", 1, (1, 2, 5)), ("s2", 2, (5,))):
            lab.add_bridge(name, dpid=dpid, controller=TARGET)
            lab.add_ports(name, ports)
        lab.link("s1", 9, "s2", 9)
        for port in ("s1-eth9", "s2-eth9"):
            set_offloads(port, tx="on", tso="on", gso="on")
        self._taps = {"ids": _at(lab, "s1"), "soc": _at(lab, "s2")}
        self._underlay = Underlay(lab, LONGEST_MTU)
        set_offloads("under-eth1", tx="off", tso="off", gso="off")
        for port in ("s1-eth1", "s1-eth2", "s1-eth5", "s2-eth5"):  # as Linux makes such devices
            set_offloads(port, tx="on", tso="on", gso="on")
        self._web, self._db = Workload("web", "s1-far1"), Workload("db", "s1-far2")
        self._stack.callback(self._web.close)
        self._stack.callback(self._db.close)
        self.controller = self._stack.enter_context(ControllerProcess(folder, INVENTORY))
        self.controller.start("s1", "s2", bridges__underlay_mtu=str(LONGEST_MTU))

    def __enter__(self) -> SuperFrames:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        what: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._stack.close()

    def measure(self, row: Row, meanwhile: Callable[[], object] = lambda: None) -> Outcome:
        """Send a stream from web to db under the session of a row, and see what comes out.

        ``meanwhile`` is called while the session runs, before the stream is sent.
        """
        with self._segmenting(row), self._session(row), self._sending(row):
            meanwhile()
            collect = self._sensor(row)
            collect()
            capture = self._db.capture()
            transfer(self._web, self._db, SIZE)
            frames = wait_until_copied(self._web, self._db, collect)
            self._collect_late(row, frames, collect)
            coverage = cover(frames, WEB, SIZE)
            delivered = _drain(capture)
            capture.close()
            status = self._status(counts=coverage.share < 1)
        return Outcome(
            coverage, max(map(len, delivered)), self._longest_packet, status["state"],
            tuple(status["reasons"]), status["skipped"],
        )  # fmt: skip

    def _collect_late(
        self, row: Row, frames: list[bytes], collect: Callable[[], list[bytes]]
    ) -> None:
        """Collect the copies that are still on their way, until all have come or are left out.

        Frames that come back from a segmenting pair wait for ovs-vswitchd until they have a
        megaflow, and later ones overtake them.
        """

        def look() -> bool:
            frames.extend(collect())
            is_complete = cover(frames, WEB, SIZE).share >= row.promised
            return is_complete or bool(self.controller.session("one")["status"]["skipped"])

        with suppress(AssertionError):  # what is missing then is missing
            wait_for(look, bool, LATE_S)

    def _sensor(self, row: Row) -> Callable[[], list[bytes]]:
        """Takes the frames that have arrived at the sensor of a row since the last time."""
        self._longest_packet = 0

        def arrived() -> list[bytes]:
            carried = self._underlay.arrived()
            lengths = (each.packet_bytes for each in carried)
            self._longest_packet = max(self._longest_packet, *lengths, 0)
            return [each.frame for each in carried]

        return (lambda: _drain(self._taps[row.tap])) if row.delivery == "port" else arrived

    @contextmanager
    def _session(self, row: Row) -> Iterator[None]:
        for device in ("under-eth1", "under-far1", BRIDGE):
            run(f"ip link set {device} mtu {row.mtu}")
        if row.delivery == "port":
            to: Document = {"sensors": [{"port": row.tap}]}
        else:
            to = {"sensors": [{"address": SENSORS[0]}], "path_mtu": row.mtu}
            to[KEYS[row.delivery]] = 7
        collector = {"tenant": "red", "name": "to", "delivery": row.delivery} | to
        answer = self.controller.api.post("/v1/collectors", json=collector)
        assert answer.status_code == 201, answer.text
        self.controller.create_session("red", "one", ["web"], "to", **dict(row.session))
        wait_for(
            lambda: self.controller.session("one")["status"], lambda s: s["state"] != "pending"
        )
        yield
        self.controller.delete_session("one")
        assert self.controller.api.delete("/v1/collectors/to").status_code == 204

    @contextmanager
    def _segmenting(self, row: Row) -> Iterator[None]:
        """Have a segmenting pair on the bridge of the workloads, if the row says so."""
        if not row.has_pair:
            yield
            return
        prepare = f"{ROOT / '.venv/bin/cloudtap'} bridge prepare s1"
        run(prepare)
        yield
        run(f"{prepare} --undo")

    @contextmanager
    def _sending(self, row: Row) -> Iterator[None]:
        """Have the workload send super-frames, or the bridge merge what it sends."""
        if not row.is_merged_on_arrival:
            yield
            return
        self._web.set_offloads("off")
        set_offloads("s1-eth1", gro="on")
        assert has_segments_merged("s1-eth1")
        yield
        set_offloads("s1-eth1", gro="off")
        self._web.set_offloads("on")

    def _status(self, counts: bool) -> Document:
        """The status of the session; with what was skipped, if that is counted."""
        look: Callable[[], Document] = lambda: dict(self.controller.session("one")["status"])  # noqa: E731
        if counts:
            try:
                return wait_for(look, lambda status: bool(status["skipped"]), COUNTED_S)
            except AssertionError:
                return look()
        return look()


def _at(lab: Lab, bridge: str) -> Endpoint:
    return next(end for end in lab.endpoints if (end.bridge, end.ofport) == (bridge, 5))


def _drain(end: Endpoint) -> list[bytes]:
    """All frames that are in a socket now."""
    found: list[bytes] = []
    while (frame := end.receive_raw()) is not None:
        found.append(frame)
    end.check_nothing_was_lost()
    return found


assert ADDED.keys() == KEYS.keys()

"""A bridge of somebody else on the kernel's datapath: TCP in super-frames is copied in frames of
the network, production is the same, and nothing is left when the bridge is detached."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from controller.cli import main
from tests.kernel.super_frame_rows import FULL, SIZE, Outcome, Row, problems
from tests.kernel.tcp_coverage import cover
from tests.kernel.workloads import WEB, Workload, run, set_offloads, transfer, wait_until_copied
from tests.ovs.attached_cloud import OWNER, TAP, cloudtap, drain
from tests.ovs.controller_process import ROOT, ControllerProcess
from tests.ovs.datapath import DATAPATH
from tests.ovs.lab import Lab, vsctl
from tests.ovs.owner_database import database_rows, difference
from tests.ovs.waiting import wait_for

INVENTORY = """\
tenants: [red]
networks: [{name: lan, tenant: red}]
ports:
  - {id: web, tenant: red, network: lan, mac: "02:00:00:00:00:01", interface: br-int-eth1}
  - {id: db, tenant: red, network: lan, mac: "02:00:00:00:00:02", interface: br-int-eth2}
  - {id: ids, tenant: red, kind: tap, interface: ct-br-int-eth5}
"""
VLAN = 10
ROWS = (
    Row("all"),
    Row("packet_length of every frame", session={"packet_length": FULL}),
    Row("packet_length 200", session={"packet_length": 200}, has_pair=True),
    Row("packet_length 200, no segmenting pair", session={"packet_length": 200}),
)


class AttachedTcp:
    """Two workloads that send super-frames, on access ports of a bridge that only switches."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        lab = stack.enter_context(Lab())
        vsctl("add-br", OWNER, "--", "set", "Bridge", OWNER, f"datapath_type={DATAPATH}")
        lab.bridges.append(OWNER)
        lab.add_ports(OWNER, [1, 2])
        for number in (1, 2):
            vsctl("set", "Port", f"{OWNER}-eth{number}", f"tag={VLAN}")
            # as Linux makes such devices
            set_offloads(f"{OWNER}-eth{number}", tx="on", tso="on", gso="on")
        self.web, self.db = Workload("web", f"{OWNER}-far1"), Workload("db", f"{OWNER}-far2")
        stack.callback(self.web.close)
        stack.callback(self.db.close)
        self.before = database_rows()
        cloudtap("attach", OWNER)
        lab.on_close(lambda: vsctl("--if-exists", "del-br", TAP) and None)
        [self._tap] = lab.add_ports(TAP, [5])
        set_offloads(f"{TAP}-eth5", tx="on", tso="on", gso="on")
        self.controller = stack.enter_context(ControllerProcess(folder, INVENTORY))
        self.controller.start(TAP)
        self.controller.create_collector("red", "to", "ids")

    def collect(self) -> list[bytes]:
        """What has arrived at the sensor since the last time."""
        return drain(self._tap)

    @contextmanager
    def session(self, row: Row) -> Iterator[None]:
        """A session on web, and a segmenting pair on the tap bridge if the row says so."""
        prepare = f"{ROOT / '.venv/bin/cloudtap'} bridge prepare {TAP}"
        if row.has_pair:
            run(prepare)
        self.controller.create_session("red", "one", ["web"], "to", **dict(row.session))
        wait_for(
            lambda: self.controller.session("one")["status"], lambda s: s["state"] != "pending"
        )
        yield
        self.controller.delete_session("one")
        if row.has_pair:
            run(f"{prepare} --undo")

    def measure(self, row: Row) -> Outcome:
        """Send a stream from web to db; ``transfer`` compares each byte that db has got."""
        with self.session(row):
            self.collect()
            capture = self.db.capture()
            transfer(self.web, self.db, SIZE)
            frames = wait_until_copied(self.web, self.db, self.collect)

            def is_complete() -> bool:
                frames.extend(self.collect())
                skipped = self.controller.session("one")["status"]["skipped"]
                return cover(frames, WEB, SIZE).share >= row.promised or bool(skipped)

            wait_for(is_complete, bool)
            delivered = drain(capture)
            capture.close()
            status = self.controller.session("one")["status"]
        return Outcome(
            cover(frames, WEB, SIZE), max(map(len, delivered)), 0, status["state"],
            tuple(status["reasons"]), status["skipped"],
        )  # fmt: skip


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttachedTcp]:
    with ExitStack() as stack:
        yield AttachedTcp(stack, Path(tmp_path_factory.mktemp("controller")))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_super_frames_of_an_owners_bridge_are_copied_as_promised(
    cloud: AttachedTcp, row: Row
) -> None:
    outcome = cloud.measure(row)
    print(f"{row.name}: {outcome}; the longest delivered has {outcome.longest_delivered} bytes")
    found = list(problems(row, outcome))
    assert not found, f"{found}: {outcome}"
    for reason in outcome.reasons:
        assert f"'{OWNER}'" not in reason, "nothing is to be done on the bridge of somebody else"


def test_doctor_asks_to_prepare_the_tap_bridge_alone(cloud: AttachedTcp) -> None:
    rows = json.loads(CliRunner().invoke(main, ["doctor", "--output", "json"]).stdout)
    found = [row["found"] for row in rows if row["what"] == "kernel datapath"]
    said = [each for each in found if "segmenting pair" in each]
    assert said and TAP in said[0]
    assert OWNER not in said[0].replace(TAP, "")


def test_after_detach_super_frames_are_delivered_and_nothing_is_left(cloud: AttachedTcp) -> None:
    with cloud.session(ROWS[0]):
        transfer(cloud.web, cloud.db, SIZE)
        cloudtap("detach", OWNER)
        cloud.collect()
        capture = cloud.db.capture()
        transfer(cloud.web, cloud.db, SIZE)
        assert max(map(len, drain(capture))) > FULL
        capture.close()
        assert not cloud.collect()
        cloud.controller.wait_for_session("one", "pending")
    assert difference(cloud.before, database_rows()) == {}

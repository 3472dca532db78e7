"""What Open vSwitch could not open, what is not declared, and what is nowhere: named, with why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from controller.cli import main
from tests.ovs.controller_process import API, DEADLINE_S, ControllerProcess
from tests.ovs.lab import vsctl
from tests.ovs.small_cloud import INVENTORY, SmallCloud
from tests.ovs.waiting import wait_for

NOWHERE = """\
  - {id: red-x, name: x, tenant: red, network: lan, interface: s1-eth99, bridge: s1}
"""


def status(controller: ControllerProcess, is_it: Any) -> dict[str, Any]:
    return wait_for(controller.status, is_it, DEADLINE_S)


def test_what_open_vswitch_could_not_create_is_named_with_its_error(
    cloud: SmallCloud, tmp_path: Path
) -> None:
    cloud.lab.add_ports("s1", [9])
    vsctl("--no-wait", "add-port", "s1", "nothere")
    vsctl("--no-wait", "add-br", "sx", "--", "set", "Bridge", "sx", "datapath_type=odd")
    try:
        with ControllerProcess(tmp_path, INVENTORY + NOWHERE) as controller:
            controller.start("s1")
            problem = controller.wait_for_problem("has not created bridge 'sx'")
            found = status(controller, lambda seen: seen["unopened"] and seen["undeclared"])
            env = {"CLOUDTAP_API": f"http://{API}", "COLUMNS": "1000"}
            text = CliRunner().invoke(main, ["status"], env=env)

            assert "its datapath_type is 'odd'" in problem
            (broken,) = found["unopened"]
            assert (broken["bridge"], broken["interface"]) == ("s1", "nothere")
            assert "No such device" in broken["error"]
            (port,) = found["unplaced"]
            assert re.match(
                "looked for interface 's1-eth99', and for one with external_ids:iface-id 'red-x', "
                "on bridge 's1': there is neither: did you mean 's1-eth9'",
                port["reason"],
            )
            (other,) = found["undeclared"]
            for words in (problem, broken["error"], port["reason"], f"  {other['line']}\n"):
                assert words in text.output, text.output

            line = other["line"].replace("TENANT", "red").replace("NETWORK", "lan")
            controller.inventory.write_text(f"{INVENTORY}  {line}\n")
            status(controller, lambda seen: not seen["undeclared"] and not seen["unplaced"])
            vsctl("del-br", "sx", "--", "del-port", "nothere")
            status(
                controller,
                lambda seen: not seen["unopened"] and "created bridge" not in str(seen["problems"]),
            )
    finally:
        vsctl("--if-exists", "del-br", "sx")

"""Networks that span two switches, same addresses in both tenants, each tap port on another switch.

    red:   web-1 ids            |            web-2 db-1 lb      lb: its MAC address is learned
                    s1 =================== s2
    blue:  web-1 web-2          |            db-1 ids

A frame that crosses the cable is still copied once for each session, wherever its sender, its
receivers and the tap port are. Alone, this file starts the controller, makes the sessions below,
sends real traffic, and compares every frame that arrives anywhere with what must arrive. With
Mininet's own command, as root, it is a topology to play with:

    mn --custom mininet_topos/two_switches.py --topo two_switches --controller remote
"""

import re
import sys
from pathlib import Path

# `mn --custom` runs this file without `__file__`: find its path among the arguments of mn
_words = [word for argument in sys.argv for word in re.split("[=,]", argument)]
_file = globals().get("__file__") or next(w for w in _words if w.endswith("two_switches.py"))
sys.path.insert(0, str(Path(_file).resolve().parent))

from scenario.model import Scenario, Session, TapPort, Workload  # noqa: E402
from scenario.network import RunningController, topology  # noqa: E402
from scenario.run import run_scenario  # noqa: E402

SCENARIO = Scenario(
    name="two_switches",
    workloads=(
        Workload("red", "web-1", "s1-eth1", "02:00:00:00:00:01", "10.0.0.1"),
        Workload("red", "web-2", "s2-eth1", "02:00:00:00:00:02", "10.0.0.2"),
        Workload("red", "db-1", "s2-eth2", "02:00:00:00:00:03", "10.0.0.3"),
        Workload("red", "lb", "s2-eth3", "02:00:00:00:00:04", "10.0.0.4", is_learned=True),
        Workload("blue", "web-1", "s1-eth5", "02:00:00:00:00:01", "10.0.0.1"),
        Workload("blue", "web-2", "s1-eth6", "02:00:00:00:00:02", "10.0.0.2"),
        Workload("blue", "db-1", "s2-eth7", "02:00:00:00:00:03", "10.0.0.3"),
    ),
    tap_ports=(
        TapPort("red", "ids", "s1-eth4"),
        TapPort("blue", "ids", "s2-eth8"),
    ),
    cables=(("s1-eth9", "s2-eth9"),),
    # The copies that must be: for every frame, one copy for each session that watches its sender
    # (egress) or somebody who receives it (ingress), and nothing else anywhere.
    sessions=(
        Session("red", "web-to-ids", sources=("web-1", "web-2"), direction="both", tap_port="ids"),
        Session("red", "db-answers", sources=("db-1",), direction="egress", tap_port="ids"),
        Session("blue", "received", sources=("web-1", "db-1"), direction="ingress", tap_port="ids"),
    ),
)

controllers = {"remote": RunningController}
topos = {"two_switches": topology(SCENARIO)}

if __name__ == "__main__":
    sys.exit(run_scenario(SCENARIO, __doc__, inventory=Path(__file__).with_suffix(".yaml")))

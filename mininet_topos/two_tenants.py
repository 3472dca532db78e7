"""Two tenants with the same addresses on one switch: each sees its own copies at its own tap port.

    red:  web-1  web-2  db-1  ids          blue:  web-1  web-2  db-1  ids
            |      |      |     |                   |      |      |     |
         s1-eth1 s1-eth2 s1-eth3 s1-eth4         s1-eth5 s1-eth6 s1-eth7 s1-eth8

Alone (`make demo`), it starts the controller, makes the sessions below with the `cloudtap`
command, sends real traffic, and compares every frame that arrives anywhere with what must
arrive. With Mininet's own command, as root, it is a topology to play with:

    mn --custom mininet_topos/two_tenants.py --topo two_tenants --controller remote
"""

import re
import sys
from pathlib import Path

# `mn --custom` runs this file without `__file__`: find its path among the arguments of mn
_words = [word for argument in sys.argv for word in re.split("[=,]", argument)]
_file = globals().get("__file__") or next(w for w in _words if w.endswith("two_tenants.py"))
sys.path.insert(0, str(Path(_file).resolve().parent))

from scenario.model import Scenario, Session, TapPort, Workload  # noqa: E402
from scenario.network import RunningController, topology  # noqa: E402
from scenario.run import run_scenario  # noqa: E402

SCENARIO = Scenario(
    name="two_tenants",
    workloads=(
        Workload("red", "web-1", "s1-eth1", "02:00:00:00:00:01", "10.0.0.1"),
        Workload("red", "web-2", "s1-eth2", "02:00:00:00:00:02", "10.0.0.2"),
        Workload("red", "db-1", "s1-eth3", "02:00:00:00:00:03", "10.0.0.3"),
        Workload("blue", "web-1", "s1-eth5", "02:00:00:00:00:01", "10.0.0.1"),
        Workload("blue", "web-2", "s1-eth6", "02:00:00:00:00:02", "10.0.0.2"),
        Workload("blue", "db-1", "s1-eth7", "02:00:00:00:00:03", "10.0.0.3"),
    ),
    tap_ports=(
        TapPort("red", "ids", "s1-eth4"),
        TapPort("blue", "ids", "s1-eth8"),
    ),
    # The copies that must be: for every frame, one copy for each session that watches its sender
    # (egress) or somebody who receives it (ingress), and nothing else anywhere.
    sessions=(
        Session("red", "web-to-ids", sources=("web-1", "web-2"), direction="both", tap_port="ids"),
        Session("blue", "db-to-ids", sources=("db-1",), direction="ingress", tap_port="ids"),
    ),
)

controllers = {"remote": RunningController}
topos = {"two_tenants": topology(SCENARIO)}

if __name__ == "__main__":
    sys.exit(run_scenario(SCENARIO, __doc__, inventory=Path(__file__).with_suffix(".yaml")))

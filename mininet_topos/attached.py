"""A bridge that somebody else owns is tapped, and is as it was when cloudtap has gone.

    red: vm1 vm2   blue: vm1 vm2                         red: ids
          |   |           |   |                              |
      br0-eth1 -eth2  -eth3 -eth4                         ids-port
      +-------------------------+    Mirror, patch    +---------------+
      | br0: plain switching,   | ------------------> |    ct-br0     |
      | VLAN 10 and VLAN 20     |                     | (tap bridge)  |
      +-------------------------+                     +---------------+

`make demo DEMO=attach`: the bridge br0 has no controller and no flows but NORMAL, as on Proxmox or
with libvirt. cloudtap attaches, taps red's vm1, follows it over a restart, and detaches. Every
copy is counted, and the rows and flows of br0 are compared.
"""

import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.node import Node, OVSSwitch
from scenario.controller import Controller
from scenario.host_sockets import HostSockets
from scenario.model import ScenarioError
from scenario.network import Cable, QuietHost, TapCable, datapath
from scenario.run import check_machine, end_with_clean_up, options_of

OWNER, TAP = "br0", "ct-br0"
VMS = {"red_vm1": 1, "red_vm2": 2, "blue_vm1": 3, "blue_vm2": 4}
VLANS = {"red": 10, "blue": 20}
PINGS = 20
IPV4, ICMP = b"\x08\x00", 1
LATE_FRAMES_S = 3.0
COUNTED = {"statistics", "status", "cur_cfg", "next_cfg", "_version", "ofport_request", "_uuid"}
"""Columns that change by themselves; rows are compared by what they hold."""


def main() -> int:
    """Run the demo; 0 if every copy is right and the bridge is as it was before."""
    options = options_of(__doc__ or "")
    end_with_clean_up()
    try:
        check_machine()
        with ExitStack() as cleanup:
            return run(options.runtime, options.damage, cleanup)
    except ScenarioError as error:
        print(f"attached: {error}", file=sys.stderr)
        return 2


def run(runtime: str, damage: str, cleanup: ExitStack) -> int:
    """Attach, tap, restart a workload, detach."""
    folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="cloudtap-")))
    controller = Controller(runtime, Path(__file__).with_suffix(".yaml"), folder)
    cleanup.callback(controller.stop)
    network = build(cleanup)
    story = Story(controller, network, cleanup)
    before = story.owners_rows()
    print(f"bridge {OWNER} belongs to somebody else: {story.ping_both()} pings answered")
    controller.start()
    story.attach()
    if damage:
        print(f"DAMAGE: {story.damage(damage)}", flush=True)
    story.check("red's vm1 is tapped", copies=2 * PINGS)
    story.restart_vm()
    story.check("after its restart, with another port number", copies=2 * PINGS)
    story.detach()
    story.check("after detach", copies=0)
    is_same = story.owners_rows() == before
    how = "as they were before" if is_same else "NOT AS THEY WERE BEFORE"
    print(f"rows and flows of bridge {OWNER}: {how}")
    print("NOT AS IT MUST BE" if story.is_wrong or not is_same else "everything is as it must be")
    return int(story.is_wrong or not is_same)


def build(cleanup: ExitStack) -> Mininet:
    """The owner's bridge with its workloads, and a sensor that is plugged in nowhere yet."""
    setLogLevel("warning")
    Mininet.inited = True  # or it raises system limits, which a small network does not need
    network = Mininet(controller=None, build=False)
    cleanup.callback(network.stop)
    network.addSwitch(OWNER, cls=OVSSwitch, failMode="standalone", datapath=datapath(), dpid="b0")
    for host, number in VMS.items():
        last = host[-1]
        where = {"ip": f"10.0.0.{last}/24", "mac": f"02:00:00:00:00:0{last}"}
        network.addHost(host, cls=QuietHost, **where)
        network.addLink(host, OWNER, cls=Cable, port1=0, port2=number)
    network.addHost("red_ids", cls=QuietHost, ip=None)
    network.addHost("machine", cls=Node, inNamespace=False)
    network.addLink("red_ids", "machine", cls=TapCable, intfName2="ids-port", port1=0)
    network.build()
    network.start()
    for host, number in VMS.items():
        vsctl("set", "Port", f"{OWNER}-eth{number}", f"tag={VLANS[host.partition('_')[0]]}")
    return network


class Story:
    """What happens to the bridge, and what is counted meanwhile."""

    def __init__(self, controller: Controller, network: Mininet, cleanup: ExitStack) -> None:
        self._controller, self._network, self._cleanup = controller, network, cleanup
        self.is_wrong = False
        self._sockets = HostSockets({"red_ids": (network.get("red_ids").pid, "red_ids-eth0")})
        cleanup.callback(self._sockets.close)

    def attach(self) -> None:
        """Attach, and tap red's vm1."""
        run_cloudtap = self._controller.cloudtap
        run_cloudtap(f"bridge attach {OWNER} --dry-run")
        run_cloudtap(f"bridge attach {OWNER} --controller tcp:{self._controller.openflow}")
        self._cleanup.callback(vsctl, "--if-exists", "del-br", TAP)
        vsctl("add-port", TAP, "ids-port")
        run_cloudtap("collector create ids --tenant red --port ids")
        run_cloudtap("session create vm1 --tenant red --source vm1 --collector ids")
        self._controller.wait_for_sessions([("red", "vm1")])
        run_cloudtap("session list")

    def damage(self, kind: str) -> str:
        """Have the tap bridge copy no answer, or each of them twice; returns which flow does it."""
        sensor = vsctl("get", "Interface", "ids-port", "ofport").strip()
        actions = "drop" if kind == "missing" else f"pop_vlan,output:{sensor},output:{sensor}"
        match = f"dl_vlan={VLANS['red']},icmp,icmp_type=0"
        flow = f"priority=65535,{match},actions={actions}"
        ofctl("add-flow", TAP, flow)
        return f"added on {TAP}: {flow}"

    def restart_vm(self) -> None:
        """The port of the workload goes, and comes again under another number."""
        vsctl("del-port", OWNER, f"{OWNER}-eth1")
        self._controller.wait_until_not_active("red", "vm1")
        begun = time.monotonic()
        vsctl(
            *("add-port", OWNER, f"{OWNER}-eth1", f"tag={VLANS['red']}"),
            *("--", "set", "Interface", f"{OWNER}-eth1", "ofport_request=21"),
        )
        self._controller.wait_for_sessions([("red", "vm1")])
        print(f"vm1 was restarted: tapped again {time.monotonic() - begun:.2f} s later")

    def detach(self) -> None:
        """Detach, while the session exists."""
        self._controller.cloudtap(f"bridge detach {OWNER}")

    def check(self, what: str, copies: int) -> None:
        """Ping in both tenants, and count the copies of pings."""
        self._sockets.drain()
        self._sockets.received.clear()
        answered = self.ping_both()
        seen = self._count(copies)
        foreign = sum(
            times
            for (_, frame), times in self._sockets.received.items()
            if frame[12:14] == b"\x81\0"
        )
        is_right = (answered, seen, foreign) == (2 * PINGS, copies, 0)
        self.is_wrong |= not is_right
        print(
            f"{what}: {answered} of {2 * PINGS} pings answered, {seen} copies of red's, "
            f"{copies} must be: {'right' if is_right else 'WRONG'}",
            flush=True,
        )

    def ping_both(self) -> int:
        """Ping from vm2 to vm1 of each tenant at once; how many were answered."""
        words = ("ping", "-q", "-i", "0.02", "-W", "2", "-c", str(PINGS), "10.0.0.1")
        running = [self._network.get(f"{tenant}_vm2").popen(*words, text=True) for tenant in VLANS]
        said = [one.communicate()[0] for one in running]
        return sum(int(text.partition(" packets transmitted, ")[2].split()[0]) for text in said)

    def _count(self, wanted: int) -> int:
        """The pings that have arrived at the sensor, once they are as many as must be."""
        end = time.monotonic() + LATE_FRAMES_S
        while True:
            self._sockets.drain()
            arrived = self._sockets.received.items()
            seen = sum(n for (_, f), n in arrived if f[12:14] == IPV4 and f[23] == ICMP)
            if seen >= wanted or time.monotonic() > end:
                return seen
            time.sleep(0.05)

    def owners_rows(self) -> list[str]:
        """The rows of the bridge, its ports and Mirrors without what counts, and its flows."""
        found: list[str] = []
        ports = vsctl("list-ports", OWNER).split()
        for table, names in (("Bridge", [OWNER]), ("Port", ports), ("Interface", ports)):
            dump = json.loads(vsctl("--format=json", "list", table, *names))
            for values in dump["data"]:
                row = dict(zip(dump["headings"], values, strict=True))
                kept = {k: v for k, v in row.items() if k not in COUNTED and k not in _MADE_ANEW}
                found.append(json.dumps(kept, sort_keys=True))
        return [*sorted(found), ofctl("--no-stats", "dump-flows", OWNER)]


_MADE_ANEW = {"ports", "interfaces", "ofport", "ifindex", "link_resets", "mac_in_use"}
"""What a port that is unplugged and plugged in again has another value of."""


def vsctl(*words: str) -> str:
    """Run ovs-vsctl."""
    return _output("ovs-vsctl", *words)


def ofctl(*words: str) -> str:
    """Run ovs-ofctl."""
    return _output("ovs-ofctl", "--protocols=OpenFlow10,OpenFlow13", *words)


def _output(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise ScenarioError(f"'{' '.join(words)}' failed: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())

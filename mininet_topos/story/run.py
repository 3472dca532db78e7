"""The order of a story: controller, network, sessions, traffic, check; then all away again."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from mininet.cli import CLI
from mininet.log import setLogLevel
from mininet.net import Mininet

from story.check import Verdict, judge
from story.controller import COMMANDS, Controller
from story.damage import KINDS, damage
from story.network import RunningController, topology
from story.report import show
from story.sniff import Sniffer
from story.traffic import Traffic
from story.words import Story, StoryError

FENCES = 3
"""Rounds of markers after the traffic. Inside one burst, Open vSwitch may send packets of new
flows before those of known ones, and a copy may travel back over a cable: one round is too few."""

SETTLE_S = 3.0
"""How long a frame that is missing may still arrive."""


def tell(story: Story, about: str, inventory: Path) -> int:
    """Tell a story from the command line; returns the exit status: 0 when every frame is right."""
    options = _options(about)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        _check_machine()
        with ExitStack() as cleanup:
            return _tell(story, inventory, options, cleanup)
    except StoryError as error:
        print(f"{story.name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _end(number: int, _: object) -> None:
    """Leave through every clean-up on the way."""
    sys.exit(128 + number)


def _options(about: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stay", action="store_true", help="no check: stay up until Ctrl-C")
    parser.add_argument("--runtime", choices=tuple(COMMANDS), default="ryu", help="default: ryu")
    parser.epilog = "DAMAGE=missing or DAMAGE=extra in the environment breaks one flow on purpose."
    options = parser.parse_args()
    options.damage = os.environ.get("DAMAGE", "")
    if options.damage and options.damage not in KINDS:
        parser.error(f"DAMAGE={options.damage} is not one of {', '.join(KINDS)}")
    return options


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise StoryError("building a network needs root: run it with sudo, or 'sudo make demo'")
    try:
        done = subprocess.run(["ovs-vsctl", "-t", "2", "show"], capture_output=True, text=True)
    except FileNotFoundError:
        raise StoryError("Open vSwitch is not installed: run 'make setup'") from None
    if done.returncode:
        raise StoryError("Open vSwitch does not run here: use 'tools/isolate', as 'make demo' does")


def _tell(story: Story, inventory: Path, options: argparse.Namespace, cleanup: ExitStack) -> int:
    folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="cloudtap-")))
    controller = Controller(options.runtime, inventory, folder)
    cleanup.callback(controller.stop)
    print(f"$ {' '.join(controller.command)}   # inventory: {inventory.name}", flush=True)
    controller.start()
    network = _build(story, controller, cleanup)
    controller.wait_for_switches(story.switches)
    _create_sessions(story, controller)
    if options.stay:
        _stay(story, controller, network)
        return 0
    if options.damage:
        print(f"DAMAGE: {damage(story, options.damage)}", flush=True)
    verdict = _send_and_check(story, network, cleanup)
    copies = {tenant: verdict.copies_of(tenant) for tenant in story.tenants}
    counted = controller.counted(copies) if verdict.is_clean else copies
    print()
    controller.cloudtap("session list")
    print()
    show(verdict)
    if counted != copies:
        print(f"NOT AS IT MUST BE: the switches counted {counted}, and made {copies} copies")
    return 0 if verdict.is_clean and counted == copies else 1


def _build(story: Story, controller: Controller, cleanup: ExitStack) -> Mininet:
    setLogLevel("warning")
    Mininet.inited = True  # or it raises system limits, which a small network does not need
    network = Mininet(topo=topology(story)(), controller=None, build=False)
    cleanup.callback(network.stop)
    host, _, port = controller.openflow.rpartition(":")
    network.addController("c0", controller=RunningController, ip=host, port=int(port))
    network.build()
    network.start()
    return network


def _create_sessions(story: Story, controller: Controller) -> None:
    for tap in story.tap_ports:
        controller.cloudtap(f"collector create {tap.name} --tenant {tap.tenant} --port {tap.name}")
    for one in story.sessions:
        sources = " ".join(f"--source {source}" for source in one.sources)
        controller.cloudtap(
            f"session create {one.name} --tenant {one.tenant} {sources} "
            f"--collector {one.tap_port} --direction {one.direction}"
        )
    controller.wait_for_sessions([(one.tenant, one.name) for one in story.sessions])


def _send_and_check(story: Story, network: Mininet, cleanup: ExitStack) -> Verdict:
    hosts = {member.host: network.get(member.host) for member in story.members}
    sniffer = Sniffer({name: (host.pid, f"{name}-eth0") for name, host in hosts.items()})
    cleanup.callback(sniffer.close)
    traffic = Traffic(story, hosts, sniffer)
    traffic.send_all()
    for number in range(FENCES):
        _wait_for(sniffer, traffic.fence(number))
    end = time.monotonic() + SETTLE_S
    while True:
        sniffer.drain()
        verdict = judge(story, sniffer.sent, sniffer.received, traffic.kind_of)
        if verdict.is_clean or time.monotonic() > end:
            return verdict
        time.sleep(0.05)


def _wait_for(sniffer: Sniffer, arrivals: list[tuple[str, bytes]]) -> None:
    """Return when every arrival was seen, or when it is too late: the check then says so."""
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end:
        sniffer.drain()
        if all(sniffer.received[arrival] for arrival in arrivals):
            return
        time.sleep(0.01)


def _stay(story: Story, controller: Controller, network: Mininet) -> None:
    taps = " ".join(tap.host for tap in story.tap_ports)
    enter = f"sudo nsenter -a -w -t $(pgrep -nf '{story.name}.py --stay')"
    is_isolated = os.environ.get("CLOUDTAP_ISOLATED") == "yes"
    lines = [
        "",
        f"The network is up. Switches: {' '.join(story.switches)}. Hosts:",
        f"    {' '.join(one.host for one in story.workloads)}",
        f"    {taps} (tap ports: copies arrive here)",
        "",
        "In another terminal, in the repository:",
        *([f"    {enter}   # into the private world of this lab"] if is_isolated else []),
        f"    export CLOUDTAP_API={controller.url}",
        "    .venv/bin/cloudtap status",
        "Ctrl-C ends it all." if not sys.stdin.isatty() else "",
    ]
    print("\n".join(lines), flush=True)
    if sys.stdin.isatty():
        first, second = story.workloads[:2]
        print(f"Here, try: {first.host} ping -i 0.2 {second.host} > /dev/null &")
        print(f"           {story.tap_ports[0].host} tcpdump -n -c 4 icmp")
        print("`exit` ends it all.", flush=True)
        setLogLevel("output")
        CLI(network)
    else:
        threading.Event().wait()

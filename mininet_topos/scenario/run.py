"""Runs a scenario: controller, network, sessions, traffic, check, and then removes everything."""

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

from scenario.check import Comparison, compare
from scenario.controller import COMMANDS, Controller
from scenario.damage import KINDS, damage
from scenario.host_sockets import HostSockets
from scenario.model import Scenario, ScenarioError
from scenario.network import RunningController, topology
from scenario.report import show
from scenario.traffic import Traffic

MARKER_ROUNDS = 3
"""Rounds of marker frames after the traffic. Within one burst Open vSwitch may send packets that
hit a megaflow before packets that need an upcall, and a copy may travel back over a link: one
round is too few."""

LATE_FRAMES_S = 3.0
"""How long missing frames may still arrive."""


def run_scenario(scenario: Scenario, about: str, inventory: Path) -> int:
    """Run a scenario from the command line; returns the exit status, 0 if every frame is right."""
    options = options_of(about)
    end_with_clean_up()
    try:
        check_machine()
        with ExitStack() as cleanup:
            return _run(scenario, inventory, options, cleanup)
    except ScenarioError as error:
        print(f"{scenario.name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def end_with_clean_up() -> None:
    """From now on a signal to end lets every clean-up run."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)


def _end(number: int, _: object) -> None:
    """Exit so that every clean-up runs."""
    sys.exit(128 + number)


def options_of(about: str) -> argparse.Namespace:
    """What the command line and the environment ask for."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stay", action="store_true", help="no check: stay up until Ctrl-C")
    runtime = os.environ.get("CLOUDTAP_OPENFLOW__RUNTIME", "ryu")
    parser.add_argument(
        "--runtime", choices=tuple(COMMANDS), default=runtime, help=f"default: {runtime}"
    )
    parser.epilog = "DAMAGE=missing or DAMAGE=extra in the environment breaks one flow on purpose."
    options = parser.parse_args()
    options.damage = os.environ.get("DAMAGE", "")
    if options.damage and options.damage not in KINDS:
        parser.error(f"DAMAGE={options.damage} is not one of {', '.join(KINDS)}")
    return options


def check_machine() -> None:
    """Whether a network can be built here.

    Raises:
        ScenarioError: it cannot; the sentence says what to do.
    """
    if os.geteuid() != 0:
        raise ScenarioError("building a network needs root: run it with sudo, or 'sudo make demo'")
    try:
        done = subprocess.run(["ovs-vsctl", "-t", "2", "show"], capture_output=True, text=True)
    except FileNotFoundError:
        raise ScenarioError("Open vSwitch is not installed: run 'make setup'") from None
    if done.returncode:
        raise ScenarioError(
            "Open vSwitch does not run here: use 'tools/isolate', as 'make demo' does"
        )


def _run(
    scenario: Scenario, inventory: Path, options: argparse.Namespace, cleanup: ExitStack
) -> int:
    folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="cloudtap-")))
    controller = Controller(options.runtime, inventory, folder)
    cleanup.callback(controller.stop)
    print(f"$ {' '.join(controller.command)}   # inventory: {inventory.name}", flush=True)
    controller.start()
    network = _build(scenario, controller, cleanup)
    controller.wait_for_switches(scenario.switches)
    _create_sessions(scenario, controller)
    if options.stay:
        _stay(scenario, controller, network)
        return 0
    if options.damage:
        print(f"DAMAGE: {damage(scenario, options.damage)}", flush=True)
    comparison = _send_and_check(scenario, network, cleanup)
    copies = {tenant: comparison.copies_of(tenant) for tenant in scenario.tenants}
    counted = controller.counted(copies) if comparison.is_clean else copies
    print()
    controller.cloudtap("session list")
    print()
    show(comparison)
    if counted != copies:
        print(f"NOT AS IT MUST BE: the switches counted {counted}, and made {copies} copies")
    return 0 if comparison.is_clean and counted == copies else 1


def _build(scenario: Scenario, controller: Controller, cleanup: ExitStack) -> Mininet:
    setLogLevel("warning")
    Mininet.inited = True  # or it raises system limits, which a small network does not need
    network = Mininet(topo=topology(scenario)(), controller=None, build=False)
    cleanup.callback(network.stop)
    host, _, port = controller.openflow.rpartition(":")
    network.addController("c0", controller=RunningController, ip=host, port=int(port))
    network.build()
    network.start()
    return network


def _create_sessions(scenario: Scenario, controller: Controller) -> None:
    for tap in scenario.tap_ports:
        controller.cloudtap(f"collector create {tap.name} --tenant {tap.tenant} --port {tap.name}")
    for one in scenario.sessions:
        sources = " ".join(f"--source {source}" for source in one.sources)
        controller.cloudtap(
            f"session create {one.name} --tenant {one.tenant} {sources} "
            f"--collector {one.tap_port} --direction {one.direction}"
        )
    controller.wait_for_sessions([(one.tenant, one.name) for one in scenario.sessions])


def _send_and_check(scenario: Scenario, network: Mininet, cleanup: ExitStack) -> Comparison:
    hosts = {member.host: network.get(member.host) for member in scenario.members}
    sockets = HostSockets({name: (host.pid, f"{name}-eth0") for name, host in hosts.items()})
    cleanup.callback(sockets.close)
    traffic = Traffic(scenario, hosts, sockets)
    traffic.send_all()
    for number in range(MARKER_ROUNDS):
        _wait_for(sockets, traffic.send_markers(number))
    end = time.monotonic() + LATE_FRAMES_S
    while True:
        sockets.drain()
        comparison = compare(scenario, sockets.sent, sockets.received, traffic.kind_of)
        if comparison.is_clean or time.monotonic() > end:
            return comparison
        time.sleep(0.05)


def _wait_for(sockets: HostSockets, arrivals: list[tuple[str, bytes]]) -> None:
    """Block until every frame has arrived, or the deadline; the check reports what is missing."""
    end = time.monotonic() + LATE_FRAMES_S
    while time.monotonic() < end:
        sockets.drain()
        if all(sockets.received[arrival] for arrival in arrivals):
            return
        time.sleep(0.01)


class _EndingCLI(CLI):
    """Mininet's command line; Ctrl-C ends a running command, or, at the prompt, the network."""

    def cmdloop(self, intro: str | None = None) -> None:
        """Read and carry out commands until `exit`, the end of the input, or Ctrl-C."""
        try:
            super().cmdloop(intro)
        except KeyboardInterrupt:
            print()


def _stay(scenario: Scenario, controller: Controller, network: Mininet) -> None:
    taps = " ".join(tap.host for tap in scenario.tap_ports)
    as_root = "sudo " if "SUDO_USER" in os.environ else ""  # a container may have no sudo
    enter = f"{as_root}nsenter -a -w -t $(pgrep -nf '{scenario.name}.py --stay')"
    is_isolated = os.environ.get("CLOUDTAP_ISOLATED") == "yes"
    lines = [
        "",
        f"The network is up. Switches: {' '.join(scenario.switches)}. Hosts:",
        f"    {' '.join(one.host for one in scenario.workloads)}",
        f"    {taps} (tap ports: copies arrive here)",
        "",
        "In another terminal, in the repository:",
        *([f"    {enter}   # enter the namespaces of this lab"] if is_isolated else []),
        f"    export CLOUDTAP_API={controller.url}",
        "    .venv/bin/cloudtap status",
        "Ctrl-C ends it all." if not sys.stdin.isatty() else "",
    ]
    print("\n".join(lines), flush=True)
    if sys.stdin.isatty():
        first, second = scenario.workloads[:2]
        print(f"Here, try: {first.host} ping -i 0.2 {second.host} > /dev/null &")
        print(f"           {scenario.tap_ports[0].host} tcpdump -n -c 4 icmp")
        print("`exit` or Ctrl-C at the prompt ends it all.", flush=True)
        setLogLevel("output")
        _EndingCLI(network)
    else:
        threading.Event().wait()

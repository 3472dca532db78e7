"""Breaks one flow on purpose, to prove that the check fails then."""

from __future__ import annotations

import re
import subprocess

from scenario.model import Scenario, ScenarioError, TapPort, number_of, switch_of

KINDS = ("missing", "extra")


def damage(scenario: Scenario, kind: str) -> str:
    """Delete one flow that makes copies, or add a wrong output to it; returns which one.

    Raises:
        ScenarioError: there is no such flow.
    """
    wanted = scenario.sessions[0].tap_host
    tap_port = next(tap for tap in scenario.tap_ports if tap.host == wanted)
    switch = switch_of(tap_port.interface)
    match, actions = _copying_flow(switch, number_of(tap_port.interface))
    if kind == "missing":
        _ofctl("--strict", "del-flows", switch, match)
        return f"deleted on {switch}: {match}"
    others = [m for m in scenario.members if m.tenant != tap_port.tenant]
    here = [m for m in others if switch_of(m.interface) == switch]
    wrong = min(here, key=lambda member: not isinstance(member, TapPort))
    more = f"{actions},output:{number_of(wrong.interface)}"
    _ofctl("--strict", "mod-flows", switch, f"{match},actions={more}")
    return f"changed on {switch} to reach {wrong.host} as well: {match}"


def _copying_flow(switch: str, number: int) -> tuple[str, str]:
    """Match and actions of the flow that outputs to a tap port."""
    for line in _ofctl("--no-stats", "dump-flows", switch).splitlines():
        match, _, actions = line.strip().partition(" actions=")
        if re.search(rf"\boutput:{number}\b", actions):
            return re.sub(r"^cookie=\w+, ", "", match).replace(", ", ","), actions
    raise ScenarioError(f"no flow of {switch} copies to port {number}: there is nothing to damage")


def _ofctl(*words: str) -> str:
    command = ["ovs-ofctl", "--protocols=OpenFlow13", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ScenarioError(f"'{' '.join(command)}' failed: {done.stderr.strip()}")
    return done.stdout

"""Breaks one flow on purpose, to prove that the check can say no."""

from __future__ import annotations

import re
import subprocess

from story.words import Story, StoryError, TapPort, number_of, switch_of

KINDS = ("missing", "extra")


def damage(story: Story, kind: str) -> str:
    """Delete one flow that makes copies, or let it copy to a wrong port too; says which.

    Raises:
        StoryError: there is no such flow.
    """
    wanted = story.sessions[0].tap_host
    tap_port = next(tap for tap in story.tap_ports if tap.host == wanted)
    switch = switch_of(tap_port.interface)
    match, actions = _copying_flow(switch, number_of(tap_port.interface))
    if kind == "missing":
        _ofctl("--strict", "del-flows", switch, match)
        return f"deleted on {switch}: {match}"
    others = [m for m in story.members if m.tenant != tap_port.tenant]
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
    raise StoryError(f"no flow of {switch} copies to port {number}: there is nothing to damage")


def _ofctl(*words: str) -> str:
    command = ["ovs-ofctl", "--protocols=OpenFlow13", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise StoryError(f"'{' '.join(command)}' failed: {done.stderr.strip()}")
    return done.stdout

"""The page on installation, typed word for word on a machine."""

from __future__ import annotations

import re
from itertools import takewhile

from tests.installed.machine import Machine
from tests.lab.tutorial import Step, read_steps
from tests.ovs.waiting import wait_for
from tests.rules.sources import ROOT

PAGE = (ROOT / "docs/how-to/install.md").read_text()
FILE = re.compile(r"^```\w+ (?P<name>/\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    """The text below a title, until the next one."""
    lines = PAGE.splitlines(keepends=True)
    start = lines.index(f"## {title}\n") + 1
    return "".join(takewhile(lambda line: not line.startswith("## "), lines[start:]))


def follow(machine: Machine, title: str, terminal: str = "root") -> None:
    """Write the files of a section and type its commands, in their order.

    Other terminals than that of root are for what not every reader does; a file that stands before
    the commands of one belongs to it.
    """
    text = section(title)
    parts = re.split(r"(^```\w+ /\S+\n.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    steps, files = 0, list[re.Match[str]]()
    for part in parts:
        if file := FILE.match(part):
            files.append(file)
        for step in read_steps(part):
            if step.terminal == terminal:
                write_files(machine, files)
                type_step(machine, step)
                steps += 1
            files.clear()
    assert steps, f"{title} shows nothing"


def write_files(machine: Machine, files: list[re.Match[str]]) -> None:
    """Write what the page shows as files."""
    for file in files:
        path = machine.root / file["name"].lstrip("/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(file["text"])


def type_step(machine: Machine, step: Step) -> None:
    """Type one command; what only shows a state is repeated until it is what the page shows.

    What fetches packages runs with the network of the tests.
    """
    is_online = "/pip install" in step.command or "podman build" in step.command

    def look() -> str:
        done = machine.run(step.command, is_online)
        assert done.returncode == 0, f"{step.command}: {done.stdout}"
        return " ".join(done.stdout.split())

    def fits(seen: str) -> bool:
        return re.fullmatch(step.pattern, seen, re.DOTALL) is not None

    if step.may_be_repeated:
        wait_for(look, fits)
    else:
        seen = look()
        assert fits(seen), f"{step.command} must show {step.shown}; it showed: {seen}"

"""The tutorial works word for word: its commands are typed, and its words must appear."""

from __future__ import annotations

import os
import re
import time
from contextlib import ExitStack
from pathlib import Path

from tests.lab.conftest import ROOT
from tests.lab.terminal import READY, Terminal
from tests.lab.tutorial import Step, read_steps

PATIENCE_S = 20.0


def test_the_tutorial_works_word_for_word(tmp_path: Path) -> None:
    steps = read_steps((ROOT / "docs/tutorial.md").read_text())
    assert {step.terminal for step in steps} == {"controller", "mininet", "cloudtap"}
    sudo = tmp_path / "sudo"  # the machine of the tests has none: they are root already
    sudo.write_text('#!/bin/sh\nexec "$@"\n')
    sudo.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "COLUMNS": "110"}

    with ExitStack() as opened:
        terminals: dict[str, Terminal] = {}
        for step in steps:
            if step.terminal not in terminals:
                terminals[step.terminal] = opened.enter_context(Terminal(ROOT, environment))
            _do(step, terminals[step.terminal])


def _do(step: Step, terminal: Terminal) -> None:
    if step.is_ctrl_c:
        screen = terminal.press_ctrl_c()
    elif step.stays:
        end = r"mininet> $" if step.command.startswith("sudo mn") else ""
        screen = terminal.type(step.command, f"{step.pattern}.*?{end}")
    elif step.prompt == "mininet> ":
        end = re.escape(READY) if step.command == "exit" else r"mininet> $"
        screen = terminal.type_inside(step.command, end)
    else:
        screen = terminal.type(step.command, re.escape(READY))
    deadline = time.monotonic() + PATIENCE_S
    while not re.search(step.pattern, screen, re.DOTALL):
        seen = f"{step.terminal}: {step.command!r} must show {step.shown}; it showed:\n{screen}"
        assert step.may_be_repeated and time.monotonic() < deadline, seen
        screen = terminal.type(step.command, re.escape(READY))

"""The tutorial works word for word: its commands are typed, and its words must appear."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab.conftest import ROOT
from tests.lab.terminal import READY, Terminal, make_sudo
from tests.lab.tutorial import Step, read_steps

MININET = r"mininet> $"


def test_the_tutorial_works_word_for_word(tmp_path: Path) -> None:
    steps = read_steps((ROOT / "docs/tutorial.md").read_text())
    assert {step.terminal for step in steps} == {"controller", "mininet", "cloudtap"}
    environment = os.environ | {"PATH": make_sudo(tmp_path), "COLUMNS": "110"}

    with ExitStack() as opened:
        terminals: dict[str, Terminal] = {}
        for step in steps:
            if step.terminal not in terminals:
                terminals[step.terminal] = opened.enter_context(Terminal(ROOT, environment))
            do_step(step, terminals[step.terminal])


PAGE = """
```console cloudtap
$ cloudtap bridge list
bridge   state
s1       active   ...
```
"""


@pytest.mark.parametrize(
    ("screen", "fits"),
    [
        ("bridge  state\ns1  active   8\n", True),
        ("bridge  state\ns1  inactive 8\n", False),
        ("a warning\nbridge  state\ns1  active   8\n", False),
    ],
)
def test_a_word_that_the_tutorial_does_not_show_is_noticed(screen: str, fits: bool) -> None:
    (step,) = read_steps(PAGE)

    assert bool(re.fullmatch(step.pattern, _words(screen + READY), re.DOTALL)) is fits


def do_step(step: Step, terminal: Terminal) -> None:
    """Type one step, and check what it shows."""
    if step.is_ctrl_c:
        screen = terminal.press_ctrl_c()
    elif step.stays:
        end = MININET if step.command.startswith("mn ") else ""
        screen = terminal.type(step.command, step.pattern + r"\s*" + end)
    elif step.prompt == "mininet> ":
        screen = terminal.type_inside(step.command, READY if step.command == "exit" else MININET)
    else:
        screen = terminal.type(step.command, READY)
    if step.shown and not step.stays and not re.fullmatch(step.pattern, _words(screen), re.DOTALL):
        seen = f"{step.terminal}: {step.command!r} must show {step.shown}; it showed:\n{screen}"
        assert step.may_be_repeated, seen
        terminal.type_until(step.command, rf"^\s*{step.pattern}\s*{READY}")


def _words(screen: str) -> str:
    """The output without the prompt after it."""
    return re.sub(rf"({READY}|{MININET})\s*$", "", screen).strip()

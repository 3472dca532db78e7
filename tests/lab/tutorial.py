"""Reads the steps of a tutorial: the terminal, the command, and the output that is shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

_BLOCK = re.compile(r"^```console (?P<terminal>\w+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPTS = ("$ ", "mininet> ")
_CTRL_C = "^C"


@dataclass(frozen=True)
class Step:
    """One line that the reader types in a terminal, and the lines that must then appear.

    ``stays``: the command goes on running when the reader turns to the next step.
    """

    terminal: str
    prompt: str
    command: str
    shown: tuple[str, ...] = ()
    stays: bool = False

    @property
    def is_ctrl_c(self) -> bool:
        """Whether it is Ctrl-C and not a command."""
        return self.command == _CTRL_C

    @property
    def may_be_repeated(self) -> bool:
        """Whether it only shows a state, so that it can be repeated."""
        return bool(re.match(r"cloudtap (status|\w+ (list|show))\b", self.command))

    @property
    def pattern(self) -> str:
        """The output as a regular expression: ``...`` matches anything."""
        return r"\s+".join(_word(word) for word in " ".join(self.shown).split())


def read_steps(page: str) -> list[Step]:
    """Every step of a tutorial, in order."""
    steps: list[Step] = []
    for block in _BLOCK.finditer(page):
        for line in block["body"].splitlines():
            prompt = next((p for p in _PROMPTS if line.startswith(p)), "")
            if prompt or line == _CTRL_C:
                steps.append(Step(block["terminal"], prompt, line.removeprefix(prompt)))
            else:
                steps[-1] = replace(steps[-1], shown=(*steps[-1].shown, line))
    return [replace(step, stays=_stays(step, steps[n + 1 :])) for n, step in enumerate(steps)]


def _word(word: str) -> str:
    return re.escape(word).replace(re.escape("..."), ".*")


def _stays(step: Step, later: Sequence[Step]) -> bool:
    """A command of the shell stays when the terminal's next step is no command of the shell."""
    here = [one for one in later if one.terminal == step.terminal]
    return step.prompt == "$ " and bool(here) and here[0].prompt != "$ "

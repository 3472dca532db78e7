"""docs/how-to/own-topology.md works word for word: commands are typed, and edits are made."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab.conftest import ROOT
from tests.lab.terminal import Terminal, make_sudo
from tests.lab.test_tutorial import do_step
from tests.lab.tutorial import read_steps

PAGE = ROOT / "docs/how-to/own-topology.md"
EDIT = re.compile(r"^```diff (?P<file>\S+)\n(?P<lines>.*?)^```$", re.MULTILINE | re.DOTALL)


def edit(file: Path, lines: str) -> None:
    """Change the one place of a file that has these lines, as an editor does: by a new file."""
    kept = lines.splitlines(keepends=True)
    old = "".join(line[1:] for line in kept if line[0] in " -")
    new = "".join(line[1:] for line in kept if line[0] in " +")
    text = file.read_text()
    assert text.count(old) == 1, f"{file.name} has no such place, or several:\n{old}\n{text}"
    draft = file.with_suffix(".edited")
    draft.write_text(text.replace(old, new))
    draft.rename(file)


@pytest.mark.parametrize("lines", [" b\n+c\n", " x\n+c\n"])
def test_an_edit_that_fits_no_place_or_several_is_noticed(lines: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("a\nb\nb\n")
    with pytest.raises(AssertionError, match="no such place"):
        edit(file, lines)


def test_the_page_leads_from_nothing_to_two_tenants_on_two_switches(tmp_path: Path) -> None:
    page = PAGE.read_text()
    edits = [(len(read_steps(page[: found.start()])), found) for found in EDIT.finditer(page)]
    environment = os.environ | {
        "HOME": str(tmp_path),
        "PATH": make_sudo(tmp_path),
        "COLUMNS": "160",
    }
    with ExitStack() as opened:
        terminals: dict[str, Terminal] = {}
        for number, step in enumerate(read_steps(page)):
            while edits and edits[0][0] == number:
                found = edits.pop(0)[1]
                edit(tmp_path / "lab" / found["file"], found["lines"])
            if step.terminal not in terminals:
                terminals[step.terminal] = opened.enter_context(Terminal(ROOT, environment))
            do_step(step, terminals[step.terminal])
    assert not edits

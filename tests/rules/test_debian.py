"""`tools/debian` refuses what it cannot do, before it makes anything."""

from __future__ import annotations

import subprocess

import pytest

from tests.rules.sources import ROOT


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "usage: tools/debian"),
        (["13"], "usage: tools/debian"),
        (["--fresh", "13"], "usage: tools/debian"),
        (["11", "make", "demo"], "Debian 11 is not tested: name 12 or 13"),
        (["trixie", "true"], "Debian trixie is not tested: name 12 or 13"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments: list[str], words: str) -> None:
    done = subprocess.run(
        [ROOT / "tools" / "debian", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 125
    assert words in done.stderr

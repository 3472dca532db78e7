"""What few tests fail beside others is run again, alone, and is named; nothing else is forgiven."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.rules.sources import ROOT

STEADY = "def test_steady(): pass\n"
BROKEN = "def test_broken_{0}(): assert 0\n"
ONCE = """\
def test_fails_once(seen="{file}"):
    import pathlib
    if not pathlib.Path(seen).exists():
        pathlib.Path(seen).touch()
        assert 0
"""


def look(folder: Path, source: str) -> tuple[int, str]:
    """Exit status and output of tools/tests for these tests."""
    (folder / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "tests", folder / "tools")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_some.py").write_text(source.replace("{file}", str(folder / "seen")))
    command = [folder / "tools" / "tests", "test_some.py", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_what_passes_needs_no_second_look(tmp_path: Path) -> None:
    status, output = look(tmp_path, STEADY)
    assert (status, "second look" in output) == (0, False), output


def test_what_fails_once_is_named(tmp_path: Path) -> None:
    status, output = look(tmp_path, STEADY + ONCE)
    assert status == 0, output
    [named] = [line for line in output.splitlines() if "NOT STEADY" in line]
    assert named.endswith("test_some.py::test_fails_once")


@pytest.mark.parametrize("broken", [1, 6])
def test_what_is_broken_fails(tmp_path: Path, broken: int) -> None:
    source = STEADY + ONCE + "".join(BROKEN.format(number) for number in range(broken))
    status, output = look(tmp_path, source)
    assert status == 1, output
    assert output.count("FAILED twice: ") == (broken if broken == 1 else 0), "six are too many"


def test_what_cannot_be_collected_fails(tmp_path: Path) -> None:
    status, output = look(tmp_path, "import nothing_of_that_name\n")
    assert (status > 0, "second look" in output) == (True, False), output

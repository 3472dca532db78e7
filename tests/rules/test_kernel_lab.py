"""tools/kernel-lab says what it needs; the tests on the kernel datapath are named completely."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.kernel.suite import CORE, rest
from tests.ovs.datapath import chosen_datapath
from tests.rules.sources import ROOT

NEEDED = ("bash", "cat", "dirname", "flock", "id", "mkdir", "mktemp", "realpath", "rm", "sed")
"""Programs that a machine without apt has."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the tools, which has no kernel yet, and a folder of programs."""
    (tmp_path / "tools").mkdir()
    for name in ("kernel-lab", "kernel-lab-init"):
        shutil.copy(ROOT / "tools" / name, tmp_path / "tools")
    (tmp_path / "bin").mkdir()
    for name in NEEDED:
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    return tmp_path


def add_program(checkout: Path, name: str, text: str) -> None:
    """Add a program that a machine of another kind has, or replace one."""
    program = checkout / "bin" / name
    program.unlink(missing_ok=True)
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


def run(checkout: Path, *arguments: str) -> tuple[int, str]:
    """Exit status and words of the tool."""
    done = subprocess.run(
        [str(checkout / "tools" / "kernel-lab"), *arguments],
        env={"PATH": str(checkout / "bin")}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_it_tells_how_to_use_it(checkout: Path) -> None:
    status, words = run(checkout, "--help")
    assert (status, words.startswith("usage: tools/kernel-lab")) == (0, True)
    for arguments in ((), ("--unknown", "true"), ("--out",)):
        status, words = run(checkout, *arguments)
        assert (status, words.startswith("usage: tools/kernel-lab")) == (125, True), arguments


@pytest.mark.parametrize("option", [("--memory", "3"), ("--timeout", "0"), ("--timeout", "1h")])
def test_an_impossible_value_is_named(checkout: Path, option: tuple[str, str]) -> None:
    status, words = run(checkout, *option, "true")
    assert status == 125
    assert " ".join(option) in words


def test_a_machine_without_apt_is_told_so(checkout: Path) -> None:
    status, words = run(checkout, "--fetch")
    assert status == 125
    assert "this machine has no apt" in words
    assert not list((checkout).glob(".kernel-lab/usr"))


def test_an_architecture_without_the_package_is_named(checkout: Path) -> None:
    add_program(checkout, "apt-get", "exit 0")
    add_program(checkout, "apt-cache", "echo '  Candidate: (none)'")
    add_program(checkout, "dpkg", "echo arm64")
    status, words = run(checkout, "--fetch")
    assert status == 125
    assert "arm64" in words
    assert "amd64 only" in words


def test_it_asks_for_root(checkout: Path) -> None:
    add_program(checkout, "id", "echo 1000")
    status, words = run(checkout, "true")
    assert status == 125
    assert "run it with sudo" in words


def test_a_container_without_rights_is_told_what_to_do(checkout: Path) -> None:
    add_program(checkout, "id", "echo 0")
    add_program(checkout, "setpriv", "echo not permitted >&2; exit 1")
    status, words = run(checkout, "true")
    assert status == 125
    assert "run it privileged" in words


def objections(named: Iterable[str]) -> list[str]:
    """What is wrong with a list of tests."""
    names = list(named)
    paths = {name.partition("::")[0] for name in names}
    found = [f"{path} is no file" for path in sorted(paths) if not (ROOT / path).is_file()]
    for name in names:
        path, _, test = name.partition("::")
        if test and path not in "".join(found) and f"def {test}(" not in (ROOT / path).read_text():
            found.append(f"{path} has no {test}")
    return found + [
        f"{name} is named twice" for name in sorted(set(names)) if names.count(name) > 1
    ]


def test_every_test_on_the_kernel_datapath_is_named_once() -> None:
    named = (*CORE, *rest())
    assert not objections(named)
    files = {str(path.relative_to(ROOT)) for path in ROOT.glob("tests/kernel/test_*.py")}
    assert files <= set(named)


def test_a_list_of_tests_that_is_not_right_is_objected_to() -> None:
    lab = "tests/ovs/test_lab.py"
    assert objections(("tests/nowhere.py", lab, lab, f"{lab}::test_nothing")) == [
        "tests/nowhere.py is no file",
        f"{lab} has no test_nothing",
        f"{lab} is named twice",
    ]


def test_an_unknown_datapath_is_refused() -> None:
    assert [chosen_datapath(name) for name in (None, "", "netdev", "system")] == [
        "netdev", "netdev", "netdev", "system",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="write netdev or system"):
        chosen_datapath("kernel")


def test_the_makefile_runs_both_parts() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "tests.kernel.suite core" in makefile
    assert "tests.kernel.suite $(KERNEL)" in makefile
    assert os.access(ROOT / "tools" / "kernel-lab", os.X_OK)

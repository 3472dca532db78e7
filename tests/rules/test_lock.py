"""Everything that set-up installs is locked with its hash, and setup.cfg asks for nothing else."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.rules.sources import ROOT

LOCK, BUILD = ROOT / "requirements" / "lock.txt", ROOT / "requirements" / "build.txt"
_PIN = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>[^ ]+)(?: ; (?P<marker>[^\\]+))? \\$")
_HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")


def pins(text: str) -> Iterator[tuple[str, Version]]:
    """Name and version of each package; every line must be a pin or a hash."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if found := _PIN.match(line):
            assert _HASH.match(lines[at + 1]), f"{found['name']} has no hash"
            yield found["name"], Version(found["version"])
        else:
            assert _HASH.match(line), f"{line!r} is neither a pin nor a hash"


def declared(text: str) -> list[Requirement]:
    """What a setup.cfg asks for, all extras included."""
    parser = configparser.ConfigParser()
    parser.read_string(text)
    blocks = [parser["options"]["install_requires"], *parser["options.extras_require"].values()]
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def drift(setup: str, lock: str) -> list[str]:
    """What a setup.cfg asks for that a lock does not have."""
    locked = dict(pins(lock))
    wanted = {canonicalize_name(each.name): each for each in declared(setup)}
    missing = [name for name in wanted if name not in locked]
    wrong = [
        f"{name} {locked[name]} is not {each.specifier}"
        for name, each in wanted.items()
        if name in locked and not each.specifier.contains(locked[name], prereleases=True)
    ]
    return [f"{name} is not locked" for name in missing] + wrong


def test_the_lock_has_what_setup_cfg_asks_for() -> None:
    found = drift((ROOT / "setup.cfg").read_text(), LOCK.read_text())
    assert not found, f"{found}: run `make lock` and commit requirements/"


def test_the_lock_of_the_build_tools_has_the_setuptools_that_builds_ryu() -> None:
    assert (ROOT / "build-constraints.txt").read_text().strip() == (
        f"setuptools=={dict(pins(BUILD.read_text()))['setuptools']}"
    )


@pytest.mark.parametrize("file", [LOCK, BUILD])
def test_a_lock_names_no_index_and_no_address(file: Path) -> None:
    text = file.read_text()
    assert "://" not in text and "index" not in text and "find-links" not in text
    assert len(dict(pins(text))) == len(list(pins(text))), "one version for every Python"


def test_the_check_of_the_lock_says_no() -> None:
    setup, lock = (ROOT / "setup.cfg").read_text(), LOCK.read_text()
    more = setup.replace("    click>=8.2\n", "    click>=99\n    not-locked-yet>=1\n")
    assert [line.split()[0] for line in drift(more, lock)] == ["not-locked-yet", "click"]
    with pytest.raises(AssertionError, match="neither a pin nor a hash"):
        list(pins("--index-url https://example.org/simple\n"))
    with pytest.raises(AssertionError, match="has no hash"):
        list(pins("flask==3.1.3 \\\nclick==8.2 \\\n"))

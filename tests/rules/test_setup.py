"""Set-up enables Debian's backports with the mirror that the machine has, and touches no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.rules.sources import ROOT

DEBIAN = 'ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12"\n'
UBUNTU = 'ID=ubuntu\nVERSION_CODENAME=noble\nPRETTY_NAME="Ubuntu 24.04"\n'
DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""
ONE_LINE = """\
# deb http://old.example/debian bookworm main
deb [arch=amd64,arm64 signed-by=/k.gpg] http://mirror.example/debian bookworm main # here
deb-src http://mirror.example/debian bookworm main
deb http://security.example bookworm-security main
"""


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """/etc of an empty machine."""
    (tmp_path / "apt" / "sources.list.d").mkdir(parents=True)
    (tmp_path / "os-release").write_text(DEBIAN)
    return tmp_path


def enable(etc: Path) -> tuple[int, str]:
    """Exit status and words of tools/backports."""
    command = [sys.executable, str(ROOT / "tools" / "backports"), "--etc", str(etc)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def written(etc: Path) -> str:
    """The file of ours, without its comment."""
    file = etc / "apt" / "sources.list.d" / "cloudtap-backports.sources"
    return file.read_text().partition("\n")[2] if file.exists() else ""


def test_the_mirror_of_a_deb822_file_is_used_with_its_key(etc: Path) -> None:
    (etc / "apt" / "sources.list.d" / "debian.sources").write_text(DEB822)
    assert enable(etc)[0] == 0
    assert written(etc) == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\n"
        "Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def test_the_mirror_of_a_one_line_file_is_used_with_its_options(etc: Path) -> None:
    (etc / "apt" / "sources.list").write_text(ONE_LINE)
    assert enable(etc)[0] == 0
    assert written(etc) == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\n"
        "Components: main\nArchitectures: amd64 arm64\nSigned-By: /k.gpg\n"
    )


def test_a_key_that_is_written_out_is_kept(etc: Path) -> None:
    key = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEY865UxYJ\n"
    text = DEB822.replace("Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n", key)
    (etc / "apt" / "sources.list.d" / "debian.sources").write_text(text)
    enable(etc)
    assert written(etc).endswith("mDMEY865UxYJ\n")
    assert "\n .\n" in written(etc)


def test_a_second_run_changes_nothing(etc: Path) -> None:
    (etc / "apt" / "sources.list.d" / "debian.sources").write_text(DEB822)
    enable(etc)
    before = written(etc)
    status, words = enable(etc)
    assert (status, written(etc)) == (0, before)
    assert "already" in words


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sources.list", ONE_LINE + "deb http://m.example/debian bookworm-backports main\n"),
        ("sources.list.d/debian.sources", DEB822.replace("-updates", "-backports")),
    ],
)
def test_backports_that_are_enabled_are_left_alone(etc: Path, name: str, text: str) -> None:
    (etc / "apt" / name).write_text(text)
    assert "already" in enable(etc)[1]
    assert written(etc) == ""


def test_an_entry_that_is_switched_off_is_no_mirror(etc: Path) -> None:
    off = DEB822.replace("Types: deb deb-src", "Enabled: no\nTypes: deb deb-src")
    (etc / "apt" / "sources.list.d" / "debian.sources").write_text(off)
    status, words = enable(etc)
    assert status == 1
    assert "bookworm main" in words


def test_another_distribution_is_refused_with_a_sentence(etc: Path) -> None:
    (etc / "os-release").write_text(UBUNTU)
    (etc / "apt" / "sources.list").write_text(ONE_LINE)
    status, words = enable(etc)
    assert (status, written(etc)) == (1, "")
    assert "Ubuntu 24.04" in words

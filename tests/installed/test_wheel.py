"""What is in the wheel, what builds it, and what is left when it is uninstalled."""

from __future__ import annotations

import csv
import hashlib
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from tests.installed.wheels import Builder, Environment, clean_environment, content, run
from tests.rules.sources import files

DATA = "cloudtap-0.1.0.data/data/share"


def test_the_source_distribution_builds_the_same_wheel(builder: Builder, wheel: Path) -> None:
    again = builder.wheel(builder.sdist(builder.sources()))
    assert content(again) == content(wheel)


def test_the_wheel_has_every_file_for_the_machine(wheel: Path) -> None:
    inside = content(wheel)
    folders = {"systemd": 3, "sysusers.d": 1, "tmpfiles.d": 1, "etc": 3}
    for folder, number in folders.items():
        sources = files(f"packaging/{folder}")
        assert len(sources) == number
        for source in sources:
            packed = f"{DATA}/cloudtap/{source.path.removeprefix('packaging/')}"
            assert inside[packed].decode() == source.text


def test_the_wheel_has_every_man_page(wheel: Path) -> None:
    pages = files("docs/man")
    assert len(pages) > 10
    inside = content(wheel)
    for page in pages:
        folder = f"man{page.path[-1]}"
        assert inside[f"{DATA}/man/{folder}/{Path(page.path).name}"].decode() == page.text


def test_the_wheel_has_every_module_and_nothing_of_the_tests(wheel: Path) -> None:
    inside = {name for name in content(wheel) if ".data/" not in name and ".dist-info/" not in name}
    product = {source.path for source in files("controller", "flows")}
    assert inside == {*product, "zz_cloudtap_ryu.pth"}


def test_a_plain_pip_install_works_without_a_cache_and_its_controller_starts(
    tmp_path: Path, wheel: Path
) -> None:
    made = Environment(tmp_path / "venv")
    made.pip("install", "-q", wheel)
    made.pip("check")
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o755)
    settings = clean_environment(CLOUDTAP_STATE__DIRECTORY=str(state))
    for command in ("ryu-manager controller.app", "cloudtap up", "cloudtap controller"):
        program, argument = command.split()
        ended = run(made.program(program), argument, folder=tmp_path, env=settings)
        assert ended.returncode == 1, ended.stdout
        assert f"type `chmod go= {state}`" in ended.stdout, "the application was loaded"
    refused = made.run("cloudtap", "up", "--runtime", "ryu")
    assert refused.returncode == 1 and "ryu is not installed" in refused.stdout


@pytest.fixture
def with_ryu(tmp_path: Path) -> Environment:
    """An environment with ryu alone, built as the page says."""
    made = Environment(tmp_path / "venv")
    constraint = made.built_under_the_constraint()
    made.pip("install", "-q", "--use-pep517", "ryu==4.34", "eventlet>=0.41.3,<0.42", **constraint)
    return made


def test_ryu_is_as_it_was_when_cloudtap_is_uninstalled_as_the_page_says(
    with_ryu: Environment, wheel: Path
) -> None:
    before = last_words(with_ryu)
    assert "ALREADY_HANDLED" in before, "ryu's own command starts now: tell so on the page"
    own_command = with_ryu.program("ryu-manager").read_text()
    assert damaged_files(with_ryu, "ryu") == []
    with_ryu.pip("install", "-q", f"{wheel}[ryu]", **with_ryu.built_under_the_constraint())
    assert with_ryu.run("ryu-manager", "--version").stdout == "ryu-manager 4.34\n"
    put_back = ("install", "-q", "--use-pep517", "--no-deps", "--force-reinstall", "ryu==4.34")
    with_ryu.pip(*put_back, **with_ryu.built_under_the_constraint())
    assert with_ryu.program("ryu-manager").read_text() == own_command
    assert with_ryu.run("ryu-manager", "--version").stdout == "ryu-manager 4.34\n"

    with_ryu.pip("uninstall", "-q", "-y", "cloudtap")
    with_ryu.pip(*put_back, **with_ryu.built_under_the_constraint())
    assert damaged_files(with_ryu, "ryu") == []
    assert with_ryu.program("ryu-manager").read_text() == own_command
    left = [path for path in with_ryu.folder.rglob("*") if "cloudtap" in str(path.relative_to(
        with_ryu.folder)) and path.is_file()]  # fmt: skip
    assert left == []
    assert last_words(with_ryu) == before
    parse = "from ryu.lib.packet import packet; from ryu.ofproto import ofproto_v1_3_parser"
    done = with_ryu.run("python", "-c", parse)
    assert done.returncode == 0, done.stdout


def last_words(environment: Environment) -> str:
    """The last line of ryu's own command."""
    return environment.run("ryu-manager", "--version").stdout.splitlines()[-1]


def damaged_files(environment: Environment, package: str) -> list[str]:
    """The files of a package that are missing, or not as it was installed."""
    [record] = environment.folder.rglob(f"{package}-*.dist-info/RECORD")
    return [
        name
        for name, digest, _ in csv.reader(record.read_text().splitlines())
        if not _is_whole(record.parents[1] / name, digest)
    ]


def _is_whole(file: Path, digest: str) -> bool:
    if not file.is_file():
        return False
    kind, _, wanted = digest.partition("=")
    if not wanted:  # pip records none for what it has made itself
        return True
    found = hashlib.new(kind, file.read_bytes()).digest()
    return urlsafe_b64encode(found).decode().rstrip("=") == wanted


def test_a_file_that_is_missing_or_changed_is_noticed(tmp_path: Path) -> None:
    made = Environment(tmp_path / "venv")
    [pip] = made.folder.rglob("site-packages/pip")
    assert damaged_files(made, "pip") == []
    (pip / "__main__.py").write_text("")
    (pip / "py.typed").unlink()
    assert {Path(name).name for name in damaged_files(made, "pip")} == {"__main__.py", "py.typed"}

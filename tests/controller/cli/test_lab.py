"""`cloudtap lab new`: files that fit each other, and nothing that exists is overwritten."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from controller.cli import main
from controller.config import load
from controller.inventory import parse

FILES = ("topology.py", "inventory.yaml", "cloudtap.toml")


def new(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["lab", "new", str(folder), *options])


def hosts_of(folder: Path) -> list[tuple[str, str, str | None, str | None]]:
    """MY_HOSTS of the topology."""
    for node in ast.parse((folder / "topology.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MY_HOSTS":
            return list(ast.literal_eval(node.value))
    raise AssertionError("no MY_HOSTS")


@pytest.mark.parametrize(
    ("options", "hosts"),
    [
        ((), ["h1", "h2", "h3", "tap"]),
        (("--hosts", "1", "--tap", "ids"), ["h1", "ids"]),
        (("--host", "web", "--host", "db", "--tenant", "red"), ["web", "db", "tap"]),
        (
            ("--hosts", "1", "--tenant", "red", "--tenant", "blue"),
            ["red_h1", "red_tap", "blue_h1", "blue_tap"],
        ),
    ],
)
def test_the_inventory_declares_what_the_topology_builds(
    options: tuple[str, ...], hosts: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "my lab"
    done = new(folder, *options)
    assert done.exit_code == 0, done.output
    built, found = hosts_of(folder), parse((folder / "inventory.yaml").read_bytes())

    assert [row[0] for row in built] == hosts == [port.id for port in found.ports]
    for (_, interface, mac, ip), port in zip(built, found.ports, strict=True):
        assert found.hints[port.id].interface == interface
        assert (str(port.mac) if port.mac else None, [ip] if ip else []) == (
            mac,
            [str(each) for each in port.ips],
        )
        assert (port.network is None) is (mac is None)
    config = load(folder / "cloudtap.toml", {})
    assert config.inventory.file == folder / "inventory.yaml"
    assert config.state.directory == folder / "state"
    assert f"--config '{folder}/cloudtap.toml'" in done.output


@pytest.mark.parametrize("there", FILES)
def test_what_exists_is_not_overwritten_and_nothing_is_left_half(
    there: str, tmp_path: Path
) -> None:
    (tmp_path / there).write_text("mine")
    done = new(tmp_path)

    assert done.exit_code == 1
    assert f"{there} exists and is not overwritten" in done.output
    assert [file.name for file in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--host", "web-1"), "'web-1' is no name of a host"),
        (("--host", "a", "--host", "a"), "host 'a' is named twice"),
        (("--host", "tap"), "host 'tap' is named twice"),
        (("--tenant", "red", "--tenant", "red"), "tenant 'red' is named twice"),
        (("--tenant", "somebody", "--tenant", "blue"), "'somebody_tap' would have more than 10"),
        (("--hosts", "250", *(f"--tenant=t{n}" for n in range(20))), "at most 4000"),
    ],
)
def test_names_that_mininet_cannot_have_are_refused(
    options: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    done = new(tmp_path / "lab", *options)

    assert done.exit_code == 1 and words in done.output, done.output
    assert not (tmp_path / "lab").exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = new(tmp_path / "file" / "lab")
    assert done.exit_code == 1 and "cannot be written to" in done.output
    assert "Traceback" not in done.output


def test_the_configuration_is_valid_toml_for_any_path(tmp_path: Path) -> None:
    folder = tmp_path / 'a "quoted" \U0001f600'
    assert new(folder).exit_code == 0
    found = tomllib.loads((folder / "cloudtap.toml").read_text())
    assert found["inventory"]["file"] == str(folder / "inventory.yaml")

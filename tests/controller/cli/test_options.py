"""Options of all commands: what may repeat says so, and nothing else is taken twice."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from controller.cli import main

Path = tuple[str, ...]


def commands(command: click.Command, path: Path = ()) -> Iterator[tuple[Path, click.Command]]:
    """Every command below one, and itself, with the words that name it."""
    yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, (*path, name))


def options() -> Iterator[tuple[Path, click.Option]]:
    for path, command in commands(main):
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.is_eager:
                yield path, parameter


ONCE = [(path, option) for path, option in options() if not option.multiple]
REPEATABLE = [(path, option) for path, option in options() if option.multiple]


def show(value: object) -> str:
    if isinstance(value, click.Option):
        return value.opts[0]
    return "-".join(value) if isinstance(value, tuple) else str(value)


def given(option: click.Option, name: str) -> list[str]:
    """An option with some value."""
    return [name] if option.is_flag else [name, "1"]


@pytest.mark.parametrize(("path", "option"), ONCE, ids=show)
def test_an_option_that_is_given_twice_is_refused(path: Path, option: click.Option) -> None:
    every = [*option.opts, *option.secondary_opts]
    for second in every:
        words = [*path, *given(option, option.opts[0]), *given(option, second)]
        result = CliRunner().invoke(main, words, env={"CLOUDTAP_API": "http://127.0.0.1:1"})
        assert result.exit_code == 2, result.output
        assert f"{option.opts[0]}" in result.stderr
        assert "is given 2 times: give it once" in result.stderr


@pytest.mark.parametrize(("path", "option"), REPEATABLE, ids=show)
def test_what_may_repeat_says_so(path: Path, option: click.Option) -> None:
    assert option.help is not None and "may repeat" in option.help


def test_there_are_options_of_both_kinds() -> None:
    assert len(ONCE) > 60 and len(REPEATABLE) > 15
    assert ((), "--api") in [(path, option.opts[0]) for path, option in ONCE]


def test_help_is_shown_whatever_else_is_given() -> None:
    words = ["session", "set", "one", "--name", "a", "--name", "b", "--help"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0 and "Usage: " in result.stdout


def test_an_option_that_its_environment_variable_gives_as_well_is_given_once() -> None:
    env = {"CLOUDTAP_API": "http://127.0.0.1:1"}
    result = CliRunner().invoke(main, ["--api", "http://127.0.0.1:2", "status"], env=env)
    assert result.exit_code == 1 and "127.0.0.1:2" in result.stderr

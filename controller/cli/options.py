"""Options that several commands share, and how options become fields of a request body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from controller.cli.client import Api, Values
from controller.syntax import is_number

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Any], Any]
"""What adds one parameter to a command, as `click.option()` returns it."""

NAME_ARGUMENT: Option = click.argument("name")
NEW_NAME_OPTION: Option = click.option("--name", "new_name", help="Give it another name.")


class WholeNumber(click.types.IntParamType):
    """A whole number in ASCII digits."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the value; raises click.BadParameter."""
        if isinstance(value, str) and not is_number(value.removeprefix("-")):
            self.fail(f"{value!r} is not a whole number.", param, ctx)
        return super().convert(value, param, ctx)


class WholeNumberFrom(WholeNumber, click.IntRange):
    """The same, with a lowest value."""


NUMBER = WholeNumber()
"""Any whole number; the API checks its range."""

pass_api = click.make_pass_decorator(Api)


@dataclass(frozen=True, slots=True)
class Nullable:
    """The value of an option that can be `none`: distinguishes null from an option not given."""

    value: object


def output_option(command: Command) -> Command:
    """Add the option --output, the same everywhere."""
    return click.option(
        "--output",
        "-o",
        type=click.Choice(["table", "json", "yaml"]),
        default="table",
        show_default=True,
        help="For people, or for programs.",
    )(command)


def tenant_option(command: Command) -> Command:
    """Add the option --tenant, the same everywhere."""
    return click.option(
        "--tenant",
        envvar="CLOUDTAP_TENANT",
        show_envvar=True,
        help="Owner of what is named; not needed while there is one tenant.",
    )(command)


def with_options(*options: Option) -> Callable[[Command], Command]:
    """Add options to a command, in the order in which its help lists them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def nullable(
    read: Callable[[str], object],
) -> Callable[[click.Context, click.Parameter, str | None], Nullable | None]:
    """A callback for an option that is `none` or a text that ``read`` accepts."""

    def callback(
        context: click.Context, parameter: click.Parameter, value: str | None
    ) -> Nullable | None:
        if value is None:
            return None
        return Nullable(None if value == "none" else read(value))

    return callback


def read_number(text: str) -> int:
    """A whole number.

    Raises:
        click.BadParameter: the text is not a number.
    """
    if not is_number(text):
        raise click.BadParameter(f"{text!r} is neither a number nor none")
    return int(text)


def fields_of(given: Values) -> Values:
    """The fields of a request body: the options that were given, by name."""
    return {
        key: value.value if isinstance(value, Nullable) else value
        for key, value in given.items()
        if value is not None
    }

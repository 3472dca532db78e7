"""How answers are printed: tables for people, JSON and YAML for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click
import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from controller.cli.client import Api, Values

COLOURS = {
    "active": "green",
    "pending": "yellow",
    "degraded": "yellow",
    "inactive": "dim",
    "stopped": "dim",
    "error": "red",
}

Command = TypeVar("Command", bound=Callable[..., Any])
Column = tuple[str, Callable[[Values], object]]

pass_api = click.make_pass_decorator(Api)


def output_option(command: Command) -> Command:
    """The option --output, the same everywhere."""
    return click.option(
        "--output",
        "-o",
        type=click.Choice(["table", "json", "yaml"]),
        default="table",
        show_default=True,
        help="For people, or for programs.",
    )(command)


def tenant_option(command: Command) -> Command:
    """The option --tenant, the same everywhere."""
    return click.option(
        "--tenant",
        envvar="CLOUDTAP_TENANT",
        show_envvar=True,
        help="Owner of what is named; not needed while there is one tenant.",
    )(command)


def print_list(items: Sequence[Values], output: str, columns: Sequence[Column], empty: str) -> None:
    """Print a list; ``empty`` is the sentence for a list without items."""
    if output != "table":
        print_data(list(items), output)
    elif items:
        print_table(items, columns)
    else:
        console().print(Text(empty))


def print_one(item: Values, output: str, rows: Iterable[tuple[str, object]]) -> None:
    """Print one thing, as name and value line by line."""
    if output != "table":
        print_data(item, output)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, cell(value))
    console().print(table)


def print_table(items: Sequence[Values], columns: Sequence[Column]) -> None:
    """Print a table that fits the terminal; what is too long goes on in the next line."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title, _ in columns:
        table.add_column(title, overflow="fold")
    for item in items:
        table.add_row(*(cell(value(item)) for _, value in columns))
    console().print(table)


def print_data(value: object, output: str) -> None:
    """Print a value for a program."""
    if output == "json":
        click.echo(json.dumps(value, indent=2))
    else:
        click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)


def cell(value: object) -> Text:
    """A value as text; states have their colour, nothing is a dash."""
    match value:
        case None | "" | []:
            return Text("-", style="dim")
        case bool():
            return Text("yes" if value else "no")
        case list():
            return Text("\n".join(str(each) for each in value))
        case _:
            return Text(str(value), style=COLOURS.get(str(value), ""))


def console() -> Console:
    """Where tables go; 80 columns where nobody knows better, no colour with NO_COLOR."""
    return Console(highlight=False)

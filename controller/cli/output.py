"""Prints answers: tables for people, JSON and YAML for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence

import click
import yaml
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from controller.cli.client import Values
from controller.process import visible, visible_lines

COLOURS = {
    "active": "green",
    "pending": "yellow",
    "degraded": "yellow",
    "inactive": "dim",
    "stopped": "dim",
    "error": "red",
}

UNLIMITED_WIDTH = 10_000
"""Columns for who reads a pipe: no id is cut in two."""

COLUMN_GAP = 3
"""Columns between two values of a table."""

WIDTH_LEAST = 20
"""Nothing is made to fit a terminal that is narrower: its lines go on in the next one."""

VALUE_LEAST = 8
"""Columns that values need beside their names; in fewer each value follows its name."""

Column = tuple[str, Callable[[Values], object]]


def print_list(items: Sequence[Values], output: str, columns: Sequence[Column], empty: str) -> None:
    """Print a list; ``empty`` is the sentence for a list without items."""
    if output != "table":
        print_data(list(items), output)
    elif items:
        print_table(items, columns)
    else:
        console().print(Text(empty))


def print_one(item: Values, output: str, rows: Iterable[tuple[str, object]]) -> None:
    """Print one item, a name and a value on each line."""
    if output != "table":
        print_data(item, output)
        return
    _print_rows(console(), [(name, cell(value)) for name, value in rows])


def print_table(items: Sequence[Values], columns: Sequence[Column]) -> None:
    """Print a table that fits the terminal; long values wrap between words.

    Where even the longest words of its columns do not fit, each item is a paragraph instead, with
    a line for each value.
    """
    out = console()
    rows = [[cell(value(item)) for _, value in columns] for item in items]
    by_column = [[Text(title), *texts] for (title, _), *texts in zip(columns, *rows, strict=True)]
    least = [max(_longest_word(text) for text in texts) for texts in by_column]
    room = out.width - COLUMN_GAP * (len(columns) - 1)
    if sum(least) > room:
        _print_paragraphs(out, columns, rows)
        return
    most = [max(text.cell_len for text in _lines(texts)) for texts in by_column]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for (title, _), width in zip(columns, _widths(least, most, room), strict=True):
        table.add_column(title, overflow="fold", width=width)
    for row in rows:
        table.add_row(*row)
    out.print(table)


def _print_paragraphs(out: Console, columns: Sequence[Column], rows: Sequence[list[Text]]) -> None:
    for number, row in enumerate(rows):
        if number:
            out.print()
        _print_rows(out, [(title, text) for (title, _), text in zip(columns, row, strict=True)])


def _print_rows(out: Console, rows: Sequence[tuple[str, Text]]) -> None:
    """Print a name and a value on each line; where they do not fit, one after the other."""
    names = max((cell_len(name) for name, _ in rows), default=0)
    if out.width - names < VALUE_LEAST:
        for name, text in rows:
            out.print(Text.assemble((name, "bold"), ": ", text), soft_wrap=True)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, text)
    out.print(table)


def _widths(least: list[int], most: list[int], room: int) -> list[int]:
    """Column widths between ``least`` and ``most`` that fit; the narrowest columns grow first."""
    widths = list(least)
    while (left := room - sum(widths)) > 0:
        growing = [n for n, width in enumerate(widths) if width < most[n]]
        if not growing:
            break
        share = max(1, left // len(growing))
        for n in sorted(growing, key=lambda n: most[n] - widths[n])[:left]:
            widths[n] = min(most[n], widths[n] + share)
    return widths


def _longest_word(text: Text) -> int:
    return max((cell_len(word) for word in text.plain.split()), default=0)


def _lines(texts: Iterable[Text]) -> list[Text]:
    return [line for text in texts for line in text.split("\n", allow_blank=True)]


def print_done(sentence: str, value: Values, output: str) -> None:
    """Print that something was done: a sentence, or a value for a program."""
    if output == "table":
        console().print(cell(sentence))
    else:
        print_data(value, output)


def print_data(value: object, output: str) -> None:
    """Print a value for a program."""
    if output == "json":
        click.echo(json.dumps(value, indent=2))
    else:
        text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
        click.echo(visible_lines(text), nl=False)


def cell(value: object) -> Text:
    """A value as text: states are coloured, an empty value is a dash."""
    match value:
        case None | "" | []:
            return Text("-", style="dim")
        case bool():
            return Text("yes" if value else "no")
        case list():
            return Text("\n".join(visible(str(each)) for each in value))
        case _:
            return Text(visible(str(value)), style=COLOURS.get(str(value), ""))


def print_line(text: str, *, is_note: bool = False) -> None:
    """Print one line as it is, as wide as it is; ``is_note``: beside the result, on stderr."""
    click.echo(visible(text), err=is_note)


def console() -> Console:
    """Where tables go: they fit a terminal, and are not wrapped where there is none.

    COLUMNS sets the width, and NO_COLOR switches colours off.
    """
    given = os.environ.get("COLUMNS", "")
    environ: dict[str, str] = dict(os.environ)
    if not (given.isascii() and given.isdigit() and len(given) < 7 and int(given)):
        environ.pop("COLUMNS", None)  # no width
    found = Console(highlight=False, _environ=environ)
    if not found.is_terminal and "COLUMNS" not in environ:
        return Console(highlight=False, width=UNLIMITED_WIDTH, _environ=environ)
    return Console(highlight=False, width=max(found.width, WIDTH_LEAST), _environ=environ)

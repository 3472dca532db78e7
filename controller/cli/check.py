"""cloudtap inventory check: whether a file is valid, and what it would change."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from controller.cli.client import Api, Failure, Values
from controller.cli.command import Command
from controller.cli.options import output_option, pass_api, with_options
from controller.cli.output import print_data, print_line, print_one

COUNTED = ("tenants", "networks", "ports", "links")
STATUS_BY_EFFECT = {"none": 0, "harmless": 0, "takes": 3, "held": 4}
"""Exit status by what a file would take away."""
PART_CHARACTERS = 32 * 1024
"""A file is sent in parts of so many characters."""
LINES_SHOWN = 20
"""So many lines of each kind are shown."""
FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command(cls=Command)
@with_options(
    click.argument("file", type=FILE),
    click.option("--diff", is_flag=True, help="Show what it would change, before it is used."),
    click.option(
        "--against", type=FILE, help="Compare with this file, without a controller; see --diff."
    ),
    output_option,
    pass_api,
)
def check(api: Api, file: Path, diff: bool, against: Path | None, output: str) -> None:
    """Check an inventory file; every problem is reported with its line.

    With --diff the file is compared with the inventory that the controller has in force: what is
    added, removed and changed, which ports would be cut off, and which sessions gain or lose
    sources. Then the exit status is 0 if nothing is taken away, 3 if something is, and 4 if so much
    vanishes that the file would not be used before `cloudtap inventory accept`. With --against no
    controller is needed: sessions are not known then, and all ports count as running.
    """
    found = _read(file, against)
    if not found["problems"] and diff and against is None:
        found["diff"] = api.act("inventory", "diff", None, {"parts": list(_parts(file))})
    if output != "table":
        print_data(found, output)
    elif not found["problems"]:
        if "diff" not in found:
            print_one(found, output, [(name, found[name]) for name in COUNTED])
        for line in _lines(found["diff"]) if "diff" in found else ():
            print_line(line)
    else:
        for problem in found["problems"]:
            print_line(problem, is_note=True)
    if found["problems"]:
        wrong = file if "diff" not in found else against  # else there would be a comparison
        raise Failure(f"{wrong} has {found['problem_count']} problem(s)")
    if "diff" in found:
        click.get_current_context().exit(STATUS_BY_EFFECT[found["diff"]["effect"]])


def _read(file: Path, against: Path | None) -> Values:
    """What a process of its own says of the file."""
    reader = [sys.executable, "-m", "controller.inventory", str(file)]
    reader += [] if against is None else [str(against)]
    run = subprocess.run(reader, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        raise Failure(f"{file} could not be checked (exit status {run.returncode})")
    found: Values = json.loads(run.stdout)
    return found


def _parts(file: Path) -> Iterator[Values]:
    text = file.read_text("utf-8")
    for first in range(0, len(text), PART_CHARACTERS):
        yield {"text": text[first : first + PART_CHARACTERS]}


def _lines(diff: Values) -> Iterator[str]:
    """The lines for people; each begins with what happens."""
    for kind in ("tenants", "networks", "ports", "links", "bridges"):
        for sign, change in (("+", "added"), ("-", "removed"), ("~", "changed")):
            yield from _first(diff[kind][change], f"{sign} {kind.removesuffix('s')} ")
    cut_off = diff["cut_off"]
    where = {True: "", False: " (it is on no bridge now)"}
    lines = [f"{one['port']} {one['reason']}{where[one['is_running']]}" for one in cut_off["first"]]
    yield from _first({"first": lines, "count": cut_off["count"]}, "! port ")
    if diff["sessions"] is None:
        yield "sessions are not known without a controller"
    else:
        sessions = diff["sessions"]
        shown = [_session(one) for one in sessions["first"]]
        yield from _first({"first": shown, "count": sessions["count"]}, "session ")
    if diff["effect"] == "none":
        yield "nothing changes"
    if diff["held"]:
        yield f"not used at once: {diff['held']}"


def _session(one: Values) -> str:
    words = [
        f"{verb} {', '.join(names['first'][:LINES_SHOWN])}{_more(names, ', ')}"
        for verb, names in (
            ("gains", one["gains"]),
            ("loses", one["loses"]),
            ("loses its sensor", one["sensors_lost"]),
        )
        if names["count"]
    ]
    words += [f"is refused: {one['refused']}"] if one["refused"] else []
    return f"{one['session']} {'; '.join(words)}"


def _first(listed: Values, head: str) -> Iterator[str]:
    yield from (f"{head}{line}" for line in listed["first"][:LINES_SHOWN])
    if more := _more(listed):
        yield f"{head}{more}"


def _more(listed: Values, before: str = "") -> str:
    more = listed["count"] - min(LINES_SHOWN, len(listed["first"]))
    return f"{before}and {more} more" if more else ""

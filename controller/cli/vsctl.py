"""Runs ovs-vsctl for commands that set up something on the host where they are run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.cli.client import Failure

VSCTL = ("ovs-vsctl", "--timeout=10")


def vsctl_command(database: str | None) -> tuple[str, ...]:
    """The beginning of an ovs-vsctl command for a database; None: that of this host."""
    return (*VSCTL, *(() if database is None else (f"--db={database}",)))


def run(command: Sequence[str]) -> str:
    """What a command prints.

    Raises:
        Failure: it is missing, or has failed.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Failure(f"cannot start {command[0]!r}: {error.strerror}") from error
    if done.returncode:
        raise Failure(done.stderr.strip() or f"{command[0]} has failed")
    return done.stdout


@dataclass(frozen=True, slots=True)
class NewRow:
    """A row that is to be made; ``@id`` in a column of a later row refers to it."""

    id: str
    table: str
    columns: Mapping[str, Any]
    """Strings, lists of strings or references, and maps of strings."""

    def create(self) -> list[str]:
        """The command that makes it, with ``--`` before it."""
        words = ["--", f"--id=@{self.id}", "create", self.table]
        for column, value in self.columns.items():
            if isinstance(value, Mapping):
                words += [f"{column}:{key}={json.dumps(each)}" for key, each in value.items()]
            elif isinstance(value, list):
                words.append(f"{column}={','.join(map(_element, value))}")
            else:
                words.append(f"{column}={json.dumps(value)}")
        return words


def read_tables(
    vsctl: Sequence[str], columns_by_table: Mapping[str, Sequence[str]]
) -> dict[str, list[dict[str, Any]]]:
    """All rows of some tables, as they are at one moment.

    Sets are lists, maps are dicts, and references are uuids. A set of one element may be that one.

    Raises:
        Failure: see ``run``.
    """
    command = [*vsctl, "--format=json"]
    for table, columns in columns_by_table.items():
        command += ["--", f"--columns={','.join(columns)}", "list", table]
    decoder, text, found = json.JSONDecoder(), run(command), {}
    for table in columns_by_table:
        answer, end = decoder.raw_decode(text)
        text = text[end:].lstrip()
        rows = ([_read(value) for value in row] for row in answer["data"])
        found[table] = [dict(zip(answer["headings"], row, strict=True)) for row in rows]
    return found


def _read(value: Any) -> Any:
    """A value of RFC 7047, section 5.1."""
    match value:
        case ["uuid", uuid]:
            return uuid
        case ["set", list(elements)]:
            return [_read(element) for element in elements]
        case ["map", list(pairs)]:
            return {key: _read(each) for key, each in pairs}
    return value


def _element(value: str) -> str:
    """An element of a set as ovs-vsctl takes it, whatever is in it; references stay as they are."""
    return value if value.startswith("@") else json.dumps(value)

"""cloudtap backup, restore: the state database of this machine, as one file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from controller.cli.client import HAS_CHANGED, Failure, Values
from controller.cli.command import Command
from controller.cli.options import output_option, with_options
from controller.cli.output import print_done
from flows.errors import CloudtapError

CONFIG_OPTION = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Configuration file; else CLOUDTAP_CONFIG, else /etc/cloudtap/cloudtap.toml.",
)
_Result = TypeVar("_Result")

UNKNOWN_NUMBERS = (
    "There was no state database that could be read, so link tags and other numbers that were "
    "given after the backup are not known. Before you start the controller, see that all bridges "
    "can connect to it: one that cannot may still send with these over links. On the host of such "
    "a bridge `ovs-ofctl mod-port BRIDGE INTERFACE down` takes a link down"
)


@click.command(cls=Command)
@with_options(click.argument("file", type=click.Path(path_type=Path)), CONFIG_OPTION, output_option)
def backup(file: Path, config: Path | None, output: str) -> None:
    """Copy the state database to a new FILE.

    The controller may run meanwhile. Run it on the machine of the controller, as the same user. The
    file holds everything that users have created: sessions, filters, collectors, the audit log.
    """
    from controller.store import back_up

    folder, count = _run(config, lambda folder: back_up(folder, file))
    sentence = f"backup of {folder} with {count} sessions is in {str(file)!r}"
    print_done(sentence, {"file": str(file), "sessions": count}, output)


@click.command(cls=Command)
@with_options(click.argument("file", type=click.Path(path_type=Path)), CONFIG_OPTION, output_option)
def restore(file: Path, config: Path | None, output: str) -> None:
    """Put a backup FILE in the place of the state database.

    Refused while a controller runs. What was there before is kept beside it, as
    `state.db.before-restore`. Sessions that were deleted after the backup are back. What is known
    of bridges, above all the numbers that they have, is not set back: it stays as it was.
    """
    from controller.store import restore

    folder, done = _run(config, lambda folder: restore(folder, file))
    sentence = f"state database of {folder} is the backup now, with {done.sessions} sessions"
    value: Values = {"directory": str(folder), "sessions": done.sessions}
    if not done.knows_numbers:
        sentence, value = f"{sentence}. {UNKNOWN_NUMBERS}", {**value, "warning": UNKNOWN_NUMBERS}
    print_done(sentence, value, output)


def _run(config: Path | None, work: Callable[[Path], _Result]) -> tuple[Path, _Result]:
    """Run work on the state directory of the configuration; returns it and the result."""
    from controller.config import load

    try:
        folder = load(config, dict(os.environ)).state.directory
        count = work(folder)
    except CloudtapError as error:
        raise Failure(str(error)) from error
    HAS_CHANGED.set(True)
    return folder, count
